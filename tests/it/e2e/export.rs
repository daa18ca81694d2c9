//! What was collected, printed as commits and written as files.

use std::fs;
use std::os::unix::fs::symlink;

use super::scene::{Ended, Scene, task};

const YAML: &str = r#"
version: 1
defaults: { mem_limit: 64m }
tasks:
  one:
    run: |
      echo 1 > one.txt; git add .; git commit -qm "$(printf 'first \033[2J')"
      echo 2 >> one.txt; git commit -qam second
  two: { base: "task:one", run: "echo 3 >> one.txt" }
  idle: { run: "true" }
  bad: { run: "echo half > half.txt; exit 3" }
"#;

fn scene() -> (Scene, serde_json::Value) {
    let scene = Scene::new();
    let (ended, result) = scene.run(YAML);
    assert_eq!(ended.code, Some(100), "{ended}");
    (scene, result)
}

/// Runs the command in the repository.
fn agent_run(scene: &Scene, arguments: &[&str]) -> Ended {
    let mut command = scene.command(arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

#[test]
fn exported_work_is_what_git_takes() {
    let (scene, result) = scene();
    let run = result["run"].as_str().expect("a run");
    let branch = |id: &str| {
        let branch = &task(&result, id)["branch"]["branch"];
        branch.as_str().expect("a branch").to_owned()
    };
    let tree = |of: &str| scene.git(&["rev-parse", &format!("{of}^{{tree}}")]);
    let out = scene.path().join("out o'd");
    let at = |name: &str| out.join(name).display().to_string();
    let directory = out.display().to_string();

    let log = agent_run(&scene, &["log", "one"]);
    let first = log.stdout.find("    first\n").expect("the first");
    let second = log.stdout.find("    second\n").expect("the second");
    assert!(second < first, "{log}");
    assert_eq!(log.stdout.matches(" one.txt | 1 +\n").count(), 2, "{log}");
    assert_eq!(agent_run(&scene, &["log", "idle"]).stdout, "");

    // Those that went well and changed something.
    let ended = agent_run(&scene, &["export", "-o", &directory]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let written = format!("{}\n{}\n", at("one.patch"), at("two.patch"));
    assert_eq!(ended.stdout, written);
    let mbox = ["export", "one", "bad", "idle", "--format", "mbox", "-o"];
    let ended = agent_run(&scene, &[&mbox[..], &[&directory]].concat());
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(
        ended.stdout,
        format!("{}\n{}\n", at("one.mbox"), at("bad.mbox"))
    );
    assert!(
        ended.stderr.contains("task idle has changed nothing"),
        "{ended}"
    );

    scene.git(&["checkout", "-q", "-b", "applied"]);
    for id in ["one", "two"] {
        scene.git(&["apply", "--index", &at(&format!("{id}.patch"))]);
        assert_eq!(scene.git(&["write-tree"]), tree(&branch(id)), "{id}");
    }
    scene.git(&["reset", "-q", "--hard"]);
    scene.git(&["am", "-q", &at("one.mbox")]);
    assert_eq!(tree("HEAD"), tree(&branch("one")));
    assert_eq!(scene.git(&["rev-list", "--count", "main..HEAD"]), "2\n");

    // One file with all branches, from what was collected: they need not be there any more.
    let bundle = ["export", "--format", "bundle", "-o", &directory];
    let ended = agent_run(&scene, &bundle);
    assert_eq!(ended.stdout, format!("{}\n", at(&format!("{run}.bundle"))));
    let tips = ["one", "two"].map(|id| scene.git(&["rev-parse", &branch(id)]));
    for id in ["one", "two"] {
        scene.git(&["branch", "-q", "-D", &branch(id)]);
    }
    let ended = agent_run(&scene, &[&bundle[..], &["two"]].concat());
    assert_eq!(ended.code, Some(0), "{ended}");
    // Who has only the base gets it.
    let other = scene.path().join("other").display().to_string();
    scene.git(&["init", "-q", &other]);
    scene.git(&["push", "-q", &other, "main:refs/heads/base"]);
    let wanted = "refs/heads/*:refs/heads/*";
    for file in ["two.bundle".to_owned(), format!("{run}.bundle")] {
        scene.git(&["-C", &other, "fetch", "-q", &at(&file), wanted]);
    }
    for (id, tip) in ["one", "two"].iter().zip(&tips) {
        assert_eq!(&scene.git(&["-C", &other, "rev-parse", &branch(id)]), tip);
    }
    let names = fs::read_dir(&out).expect("files").count();
    assert_eq!(names, 6, "nothing half-written is left");
}

#[test]
fn a_file_that_is_there_is_replaced_only_where_that_is_said() {
    let (scene, _) = scene();
    let file = scene.repo().join("one.patch");
    let precious = scene.path().join("precious");
    fs::write(&precious, "precious\n").expect("a file");
    symlink(&precious, &file).expect("a link");
    for (words, code) in [
        (&["export"][..], 96),
        (&["export", "idle"], 4),
        (&["export", "none"], 2),
    ] {
        let ended = agent_run(&scene, words);
        assert_eq!(ended.code, Some(code), "{ended}");
        assert!(!scene.repo().join("two.patch").exists(), "{ended}");
    }
    let told = agent_run(&scene, &["export"]).stderr;
    assert!(
        told.contains("is there already: nothing was written"),
        "{told}"
    );
    let ended = agent_run(&scene, &["export", "--force"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let text = fs::read_to_string(&file).expect("a patch");
    assert!(
        text.starts_with("diff --git a/one.txt b/one.txt\n"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "precious\n");
}
