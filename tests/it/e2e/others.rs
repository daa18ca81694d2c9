//! Other people at work on the same repository while a run goes on.

use super::scene::{Scene, expect, start, task};

#[test]
fn a_run_does_not_mind_commits_rebases_deleted_bases_and_gc() {
    let scene = Scene::new();
    scene.git(&["checkout", "-q", "-b", "feature"]);
    scene.write("feature.txt", "feature\n");
    scene.commit("a feature");
    let base = scene.git(&["rev-parse", "feature"]);
    let spec = scene.spec(
        r"
version: 1
base: feature
max_parallel: 1
tasks:
  runs:
    run: |
      echo ready
      for i in $(seq 600); do test ! -e /workspace/go || break; sleep 0.1; done
      rm /workspace/go
      cat feature.txt readme.md > both.txt; git log --oneline | wc -l > commits.txt
  waits: { run: cp feature.txt copy.txt }
",
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let run = scene.runs().pop().expect("a run");
    // Nothing of the user's own leads to the base any more.
    scene.write("feature.txt", "another\n");
    scene.commit("more");
    scene.git(&["checkout", "-q", "main"]);
    scene.write("readme.md", "two\n");
    scene.commit("third");
    scene.git(&["branch", "-m", "feature", "moved"]);
    scene.git(&["checkout", "-q", "moved"]);
    scene.git(&["reset", "-q", "--hard", "HEAD~2"]);
    scene.git(&["rebase", "-q", "main"]);
    scene.git(&["checkout", "-q", "main"]);
    scene.git(&["branch", "-q", "-D", "moved"]);
    scene.git(&[
        "reflog",
        "expire",
        "--expire=now",
        "--expire-unreachable=now",
        "--all",
    ]);
    scene.git(&["gc", "-q", "--prune=now", "--aggressive"]);
    let go = ["exec", "--run", &run, "runs", "touch", "/workspace/go"];
    let gone = scene.agent_run(&go);
    assert_eq!(gone.code, Some(0), "{gone}");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    for (id, file, text) in [
        ("runs", "both.txt", "feature\none\n"),
        ("runs", "commits.txt", "3\n"),
        ("waits", "copy.txt", "feature\n"),
    ] {
        let report = scene.result();
        assert_eq!(task(&report, id)["branch"]["result"], "created", "{rest:?}");
        let branch = format!("agent/{run}/{id}");
        assert_eq!(scene.git(&["show", &format!("{branch}:{file}")]), text);
        assert_eq!(scene.git(&["merge-base", &branch, base.trim()]), base);
    }
    scene.git(&["fsck", "--strict"]);
    scene.git(&["gc", "-q", "--prune=now", "--aggressive"]);
    scene.git(&["fsck", "--strict"]);
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    assert_eq!(scene.left(), Vec::<String>::new());
}
