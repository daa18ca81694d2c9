//! Two runs at once, and one whose process has died: who works on what.

use super::scene::{Scene, expect, start, task};

const YAML: &str = r"
version: 1
tasks:
  one: { claim: issue 12, run: 'echo ready; until [ -e go ]; do sleep 0.1; done; echo 1 > one.txt' }
";

#[test]
fn a_second_run_skips_what_the_first_works_on_and_a_dead_one_holds_nothing() {
    let scene = Scene::new();
    let spec = scene.spec(YAML);
    let spec = spec.to_str().expect("a path");
    let (mut child, mut lines) = start(&scene, &["run", spec]);
    expect(&mut lines, "| ready");
    let first = scene.runs()[0].clone();

    let second = scene.agent_run(&["run", spec]);
    assert_eq!(second.code, Some(0), "{second}");
    let skipped = task(&scene.checked_result(&second), "one")["outcome"].clone();
    assert_eq!(
        (&skipped["outcome"], &skipped["claimed"]),
        (&"skipped".into(), &true.into())
    );
    assert!(
        second
            .stdout
            .contains(&format!("claimed by one of run {first}")),
        "{second}"
    );

    let repo = scene.repo();
    let claims = |words: &[&str]| {
        let place = ["-C", repo.to_str().expect("a path"), "claims"];
        scene.agent_run(&[&place[..], words].concat())
    };
    let listed = claims(&[]);
    assert!(
        listed
            .stdout
            .starts_with(&format!("issue 12  one of run {first}")),
        "{listed}"
    );
    let listed = claims(&["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(json["claims"][0]["claim"]["key"], "issue 12");
    let refused = claims(&["release", "issue 12"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("--force"), "{refused}");

    child.kill().expect("a signal");
    child.wait().expect("an end");
    drop(lines);
    let listed = claims(&[]);
    assert!(listed.stdout.contains("its holder is gone"), "{listed}");
    // Its container goes on until `clean`; the next run does not wait for that.
    let (mut child, mut lines) = start(&scene, &["run", spec]);
    expect(&mut lines, "| ready");
    let third = scene.runs().pop().expect("a run");
    let worktree = scene
        .state()
        .join(format!("runs/{third}/tasks/one/1/worktree"));
    std::fs::write(worktree.join("go"), "").expect("a file");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(claims(&[]).stdout, "");
    assert_eq!(scene.left(), Vec::<String>::new());
    assert_eq!(claims(&["release", "issue 12"]).code, Some(0));
}
