//! Tasks that need others: when they start, from what, and what becomes of them where they cannot; and
//! tasks that wait for memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{BranchResult, Event, EventKind, RunSummary, TaskOutcome, TaskReport};
use agent_run::runner::{LogLine, Observer};
use tokio::sync::Notify;

use super::scene::{Scene, commit, nothing_changed, report};
use crate::fake::{Fault, Script};

/// The order in which containers were started.
type Order = Arc<Mutex<Vec<String>>>;

/// Lets tasks run for a minute, and end with these codes.
fn scene(tasks: &[(&str, i64)]) -> (Scene, Order) {
    let (scene, order) = (Scene::new(), Order::default());
    for (task, code) in tasks {
        let (started, name) = (order.clone(), (*task).to_owned());
        let script = Scene::hands_off(*code).after(Duration::from_secs(60));
        let script = script.on_start(move |_| started.lock().unwrap().push(name.clone()));
        scene.engine.script(&format!("task/{task}"), script);
    }
    (scene, order)
}

/// How each task ended, in a word or by the reason.
fn told(summary: &RunSummary) -> BTreeMap<&str, String> {
    let told = summary.tasks.iter().map(|task| {
        let outcome = match &task.outcome {
            TaskOutcome::Skipped { reason, .. } => reason.clone(),
            TaskOutcome::Infra { stage, message } => format!("{stage}: {message}"),
            TaskOutcome::Succeeded => "ok".to_owned(),
            other => format!("{other:?}"),
        };
        (task.task.as_str(), outcome)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_starts_after_what_it_needs_and_long_ways_go_first() {
    let (scene, order) = scene(&[("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 0)]);
    let yaml = "version: 1\nmax_parallel: 1\ndefaults: { run: x }\ntasks:\n  \
                a: {}\n  b: { needs: d }\n  c: { needs: b }\n  d: {}\n  e: {}\n";
    let summary = scene.run(yaml).await;
    assert!(summary.tasks.iter().all(TaskReport::is_good));
    assert_eq!(*order.lock().unwrap(), ["d", "b", "a", "c", "e"]);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_failed_task_is_skipped_with_the_reason() {
    let codes = [("a", 3), ("b", 0), ("c", 0), ("d", 0), ("may", 4), ("e", 0)];
    let (scene, order) = scene(&codes);
    let yaml = "version: 1\ndefaults: { run: x }\ntasks:\n  a: {}\n  b: { needs: a }\n  \
                c: { needs: [b, d] }\n  d: {}\n  may: { allow_failure: true }\n  e: { needs: may }\n";
    let summary = scene.run(yaml).await;
    let told = told(&summary);
    assert_eq!(told["b"], "it needs a, which failed");
    assert_eq!(told["c"], "it needs b, and that a, which failed");
    assert_eq!((told["d"].as_str(), told["e"].as_str()), ("ok", "ok"));
    let mut order = order.lock().unwrap().clone();
    order.sort();
    assert_eq!(order, ["a", "d", "e", "may"]);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_need_that_is_tried_again_is_waited_for() {
    let scene = Scene::new();
    let tries = Arc::new(AtomicI64::new(0));
    let counted = tries.clone();
    let script = Script::exits(1).on_exit(move |config| {
        counted.fetch_add(1, Ordering::SeqCst);
        nothing_changed(config);
    });
    scene.engine.script("task/a", script);
    scene.engine.script("task/b", Scene::hands_off(0));
    let yaml = "version: 1\ntasks:\n  a: { run: x, retry: 2 }\n  b: { run: x, needs: a }\n";
    let summary = scene.run(yaml).await;
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(told(&summary)["b"], "it needs a, which failed");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_is_no_success() {
    let scene = Scene::new();
    scene
        .engine
        .script("task/a", Script::runs_forever().on_exit(nothing_changed));
    let yaml = "version: 1\ntasks:\n  a: { run: x }\n  b: { run: x, needs: a }\n";
    let stops = scene.stops.clone();
    let stopping = async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stops.send_modify(|stops| {
            stops.insert("a".parse().unwrap(), false);
        });
    };
    let (summary, ()) = tokio::join!(scene.run(yaml), stopping);
    assert_eq!(told(&summary)["b"], "it needs a, which was stopped");
    scene.assert_nothing_left();
}

/// The commit of a task's branch.
fn tip(summary: &RunSummary, task: &str) -> String {
    match report(summary, task)
        .branch
        .as_ref()
        .map(|branch| &branch.result)
    {
        Some(BranchResult::Created { commit, .. }) => commit.to_string(),
        other => panic!("{task}: {other:?} of {:?}", told(summary)),
    }
}

const PIPELINE: &str = "version: 1\ndefaults: { run: x }\ntasks:\n  \
    design: {}\n  left: { needs: design }\n  right: { base: task:design }\n  \
    look: { needs: [left, right] }\n  join: { needs: look }\n  apart: { needs: join, base: HEAD }\n";

fn pipeline() -> Scene {
    let scene = Scene::new();
    for (task, file) in [
        ("design", "design.md"),
        ("left", "left"),
        ("right", "right"),
    ] {
        scene
            .engine
            .script(&format!("task/{task}"), Scene::commits(file, "text\n"));
    }
    scene.engine.script("task/look", Scene::hands_off(0));
    scene
        .engine
        .script("task/join", Scene::commits("join", "text\n"));
    scene
        .engine
        .script("task/apart", Scene::commits("apart", "text\n"));
    scene
}

#[tokio::test(start_paused = true)]
async fn tasks_start_from_the_results_of_their_needs() {
    let scene = pipeline();
    let summary = scene.run(PIPELINE).await;
    let files = |commit: &str| scene.git(&["ls-tree", "--name-only", commit]);
    let parents = |commit: &str| scene.git(&["show", "-s", "--format=%P", commit]);
    let [design, left, right] = ["design", "left", "right"].map(|task| tip(&summary, task));
    assert_eq!(
        (parents(&left), parents(&right)),
        (design.clone(), design.clone())
    );
    let base = |task| {
        report(&summary, task)
            .base
            .as_ref()
            .map(ToString::to_string)
    };
    assert_eq!((base("design"), base("left")), (None, Some(design)));
    // What changed nothing has what it started from: the merge.
    let merge = base("look").expect("a merge");
    assert_eq!(
        report(&summary, "look").branch.as_ref().unwrap().result,
        BranchResult::NoChange
    );
    assert_eq!(base("join").as_ref(), Some(&merge));
    let join = tip(&summary, "join");
    assert_eq!(files(&join), "design.md\njoin\nleft\nreadme.md\nright");
    assert_eq!(parents(&join), merge);
    assert_eq!(parents(&merge), format!("{left} {right}"));
    let said = scene.git(&["show", "-s", "--format=%an %s", &merge]);
    assert_eq!(said, "agent-run Merge the results of left, right");
    let numbers = report(&summary, "join")
        .branch
        .as_ref()
        .map(|b| (b.commits, b.files));
    assert_eq!(numbers, Some((1, 1)));
    assert_eq!(files(&tip(&summary, "apart")), "apart\nreadme.md");
    scene.git(&["fsck", "--strict"]);
    scene.assert_nothing_left();
}

/// Says when a task has ended.
struct Until(&'static str, Arc<Notify>);

impl Observer for Until {
    fn event(&mut self, event: &Event) {
        let is_end = matches!(event.kind, EventKind::TaskFinished { .. });
        if is_end
            && event
                .task
                .as_ref()
                .is_some_and(|task| task.as_str() == self.0)
        {
            self.1.notify_one();
        }
    }

    fn line(&mut self, _: &LogLine) {}
}

#[tokio::test]
async fn a_run_that_is_gone_on_with_knows_what_its_tasks_made() {
    for last in ["design", "right", "look"] {
        let scene = pipeline();
        let reached = Arc::new(Notify::new());
        let mut until = Until(last, reached.clone());
        tokio::select! {
            biased;
            () = reached.notified() => {}
            _ = scene.observed(PIPELINE, &mut until) => panic!("it ended"),
        }
        scene.is_dead().await;
        let summary = scene
            .resumed(PIPELINE, &mut super::scene::Seen::default())
            .await
            .unwrap();
        let join = tip(&summary, "join");
        let files = scene.git(&["ls-tree", "--name-only", &join]);
        assert_eq!(files, "design.md\njoin\nleft\nreadme.md\nright", "{last}");
        let parents = scene.git(&["show", "-s", "--format=%P", &format!("{join}^")]);
        let parts = ["left", "right"].map(|task| tip(&summary, task));
        assert_eq!(parents, parts.join(" "), "{last}");
        scene.assert_nothing_left();
    }
}

/// Few objects stand for any number of files: they are counted before they are on the disk.
#[tokio::test(start_paused = true)]
async fn a_result_that_would_fill_the_disk_is_checked_out_for_nobody() {
    let scene = Scene::new();
    let large = "x".repeat(2 << 20);
    let script = Scene::commits("large", Box::leak(large.into_boxed_str()));
    scene.engine.script("task/a", script);
    scene.engine.script("task/b", Scene::hands_off(0));
    scene.engine.script("task/c", Scene::hands_off(0));
    let yaml = "version: 1\ndefaults: { run: x, needs: a }\ntasks:\n  a: { needs: [] }\n  \
                b: { disk_limit: 1m }\n  c: {}\n";
    let summary = scene.run(yaml).await;
    let told = told(&summary);
    assert!(
        told["b"].starts_with("workspace: a checkout of the result"),
        "{told:?}"
    );
    assert!(told["b"].ends_with("its disk_limit is 1048576"), "{told:?}");
    assert_eq!((&*told["a"], &*told["c"]), ("ok", "ok"));
    let containers = scene.engine.containers();
    let of_b = containers.iter().filter(|c| c.name.ends_with("-1-b"));
    assert_eq!(of_b.count(), 0);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn results_that_conflict_start_nothing() {
    let scene = Scene::new();
    for (task, text) in [("a", "one\n"), ("b", "two\n"), ("c", "three\n")] {
        let script = Script::exits(0).on_exit(move |config| {
            let file = if text == "three\n" { "other" } else { "same" };
            commit(config, file, text);
        });
        scene.engine.script(&format!("task/{task}"), script);
    }
    let yaml = "version: 1\ndefaults: { run: x }\ntasks:\n  a: {}\n  b: {}\n  c: {}\n  \
                join: { needs: [b, c, a] }\n  after: { needs: join }\n";
    let summary = scene.run(yaml).await;
    let told = told(&summary);
    assert_eq!(told["join"], "the results of a and b conflict in same");
    assert_eq!(told["after"], "it needs join, which was skipped");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn work_of_a_need_that_may_fail_is_started_from() {
    let scene = Scene::new();
    let script = Script::exits(1).on_exit(|config| commit(config, "half", "text\n"));
    scene.engine.script("task/a", script);
    scene
        .engine
        .script("task/b", Scene::commits("rest", "text\n"));
    let yaml =
        "version: 1\ntasks:\n  a: { run: x, allow_failure: true }\n  b: { run: x, needs: a }\n";
    let summary = scene.run(yaml).await;
    let files = scene.git(&["ls-tree", "--name-only", &tip(&summary, "b")]);
    assert_eq!(files, "half\nreadme.md\nrest");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn memory_is_never_promised_twice() {
    let scene = Scene::new();
    let (used, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let mut tasks = String::new();
    for task in 0..24_i64 {
        let size = 1 + task % 7;
        tasks += &format!("  t{task}: {{ mem_limit: {size}g }}\n");
        let (now, most, ended) = (used.clone(), most.clone(), used.clone());
        let seconds = Duration::from_secs(5 + task.unsigned_abs() % 5);
        let script = Scene::hands_off(task % 2).after(seconds);
        let script = script.on_start(move |_| {
            let now = now.fetch_add(size, Ordering::SeqCst) + size;
            most.fetch_max(now, Ordering::SeqCst);
        });
        let script = script.on_exit(move |config| {
            ended.fetch_sub(size, Ordering::SeqCst);
            nothing_changed(config);
        });
        scene.engine.script(&format!("task/t{task}"), script);
    }
    let top = "version: 1\nmax_parallel: 20\ndefaults: { run: x, retry: 1 }\ntasks:\n";
    let summary = scene.run(&(top.to_owned() + &tasks)).await;
    assert_eq!(summary.tasks.len(), 24);
    // The engine has 16g, of which a tenth is left to it.
    let most = most.load(Ordering::SeqCst);
    assert!((12..=14).contains(&most), "{most}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_collectors_use_is_not_promised_to_tasks() {
    let scene = Scene::new();
    let (used, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    // Nobody hands off, so that all need a collector, which may use more than they.
    for (kind, seconds) in [("task", 1), ("collector", 5)] {
        let (now, most, ended) = (used.clone(), most.clone(), used.clone());
        let script = Script::exits(0).after(Duration::from_secs(seconds));
        let script = script.on_start(move |config| {
            let size = config.limits.memory;
            most.fetch_max(
                now.fetch_add(size, Ordering::SeqCst) + size,
                Ordering::SeqCst,
            );
        });
        let script = script.on_exit(move |config| {
            ended.fetch_sub(config.limits.memory, Ordering::SeqCst);
            if kind == "collector" {
                nothing_changed(config);
            }
        });
        scene.engine.script(kind, script);
    }
    let mut tasks = String::new();
    for task in 0..60 {
        tasks += &format!("  t{task}: {{ run: x }}\n");
    }
    let top = "version: 1\nmax_parallel: 60\ndefaults: { mem_limit: 240m }\ntasks:\n";
    let summary = scene.run(&(top.to_owned() + &tasks)).await;
    for task in &summary.tasks {
        let result = &task.branch.as_ref().unwrap().result;
        assert_eq!(*result, BranchResult::NoChange, "{}", task.task);
    }
    // The engine has 16g, of which a tenth is left to it.
    let most = most.load(Ordering::SeqCst) >> 20;
    assert!((14_000..=14_746).contains(&most), "{most} MiB");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_keeps_its_memory() {
    let scene = Scene::new();
    scene.engine.script("task/a", Script::runs_forever());
    scene.engine.script("task/b", Scene::hands_off(0));
    scene.engine.script("task/c", Scene::hands_off(0));
    let name = format!("agent-run-{}-1-a", scene.run);
    for operation in [Operation::Stop, Operation::RemoveContainer] {
        scene
            .engine
            .fault(&name, operation, Fault::Fail(ErrorKind::Timeout));
    }
    let yaml = "version: 1\nmax_parallel: 3\ndefaults: { run: x }\ntasks:\n  \
                a: { mem_limit: 8g, timeout: 1m }\n  b: { mem_limit: 8g, timeout: 30s }\n  c: { mem_limit: 1g }\n";
    let summary = scene.run(yaml).await;
    let told = told(&summary);
    assert_eq!(
        told["b"],
        "memory: its memory is with containers that could not be removed"
    );
    assert_eq!(told["c"], "ok");
}
