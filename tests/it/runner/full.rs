//! A disk that fills in the middle of a run, at each step of a task's life, and one with little room:
//! no false success, nothing left running, every record readable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_run::engine::Operation;
use agent_run::engine::config::ContainerConfig;
use agent_run::event::{
    BranchResult, Event, EventKind, RunSummary, StopReason, TaskOutcome, TaskPhase,
};
use agent_run::journal::RunDirectory;
use agent_run::runner::{LogLine, Observer};

use super::scene::{Scene, Seen, answer_probe, nothing_changed, report};
use crate::fake::Script;
use crate::records::Small;

const TWO: &str =
    "version: 1\nmax_parallel: 1\ndefaults: { run: x, timeout: 1h }\ntasks:\n  a:\n  b:\n";

fn root(scene: &Scene) -> PathBuf {
    scene.state().runs().parent().unwrap().to_owned()
}

/// A scene whose state directory is a disk of its own.
fn on_a_disk(options: &str) -> (Scene, Arc<Small>) {
    let scene = Scene::new();
    std::fs::create_dir_all(root(&scene)).unwrap();
    let disk = Small::new(&root(&scene), options);
    (scene, Arc::new(disk))
}

/// When the disk fills.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Preparing,
    Starting,
    HandingOff,
    Collecting,
    Finished,
}

fn scripts(scene: &Scene, disk: &Arc<Small>, step: Step) {
    let fills = |at: Step| {
        let disk = disk.clone();
        move || {
            if at == step {
                disk.fill();
            }
        }
    };
    let top = root(scene);
    // As a wrapper, or a collector, which may find no room either.
    let hands_off = move |config: &ContainerConfig| {
        let try_it = top.join("room");
        if std::fs::write(&try_it, vec![1; 1 << 16]).is_ok() {
            nothing_changed(config);
        }
        drop(std::fs::remove_file(try_it));
    };
    let (collects, hands_off_too) = (hands_off.clone(), hands_off.clone());
    let collector = Script::exits(0).on_exit(collects);
    scene.engine.script("collector", collector);
    let (probing, starting, handing) = (
        fills(Step::Preparing),
        fills(Step::Starting),
        fills(Step::HandingOff),
    );
    let probe = Script::exits(0).on_exit(move |_| probing());
    let probe = probe.replies(|config, _| answer_probe(config));
    scene.engine.script("probe", probe);
    let script = Scene::hands_off(0).after(Duration::from_secs(60));
    let script = script.on_start(move |_| starting());
    let script = script.on_exit(move |config| {
        hands_off(config);
        handing();
    });
    scene.engine.script("task/a", script);
    let next = Script::exits(0).on_exit(hands_off_too);
    scene.engine.script("task/b", next);
}

/// Fills the disk when the first task gets there, and frees it once the run says that it waits.
struct Filling {
    seen: Seen,
    step: Step,
    disk: Arc<Small>,
    filler: PathBuf,
}

impl Observer for Filling {
    fn event(&mut self, event: &Event) {
        self.seen.event(event);
        let is_first = event.task.as_ref().is_some_and(|task| task.as_str() == "a");
        let is_there = match &event.kind {
            EventKind::Phase { phase } => {
                self.step == Step::Collecting && *phase == TaskPhase::Collecting
            }
            EventKind::TaskFinished { .. } => self.step == Step::Finished,
            _ => false,
        };
        if is_first && is_there {
            self.disk.fill();
        }
        if is_warning(event, "no further task begins") {
            remove(&self.filler);
        }
    }

    fn line(&mut self, line: &LogLine) {
        self.seen.line(line);
    }
}

fn journal(scene: &Scene) -> Vec<Event> {
    let directory = RunDirectory::take_over(&scene.state(), &scene.run).unwrap();
    directory.journal().unwrap().1
}

fn assert_told_truly(summary: &RunSummary, written: &[Event], step: Step) {
    for task in &summary.tasks {
        let is_it = |event: &&Event| matches!(&event.kind, EventKind::TaskFinished { report } if report.task == task.task);
        let told = written.iter().find(is_it);
        // A success that is not on the disk is none.
        let is_written = told.is_some_and(|event| {
            matches!(&event.kind, EventKind::TaskFinished { report } if report.outcome == task.outcome)
        });
        assert!(
            is_written || task.outcome != TaskOutcome::Succeeded,
            "{step:?}: {task:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_the_disk_fills_nothing_is_called_a_success_that_is_none() {
    for step in [
        Step::Preparing,
        Step::Starting,
        Step::HandingOff,
        Step::Collecting,
        Step::Finished,
    ] {
        let (scene, disk) = on_a_disk("16m");
        scripts(&scene, &disk, step);
        let mut observer = Filling {
            seen: Seen::default(),
            step,
            disk: disk.clone(),
            filler: root(&scene).join("filler"),
        };
        let summary = scene.observed(TWO, &mut observer).await.unwrap();
        // One that was at work as the disk filled may have failed, or left its work where it was.
        let b = report(&summary, "b");
        let is_told = matches!(b.outcome, TaskOutcome::Infra { .. });
        let work = b.branch.as_ref().map(|branch| &branch.result);
        let is_kept = matches!(work, Some(BranchResult::Kept { .. }));
        assert!(b.is_good() || is_told || is_kept, "{step:?}: {b:#?}");
        // Whoever reads it as the next process takes a reserve of its own.
        drop(std::fs::remove_file(&observer.filler));
        let written = journal(&scene);
        let last = &written.last().unwrap().kind;
        assert!(matches!(last, EventKind::RunFinished { .. }), "{last:?}");
        assert_told_truly(&summary, &written, step);
        scene.engine.assert_no_leaks();
    }
}

/// Frees the disk once the run has said that it waits.
struct Freeing {
    seen: Seen,
    filler: PathBuf,
}

impl Observer for Freeing {
    fn event(&mut self, event: &Event) {
        if is_warning(event, "no further task begins") {
            remove(&self.filler);
        }
        self.seen.event(event);
    }

    fn line(&mut self, line: &LogLine) {
        self.seen.line(line);
    }
}

fn remove(filler: &Path) {
    if filler.is_dir() {
        std::fs::remove_dir_all(filler).unwrap();
    } else {
        std::fs::remove_file(filler).unwrap();
    }
}

fn is_warning(event: &Event, words: &str) -> bool {
    matches!(&event.kind, EventKind::Warning { message } if message.contains(words))
}

#[tokio::test(start_paused = true)]
async fn below_the_floor_no_task_begins_until_there_is_room_and_those_that_run_go_on() {
    for (what, options) in [("MiB", "64m"), ("inodes", "64m,nr_inodes=40000")] {
        let (scene, _disk) = on_a_disk(options);
        let filler = root(&scene).join("filler");
        let fills = filler.clone();
        // It takes what the next task would need while it runs.
        let script = Scene::hands_off(0).after(Duration::from_secs(60));
        let script = script.on_start(move |_| {
            if what == "MiB" {
                // A twentieth of the disk is the floor: 3.2 MiB.
                let free = rustix::fs::statvfs(fills.parent().unwrap()).unwrap();
                let free = free.f_bavail * free.f_frsize;
                let size = usize::try_from(free).unwrap() - (1 << 20);
                std::fs::write(&fills, vec![1; size]).unwrap();
            } else {
                std::fs::create_dir(&fills).unwrap();
                let free = rustix::fs::statvfs(&fills).unwrap().f_favail;
                for number in 0..free - 1000 {
                    std::fs::write(fills.join(number.to_string()), "").unwrap();
                }
            }
        });
        scene.engine.script("task/a", script);
        scene.engine.script("task/b", Scene::hands_off(0));
        let mut observer = Freeing {
            seen: Seen::default(),
            filler,
        };
        let summary = scene.observed(TWO, &mut observer).await.unwrap();
        for task in &summary.tasks {
            assert!(task.is_good(), "{what}: {task:#?}");
        }
        let events = observer.seen.events;
        let at = |words: &str| {
            let places = (0..events.len()).filter(|at| is_warning(&events[*at], words));
            places.collect::<Vec<_>>()
        };
        let (waits, again) = (
            at("no further task begins"),
            at("there is room on the disk again"),
        );
        assert_eq!((waits.len(), again.len()), (1, 1), "{what}: {events:#?}");
        assert!(is_warning(&events[waits[0]], what) && waits < again);
        let finished = events.iter().position(
            |event| matches!(&event.kind, EventKind::TaskFinished { report } if report.task.as_str() == "a"),
        );
        assert!(finished < Some(waits[0]), "it ended as if nothing were");
        let calls = scene.engine.calls();
        let stops = calls.iter().filter(|(what, _)| *what == Operation::Stop);
        assert_eq!(stops.count(), 0);
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_room_can_be_stopped() {
    let (mut scene, disk) = on_a_disk("64m");
    scripts(&scene, &disk, Step::Finished);
    let filler = root(&scene).join("filler");
    std::fs::write(&filler, vec![1; 62 << 20]).unwrap();
    scene.patience = None;
    let yaml = format!("timeout: 1h\n{TWO}");
    let summary = scene.run(&yaml).await;
    assert_eq!(summary.stopped, Some(StopReason::TimedOut));
    for task in &summary.tasks {
        let outcome = &task.outcome;
        assert!(matches!(outcome, TaskOutcome::Skipped { .. }), "{task:#?}");
    }
    std::fs::remove_file(filler).unwrap();
    scene.assert_nothing_left();
}
