//! Single tasks that are asked to stop, while their siblings go on.

use std::time::Duration;

use agent_run::event::{BranchResult, TaskOutcome};

use super::scene::{Scene, nothing_changed, report};
use crate::fake::Script;

const TWO: &str = "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x }\n  b: { run: x }\n";
const QUEUE: &str = "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x }\n  b: { run: x }\n";

/// A script that asks a task to stop as soon as it has started.
fn stops(scene: &Scene, script: Script, task: &'static str, forced: bool) -> Script {
    let stops = scene.stops.clone();
    script.on_start(move |_| {
        stops.send_modify(|stops| {
            stops.insert(task.parse().unwrap(), forced);
        });
    })
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_is_collected_and_the_others_go_on() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(nothing_changed);
    scene
        .engine
        .script("task/a", stops(&scene, forever, "a", false));
    let long = Scene::hands_off(0).after(Duration::from_secs(600));
    scene.engine.script("task/b", long);
    let summary = scene.run(TWO).await;
    assert_eq!(summary.stopped, None);
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::Cancelled);
    assert_eq!(a.branch.as_ref().unwrap().result, BranchResult::NoChange);
    let b = report(&summary, "b");
    assert_eq!(b.outcome, TaskOutcome::Succeeded);
    assert!(b.ran >= Duration::from_secs(600), "{:?}", b.ran);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_killed_leaves_its_work_on_disk() {
    let scene = Scene::new();
    let deaf = Script::runs_forever().ignoring_term();
    scene
        .engine
        .script("task/a", stops(&scene, deaf, "a", true));
    scene.engine.script("task/b", Scene::hands_off(0));
    let summary = scene.run(TWO).await;
    assert!(summary.took < Duration::from_secs(10), "{:?}", summary.took);
    let kept = &report(&summary, "a").branch.as_ref().unwrap().result;
    assert!(matches!(kept, BranchResult::Kept { .. }), "{kept:?}");
    assert_eq!(report(&summary, "b").outcome, TaskOutcome::Succeeded);
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_never_begins() {
    let scene = Scene::new();
    let first = Scene::hands_off(0).after(Duration::from_secs(60));
    scene
        .engine
        .script("task/a", stops(&scene, first, "b", false));
    let summary = scene.run(QUEUE).await;
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Succeeded);
    let b = report(&summary, "b");
    assert_eq!(
        (&b.outcome, b.ran),
        (&TaskOutcome::Cancelled, Duration::ZERO)
    );
    scene.assert_nothing_left();
}
