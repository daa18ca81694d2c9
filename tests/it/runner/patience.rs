//! A model that limits the rate: its task is tried again when that asks for it, and holds nothing up until then.
#![expect(
    clippy::disallowed_methods,
    reason = "the person who interrupts is a task of his own"
)]

use std::fs;
use std::time::Duration;

use agent_run::event::{EventKind, StopReason, TaskOutcome, TaskPhase};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, nothing_changed, report};
use crate::fake::host_path;

/// A task of an agent's, and another one for the same place.
const TWO: &str = "version: 1\nmax_parallel: 1\ntasks:\n  \
    a: { agent: shell, prompt: x, retry: { max: 1, when: [rate_limited], backoff: 1m } }\n  b: { run: x }\n";

/// Ends with that code after a minute and leaves these numbers, each time.
fn scene(code: i64, numbers: &'static str) -> Scene {
    let scene = Scene::new();
    let minute = Duration::from_secs(60);
    let ends = Scene::hands_off(code).after(minute).on_exit(move |config| {
        let place = host_path(config, "/home/agent").join(".agent-run");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("usage.json"), numbers).unwrap();
        nothing_changed(config);
    });
    scene.engine.script("task/a", ends);
    let other = Scene::hands_off(0).after(5 * minute);
    scene.engine.script("task/b", other);
    scene
}

/// How long the second attempt at `a` was told to wait, in seconds; none where there was no second one.
async fn waited(code: i64, numbers: &'static str) -> Option<u64> {
    let scene = scene(code, numbers);
    let mut seen = Seen::default();
    let summary = scene.observed(TWO, &mut seen).await.unwrap();
    scene.assert_nothing_left();
    let told = seen.events.iter().find_map(|event| match &event.kind {
        EventKind::Retry { wait, .. } => Some(wait.as_secs()),
        _ => None,
    })?;
    let waiting = &report(&summary, "a").phases[0];
    assert_eq!(waiting.phase, TaskPhase::Waiting);
    // The other task has the place meanwhile.
    assert_eq!(waiting.took.as_secs(), told.max(300), "{numbers}");
    Some(told)
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_as_long_as_the_model_asks_within_bounds() {
    for (numbers, seconds) in [
        (r#"{"retry_after":600}"#, 600),
        (r#"{"retry_after":600.2}"#, 601),
        // No shorter than the task's own, and no longer than six hours.
        (r#"{"retry_after":30}"#, 60),
        (r#"{"retry_after":1e12}"#, 21600),
        (r#"{"retry_after":1e300}"#, 60),
        (r#"{"retry_after":-600}"#, 60),
        (r#"{"retry_after":"600"}"#, 60),
        (r#"{"retry_after":[600]}"#, 60),
        (r#"{"retry_after":NaN}"#, 60),
        (r#"{"retry_after":null}"#, 60),
        ("{}", 60),
    ] {
        assert_eq!(waited(75, numbers).await, Some(seconds), "{numbers}");
    }
    assert_eq!(waited(69, r#"{"retry_after":600}"#).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_a_wait_that_an_agent_asked_for() {
    let scene = scene(75, r#"{"retry_after":20000,"tokens":5}"#);
    let shutdown = scene.shutdown.clone();
    let interrupt = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    let summary = scene.run(TWO).await;
    interrupt.await.unwrap();
    assert_eq!(summary.stopped, Some(StopReason::Interrupted));
    assert_eq!(summary.took.as_secs(), 3600);
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::Failed { exit_code: 75 });
    assert_eq!(a.attempt, 1);
    let agent = a.agent.as_ref().unwrap();
    assert_eq!(agent.retry_after_ms, Some(20_000_000));
    assert_eq!(agent.used.tokens, Some(5));
    scene.assert_nothing_left();
}
