//! A task that uses more disk than it may is killed and collected; measuring harms nobody.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{BranchResult, Event, EventKind, RunSummary, TaskOutcome};

use super::scene::{Scene, Seen, report};
use crate::fake::{Fault, Script, host_path};

const MINUTE: Duration = Duration::from_secs(60);

/// A task `a` that may use 2 MiB, and a sibling that uses little.
const TWO: &str = "version: 1\nmax_parallel: 2\ndefaults: { run: x, disk_limit: 2m }\n\
    tasks:\n  a: { timeout: 1h }\n  sibling:\n";

fn scene(does: Script) -> Scene {
    let scene = Scene::new();
    scene.engine.script("task/a", does);
    let sibling = Scene::hands_off(0).after(MINUTE);
    scene.engine.script("task/sibling", sibling);
    scene
}

/// One that runs for ever and takes no notice of TERM, after it did that in a directory of its own.
fn hostile(inside: &'static str, does: impl Fn(&Path) + Send + Sync + 'static) -> Script {
    let on_start = move |config: &ContainerConfig| does(&host_path(config, inside));
    Script::runs_forever().ignoring_term().on_start(on_start)
}

/// Expects that `a` was killed at once for its disk, and collected; gives how much it used.
fn assert_killed(scene: &Scene, summary: &RunSummary) -> u64 {
    let a = report(summary, "a");
    let TaskOutcome::OutOfDisk { used_bytes } = a.outcome else {
        panic!("{a:#?}");
    };
    assert!(used_bytes > 2 << 20, "{used_bytes}");
    assert!(a.ran < Duration::from_secs(5), "{:?}", a.ran);
    assert_eq!(a.branch.as_ref().unwrap().result, BranchResult::NoChange);
    let collected = |(operation, name): &(Operation, String)| {
        *operation == Operation::Start && name.contains("collector")
    };
    assert!(scene.engine.calls().iter().any(collected));
    let sibling = report(summary, "sibling");
    assert!(sibling.is_good() && sibling.ran == MINUTE, "{sibling:#?}");
    scene.assert_nothing_left();
    used_bytes
}

#[tokio::test(start_paused = true)]
async fn every_directory_of_a_task_counts() {
    for inside in [
        "/workspace",
        "/agent/git/objects",
        "/home/agent",
        "/agent/out",
    ] {
        let large = |directory: &Path| fs::write(directory.join("x"), vec![1; 3 << 20]).unwrap();
        let scene = scene(hostile(inside, large));
        let used = assert_killed(&scene, &scene.run(TWO).await);
        assert!(used >= 3 << 20, "{inside}: {used}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_without_bytes_count() {
    let scene = scene(hostile("/home/agent", |home| {
        for n in 0..600 {
            fs::write(home.join(n.to_string()), "").unwrap();
        }
    }));
    assert_killed(&scene, &scene.run(TWO).await);
}

#[tokio::test(start_paused = true)]
async fn the_containers_own_files_count_where_it_can_write_any() {
    let does = || hostile("/workspace", |_| ()).writes_bytes(3 << 20);
    let writable = scene(does());
    assert_killed(&writable, &writable.run(TWO).await);
    let read_only = scene(does());
    let yaml = TWO.replace("timeout: 1h", "timeout: 5m, read_only: true");
    let summary = read_only.run(&yaml).await;
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::TimedOut);
    let asked = |(operation, name): &(Operation, String)| {
        *operation == Operation::DiskUse && name.ends_with("-1-a")
    };
    assert!(!read_only.engine.calls().iter().any(asked));
}

#[tokio::test(start_paused = true)]
async fn below_the_limit_nothing_happens() {
    let little = |directory: &Path| fs::write(directory.join("x"), vec![1; 1 << 20]).unwrap();
    let scene = scene(hostile("/home/agent", little).writes_bytes(1 << 19));
    let summary = scene.run(TWO).await;
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::TimedOut);
    scene.assert_nothing_left();
}

/// A task that was asked to end can fill a disk in its grace as well as before.
#[tokio::test(start_paused = true)]
async fn the_grace_ends_where_the_disk_is_over() {
    let scene = scene(Script::runs_forever().ignoring_term());
    let yaml = TWO.replace("timeout: 1h", "timeout: 20s, stop_grace_period: 10m");
    let late = async {
        tokio::time::sleep(Duration::from_secs(25)).await;
        let home = scene.state().run(&scene.run).join("tasks/a/1/home");
        fs::write(home.join("x"), vec![1; 3 << 20]).unwrap();
    };
    let (summary, ()) = tokio::join!(scene.run(&yaml), late);
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::TimedOut);
    assert!(a.ran < MINUTE, "{:?}", a.ran);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_tell_harms_no_task_and_hides_no_file() {
    for fault in [
        Fault::Fail(ErrorKind::Broken("cable".into())),
        Fault::DoneBut(ErrorKind::Timeout),
        Fault::Hang,
        Fault::Lie,
    ] {
        let scene = scene(Scene::hands_off(0).after(MINUTE).writes_bytes(3 << 20));
        scene.engine.fault("*", Operation::DiskUse, fault.clone());
        let mut seen = Seen::default();
        let summary = scene.observed(TWO, &mut seen).await.unwrap();
        let a = report(&summary, "a");
        assert!(a.is_good() && a.ran == MINUTE, "{a:#?}");
        let warned = |e: &Event| matches!(e.kind, EventKind::Warning { .. });
        assert!(!seen.events.iter().any(warned), "{:#?}", seen.events);
        scene.assert_nothing_left();
    }
    let large = |directory: &Path| fs::write(directory.join("x"), vec![1; 3 << 20]).unwrap();
    let scene = scene(hostile("/home/agent", large));
    scene
        .engine
        .fault("*", Operation::DiskUse, Fault::Fail(ErrorKind::Timeout));
    assert_killed(&scene, &scene.run(TWO).await);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_takes_long_is_asked_seldom() {
    let hour = Scene::hands_off(0).after(Duration::from_secs(3000));
    let scene = scene(hour);
    let slow = Fault::Slow(Duration::from_secs(10));
    scene.engine.fault("task/a", Operation::DiskUse, slow);
    let yaml = TWO.replace("disk_limit: 2m", "disk_limit: 1000g");
    scene.run(&yaml).await;
    let calls = scene.engine.calls();
    let asked = calls
        .iter()
        .filter(|(operation, name)| *operation == Operation::DiskUse && name.ends_with("-1-a"));
    // A twentieth of 3000 s, 10 s each.
    assert_eq!(asked.count(), 15);
}

/// What collects may be made to write without end as well: by the task's own filters.
#[tokio::test(start_paused = true)]
async fn a_collector_writes_no_more_than_a_result_may_be() {
    let yaml = format!("{TWO}collect: {{ limits: {{ leftovers: 1m, bundle: 3m }} }}\n");
    for (mebibytes, is_killed) in [(3, false), (5, true)] {
        let killed = Script::exits(137).on_start(|config| {
            fs::write(host_path(config, "/agent/git").join("x"), vec![1; 3 << 19]).unwrap();
        });
        let scene = scene(killed);
        let collects = hostile("/agent/out", move |out| {
            fs::write(out.join("x"), vec![1; mebibytes << 20]).unwrap();
        });
        let ends = |script: Script| {
            let nothing_changed = super::scene::nothing_changed;
            script
                .after(Duration::from_secs(10))
                .on_exit(nothing_changed)
        };
        let collects = if is_killed { collects } else { ends(collects) };
        scene.engine.script("collector/a", collects);
        let summary = scene.run(&yaml).await;
        let branch = report(&summary, "a").branch.clone().unwrap();
        let told = "the collector was killed: it wrote more than 4 MiB";
        let is_told = branch.notes.iter().any(|note| note.contains(told));
        assert_eq!(is_told, is_killed, "{branch:#?}");
        let is_kept = matches!(branch.result, BranchResult::Kept { .. });
        assert_eq!(is_kept, is_killed, "{branch:#?}");
        assert!(report(&summary, "sibling").is_good());
        scene.engine.assert_no_leaks();
        assert_eq!(scene.left_on_disk().len(), usize::from(is_killed));
    }
}
