//! Submodules on a real engine: there and clean inside without a network, and what is done in them
//! is never lost in silence.

use std::path::Path;

use super::scene::{Scene, task};

const TASKS: &str = r#"
version: 1
max_parallel: 2
defaults:
  mem_limit: 256m
  network_mode: none
  timeout: 60s
tasks:
  reads:
    run: |
      set -e
      cat lib/readme.md
      test -z "$(git status --porcelain --ignore-submodules=none)"
      git submodule status | grep -q '^ '
      git -C lib checkout -q HEAD~1
      git diff | grep -q '^.Subproject commit'
      git submodule update
      git diff --quiet
      ! touch /agent/base/modules/*/objects/x 2>/dev/null
  moves:
    run: git -C lib checkout -q HEAD~1 && git commit -qam 'older library'
  commits:
    run: cd lib && echo mine > mine.txt && git add . && git commit -qm mine
  edits:
    run: echo mine > lib/mine.txt; echo beside > beside.txt
"#;

#[test]
fn tasks_have_the_submodules_and_lose_nothing_in_them() {
    let scene = Scene::with_submodule();
    let (ended, result) = scene.run(TASKS);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(!ended.stderr.contains("is empty"), "{ended}");
    assert_eq!(
        task(&result, "reads")["branch"]["result"],
        "no_change",
        "{ended}"
    );
    let moved = task(&result, "moves");
    assert_eq!(moved["branch"]["result"], "created", "{moved:#}");
    assert_eq!(
        moved["branch"]["risky_paths"][0][1], "moves a submodule",
        "{moved:#}"
    );
    assert_eq!(moved["branch"]["content_left_behind"], false, "{moved:#}");
    let run = result["run"].as_str().expect("a run");
    let inside = scene.git(&["rev-parse", &format!("agent/{run}/moves:lib")]);
    assert_eq!(inside, scene.git(&["-C", "lib", "rev-parse", "HEAD~1"]));
    for id in ["commits", "edits"] {
        let report = task(&result, id);
        assert_eq!(report["branch"]["result"], "created", "{report:#}");
        assert_eq!(report["branch"]["content_left_behind"], true, "{report:#}");
        let kept = scene.state().join("runs").join(run).join("tasks").join(id);
        assert!(kept.join("1/worktree/lib/mine.txt").is_file(), "{ended}");
        assert!(ended.stdout.contains("Submodules hold changes"), "{ended}");
    }
    let left: Vec<_> = scene
        .left()
        .into_iter()
        .filter(|name| !["commits", "edits"].contains(&last(name)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_submodule_without_a_clone_is_empty_and_the_run_says_so_once() {
    let scene = Scene::with_submodule();
    scene.git(&["submodule", "deinit", "-q", "-f", "lib"]);
    std::fs::remove_dir_all(scene.repo().join(".git/modules")).expect("a clone");
    let (ended, _) = scene.run(
        "version: 1\ntasks:\n  a: { run: test -z \"$(ls lib)\" }\n  b: { run: test -z \"$(ls lib)\" }\n",
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(told.matches("submodule lib is empty").count(), 1, "{ended}");
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}

fn last(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}
