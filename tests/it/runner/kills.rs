//! agent-run killed at every call to the engine, before it was carried out and after it with the answer
//! lost, and at every record of its journal, in runs with attempts, views and an interrupt. Then
//! `resume`, `clean`, and a start that tidies up, each reach a clean state, and nothing runs twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::event::{StopReason, TaskOutcome, TaskReport};
use agent_run::journal::{FoundRun, RunState};
use agent_run::runner::Shutdown;

use super::killed::Counter;
use super::scene::{Scene, Seen, nothing_changed, report};
use crate::fake::Script;

/// Shorter than the time after which a task is measured first.
const LIFE: Duration = Duration::from_millis(40);

/// Starts, by the container.
type Starts = Arc<Mutex<HashMap<String, u32>>>;

/// A kind of run that is killed.
#[derive(Clone, Copy)]
struct Way {
    yaml: &'static str,
    script: fn(&Scene, &Starts),
    /// How the attempts at task `a` end where nobody kills the run.
    ending: fn() -> Vec<TaskOutcome>,
}

/// Fails, waits for ten minutes, and succeeds.
const ATTEMPTS: Way = Way {
    yaml: "version: 1\ntasks:\n  a: { run: x, retry: { max: 1, backoff: 10m } }\n",
    script: |scene, starts| {
        let first = format!("agent-run-{}-1-a", scene.run);
        let engine = &scene.engine;
        engine.script("task/a", counted(Scene::hands_off(0).after(LIFE), starts));
        engine.script(&first, counted(Scene::hands_off(3).after(LIFE), starts));
    },
    ending: || vec![TaskOutcome::Failed { exit_code: 3 }, TaskOutcome::Succeeded],
};

/// Its worktree is a view, and its work is handed off by a container of its own.
const VIEW: Way = Way {
    yaml: "version: 1\ntasks:\n  a: { run: x, workspace: overlay }\n",
    script: |scene, starts| {
        let script = counted(Script::exits(0).after(LIFE), starts);
        scene.engine.script("task/a", script);
    },
    ending: || vec![TaskOutcome::Succeeded],
};

/// Has a service, and a check that has one of its own.
const SERVED: Way = Way {
    yaml: "version: 1\ntasks:\n  a: { run: x, verify: y, services: { db: { image: db, healthcheck: { test: [CMD, ready] } } } }\n",
    script: |scene, starts| {
        let engine = &scene.engine;
        engine.script(
            "task/a",
            counted(Scene::commits("work", "1").after(LIFE), starts),
        );
        engine.script("verify/a", Script::exits(0).after(LIFE));
        for role in ["pod", "service", "verify-pod", "verify-service"] {
            engine.script(role, Script::runs_forever());
        }
        engine.command(&["ready".to_owned()], Script::exits(0));
    },
    ending: || vec![TaskOutcome::Succeeded],
};

/// Uses more disk than it may, and is killed for it.
const FULL: Way = Way {
    yaml: "version: 1\ntasks:\n  a: { run: x, timeout: 1h, disk_limit: 2m }\n",
    script: |scene, starts| {
        let hostile = Script::runs_forever().ignoring_term();
        let script = counted(hostile.writes_bytes(3 << 20), starts);
        scene.engine.script("task/a", script);
    },
    ending: || vec![TaskOutcome::OutOfDisk { used_bytes: 0 }],
};

/// Its first task runs and its second one waits when it is interrupted.
const INTERRUPTED: Way = Way {
    yaml: "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x, timeout: 1h }\n  b: { run: x }\n",
    script: |scene, starts| {
        let last = counted(Scene::hands_off(3).after(LIFE), starts);
        scene.engine.script("task/b", last);
        let (stop, starts) = (scene.shutdown.clone(), starts.clone());
        let forever = Script::runs_forever().on_exit(nothing_changed);
        let script = forever.on_start(move |config| {
            *starts
                .lock()
                .unwrap()
                .entry(config.name.clone())
                .or_default() += 1;
            stop.send_replace(Shutdown::Graceful(StopReason::Interrupted));
        });
        scene.engine.script("task/a", script);
    },
    ending: || vec![TaskOutcome::Cancelled],
};

fn counted(script: Script, starts: &Starts) -> Script {
    let starts = starts.clone();
    script.on_start(move |config| {
        *starts
            .lock()
            .unwrap()
            .entry(config.name.clone())
            .or_default() += 1;
    })
}

/// Where a run is killed.
#[derive(Debug, Clone, Copy)]
enum At {
    /// When so many events were told.
    Event(usize),
    /// At the call of this number, which was carried out or not.
    Call(usize, bool),
}

impl Way {
    fn on(self, scene: Scene) -> (Scene, Starts) {
        let (scene, starts) = (scene.again(), Starts::default());
        (self.script)(&scene, &starts);
        (scene, starts)
    }

    /// Every event and every call of a run in which nothing goes wrong.
    async fn places(self) -> (Scene, Vec<At>) {
        // The first one learns of the image and the mounts.
        let (scene, _) = self.on(Scene::new());
        scene.run(self.yaml).await;
        let (scene, _) = self.on(scene);
        let mut seen = Seen::default();
        let summary = scene.observed(self.yaml, &mut seen).await.unwrap();
        assert_eq!(outcomes(report(&summary, "a")), (self.ending)());
        let calls = 1..=scene.engine.calls().len();
        let calls = calls.flat_map(|call| [At::Call(call, false), At::Call(call, true)]);
        let events = (1..=seen.events.len()).map(At::Event);
        let places: Vec<_> = events.chain(calls).collect();
        assert!(places.len() > 25, "{places:?}");
        (scene, places)
    }

    /// Kills a run; none where it had not begun.
    async fn killed(self, scene: &Scene, at: At) -> Option<FoundRun> {
        match at {
            At::Event(at) => {
                let (mut counter, reached) = Counter::until(at);
                let killed = reached.notified();
                scene.killed(self.yaml, &mut counter, killed).await;
            }
            At::Call(number, is_done) => {
                let reached = scene.engine.cut_at(number, is_done);
                let killed = reached.notified();
                scene.killed(self.yaml, &mut Seen::default(), killed).await;
            }
        }
        FoundRun::of(&scene.state(), &scene.run).ok()
    }
}

/// How the attempts ended, whatever disk they used.
fn outcomes(report: &TaskReport) -> Vec<TaskOutcome> {
    let numbers = report.attempts().map(|attempt| attempt.attempt);
    let count = report.attempts().count();
    assert!(numbers.eq((1..).take(count)), "{report:?}");
    let outcomes = report.attempts().map(|attempt| match &attempt.outcome {
        TaskOutcome::OutOfDisk { .. } => TaskOutcome::OutOfDisk { used_bytes: 0 },
        outcome => outcome.clone(),
    });
    outcomes.collect()
}

fn assert_started_once(starts: &Starts, at: At) {
    for (container, count) in starts.lock().unwrap().iter() {
        assert_eq!(*count, 1, "{container}, killed at {at:?}");
    }
}

/// Goes on with the run, where `tidies` after a start that tidied up beside it.
async fn resumes(way: Way, tidies: bool) {
    let (mut scene, places) = way.places().await;
    for at in places {
        let starts;
        (scene, starts) = way.on(scene);
        if way.killed(&scene, at).await.is_none() {
            continue;
        }
        if tidies {
            let first = scene.tidied().await;
            assert_eq!(first.problems, Vec::<String>::new(), "killed at {at:?}");
            let again = scene.tidied().await;
            assert_eq!(again.removed, [], "killed at {at:?}");
        }
        let is_over = FoundRun::of(&scene.state(), &scene.run).unwrap().state;
        if is_over == RunState::Finished {
            // The network is the next run's.
            assert!(scene.cleaned().await.is_empty(), "killed at {at:?}");
        } else {
            let mut seen = Seen::default();
            scene.resumed(way.yaml, &mut seen).await.unwrap();
        }
        let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
        let a = found.progress().unwrap()[&"a".parse().unwrap()]
            .report
            .clone();
        let a = a.unwrap();
        assert_eq!(outcomes(&a), (way.ending)(), "killed at {at:?}");
        let has_work = |attempt: &TaskReport| attempt.branch.is_some();
        assert!(a.attempts().all(has_work), "killed at {at:?}: {a:?}");
        assert_started_once(&starts, at);
        scene.assert_nothing_left();
    }
}

async fn cleans(way: Way, tidies: bool) {
    let (mut scene, places) = way.places().await;
    for at in places {
        let starts;
        (scene, starts) = way.on(scene);
        if way.killed(&scene, at).await.is_none() {
            continue;
        }
        if tidies {
            scene.tidied().await;
        }
        let report = scene.cleaned().await;
        assert_eq!(report.problems, Vec::<String>::new(), "killed at {at:?}");
        scene.assert_nothing_left();
        let again = scene.cleaned().await;
        assert!(again.is_empty(), "killed at {at:?}: {again:?}");
        assert_started_once(&starts, at);
        let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
        assert_eq!(found.state, RunState::Finished, "killed at {at:?}");
        let progress = found.progress().unwrap();
        assert_eq!(progress.len(), 1, "killed at {at:?}");
        let a = progress[&"a".parse().unwrap()].report.clone().unwrap();
        if matches!(a.outcome, TaskOutcome::Skipped { .. }) {
            continue;
        }
        // What has ended stays; what was cut off is cancelled, and says which attempt it was.
        let (mut told, mut wanted) = (outcomes(&a), (way.ending)());
        wanted.truncate(told.len());
        if told.last() == Some(&TaskOutcome::Cancelled) {
            told.pop();
            wanted.pop();
        }
        assert_eq!(told, wanted, "killed at {at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_were_killed_anywhere_go_on() {
    resumes(ATTEMPTS, false).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_that_were_killed_anywhere_go_on_after_another_start() {
    resumes(ATTEMPTS, true).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_that_were_killed_anywhere_are_cleaned() {
    cleans(ATTEMPTS, false).await;
}

#[tokio::test(start_paused = true)]
async fn views_that_were_killed_anywhere_go_on() {
    resumes(VIEW, false).await;
}

#[tokio::test(start_paused = true)]
async fn views_that_were_killed_anywhere_go_on_after_another_start() {
    resumes(VIEW, true).await;
}

#[tokio::test(start_paused = true)]
async fn views_that_were_killed_anywhere_are_cleaned_after_another_start() {
    cleans(VIEW, true).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_with_services_that_were_killed_anywhere_go_on() {
    resumes(SERVED, false).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_with_services_that_were_killed_anywhere_go_on_after_another_start() {
    resumes(SERVED, true).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_with_services_that_were_killed_anywhere_are_cleaned() {
    cleans(SERVED, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_killed_for_its_disk_stays_so_wherever_the_run_was_killed() {
    resumes(FULL, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_in_a_run_that_was_killed_stays_so_and_the_rest_goes_on() {
    let (mut scene, places) = INTERRUPTED.places().await;
    let mut endings = BTreeSet::new();
    for at in places {
        let starts;
        (scene, starts) = INTERRUPTED.on(scene);
        if INTERRUPTED.killed(&scene, at).await.is_none() {
            continue;
        }
        // Nobody has asked the new process to stop.
        scene.shutdown.send_replace(Shutdown::None);
        let name = format!("agent-run-{}-1-a", scene.run);
        let mut owned = scene.engine.owned().into_iter();
        let container = owned.find(|o| o.name == name && o.started);
        let wanted = match container {
            Some(container) if container.running => TaskOutcome::TimedOut,
            None if starts.lock().unwrap().is_empty() => {
                let ends = counted(Scene::hands_off(0).after(LIFE), &starts);
                scene.engine.script("task/a", ends);
                TaskOutcome::Succeeded
            }
            _ => TaskOutcome::Cancelled,
        };
        endings.insert(format!("{wanted:?}"));
        let summary = scene.resumed(INTERRUPTED.yaml, &mut Seen::default()).await;
        let summary = summary.unwrap();
        let a = &report(&summary, "a").outcome;
        assert_eq!(*a, wanted, "killed at {at:?}");
        let b = &report(&summary, "b").outcome;
        assert_eq!(*b, TaskOutcome::Failed { exit_code: 3 }, "killed at {at:?}");
        assert_started_once(&starts, at);
        scene.assert_nothing_left();
    }
    assert_eq!(endings.len(), 3, "{endings:?}");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_run_goes_on_where_it_was() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(nothing_changed);
    scene.engine.script("task/a", forever);
    let yaml = "version: 1\ntimeout: 25m\ntasks:\n  a: { run: x, timeout: 10h }\n";
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let killed = tokio::time::sleep(minutes(15));
    scene.killed(yaml, &mut Seen::default(), killed).await;
    // What it is dead for does not count.
    tokio::time::sleep(minutes(200)).await;
    let began = tokio::time::Instant::now();
    let summary = scene.resumed(yaml, &mut Seen::default()).await.unwrap();
    assert_eq!(summary.stopped, Some(StopReason::TimedOut));
    let (lasted, told) = (began.elapsed(), summary.took);
    assert!(lasted > minutes(9) && lasted < minutes(11), "{lasted:?}");
    assert!(told > minutes(24) && told < minutes(26), "{told:?}");
    scene.assert_nothing_left();
}
