//! What a failure means for the run: where it is allowed, and where nothing more is to start after it.

use serde_json::json;

use super::scene::{Scene, task};

#[test]
fn a_failure_that_is_allowed_is_none_of_the_run() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\ndefaults: { network_mode: none }\ntasks:\n  lint:\n    run: echo half > half.txt; exit 3\n    allow_failure: true\n  fix: { run: echo > fix.txt }\n",
    );
    let junit = scene.path().join("junit.xml");
    let summary = scene.path().join("summary.md");
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let files = [path(&spec), path(&junit), path(&summary)];
    let words = [
        "run",
        &files[0],
        "--junit",
        &files[1],
        "--summary",
        &files[2],
    ];
    let mut command = scene.command(&words);
    let github = command
        .env("GITHUB_ACTIONS", "true")
        .output()
        .expect("agent-run");
    let ended: super::scene::Ended = github.into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("::warning "), "{ended}");
    assert!(!ended.stderr.contains("::error"), "{ended}");
    let told = "2 tasks: 1 passed, 1 failed (allowed)";
    assert!(ended.stdout.contains(told), "{ended}");
    let result = scene.checked_result(&ended);
    let lint = task(&result, "lint");
    assert_eq!(
        lint["outcome"],
        json!({"outcome": "failed", "exit_code": 3})
    );
    assert_eq!(lint["allow_failure"], true);
    assert_eq!(lint["branch"]["result"], "created", "{lint:#}");
    assert_eq!(task(&result, "fix")["allow_failure"], false);
    let junit = std::fs::read_to_string(junit).expect("a report");
    assert!(junit.contains("failures=\"0\""), "{junit}");
    let markdown = std::fs::read_to_string(summary).expect("a summary");
    assert!(markdown.contains("| FAIL, allowed |"), "{markdown}");
    let run = result["run"].as_str().expect("a run");
    for words in [&["show", "lint", "--run", run][..], &["ps"]] {
        let shown = scene.agent_run(words);
        assert!(
            shown.stdout.contains("exit code 3, allowed to fail"),
            "{shown}"
        );
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn nothing_more_is_started_after_so_many_failures() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\nmax_parallel: 1\ndefaults: { network_mode: none }\ntasks:\n  a: { run: exit 3 }\n  b: { run: exit 4, allow_failure: true }\n  c: { run: exit 5 }\n  d: { run: echo > d.txt }\n",
    );
    let spec = spec.to_str().expect("a path");
    let ended = scene.agent_run(&["run", spec, "--max-fail", "2"]);
    assert_eq!(ended.code, Some(100), "{ended}");
    let told = "4 tasks: 0 passed, 2 failed, 1 failed (allowed), 1 skipped";
    assert!(ended.stdout.contains(told), "{ended}");
    let result = scene.checked_result(&ended);
    let reason = "2 tasks failed, and nothing is started after that";
    assert_eq!(task(&result, "d")["outcome"]["reason"], reason);
    let ended = scene.agent_run(&["run", spec, "--fail-fast"]);
    assert_eq!(ended.code, Some(100), "{ended}");
    assert!(
        ended.stdout.contains("0 passed, 1 failed, 3 skipped"),
        "{ended}"
    );
    assert!(ended.stdout.contains("b, c, d: a task failed"), "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
    let planned = scene.agent_run(&["plan", spec, "--fail-fast"]);
    assert!(
        planned.stdout.contains("after 1 failure nothing more"),
        "{planned}"
    );
    let planned = scene.agent_run(&["plan", spec, "--fail-fast=false"]);
    assert!(!planned.stdout.contains("nothing more"), "{planned}");
}
