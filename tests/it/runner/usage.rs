//! What a task used and how long each of its phases took; an engine that cannot tell is no fault of
//! the task.

use std::time::Duration;

use agent_run::engine::{ContainerUsage, ErrorKind, ImageInfo, Operation};
use agent_run::event::{Event, EventKind, TaskOutcome, TaskPhase, Usage};
use agent_run::id::hex_hash;

use super::scene::{Scene, Seen, report};
use crate::fake::{Fault, Script};

const MINUTE: Duration = Duration::from_secs(60);
const TWO: &str =
    "version: 1\nmax_parallel: 1\ntasks:\n  a: { image: 'acme:1', run: x }\n  b: { run: x }\n";

fn scene() -> Scene {
    let scene = Scene::new();
    let uses = ContainerUsage {
        cpu: Duration::from_millis(1500),
        memory: 300 << 20,
        droppable: 100 << 20,
        highest_memory: Some(900 << 20),
        received: 7,
        sent: 5,
    };
    let script = Scene::hands_off(0).after(MINUTE).uses(uses);
    scene.engine.script("task/a", script);
    scene
        .engine
        .script("task/b", Scene::hands_off(0).after(MINUTE));
    scene
}

fn usages(events: &[Event], task: &str) -> Vec<Usage> {
    let of_task = events
        .iter()
        .filter(|event| event.task.as_ref().is_some_and(|t| t.as_str() == task));
    let usages = of_task.filter_map(|event| match event.kind {
        EventKind::Usage { usage } => Some(usage),
        _ => None,
    });
    usages.collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_is_measured_soon_and_then_as_often_as_the_run_may() {
    let scene = scene();
    let mut seen = Seen::default();
    let summary = scene.observed(TWO, &mut seen).await.unwrap();
    let usages = usages(&seen.events, "a");
    let after: Vec<u128> = usages.iter().map(|u| u.after.as_millis()).collect();
    assert_eq!(after[..5], [250, 650, 2750, 5250, 7750], "{after:?}");
    assert_eq!(*after.last().unwrap(), 57_750, "{after:?}");
    let a = report(&summary, "a");
    assert_eq!(a.usage, usages.last().copied());
    assert_eq!(
        a.usage.unwrap(),
        Usage {
            after: Duration::from_millis(57_750),
            cpu: Duration::from_millis(1500),
            memory: 200 << 20,
            peak_memory: 800 << 20,
            received: 7,
            sent: 5,
        }
    );
}

#[tokio::test(start_paused = true)]
async fn phases_add_up_and_the_queue_is_the_first() {
    let scene = scene();
    let summary = scene.run(TWO).await;
    for (task, waited) in [("a", Duration::ZERO), ("b", MINUTE)] {
        let report = report(&summary, task);
        let phases: Vec<TaskPhase> = report.phases.iter().map(|p| p.phase).collect();
        let expected = [
            TaskPhase::Waiting,
            TaskPhase::Preparing,
            TaskPhase::Running,
            TaskPhase::Collecting,
        ];
        assert_eq!(phases, expected, "{task}");
        let took: Vec<Duration> = report.phases.iter().map(|p| p.took).collect();
        assert!((waited..waited + MINUTE).contains(&took[0]), "{took:?}");
        assert!((MINUTE..2 * MINUTE).contains(&took[2]), "{took:?}");
        assert!(took.iter().sum::<Duration>() <= summary.took, "{took:?}");
    }
    let image = format!("sha256:{}", hex_hash(b"acme:1", 64));
    assert_eq!(report(&summary, "a").image, Some(image));
}

#[tokio::test(start_paused = true)]
async fn the_report_names_the_digest_by_which_a_registry_has_the_image() {
    let scene = scene();
    let image = ImageInfo {
        id: "sha256:1".into(),
        digests: vec!["other@sha256:2".into(), "acme@sha256:3".into()],
        entrypoint: Vec::new(),
        command: Vec::new(),
        ..ImageInfo::default()
    };
    scene.engine.set_image("acme:1", image);
    let summary = scene.run(TWO).await;
    let a = report(&summary, "a");
    assert_eq!(a.image.as_deref(), Some("sha256:1"));
    assert_eq!(a.image_digest.as_deref(), Some("acme@sha256:3"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_is_measured_to_its_end() {
    let scene = scene();
    let slow = Script::runs_forever().obeying_term_after(MINUTE / 4);
    scene.engine.script("task/a", slow);
    let yaml = "version: 1\ntasks:\n  a: { run: x, timeout: 10s, stop_grace_period: 1m }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert_eq!(a.outcome, TaskOutcome::TimedOut);
    assert!(a.usage.unwrap().after > MINUTE / 3, "{:?}", a.usage);
    let phases: Vec<TaskPhase> = a.phases.iter().map(|p| p.phase).collect();
    assert_eq!(phases[2..4], [TaskPhase::Running, TaskPhase::Stopping]);
    assert_eq!(a.phases[3].took, MINUTE / 4);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_tell_harms_no_task() {
    for fault in [
        Fault::Fail(ErrorKind::Broken("cable".into())),
        Fault::DoneBut(ErrorKind::Timeout),
        Fault::Hang,
        Fault::Lie,
    ] {
        let scene = scene();
        scene.engine.fault("task/a", Operation::Usage, fault);
        let mut seen = Seen::default();
        let summary = scene.observed(TWO, &mut seen).await.unwrap();
        let a = report(&summary, "a");
        assert!(a.is_good(), "{a:#?}");
        assert_eq!(a.usage, None);
        assert_eq!(a.ran, MINUTE);
        let warned = |e: &Event| matches!(e.kind, EventKind::Warning { .. });
        assert!(!seen.events.iter().any(warned), "{:#?}", seen.events);
        assert!(report(&summary, "b").usage.is_some());
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_skipped_only_waited() {
    let scene = scene();
    scene.engine.script("task/a", Script::runs_forever());
    let yaml = TWO.replace("version: 1", "version: 1\ntimeout: 1m");
    let summary = scene.run(&yaml).await;
    let b = report(&summary, "b");
    assert!(matches!(b.outcome, TaskOutcome::Skipped { .. }), "{b:#?}");
    assert_eq!(b.phases.len(), 1);
    assert_eq!(b.phases[0].phase, TaskPhase::Waiting);
    assert!(b.phases[0].took >= MINUTE, "{b:#?}");
}
