//! agent-run killed at every record of its journal: then `resume`, at once or when all containers have
//! ended, and `clean`, each reach a clean state, and no task runs twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::Engine as _;
use agent_run::event::{Event, EventKind, RunSummary, TaskOutcome};
use agent_run::journal::{FoundRun, RunState};
use agent_run::runner::{LogLine, Observer};
use tokio::sync::Notify;

use super::scene::{Scene, Seen, report};
use crate::fake::Script;

const YAML: &str =
    "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x }\n  b: { run: x, matrix: { n: [1] } }\n";
const CELL: &str = "b[n=1]";
/// Shorter than the time after which a task is measured first.
const LIFE: Duration = Duration::from_millis(40);

/// Counts events, and says when there were so many.
pub struct Counter {
    seen: usize,
    at: usize,
    reached: Arc<Notify>,
}

impl Counter {
    /// One that says so when there were `at`.
    pub fn until(at: usize) -> (Self, Arc<Notify>) {
        let reached = Arc::new(Notify::new());
        let counter = Self {
            seen: 0,
            at,
            reached: reached.clone(),
        };
        (counter, reached)
    }
}

impl Observer for Counter {
    fn event(&mut self, _: &Event) {
        self.seen += 1;
        if self.seen == self.at {
            self.reached.notify_one();
        }
    }

    fn line(&mut self, _: &LogLine) {}
}

type Starts = Arc<Mutex<HashMap<String, u32>>>;

/// A scene whose tasks end with 0 and 3, and count their starts.
fn scene() -> (Scene, Starts) {
    let scene = Scene::new();
    let starts = Starts::default();
    for (task, code) in [("a", 0), (CELL, 3)] {
        let counted = starts.clone();
        let script = Scene::hands_off(code).after(LIFE).on_start(move |_| {
            *counted.lock().unwrap().entry(task.to_owned()).or_default() += 1;
        });
        let script = script.prints(&format!("{task} begins\n"));
        scene.engine.script(&format!("task/{task}"), script);
    }
    (scene, starts)
}

/// Runs until the run has told so many events, and kills it there; says how many it told.
pub async fn killed_at((scene, yaml): (&Scene, &str), at: usize) -> usize {
    let (mut counter, reached) = Counter::until(at);
    scene.killed(yaml, &mut counter, reached.notified()).await;
    counter.seen
}

/// Every event of a run, killed there.
async fn at_every_event() -> usize {
    let (scene, _) = scene();
    let events = killed_at((&scene, YAML), usize::MAX).await;
    assert!(events > 9, "{events}");
    events
}

fn assert_outcomes(summary: &RunSummary, starts: &Starts, at: usize) {
    for (task, outcome) in [
        ("a", TaskOutcome::Succeeded),
        (CELL, TaskOutcome::Failed { exit_code: 3 }),
    ] {
        let report = report(summary, task);
        assert_eq!(report.outcome, outcome, "{task}, killed at {at}");
        assert!(report.branch.is_some(), "{task}, killed at {at}");
        assert_eq!(starts.lock().unwrap()[task], 1, "{task}, killed at {at}");
    }
}

async fn resumes(later: bool) {
    for at in 1..=at_every_event().await {
        let (scene, starts) = scene();
        killed_at((&scene, YAML), at).await;
        if later {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        let mut seen = Seen::default();
        let summary = scene.resumed(YAML, &mut seen).await.unwrap();
        assert_outcomes(&summary, &starts, at);
        for task in ["a", CELL] {
            let log = scene.log(task);
            assert_eq!(log, format!("{task} begins\n"), "killed at {at}");
        }
        scene.assert_nothing_left();
        let again = scene.resumed(YAML, &mut seen).await.unwrap();
        assert_outcomes(&again, &starts, at);
        scene.assert_nothing_left();
        let told = seen
            .events
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Warning { .. }));
        assert_eq!(told.count(), 0, "killed at {at}: {:?}", seen.events);
    }
}

#[tokio::test(start_paused = true)]
async fn resume_at_once_ends_what_was_begun_and_runs_no_task_twice() {
    resumes(false).await;
}

#[tokio::test(start_paused = true)]
async fn resume_when_all_containers_have_ended_runs_no_task_twice() {
    resumes(true).await;
}

#[tokio::test(start_paused = true)]
async fn clean_reaches_a_clean_state_and_a_result_and_twice_changes_nothing() {
    for at in 1..=at_every_event().await {
        let (scene, starts) = scene();
        killed_at((&scene, YAML), at).await;
        let report = scene.cleaned().await;
        assert_eq!(report.problems, Vec::<String>::new(), "killed at {at}");
        scene.assert_nothing_left();
        let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
        assert_eq!(found.state, RunState::Finished, "killed at {at}");
        assert_eq!(found.progress().unwrap().len(), 2, "killed at {at}");
        let again = scene.cleaned().await;
        assert!(again.is_empty(), "killed at {at}: {again:?}");
        for count in starts.lock().unwrap().values() {
            assert_eq!(*count, 1, "killed at {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_is_told_of_and_its_work_is_collected() {
    let (scene, _) = scene();
    let started = Arc::new(Notify::new());
    let told = started.clone();
    let forever = Script::runs_forever().on_start(move |_| told.notify_one());
    scene.engine.script("task/a", forever);
    let mut seen = Seen::default();
    tokio::select! {
        biased;
        () = started.notified() => {}
        ended = scene.observed(YAML, &mut seen) => drop(ended),
    }
    scene.is_dead().await;
    let name = format!("agent-run-{}-1-a", scene.run);
    scene.engine.remove_container(&name).await.unwrap();
    let summary = scene.resumed(YAML, &mut seen).await.unwrap();
    let a = report(&summary, "a");
    let TaskOutcome::Infra { message, .. } = &a.outcome else {
        panic!("{a:?}");
    };
    assert!(message.contains("does not have container"), "{message}");
    assert!(a.branch.is_some(), "{a:?}");
    let b = &report(&summary, CELL).outcome;
    assert_eq!(*b, TaskOutcome::Failed { exit_code: 3 });
    scene.assert_nothing_left();
}
