//! After how many failures nothing more is started, and what becomes of what runs and waits.

use std::time::Duration;

use agent_run::event::{RunSummary, TaskOutcome};

use super::scene::{Scene, Seen, report};

const MINUTE: Duration = Duration::from_secs(60);

/// The letter of each outcome, in the order of the tasks.
fn outcomes(summary: &RunSummary) -> String {
    let letter = |outcome: &TaskOutcome| match outcome {
        TaskOutcome::Succeeded => 'p',
        TaskOutcome::Failed { .. } => 'f',
        TaskOutcome::Skipped { .. } => 's',
        TaskOutcome::Cancelled => 'c',
        other => panic!("{other:?}"),
    };
    summary
        .tasks
        .iter()
        .map(|task| letter(&task.outcome))
        .collect()
}

/// Two at a time: `a` fails after one minute, `d` after three; the others pass, and `e` begins before that.
fn scene() -> Scene {
    let scene = Scene::new();
    for (task, code, after) in [
        ("a", 3, MINUTE),
        ("b", 0, 2 * MINUTE),
        ("c", 0, 3 * MINUTE / 2),
        ("d", 4, MINUTE),
        ("e", 0, 2 * MINUTE),
        ("f", 0, 2 * MINUTE),
    ] {
        let script = Scene::hands_off(code).after(after);
        scene.engine.script(&format!("task/{task}"), script);
    }
    scene
}

fn spec(top: &str, of_a: &str) -> String {
    format!(
        "version: 1\nmax_parallel: 2\n{top}defaults: {{ run: x }}\ntasks:\n  a: {{ {of_a} }}\n  b:\n  c:\n  d:\n  e:\n  f:\n"
    )
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_on_and_nothing_more_is_started() {
    let scene = scene();
    let summary = scene.run(&spec("fail_fast: true\n", "")).await;
    assert_eq!(outcomes(&summary), "fpssss");
    let TaskOutcome::Skipped { reason, .. } = &report(&summary, "f").outcome else {
        panic!("{summary:?}");
    };
    assert_eq!(reason, "a task failed, and nothing is started after that");
    assert_eq!(summary.stopped, None);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn without_it_all_tasks_are_run() {
    let scene = scene();
    assert_eq!(outcomes(&scene.run(&spec("", "")).await), "fppfpp");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn so_many_failures_as_are_asked_for() {
    let mut scene = scene();
    scene.over.max_fail = Some(2);
    let summary = scene.run(&spec("fail_fast: true\n", "")).await;
    assert_eq!(outcomes(&summary), "fppfps");
    let TaskOutcome::Skipped { reason, .. } = &report(&summary, "f").outcome else {
        panic!("{summary:?}");
    };
    assert_eq!(reason, "2 tasks failed, and nothing is started after that");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_command_line_wins_over_the_spec() {
    let mut scene = scene();
    scene.over.fail_fast = Some(false);
    let summary = scene.run(&spec("fail_fast: true\n", "")).await;
    assert_eq!(outcomes(&summary), "fppfpp");
    scene.over.fail_fast = Some(true);
    scene.run = "261120-101500-bcde".parse().unwrap();
    assert_eq!(outcomes(&scene.run(&spec("", "")).await), "fpssss");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_allowed_does_not_count() {
    let scene = scene();
    let summary = scene
        .run(&spec("fail_fast: true\n", "allow_failure: true"))
        .await;
    assert_eq!(outcomes(&summary), "fppfps");
    assert!(report(&summary, "a").is_allowed_failure());
    assert!(!report(&summary, "d").is_allowed_failure());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_another_follows_is_no_failure_yet() {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(0));
    scene.engine.script("task/b", Scene::hands_off(0));
    let first = format!("agent-run-{}-1-a", scene.run);
    scene.engine.script(&first, Scene::hands_off(3));
    let yaml = "version: 1\nmax_parallel: 1\nfail_fast: true\ndefaults: { run: x }\ntasks:\n  a: { retry: 1 }\n  b:\n";
    let summary = scene.run(yaml).await;
    assert_eq!(outcomes(&summary), "pp");
    assert_eq!(report(&summary, "a").attempt, 2);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_another_attempt_does_not_make_it() {
    let scene = scene();
    scene
        .engine
        .script("task/b", Scene::hands_off(5).after(2 * MINUTE));
    let yaml = spec("fail_fast: true\n", "retry: { max: 3, backoff: 1h }");
    let mut seen = Seen::default();
    let summary = scene.observed(&yaml, &mut seen).await.unwrap();
    assert_eq!(outcomes(&summary), "ffpsss");
    let a = report(&summary, "a");
    assert_eq!((a.attempt, a.earlier_attempts.len()), (1, 0));
    assert!(a.branch.is_some(), "{a:?}");
    assert!(
        summary.took < Duration::from_secs(600),
        "{:?}",
        summary.took
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_afterwards_is_the_last() {
    let scene = scene();
    scene
        .engine
        .script("task/b", Scene::hands_off(5).after(2 * MINUTE));
    let yaml = spec("fail_fast: true\n", "").replace("  b:\n", "  b: { retry: 3 }\n");
    let summary = scene.run(&yaml).await;
    assert_eq!(outcomes(&summary), "ffssss");
    let b = report(&summary, "b");
    assert_eq!((b.attempt, b.earlier_attempts.len()), (1, 0));
    scene.assert_nothing_left();
}
