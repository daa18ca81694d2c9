//! What a start tidies up after runs that died, and what it leaves alone: killed at any record, beside
//! a run that lives, and with what was prepared and never started.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation, OwnedKind};
use agent_run::event::{EventKind, TaskOutcome, TaskPhase};
use agent_run::id::{TaskId, label};
use agent_run::journal::{FoundRun, RunDirectory, RunState};

use super::killed::Counter;
use super::scene::{Scene, Seen, nothing_changed, report};
use crate::fake::{Fault, Script};

/// `a` ends at once, `b` runs until somebody stops it, `c` waits.
const YAML: &str = "version: 1\nmax_parallel: 1\ndefaults: { run: x, timeout: 30m }\ntasks:\n  a: {}\n  b: {}\n  c: {}\n";
const LATER: Duration = Duration::from_secs(1);

fn scripted(scene: Scene) -> Scene {
    scene.engine.script("task/a", Scene::hands_off(0));
    let forever = Script::runs_forever().on_exit(nothing_changed);
    scene.engine.script("task/b", forever);
    scene.engine.script("task/c", Scene::hands_off(3));
    scene
}

/// Kills a run when `b` has run for a second.
async fn killed(scene: &Scene) {
    let killed = tokio::time::sleep(LATER);
    scene.killed(YAML, &mut Seen::default(), killed).await;
}

fn finished(found: &FoundRun) -> BTreeSet<TaskId> {
    let events = found.journal().read().unwrap().into_iter();
    let ends = events.filter(|event| matches!(event.kind, EventKind::TaskFinished { .. }));
    ends.filter_map(|event| event.task).collect()
}

/// Only a container that was started and whose task has not ended is still of use, and what its
/// directory holds.
fn assert_only_what_is_needed_is_left(scene: &Scene, at: usize) {
    let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
    let ended = finished(&found);
    let owned = scene.engine.owned();
    for object in owned.iter().filter(|o| o.kind != OwnedKind::Network) {
        let task = object
            .labels
            .get(label::TASK)
            .map(|task| task.parse().unwrap());
        let is_needed = task.is_some_and(|task| !ended.contains(&task)) && object.started;
        assert!(is_needed, "killed at {at}: {object:?}");
    }
    let tasks = scene.state().run(&scene.run).join("tasks");
    let left = std::fs::read_dir(tasks).into_iter().flatten();
    for directory in left {
        let name = directory.unwrap().file_name().into_string().unwrap();
        let of_it = |o: &agent_run::engine::OwnedObject| o.labels.get(label::TASK) == Some(&name);
        assert!(owned.iter().any(of_it), "killed at {at}: {name} is left");
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_a_run_was_killed_only_what_is_needed_is_left() {
    let mut scene = scripted(Scene::new());
    // The latest events are those of measurements.
    for at in 1..=12 {
        scene = scripted(scene.again());
        let (mut counter, reached) = Counter::until(at);
        scene.killed(YAML, &mut counter, reached.notified()).await;
        let tidied = scene.tidied().await;
        assert_eq!(tidied.problems, Vec::<String>::new(), "killed at {at}");
        assert_only_what_is_needed_is_left(&scene, at);
        let again = scene.tidied().await;
        assert_eq!((again.removed, again.runs), (vec![], 0), "killed at {at}");
        let summary = scene.resumed(YAML, &mut Seen::default()).await.unwrap();
        let outcomes = summary.tasks.iter().map(|task| task.outcome.clone());
        let wanted = [
            TaskOutcome::Succeeded,
            TaskOutcome::TimedOut,
            TaskOutcome::Failed { exit_code: 3 },
        ];
        assert_eq!(outcomes.collect::<Vec<_>>(), wanted, "killed at {at}");
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_stays_and_one_whose_task_has_ended_goes() {
    let scene = scripted(Scene::new());
    // The engine keeps `a` for a while.
    let busy = Fault::Fail(ErrorKind::Timeout);
    scene
        .engine
        .fault("task/a", Operation::RemoveContainer, busy.clone());
    killed(&scene).await;
    let names = || -> Vec<String> {
        let containers = scene.engine.containers().into_iter();
        containers.map(|container| container.name).collect()
    };
    assert_eq!(names().len(), 2);
    scene
        .engine
        .fault_once("task/a", Operation::RemoveContainer, busy);
    let tidied = scene.tidied().await;
    assert_eq!(tidied.runs, 1);
    let what: Vec<_> = tidied.removed.iter().map(|removed| removed.what).collect();
    assert_eq!(what, ["container", "worktree"], "{tidied:?}");
    assert_eq!(names(), [format!("agent-run-{}-1-b", scene.run)]);
    let summary = scene.resumed(YAML, &mut Seen::default()).await.unwrap();
    let b = report(&summary, "b");
    assert_eq!(b.outcome, TaskOutcome::TimedOut);
    assert!(b.branch.is_some(), "{b:?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_tasks_had_all_ended_gets_its_result() {
    let scene = scripted(Scene::new());
    scene.engine.script("task/b", Scene::hands_off(0));
    scene.run(YAML).await;
    let found = || FoundRun::of(&scene.state(), &scene.run).unwrap();
    assert_eq!(found().state, RunState::Interrupted);
    let half_written = found().path.join(".tmpAbCdEf");
    std::fs::write(&half_written, "{").unwrap();
    let tidied = scene.tidied().await;
    assert_eq!(tidied.problems, Vec::<String>::new());
    assert_eq!(found().state, RunState::Finished);
    assert!(!half_written.exists());
    let progress = found().progress().unwrap();
    let outcome = |task: &str| {
        progress[&task.parse().unwrap()]
            .report
            .clone()
            .unwrap()
            .outcome
    };
    assert_eq!(outcome("a"), TaskOutcome::Succeeded);
    assert_eq!(outcome("c"), TaskOutcome::Failed { exit_code: 3 });
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lives_is_left_alone() {
    let scene = scripted(Scene::new());
    killed(&scene).await;
    let lives = RunDirectory::take_over(&scene.state(), &scene.run).unwrap();
    let calls = scene.engine.calls().len();
    let tidied = scene.tidied().await;
    assert_eq!(tidied, agent_run::runner::Tidied::default());
    let made = scene.engine.calls().split_off(calls);
    let looks = [Operation::Info, Operation::ListOwned];
    assert!(
        made.iter().all(|(what, _)| looks.contains(what)),
        "{made:?}"
    );
    drop(lives);
    scene.cleaned().await;
    scene.assert_nothing_left();
}

fn cut_before_start_of_b(scene: &Scene) -> std::sync::Arc<tokio::sync::Notify> {
    let name = format!("agent-run-{}-1-b", scene.run);
    scene.engine.cut_before((Operation::Start, name))
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_prepared_and_never_started_is_removed_and_made_anew() {
    let scene = scripted(Scene::new());
    let reached = cut_before_start_of_b(&scene);
    scene
        .killed(YAML, &mut Seen::default(), reached.notified())
        .await;
    let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
    let running = EventKind::Phase {
        phase: TaskPhase::Running,
    };
    let intents = found.journal().read().unwrap().into_iter();
    let intents = intents.filter(|event| event.kind == running).count();
    assert_eq!(intents, 2, "the intent for `b` is written");
    let tidied = scene.tidied().await;
    let what: Vec<_> = tidied.removed.iter().map(|removed| removed.what).collect();
    assert_eq!(what, ["worktree", "container"], "{tidied:?}");
    let summary = scene.resumed(YAML, &mut Seen::default()).await.unwrap();
    assert_eq!(report(&summary, "b").outcome, TaskOutcome::TimedOut);
    scene.assert_nothing_left();
}
