//! Services that are filled once, on the fake engine: whole or not at all, and nothing stays behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::{ErrorKind, ImageInfo, Operation};
use agent_run::event::{RunSummary, StopReason, TaskOutcome};
use agent_run::runner::Shutdown;
use tokio::sync::Notify;

use super::scene::{Scene, report};
use crate::fake::{Fault, Script};

const TWO: &str = "\
version: 1
max_parallel: 2
defaults:
  ports: [3000]
  services:
    db:
      image: db
      command: serve
      environment: { PASSWORD: hunter2 }
      healthcheck: { test: [CMD, ready] }
      snapshot: { script: fill, files: [readme.md] }
tasks:
  a: { run: x }
  b: { run: x }
";

/// A scene whose services run until they are stopped, and how often one was filled.
fn scene() -> (Scene, Arc<AtomicUsize>) {
    let scene = Scene::new();
    let image = ImageInfo {
        id: "sha256:db".into(),
        stop_signal: Some("SIGINT".into()),
        ..ImageInfo::default()
    };
    scene.engine.set_image("db", image);
    for role in ["pod", "service"] {
        scene.engine.script(role, Script::runs_forever());
    }
    scene.engine.script("snapshot-pod", Script::runs_forever());
    let served = Script::runs_forever().writes_bytes(1).on_start(|config| {
        assert!(
            config.environment.is_empty(),
            "it would be part of the image"
        );
        assert!(config.command.is_empty(), "it would be the image's");
        let words = ["/bin/sh", "/agent/setup-entry", "serve"];
        assert_eq!(config.entrypoint, words);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    });
    scene.engine.script("snapshot-service", served);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let script = Script::exits(0)
        .after(Duration::from_secs(10))
        .on_start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    scene.engine.script("setup", script);
    scene.engine.script("task", Scene::hands_off(0));
    scene
        .engine
        .command(&["ready".to_owned()], Script::exits(0));
    (scene, runs)
}

#[track_caller]
fn failures(summary: &RunSummary) -> [String; 2] {
    ["a", "b"].map(|task| match &report(summary, task).outcome {
        TaskOutcome::Infra { message, .. } => message.clone(),
        other => panic!("{task}: {other:?}"),
    })
}

#[tokio::test(start_paused = true)]
async fn the_services_of_all_tasks_are_of_the_image_that_was_made() {
    let (scene, runs) = scene();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let images = seen.clone();
    let service = Script::runs_forever().on_start(move |config| {
        let password = ("PASSWORD".to_owned(), "hunter2".to_owned());
        assert_eq!(config.environment, [password]);
        images.lock().unwrap().push(config.image.clone());
    });
    scene.engine.script("service", service);
    let published = Arc::new(Mutex::new(Vec::new()));
    let ports = published.clone();
    let pod = Script::runs_forever().on_start(move |config| {
        ports.lock().unwrap().push(config.publish.clone());
    });
    scene.engine.script("snapshot-pod", pod);
    let summary = scene.run(TWO).await;
    // Nobody looks at it.
    assert_eq!(*published.lock().unwrap(), [vec![]]);
    assert!(
        report(&summary, "a").is_good() && report(&summary, "b").is_good(),
        "{summary:#?}"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(scene.engine.made_images().len(), 1);
    let images = seen.lock().unwrap().clone();
    assert!(images.len() == 2 && images[0] == images[1], "{images:?}");
    let commits = scene.engine.calls().into_iter();
    let commits = commits.filter(|(operation, _)| *operation == Operation::Commit);
    let names: Vec<String> = commits.map(|(_, name)| name).collect();
    assert!(
        names.len() == 1 && names[0].contains("-snapshot-service-db."),
        "{names:?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_no_image_would_have_is_no_snapshot() {
    for (served, why) in [
        (
            Script::runs_forever()
                .writes_bytes(1)
                .writes_in_volume("/data"),
            "the service keeps its data in /data, which its image declares as a VOLUME",
        ),
        (
            Script::runs_forever(),
            "the service wrote nothing in its file system",
        ),
        (
            Script::runs_forever().writes_bytes(1).ignoring_term(),
            "it had not ended 60 s after SIGINT, and was killed",
        ),
        (
            Script::exits(0)
                .after(Duration::from_secs(5))
                .writes_bytes(1)
                .oom_killed(),
            "the service did not end cleanly, so that its data may not be whole: it ran out of memory",
        ),
    ] {
        let (scene, _) = scene();
        scene.engine.script("snapshot-service", served);
        let summary = scene.run(TWO).await;
        for message in failures(&summary) {
            assert!(
                message.starts_with("snapshot of service `db`: "),
                "{message}"
            );
            assert!(message.contains(why), "{message}");
        }
        assert_eq!(scene.engine.made_images(), Vec::<String>::new());
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_leaves_nothing() {
    use Operation as Op;
    for (subject, operation) in [
        ("snapshot-pod", Op::CreateContainer),
        ("snapshot-service", Op::CreateContainer),
        ("snapshot-service", Op::Attach),
        ("snapshot-service", Op::Start),
        ("snapshot-service", Op::VolumeContents),
        ("snapshot-service", Op::DiskUse),
        ("snapshot-service", Op::Commit),
        ("setup", Op::Start),
        ("setup", Op::Wait),
    ] {
        for fault in [
            Fault::Fail(ErrorKind::Refused("no".into())),
            Fault::DoneBut(ErrorKind::Timeout),
        ] {
            let (scene, _) = scene();
            scene.engine.fault(subject, operation, fault);
            let summary = scene.run(TWO).await;
            for message in failures(&summary) {
                assert!(
                    message.starts_with("snapshot of service `db`: "),
                    "{message}"
                );
            }
            scene.assert_nothing_left();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_meanwhile_leaves_nothing() {
    let (scene, _) = scene();
    let stop = scene.shutdown.clone();
    let script = Script::runs_forever().on_start(move |_| {
        stop.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    scene.engine.script("setup", script);
    let summary = scene.run(TWO).await;
    for task in ["a", "b"] {
        assert_eq!(report(&summary, task).outcome, TaskOutcome::Cancelled);
    }
    assert_eq!(scene.engine.made_images(), Vec::<String>::new());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_does_not_wait_for_the_service_to_be_kept() {
    use Operation as Op;
    for operation in [Op::VolumeContents, Op::Stop] {
        let (scene, _) = scene();
        let reached = Arc::new(Notify::new());
        let fault = Fault::Tell(reached.clone());
        scene
            .engine
            .fault_once("snapshot-service", operation, fault);
        let stopped = async {
            reached.notified().await;
            let stop = Shutdown::Graceful(StopReason::Interrupted);
            scene.shutdown.send_replace(stop);
        };
        let (summary, ()) = tokio::join!(scene.run(TWO), stopped);
        for task in ["a", "b"] {
            assert_eq!(report(&summary, task).outcome, TaskOutcome::Cancelled);
        }
        assert_eq!(scene.engine.made_images(), Vec::<String>::new());
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_data_is_not_in_the_image_tells_snapshots_apart() {
    let (scene, runs) = scene();
    let task = |id: &str, tmpfs: &str| {
        format!(
            "  {id}: {{ run: x, services: {{ db: {{ image: db, command: serve, tmpfs: {tmpfs}, \
             healthcheck: {{ test: [CMD, ready] }}, snapshot: {{ script: fill }} }} }} }}\n"
        )
    };
    let tasks = task("a", "[]") + &task("b", "[/run]");
    let summary = scene.run(&format!("version: 1\ntasks:\n{tasks}")).await;
    let is_good = |task| report(&summary, task).is_good();
    assert!(is_good("a") && is_good("b"), "{summary:#?}");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    scene.assert_nothing_left();
}
