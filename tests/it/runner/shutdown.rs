//! One interrupt, two, and the time limit of the whole run.
#![expect(
    clippy::disallowed_methods,
    reason = "the person who interrupts is a task of his own"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_run::event::{BranchResult, StopReason, TaskOutcome};
use agent_run::runner::Shutdown;

use super::scene::{Scene, answer_probe, nothing_changed, report};
use crate::fake::{Fault, Script};
use agent_run::engine::Operation;

const QUEUE: &str = "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x }\n  b: { run: x }\n";

/// Asks the run to stop as soon as a task's container has started.
fn stops_at_start(scene: &Scene, script: Script, how: &'static [Shutdown]) -> Script {
    let shutdown = scene.shutdown.clone();
    script.on_start(move |_| {
        for &step in how {
            shutdown.send_replace(step);
        }
    })
}

const ONCE: &[Shutdown] = &[Shutdown::Graceful(StopReason::Interrupted)];

#[tokio::test(start_paused = true)]
async fn one_interrupt_stops_collects_and_skips_the_rest() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(nothing_changed);
    scene
        .engine
        .script("task/a", stops_at_start(&scene, forever, ONCE));
    let summary = scene.run(QUEUE).await;
    assert_eq!(summary.stopped, Some(StopReason::Interrupted));
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::Cancelled);
    assert_eq!(a.branch.as_ref().unwrap().result, BranchResult::NoChange);
    let b = &report(&summary, "b").outcome;
    assert!(matches!(b, TaskOutcome::Skipped { .. }), "{b:?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_second_interrupt_cuts_the_grace_but_never_the_removal() {
    let scene = Scene::new();
    let deaf = Script::runs_forever().ignoring_term();
    scene
        .engine
        .script("task/a", stops_at_start(&scene, deaf, ONCE));
    let shutdown = scene.shutdown.clone();
    let second = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        shutdown.send_replace(Shutdown::Forced(StopReason::Terminated));
    });
    let yaml = "version: 1\nmax_parallel: 1\ndefaults: { stop_grace_period: 10m }\ntasks:\n  a: { run: x }\n  b: { run: x }\n";
    let summary = scene.run(yaml).await;
    second.await.unwrap();
    assert_eq!(
        summary.stopped,
        Some(StopReason::Interrupted),
        "the first reason stays"
    );
    assert!(summary.took < Duration::from_secs(30), "{:?}", summary.took);
    let kept = &report(&summary, "a").branch.as_ref().unwrap().result;
    let BranchResult::Kept { path, .. } = kept else {
        panic!("{kept:?}");
    };
    assert!(path.join("worktree/readme.md").exists());
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_while_an_image_is_pulled_ends_at_once() {
    let scene = Scene::new();
    scene
        .engine
        .fault("slow:1", Operation::EnsureImage, Fault::Hang);
    let shutdown = scene.shutdown.clone();
    let first = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    let summary = scene
        .run("version: 1\ntasks:\n  a: { image: 'slow:1', run: x }\n")
        .await;
    first.await.unwrap();
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    assert!(summary.took < Duration::from_secs(6), "{:?}", summary.took);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_second_interrupt_does_not_wait_for_a_collector() {
    let scene = Scene::new();
    scene.engine.script("task/a", Script::exits(137));
    let shutdown = scene.shutdown.clone();
    let stuck = Script::runs_forever().ignoring_term().on_start(move |_| {
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            shutdown.send_replace(Shutdown::Forced(StopReason::Interrupted));
        });
    });
    scene.engine.script("collector", stuck);
    let summary = scene.run(QUEUE).await;
    assert!(summary.took < Duration::from_secs(10), "{:?}", summary.took);
    let kept = &report(&summary, "a").branch.as_ref().unwrap().result;
    assert!(matches!(kept, BranchResult::Kept { .. }), "{kept:?}");
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn the_runs_own_time_limit_stops_it() {
    let scene = Scene::new();
    scene
        .engine
        .script("task/a", Script::runs_forever().on_exit(nothing_changed));
    let yaml =
        "version: 1\ntimeout: 20m\nmax_parallel: 1\ntasks:\n  a: { run: x }\n  b: { run: x }\n";
    let summary = scene.run(yaml).await;
    assert_eq!(summary.stopped, Some(StopReason::TimedOut));
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    assert!(
        summary.took >= Duration::from_secs(1200),
        "{:?}",
        summary.took
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_while_an_image_is_probed_leaves_no_probe() {
    let scene = Scene::new();
    let slow = Script::exits(0).after(Duration::from_secs(20));
    let slow = slow.replies(|config, _| answer_probe(config));
    scene.engine.script("probe", slow);
    let shutdown = scene.shutdown.clone();
    let first = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    let summary = scene.run("version: 1\ntasks:\n  a: { run: x }\n").await;
    first.await.unwrap();
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    scene.assert_nothing_left();
}

/// Like a CI system that kills us soon after it has asked.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

#[tokio::test(start_paused = true)]
async fn with_little_time_what_obeys_is_collected_and_the_rest_stays_on_disk() {
    let mut scene = Scene::new();
    scene.patience = PATIENCE;
    let quick = Script::runs_forever().obeying_term_after(Duration::from_secs(2));
    let quick = quick.on_exit(nothing_changed);
    let deaf = Script::runs_forever().ignoring_term();
    let started = Arc::new(AtomicUsize::new(0));
    for (task, script) in [("task/quick", quick), ("task/deaf", deaf)] {
        let (shutdown, started) = (scene.shutdown.clone(), started.clone());
        let script = script.on_start(move |_| {
            if started.fetch_add(1, Ordering::Relaxed) == 1 {
                shutdown.send_replace(ONCE[0]);
            }
        });
        scene.engine.script(task, script);
    }
    let yaml = "version: 1\nmax_parallel: 2\ndefaults: { stop_grace_period: 10m }\ntasks:\n  deaf: { run: x }\n  quick: { run: x }\n";
    let summary = scene.run(yaml).await;
    assert_eq!(summary.stopped, Some(StopReason::Interrupted));
    assert!(summary.took < Duration::from_secs(7), "{:?}", summary.took);
    let work = |task| &report(&summary, task).branch.as_ref().unwrap().result;
    assert_eq!(work("quick"), &BranchResult::NoChange);
    let BranchResult::Kept { path, .. } = work("deaf") else {
        panic!("{:?}", work("deaf"));
    };
    assert!(path.join("worktree/readme.md").exists());
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn with_little_time_eight_tasks_are_over_within_seven_seconds() {
    let mut scene = Scene::new();
    scene.patience = PATIENCE;
    for n in 0..8 {
        let slow = Script::runs_forever().on_exit(nothing_changed);
        let script = match n % 4 {
            0 => slow.ignoring_term(),
            1 => slow.obeying_term_after(Duration::from_millis(1500)),
            2 => Script::runs_forever(),
            _ => slow,
        };
        scene.engine.script(&format!("task/t{n}"), script);
    }
    let deaf = Script::runs_forever().ignoring_term();
    scene.engine.script("collector", deaf);
    let shutdown = scene.shutdown.clone();
    let cancel = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    let tasks: String = (0..8).map(|n| format!("  t{n}: {{ run: x }}\n")).collect();
    let head = "version: 1\nmax_parallel: 8\ndefaults: { mem_limit: 256m }\n";
    let yaml = format!("{head}tasks:\n{tasks}");
    let summary = scene.run(&yaml).await;
    cancel.await.unwrap();
    assert!(summary.took < Duration::from_secs(67), "{:?}", summary.took);
    for n in 0..8 {
        let work = &report(&summary, &format!("t{n}"))
            .branch
            .as_ref()
            .unwrap()
            .result;
        let collected = matches!(work, BranchResult::NoChange);
        let kept = matches!(work, BranchResult::Kept { path, .. } if path.join("worktree/readme.md").exists());
        assert_eq!(
            (collected, kept),
            (n % 4 % 2 == 1, n % 4 % 2 == 0),
            "{n}: {work:?}"
        );
    }
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn with_little_time_no_collector_runs_on() {
    let mut scene = Scene::new();
    scene.patience = PATIENCE;
    scene.engine.script("task/a", Script::exits(137));
    let shutdown = scene.shutdown.clone();
    let stuck = Script::runs_forever().ignoring_term().on_start(move |_| {
        shutdown.send_replace(Shutdown::Graceful(StopReason::Terminated));
    });
    scene.engine.script("collector", stuck);
    let summary = scene.run(QUEUE).await;
    assert!(summary.took < Duration::from_secs(7), "{:?}", summary.took);
    let kept = &report(&summary, "a").branch.as_ref().unwrap().result;
    assert!(matches!(kept, BranchResult::Kept { .. }), "{kept:?}");
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn the_runs_own_time_limit_leaves_time() {
    let mut scene = Scene::new();
    scene.patience = PATIENCE;
    let slow = Script::runs_forever().obeying_term_after(Duration::from_secs(60));
    let slow = slow.on_exit(nothing_changed);
    scene.engine.script("task/a", slow);
    let yaml =
        "version: 1\ntimeout: 20m\ndefaults: { stop_grace_period: 10m }\ntasks:\n  a: { run: x }\n";
    let summary = scene.run(yaml).await;
    assert_eq!(summary.stopped, Some(StopReason::TimedOut));
    let a = report(&summary, "a").branch.as_ref().unwrap();
    assert_eq!(a.result, BranchResult::NoChange);
    scene.assert_nothing_left();
}
