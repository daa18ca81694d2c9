//! Several attempts at one task: after which failures, when, in which slots, and what is left.
#![expect(
    clippy::disallowed_methods,
    reason = "the person who interrupts is a task of his own"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{EventKind, RunSummary, StopReason, TaskOutcome, TaskPhase, TaskReport};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, report};
use crate::fake::{Fault, Script};

/// A spec of one task with this `retry`.
fn one(retry: &str) -> String {
    format!("version: 1\ntasks:\n  a: {{ run: x, timeout: 1h, retry: {retry} }}\n")
}

/// The number of the attempt that a container is of.
fn attempt_of(config: &ContainerConfig) -> u32 {
    let variable = config
        .environment
        .iter()
        .find(|(n, _)| n == "AGENT_ATTEMPT");
    variable.expect("its attempt").1.parse().unwrap()
}

/// How the attempts at a task ended, the first one first.
fn outcomes(report: &TaskReport) -> Vec<TaskOutcome> {
    let numbers: Vec<u32> = report.attempts().map(|a| a.attempt).collect();
    assert!(
        numbers.iter().copied().eq((1..).take(numbers.len())),
        "{numbers:?}"
    );
    report.attempts().map(|a| a.outcome.clone()).collect()
}

fn failed(exit_code: i64) -> TaskOutcome {
    TaskOutcome::Failed { exit_code }
}

/// The container of an attempt at the task `a`.
fn container(scene: &Scene, number: u32) -> String {
    format!("agent-run-{}-{number}-a", scene.run)
}

/// The first attempt at `a` ends so, later ones well.
fn script_first(scene: &Scene, first: Script) {
    scene.engine.script("task/a", Scene::hands_off(0));
    scene.engine.script(&container(scene, 1), first);
}

#[tokio::test(start_paused = true)]
async fn each_cause_is_tried_again_where_it_is_named_and_nowhere_else() {
    let causes = [
        "infra_failure",
        "pull_failure",
        "timeout",
        "oom",
        "exit_code",
    ];
    for cause in causes {
        for named in causes.into_iter().chain(["any"]) {
            let scene = Scene::new();
            let forever = Script::runs_forever().on_exit(super::scene::nothing_changed);
            script_first(
                &scene,
                match cause {
                    "timeout" => forever,
                    "oom" => Scene::hands_off(137).oom_killed(),
                    "exit_code" => Scene::hands_off(3),
                    _ => Scene::hands_off(0),
                },
            );
            if cause == "infra_failure" {
                let fault = Fault::Fail(ErrorKind::Timeout);
                scene
                    .engine
                    .fault(&container(&scene, 1), Operation::CreateContainer, fault);
            }
            if cause == "pull_failure" {
                let fault = Fault::Fail(ErrorKind::ImageUnavailable("no".into()));
                scene.engine.fault_once("*", Operation::EnsureImage, fault);
            }
            let summary = scene.run(&one(&format!("{{ when: {named} }}"))).await;
            let a = report(&summary, "a");
            let again = named == cause || named == "any";
            assert_eq!(a.is_good(), again, "{cause} {named}: {a:?}");
            assert_eq!(a.attempt, 1 + u32::from(again), "{cause} {named}");
            assert_eq!(a.earlier_attempts.len(), usize::from(again));
            scene.assert_nothing_left();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_is_asked_for_anew() {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(0));
    scene.engine.script("task/b", Scene::hands_off(0));
    let gone = || Fault::Fail(ErrorKind::ImageUnavailable("no".into()));
    scene
        .engine
        .fault_once("here:1", Operation::EnsureImage, gone());
    scene
        .engine
        .fault("never:1", Operation::EnsureImage, gone());
    let yaml = "version: 1\nmax_parallel: 1\ndefaults: { run: x, retry: 2 }\ntasks:\n  a: { image: 'here:1' }\n  b: { image: 'never:1' }\n";
    let summary = scene.run(yaml).await;
    let (a, b) = (report(&summary, "a"), report(&summary, "b"));
    assert!(a.is_good(), "{a:?}");
    assert_eq!((a.attempt, b.attempt), (2, 3));
    let asked = |image: &str| {
        let calls = scene.engine.calls();
        let asked = (Operation::EnsureImage, image.to_owned());
        calls.into_iter().filter(|call| *call == asked).count()
    };
    assert_eq!((asked("here:1"), asked("never:1")), (2, 3));
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_wait_doubles_and_the_slot_is_free_meanwhile() {
    let scene = Scene::new();
    let minute = Duration::from_secs(60);
    scene
        .engine
        .script("task/a", Scene::hands_off(3).after(minute));
    scene
        .engine
        .script("task/b", Scene::hands_off(0).after(5 * minute));
    let yaml = "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x, retry: { max: 2, backoff: 10m } }\n  b: { run: x }\n";
    let mut seen = Seen::default();
    let summary = scene.observed(yaml, &mut seen).await.unwrap();
    assert_eq!(
        outcomes(report(&summary, "a")),
        [failed(3), failed(3), failed(3)]
    );
    let at = |event: &agent_run::event::Event| event.elapsed_ms / 60_000;
    let began = |task: &str| -> Vec<u64> {
        let running = EventKind::Phase {
            phase: TaskPhase::Running,
        };
        let events = seen.events.iter();
        let of_task = events.filter(|e| e.task.as_ref().is_some_and(|t| t.as_str() == task));
        of_task.filter(|e| e.kind == running).map(at).collect()
    };
    // Ends after 1, 12 and 33 minutes.
    assert_eq!(began("a"), [0, 11, 32]);
    assert_eq!(began("b"), [1]);
    let waits = seen.events.iter().filter_map(|e| match &e.kind {
        EventKind::Retry { report, wait, .. } => Some((report.attempt, wait.as_secs() / 60)),
        _ => None,
    });
    assert_eq!(waits.collect::<Vec<_>>(), [(1, 10), (2, 20)]);
    let waited = &report(&summary, "a").phases[0];
    assert_eq!(
        (waited.phase, waited.took.as_secs() / 60),
        (TaskPhase::Waiting, 20)
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn never_more_run_than_there_are_slots() {
    let scene = Scene::new();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    for task in 0..12 {
        let (now, most, ended) = (running.clone(), most.clone(), running.clone());
        let script = Scene::hands_off(i64::from(task % 2 == 0))
            .after(Duration::from_secs(7 + task))
            .on_start(move |_| {
                let now = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
            })
            .on_exit(move |config| {
                ended.fetch_sub(1, Ordering::SeqCst);
                super::scene::nothing_changed(config);
            });
        scene.engine.script(&format!("task/t{task}"), script);
    }
    let tasks: String = (0..12).map(|n| format!("  t{n}: {{ run: x }}\n")).collect();
    let yaml = format!(
        "version: 1\nmax_parallel: 3\ndefaults: {{ retry: {{ max: 3, backoff: 1s }} }}\ntasks:\n{tasks}"
    );
    let summary = scene.run(&yaml).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let attempts = summary.tasks.iter().map(|t| t.attempt);
    assert_eq!(attempts.sum::<u32>(), 6 + 6 * 4);
    scene.assert_nothing_left();
}

/// Interrupts the run, that long after it began.
fn interrupts(scene: &Scene, after: Duration) -> tokio::task::JoinHandle<()> {
    let shutdown = scene.shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        shutdown.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    })
}

async fn interrupted(scene: &Scene, retry: &str, after: Duration) -> RunSummary {
    let interrupt = interrupts(scene, after);
    let summary = scene.run(&one(retry)).await;
    interrupt.await.unwrap();
    assert_eq!(summary.stopped, Some(StopReason::Interrupted));
    scene.assert_nothing_left();
    summary
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_the_wait_and_the_last_attempt_decides() {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(3));
    let retry = "{ max: 5, backoff: 1h }";
    let summary = interrupted(&scene, retry, Duration::from_secs(2 * 3600)).await;
    let a = report(&summary, "a");
    assert_eq!(outcomes(a), [failed(3), failed(3)]);
    assert!(
        summary.took < Duration::from_secs(7300),
        "{:?}",
        summary.took
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_attempt_is_the_last() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(super::scene::nothing_changed);
    scene.engine.script("task/a", forever);
    scene
        .engine
        .script(&container(&scene, 1), Scene::hands_off(3));
    let summary = interrupted(&scene, "5", Duration::from_secs(60)).await;
    assert_eq!(
        outcomes(report(&summary, "a")),
        [failed(3), TaskOutcome::Cancelled]
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_run_ends_its_attempts_and_each_has_its_own() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(super::scene::nothing_changed);
    scene.engine.script("task/a", forever);
    let yaml = "version: 1\ntimeout: 25m\ntasks:\n  a: { run: x, timeout: 10m, retry: 9 }\n";
    let summary = scene.run(yaml).await;
    assert_eq!(summary.stopped, Some(StopReason::TimedOut));
    let over = || TaskOutcome::TimedOut;
    assert_eq!(
        outcomes(report(&summary, "a")),
        [over(), over(), TaskOutcome::Cancelled]
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_cannot_be_removed_is_told_and_the_next_one_goes_on() {
    let scene = Scene::new();
    script_first(&scene, Scene::hands_off(3));
    let first = container(&scene, 1);
    let stuck = Fault::Fail(ErrorKind::Timeout);
    scene
        .engine
        .fault(&first, Operation::RemoveContainer, stuck);
    let summary = scene.run(&one("1")).await;
    let a = report(&summary, "a");
    assert!(a.is_good() && a.attempt == 2, "{a:?}");
    assert_eq!(a.teardown_errors.len(), 1, "{a:?}");
    let left: Vec<_> = scene
        .engine
        .containers()
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(left, [first]);
    let task = scene.left_on_disk();
    assert_eq!(task.len(), 1, "{task:?}");
    let kept: Vec<_> = std::fs::read_dir(&task[0]).unwrap().collect();
    assert_eq!(kept.len(), 1, "the second attempt is removed: {kept:?}");
    assert!(task[0].join("1/worktree").is_dir());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_directory_log_and_number() {
    let scene = Scene::new();
    let out = Arc::new(std::sync::Mutex::new(Vec::new()));
    let places = out.clone();
    let script = Scene::hands_off(3)
        .prints("hello\n")
        .on_start(move |config| {
            let place = crate::fake::host_path(config, "/workspace");
            let old = place.join("from-before");
            assert!(!old.exists(), "{}", old.display());
            std::fs::write(old, "x").unwrap();
            places.lock().unwrap().push((attempt_of(config), place));
        });
    scene.engine.script("task/a", script);
    let summary = scene.run(&one("2")).await;
    let places = out.lock().unwrap().clone();
    let numbers: Vec<u32> = places.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for (number, place) in places {
        assert!(
            place.ends_with(format!("a/{number}/worktree")),
            "{}",
            place.display()
        );
        let log = scene
            .state()
            .logs(&scene.run)
            .join(format!("a.{number}.log"));
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("hello"), "{text}");
        let told = report(&summary, "a").attempts().nth(number as usize - 1);
        assert_eq!(told.unwrap().log.as_deref(), Some(log.as_path()));
    }
    scene.assert_nothing_left();
}
