//! Time, memory, causes, addresses and floods.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::Operation;
use agent_run::engine::config::NetworkAttachment;
use agent_run::event::{BranchResult, Event, EventKind, TaskOutcome, TaskReport};
use agent_run::runner::{LogLine, Observer};

use super::scene::{Scene, Seen, nothing_changed, report};
use crate::fake::Script;

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[tokio::test(start_paused = true)]
async fn a_task_past_its_time_is_stopped_and_collected() {
    let scene = Scene::new();
    let forever = Script::runs_forever().on_exit(nothing_changed);
    scene.engine.script("task/a", forever);
    let summary = scene
        .run("version: 1\ntasks:\n  a: { run: x, timeout: 30m }\n")
        .await;
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::TimedOut);
    assert!(a.ran >= minutes(30) && a.ran < minutes(31), "{:?}", a.ran);
    assert_eq!(a.branch.as_ref().unwrap().result, BranchResult::NoChange);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn one_that_ignores_term_is_killed_after_grace_and_hand_off() {
    let scene = Scene::new();
    let deaf = Script::runs_forever()
        .ignoring_term()
        .on_exit(nothing_changed);
    scene.engine.script("task/a", deaf);
    let yaml = "version: 1\ntasks:\n  a: { run: x, timeout: 1m, stop_grace_period: 10s, handoff_timeout: 20s }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::TimedOut);
    let ran = a.ran.as_secs();
    assert!((90..95).contains(&ran), "{ran}");
    let collected = scene
        .engine
        .calls()
        .iter()
        .any(|(operation, name)| *operation == Operation::Start && name.contains("collector"));
    assert!(
        collected,
        "a killed task is collected by a container of its own"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn causes_are_told_apart() {
    let scene = Scene::new();
    scene
        .engine
        .script("task/oom", Scene::hands_off(137).oom_killed());
    scene.engine.script("task/killed", Scene::hands_off(137));
    scene
        .engine
        .script("task/child", Scene::hands_off(0).oom_killed());
    scene
        .engine
        .script("task/failed", Scene::hands_off(3).prints("last words"));
    let yaml = "version: 1\ntasks:\n  oom: { run: x }\n  killed: { run: x }\n  child: { run: x }\n  failed: { run: x }\n";
    let summary = scene.run(yaml).await;
    let outcome = |task| report(&summary, task).outcome.clone();
    assert_eq!(outcome("oom"), TaskOutcome::OutOfMemory);
    assert_eq!(outcome("killed"), TaskOutcome::Killed { signal: 9 });
    assert_eq!(outcome("child"), TaskOutcome::Succeeded);
    assert_eq!(outcome("failed"), TaskOutcome::Failed { exit_code: 3 });
    assert!(report(&summary, "child").child_oom_killed);
    assert_eq!(report(&summary, "failed").last_lines, ["last words"]);
    let order: Vec<&str> = summary.tasks.iter().map(|t| t.task.as_str()).collect();
    assert_eq!(
        order,
        ["oom", "killed", "child", "failed"],
        "the order of the spec"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_slow_task_is_told_of_once_and_goes_on() {
    let scene = Scene::new();
    for (task, ends) in [("quick", 4), ("slow", 6), ("late", 9), ("half", 9)] {
        let script = Scene::hands_off(0).after(minutes(ends));
        scene.engine.script(&format!("task/{task}"), script);
    }
    let yaml = "version: 1\nmax_parallel: 4\ndefaults: { run: x, timeout: 8m, slow_after: 5m }\n\
        tasks:\n  quick:\n  slow:\n  late: { slow_after: 8m }\n  half: { slow_after: null }\n";
    let mut seen = Seen::default();
    let summary = scene.observed(yaml, &mut seen).await.unwrap();
    let slow = seen.events.iter().filter(|e| e.kind == EventKind::Slow);
    let slow: Vec<(&str, u64)> = slow
        .map(|e| (e.task.as_ref().unwrap().as_str(), e.elapsed_ms / 60_000))
        .collect();
    assert_eq!(slow, [("half", 4), ("slow", 5)]);
    let outcome = |task| report(&summary, task).outcome.clone();
    assert_eq!(outcome("slow"), TaskOutcome::Succeeded);
    assert_eq!(outcome("late"), TaskOutcome::TimedOut);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_parallel_run_at_once() {
    let scene = Scene::new();
    let mut yaml = "version: 1\nmax_parallel: 3\ntasks:\n".to_owned();
    let running = Arc::new(Mutex::new((0_i32, 0_i32)));
    for n in 0..9 {
        yaml += &format!("  t{n}: {{ run: x }}\n");
        let (up, down) = (running.clone(), running.clone());
        let script = Script::exits(0)
            .after(minutes(1))
            .on_start(move |_| {
                let mut count = up.lock().unwrap();
                count.0 += 1;
                count.1 = count.1.max(count.0);
            })
            .on_exit(move |config| {
                down.lock().unwrap().0 -= 1;
                nothing_changed(config);
            });
        scene.engine.script(&format!("task/t{n}"), script);
    }
    let summary = scene.run(&yaml).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    assert_eq!(running.lock().unwrap().1, 3);
    assert!(
        summary.took >= minutes(3) && summary.took < minutes(4),
        "{:?}",
        summary.took
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn no_address_is_given_twice_in_a_run() {
    let scene = Scene::new();
    let addresses = Arc::new(Mutex::new(Vec::new()));
    let mut yaml = "version: 1\nmax_parallel: 2\ntasks:\n".to_owned();
    for n in 0..40 {
        yaml += &format!("  t{n}: {{ run: x }}\n");
        let addresses = addresses.clone();
        let script = Scene::hands_off(0).on_start(move |config| {
            let NetworkAttachment::Network { address, .. } = &config.network else {
                panic!("no network");
            };
            addresses.lock().unwrap().push(*address);
        });
        scene.engine.script(&format!("task/t{n}"), script);
    }
    let summary = scene.run(&yaml).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    let mut addresses = addresses.lock().unwrap().clone();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 40);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_network_is_made_before_the_first_task_and_removed_after_the_last() {
    let scene = Scene::new();
    let mut yaml = "version: 1\nmax_parallel: 3\ntasks:\n".to_owned();
    for n in 0..20 {
        yaml += &format!("  t{n}: {{ run: x }}\n");
        let script = Scene::hands_off(0).after(minutes(n + 1));
        scene.engine.script(&format!("task/t{n}"), script);
    }
    let summary = scene.run(&yaml).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    let calls = scene.engine.calls();
    let places = |wanted: Operation, what: &str| -> Vec<usize> {
        let all = calls.iter().enumerate();
        all.filter(|(_, (operation, name))| *operation == wanted && name.contains(what))
            .map(|(place, _)| place)
            .collect()
    };
    let made = places(Operation::CreateNetwork, "-net-");
    let removed = places(Operation::RemoveNetwork, "-net-");
    let started = places(Operation::Start, "-1-t");
    let gone = places(Operation::RemoveContainer, "-1-t");
    assert_eq!((made.len(), removed.len()), (1, 1), "{calls:?}");
    assert!(made.iter().max() < started.iter().min(), "{calls:?}");
    assert!(removed.iter().min() > gone.iter().max(), "{calls:?}");
    scene.assert_nothing_left();
}

/// What came last of a task: whether its end was told after its last line.
#[derive(Default)]
struct Order {
    lines: usize,
    lines_at_the_end: Option<usize>,
}

impl Observer for Order {
    fn event(&mut self, event: &Event) {
        if matches!(event.kind, EventKind::TaskFinished { .. }) {
            self.lines_at_the_end = Some(self.lines);
        }
    }

    fn line(&mut self, _: &LogLine) {
        self.lines += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tasks_lines_are_told_before_its_end() {
    let scene = Scene::new();
    let text = "line\n".repeat(3000);
    let script = Scene::hands_off(0).prints(&text);
    scene.engine.script("task/a", script);
    let mut order = Order::default();
    let yaml = "version: 1\ntasks:\n  a: { run: x }\n";
    scene.observed(yaml, &mut order).await.unwrap();
    assert_eq!(order.lines_at_the_end, Some(3000));
}
