//! Every call of a task's life to the engine, gone wrong in every way: each task has one outcome, its
//! siblings are as they would have been, no work is lost, and nothing is left that nobody was told of
//! or that `clean` would not remove.
//!
//! The calls are those of runs that go well, and those that follow a call without an answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{EventKind, RunSummary, TaskOutcome};
use agent_run::runner::RunError;
use tokio::time::timeout;

use super::scene::{Scene, Seen, commit, report};
use super::setup::make_deps;
use crate::fake::{Fault, Nth, Script};

/// Longer than all deadlines and limits together.
const FOR_EVER: Duration = Duration::from_secs(48 * 3600);
const SECOND: Duration = Duration::from_secs(1);
/// When a sibling that nobody holds up has long ended.
const SOON_MS: u64 = 5000;
/// Stands for the run's id in names.
const RUN: &str = "RUN";
/// How many of the measurements of a container are let go wrong.
const MEASUREMENTS: usize = 2;
/// How many operations a run makes use of.
const OPERATIONS: usize = 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It fails, and does nothing.
    Fails,
    /// The engine refuses it.
    IsRefused,
    /// It gives no answer in its deadline, or never where it has none, and does nothing.
    Hangs,
    /// It is carried out, and gives no answer in its deadline.
    TimesOut,
    /// It is carried out, and says that it failed.
    SaysItFailed,
    /// It says that it is done, and does nothing.
    Lies,
    /// It is carried out, and answers half a minute later.
    IsSlow,
}

impl Wrong {
    fn fault(self, operation: Operation) -> Fault {
        let broken = || ErrorKind::Broken("the connection broke".into());
        // How long these take is for the caller to bound.
        let has_deadline = !matches!(operation, Operation::Wait | Operation::EnsureImage);
        match self {
            Self::Fails => Fault::Fail(broken()),
            Self::IsRefused => Fault::Fail(ErrorKind::Refused("no".into())),
            Self::Hangs if has_deadline => Fault::Fail(ErrorKind::Timeout),
            Self::Hangs => Fault::Hang,
            Self::TimesOut => Fault::DoneBut(ErrorKind::Timeout),
            Self::SaysItFailed => Fault::DoneBut(broken()),
            Self::Lies => Fault::Lie,
            Self::IsSlow => Fault::Slow(30 * SECOND),
        }
    }
}

/// A run of `a`, whose calls go wrong, and `b` beside it, which ends after a second.
struct Way {
    yaml: &'static str,
    /// What the containers of `a` do.
    script: fn(&Scene, &Worked),
    /// How `a` ends where nothing goes wrong.
    ending: TaskOutcome,
    /// Which of the calls are of interest.
    wanted: fn(Operation, &str) -> bool,
}

/// Whether `a` has handed off a commit.
type Worked = Arc<AtomicBool>;

/// A view, a time limit, and work that a collector has to hand off. All that comes before is tried too.
const VIEW: Way = Way {
    yaml: "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x, timeout: 40s, stop_grace_period: 1s, workspace: overlay }\n  b: { run: x }\n",
    script: |scene, _| scene.engine.script("task/a", Script::runs_forever()),
    ending: TaskOutcome::TimedOut,
    wanted: |_, _| true,
};

/// A commit, and its check.
const CHECKED: Way = Way {
    yaml: "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x, timeout: 40s, verify: { run: test, timeout: 40s } }\n  b: { run: x }\n",
    script: |scene, worked| {
        let worked = worked.clone();
        let work = Script::exits(0).after(SECOND).on_exit(move |config| {
            commit(config, "work", "1\n");
            worked.store(true, Ordering::Relaxed);
        });
        scene.engine.script("task/a", work);
        let check = Script::exits(0).after(SECOND);
        scene.engine.script("verify/a", check);
    },
    ending: TaskOutcome::Succeeded,
    wanted: |_, name| name.ends_with("-a"),
};

/// Neither the output nor the start of `a` is what the engine said of it: what is asked then.
const LOOKED_INTO: Way = Way {
    yaml: VIEW.yaml,
    script: |scene, _| {
        let forever = Script::runs_forever().prints("hello\n");
        scene.engine.script("task/a", forever);
        let lost = Fault::DoneBut(ErrorKind::Timeout);
        scene.engine.fault_once("task/a", Operation::Start, lost);
        scene
            .engine
            .fault_once("task/a", Operation::Attach, Fault::Lie);
    },
    ending: TaskOutcome::TimedOut,
    wanted: |operation, _| {
        use Operation as O;
        matches!(operation, O::Logs | O::Info | O::ListOwned)
    },
};

/// A setup that makes an image and a directory for `a`.
const PREPARED: Way = Way {
    yaml: "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x, startup_timeout: 40s, setup: { run: make, paths: [deps], user: root } }\n  b: { run: x }\n",
    script: |scene, _| {
        let setup = Script::exits(0).after(SECOND).on_exit(make_deps);
        scene.engine.script("setup", setup);
        scene.engine.script("task/a", Scene::hands_off(0));
    },
    ending: TaskOutcome::Succeeded,
    wanted: |_, name| is_of_setup(name),
};

/// A service of `a`, and the container that has their network.
const SERVED: Way = Way {
    yaml: "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x, startup_timeout: 60s, services: { db: { image: db, healthcheck: { test: [CMD, ready], interval: 1s } } } }\n  b: { run: x }\n",
    script: |scene, _| {
        scene.engine.script("pod", Script::runs_forever());
        let server = Script::runs_forever().prints("listening\n");
        scene.engine.script("service", server);
        scene
            .engine
            .command(&["ready".to_owned()], Script::exits(0));
        let task = Scene::hands_off(0).after(3 * SECOND);
        scene.engine.script("task/a", task);
    },
    ending: TaskOutcome::Succeeded,
    wanted: |_, name| is_of_services(name),
};

impl Way {
    fn on(&self, scene: &Scene) -> Worked {
        let worked = Worked::default();
        (self.script)(scene, &worked);
        let sibling = Scene::hands_off(0).after(SECOND);
        scene.engine.script("task/b", sibling);
        worked
    }

    /// The calls that are to go wrong, of a run on this scene.
    async fn calls(&self, scene: &Scene) -> Vec<Nth> {
        self.on(scene);
        let summary = scene.run(self.yaml).await;
        let a = report(&summary, "a");
        assert_eq!(a.outcome, self.ending, "{a:#?}");
        assert!(report(&summary, "b").is_good(), "{summary:#?}");
        scene.engine.assert_no_leaks();
        let made = scene.engine.calls();
        scene.cleaned().await;
        remove_prepared(scene, "all is well").await;
        let mut calls: Vec<Nth> = Vec::new();
        for (operation, name) in made {
            let call = (operation, name.replace(scene.run.as_str(), RUN));
            let nth = 1 + calls.iter().filter(|(other, _)| *other == call).count();
            calls.push((call, nth));
        }
        calls.retain(|((operation, name), nth)| {
            let is_one_of_many = is_measurement(*operation) && *nth > MEASUREMENTS;
            // What the scene itself asks.
            let is_asked_here = *operation == Operation::Info && *nth == 1;
            let is_its = is_of_a_run(*operation) && !name.ends_with("-b");
            is_its && !is_one_of_many && !is_asked_here && (self.wanted)(*operation, name)
        });
        calls
    }

    /// Whether a task whose call went wrong so may end so: as ever, or for a failure of the
    /// infrastructure; otherwise only by a lie about how its container began or ended.
    fn may_end(&self, operation: Operation, wrong: Wrong, outcome: &TaskOutcome) -> bool {
        let lie = (wrong == Wrong::Lies).then_some(operation);
        match outcome {
            TaskOutcome::Infra { .. } => true,
            TaskOutcome::Succeeded if lie == Some(Operation::Wait) => true,
            TaskOutcome::TimedOut if lie == Some(Operation::Start) => true,
            TaskOutcome::VerifyFailed { cause } if lie == Some(Operation::Start) => {
                **cause == TaskOutcome::TimedOut
            }
            outcome => *outcome == self.ending,
        }
    }
}

/// Whether a run makes such calls. Names all operations, so that a new one is not forgotten.
fn is_of_a_run(operation: Operation) -> bool {
    use Operation as O;
    match operation {
        // The last four only of one with a `setup`, a `snapshot` or `ports`.
        O::Connect | O::ListImages | O::RemoveImage | O::VolumeContents | O::Published => false,
        O::Info
        | O::EnsureImage
        | O::CreateNetwork
        | O::CreateVolume
        | O::CreateContainer
        | O::Attach
        | O::Logs
        | O::Start
        | O::Wait
        | O::Usage
        | O::DiskUse
        | O::Exec
        | O::Stop
        | O::Commit
        | O::RemoveContainer
        | O::RemoveNetwork
        | O::RemoveVolume
        | O::ListOwned => true,
    }
}

fn is_measurement(operation: Operation) -> bool {
    matches!(operation, Operation::Usage | Operation::DiskUse)
}

fn is_removal(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::RemoveContainer | O::RemoveNetwork | O::RemoveVolume
    )
}

/// What is only done where nothing is known of the image and of mounts.
fn is_first(name: &str) -> bool {
    name.contains("probe")
}

fn is_of_setup(name: &str) -> bool {
    name.contains("-setup-")
}

fn is_of_services(name: &str) -> bool {
    ["-pod-", "-service-"]
        .iter()
        .any(|role| name.contains(role))
        || name.starts_with("exec-")
}

async fn every_call(wrong: Wrong) {
    let mut operations = HashSet::new();
    for way in [VIEW, CHECKED, LOOKED_INTO, PREPARED, SERVED] {
        let mut known = Scene::new();
        let mut calls = way.calls(&known).await;
        let first = calls.extract_if(.., |((_, name), _)| is_first(name));
        let first: Vec<_> = first.collect();
        known = known.again();
        calls = way.calls(&known).await;
        for call in first {
            Cell {
                way: &way,
                call,
                wrong,
            }
            .tried(&Scene::new())
            .await;
        }
        for call in calls {
            operations.insert(call.0.0);
            // The engine would make an image of what is still being written.
            let goes_on = call.0.0 == Operation::Wait && wrong == Wrong::Lies;
            if goes_on && is_of_setup(&call.0.1) {
                continue;
            }
            known = known.again();
            Cell {
                way: &way,
                call,
                wrong,
            }
            .tried(&known)
            .await;
        }
    }
    assert_eq!(operations.len(), OPERATIONS, "{operations:?}");
}

/// Removes what a setup prepared, as `clean --cache` does, so that the next run prepares it again.
async fn remove_prepared(scene: &Scene, told: &str) {
    let removed = scene.cleaner().await;
    let removed = removed.remove_kept(Duration::ZERO, None).await;
    assert_eq!(removed.problems, Vec::<String>::new(), "{told}");
    let images = scene.engine.made_images();
    assert_eq!(images, Vec::<String>::new(), "{told}");
}

/// One call that goes wrong in one way.
struct Cell<'a> {
    way: &'a Way,
    call: Nth,
    wrong: Wrong,
}

impl Cell<'_> {
    fn told(&self) -> String {
        let ((operation, name), nth) = &self.call;
        format!("{:?}: {operation:?} {name}, number {nth}", self.wrong)
    }

    async fn tried(&self, scene: &Scene) {
        let told = self.told();
        let worked = self.way.on(scene);
        let ((operation, name), nth) = &self.call;
        let name = name.replace(RUN, scene.run.as_str());
        let call = ((*operation, name.clone()), *nth);
        scene.engine.fault_at(call, self.wrong.fault(*operation));
        let mut seen = Seen::default();
        let ended = timeout(FOR_EVER, scene.observed(self.way.yaml, &mut seen)).await;
        let ended = ended.unwrap_or_else(|_| panic!("{told}: the run did not end"));
        assert!(scene.engine.went_wrong(), "{told}: not called");
        self.assert_one_end_each(&seen);
        match ended {
            Ok(summary) => self.assert_outcomes(scene, &summary, &seen),
            // A directory that did not arrive, as far as a first container says.
            Err(RunError::BindMounts { .. }) if is_first(&name) && self.wrong == Wrong::Lies => {}
            Err(error) => panic!("{told}: {error}"),
        }
        let cleaned = scene.cleaned().await;
        assert_eq!(cleaned.problems, Vec::<String>::new(), "{told}");
        assert_eq!(scene.engine.owned(), [], "{told}");
        scene.engine.assert_no_leaks();
        assert!(
            scene.left_on_disk().is_empty(),
            "{told}: {:?}",
            scene.left_on_disk()
        );
        if is_of_setup(&name) {
            remove_prepared(scene, &told).await;
        }
        // One that goes on after the engine has said that it ended works for nobody.
        let has_gone_on = *operation == Operation::Wait && self.wrong == Wrong::Lies;
        if worked.load(Ordering::Relaxed) && !has_gone_on {
            let branch = format!("agent/{}/a:work", scene.run);
            assert_eq!(scene.git(&["show", &branch]), "1", "{told}");
        }
    }

    fn assert_one_end_each(&self, seen: &Seen) {
        for task in ["a", "b"] {
            let ends = seen.events.iter().filter(|event| {
                let is_its = event.task.as_ref().is_some_and(|id| id.as_str() == task);
                is_its && matches!(event.kind, EventKind::TaskFinished { .. })
            });
            assert_eq!(ends.count(), 1, "{}: {task}", self.told());
        }
    }

    fn assert_outcomes(&self, scene: &Scene, summary: &RunSummary, seen: &Seen) {
        let told = self.told();
        let ((operation, name), _) = &self.call;
        let a = report(summary, "a");
        assert!(
            self.way.may_end(*operation, self.wrong, &a.outcome),
            "{told}: {a:#?}"
        );
        assert!(a.ran.is_zero() || a.branch.is_some(), "{told}: {a:#?}");
        let b = report(summary, "b");
        let has_one_victim = b.is_good() || a.outcome == self.way.ending;
        // An image that one cannot have none can have.
        let is_shared = *operation == Operation::EnsureImage || is_first(name);
        assert!(has_one_victim || is_shared, "{told}: {summary:#?}");
        if name.ends_with("-a") || is_of_setup(name) {
            assert!(
                b.is_good() && b.teardown_errors.is_empty(),
                "{told}: {b:#?}"
            );
            let end = seen.events.iter().find(|event| {
                let is_b = event.task.as_ref().is_some_and(|id| id.as_str() == "b");
                is_b && matches!(event.kind, EventKind::TaskFinished { .. })
            });
            let end = end.expect("it has ended").elapsed_ms;
            assert!(end < SOON_MS, "{told}: {end} ms");
        }
        let errors = summary.tasks.iter().flat_map(|task| &task.teardown_errors);
        let is_told = errors.chain(&summary.teardown_errors).next().is_some();
        // What was said to be removed is only found by somebody who looks: `clean`, or the next start.
        if !(is_removal(*operation) && self.wrong == Wrong::Lies) {
            assert_eq!(scene.engine.owned(), [], "{told}");
            let branches = summary.tasks.iter().filter_map(|task| task.branch.as_ref());
            let is_kept = branches.map(|branch| branch.content_left_behind);
            let may_be_left = is_told || is_kept.fold(false, |any, is_kept| any | is_kept);
            let left = scene.left_on_disk();
            assert!(left.is_empty() || may_be_left, "{told}: {left:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_call_may_fail() {
    every_call(Wrong::Fails).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_be_refused() {
    every_call(Wrong::IsRefused).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_hang() {
    every_call(Wrong::Hangs).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_be_carried_out_and_give_no_answer() {
    every_call(Wrong::TimesOut).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_be_carried_out_and_say_that_it_failed() {
    every_call(Wrong::SaysItFailed).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_do_nothing_and_say_that_it_is_done() {
    every_call(Wrong::Lies).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_may_answer_late() {
    every_call(Wrong::IsSlow).await;
}

/// A run that goes on reads the log again of a container that still runs.
#[tokio::test(start_paused = true)]
async fn the_log_of_a_container_that_runs_on_may_go_wrong_in_any_way() {
    use Wrong as W;
    let mut scene = Scene::new();
    for wrong in [
        W::Fails,
        W::IsRefused,
        W::Hangs,
        W::TimesOut,
        W::SaysItFailed,
        W::Lies,
        W::IsSlow,
    ] {
        scene = scene.again();
        VIEW.on(&scene);
        let killed = tokio::time::sleep(2 * SECOND);
        scene.killed(VIEW.yaml, &mut Seen::default(), killed).await;
        let fault = wrong.fault(Operation::Logs);
        scene.engine.fault_once("task/a", Operation::Logs, fault);
        let mut seen = Seen::default();
        let resumed = scene.resumed(VIEW.yaml, &mut seen);
        let summary = timeout(FOR_EVER, resumed).await;
        let summary = summary.expect("an end").unwrap();
        let a = &report(&summary, "a").outcome;
        assert_eq!(*a, TaskOutcome::TimedOut, "{wrong:?}");
        assert!(report(&summary, "b").is_good(), "{wrong:?}: {summary:#?}");
        scene.assert_nothing_left();
    }
}
