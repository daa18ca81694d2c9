//! The fake itself: its faults, its strictness and its hooks. What it shares with Docker is in
//! `contract.rs`.

use std::time::Duration;

use agent_run::engine::config::{ContainerConfig, ImageRequest, Mount, PullPolicy};
use agent_run::engine::{Engine, ErrorKind, ImageInfo, Operation};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::contract::{launch, plain_container, read_all};
use crate::fake::{FakeEngine, Fault, Script, host_path};

const MINUTE: Duration = Duration::from_secs(60);

/// An engine that knows one container, whose subject is `task/contract`.
fn engine(script: Script) -> (FakeEngine, ContainerConfig) {
    let engine = FakeEngine::new();
    engine.script("task/contract", script);
    (
        engine,
        plain_container("agent-run-1", vec!["scripted".into()]),
    )
}

#[tokio::test(start_paused = true)]
async fn scripts_keep_time_and_touch_mounts() {
    let work = tempfile::tempdir().unwrap();
    let inner = tempfile::tempdir().unwrap();
    let (engine, mut config) = engine(
        Script::exits(3)
            .after(MINUTE)
            .oom_killed()
            .on_start(|c| std::fs::write(host_path(c, "/outer/started"), "").unwrap())
            .on_exit(|c| std::fs::write(host_path(c, "/outer/inner/done"), "").unwrap()),
    );
    for (dir, target) in [(&work, "/outer"), (&inner, "/outer/inner")] {
        config.mounts.push(Mount {
            source: dir.path().to_owned(),
            target: target.into(),
            read_only: false,
        });
    }
    let start = Instant::now();
    let mut output = launch(&engine, &config).await;
    let exit = engine.wait(&config.name).await.unwrap();
    assert_eq!((exit.code, exit.oom_killed), (3, true));
    assert_eq!(start.elapsed(), MINUTE);
    assert!(output.next().await.is_none());
    assert!(work.path().join("started").exists());
    assert!(inner.path().join("done").exists());
    assert_eq!(engine.containers(), [config]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_container_hands_nothing_off() {
    let script = Script::runs_forever().obeying_term_after(MINUTE);
    let (engine, config) = engine(script.on_exit(|_| panic!("was killed")));
    drop(launch(&engine, &config).await);
    engine.stop(&config.name, MINUTE / 2).await.unwrap();
    assert_eq!(engine.wait(&config.name).await.unwrap().code, 137);
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_does_nothing_once_or_always() {
    let (engine, config) = engine(Script::exits(0));
    let broken = || Fault::Fail(ErrorKind::Broken("cable".into()));
    engine.fault_once("task/contract", Operation::CreateContainer, broken());
    let error = engine.create_container(&config).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Broken("cable".into()));
    engine.remove_container(&config.name).await.unwrap();
    engine.create_container(&config).await.unwrap();
    engine.fault("*", Operation::RemoveContainer, broken());
    for _ in 0..2 {
        engine.remove_container(&config.name).await.unwrap_err();
    }
    assert_eq!(engine.containers().len(), 1);
    let removals = engine.calls().into_iter();
    let removals = removals.filter(|(operation, _)| *operation == Operation::RemoveContainer);
    assert_eq!(removals.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_leaves_the_deed() {
    let (engine, config) = engine(Script::exits(0));
    engine.fault(
        "task",
        Operation::CreateContainer,
        Fault::DoneBut(ErrorKind::Timeout),
    );
    let error = engine.create_container(&config).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(engine.list_owned().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_never_answers() {
    let (engine, config) = engine(Script::runs_forever());
    drop(launch(&engine, &config).await);
    engine.fault(&config.name, Operation::Stop, Fault::Hang);
    let stop = engine.stop(&config.name, Duration::ZERO);
    timeout(MINUTE, stop).await.unwrap_err();
    assert!(engine.list_owned().await.unwrap()[0].running);
}

#[tokio::test(start_paused = true)]
async fn lies_leave_things_as_they_were() {
    let (engine, config) = engine(Script::runs_forever().prints("hello\n"));
    for operation in [
        Operation::Attach,
        Operation::Stop,
        Operation::RemoveContainer,
        Operation::Wait,
    ] {
        engine.fault_once("*", operation, Fault::Lie);
    }
    assert_eq!(read_all(launch(&engine, &config).await).await.0, "");
    engine.stop(&config.name, MINUTE).await.unwrap();
    engine.remove_container(&config.name).await.unwrap();
    assert_eq!(engine.wait(&config.name).await.unwrap().code, 0);
    assert!(engine.list_owned().await.unwrap()[0].running);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_lied_is_an_error_later() {
    let (engine, config) = engine(Script::exits(0));
    engine.fault("task/contract", Operation::CreateContainer, Fault::Lie);
    engine.create_container(&config).await.unwrap();
    let error = engine.start(&config.name).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left on the engine: containers [\"agent-run-1\"]")]
async fn leaks_are_named() {
    let (engine, config) = engine(Script::exits(0));
    engine.create_container(&config).await.unwrap();
    engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "second create of agent-run-1")]
async fn a_second_create_panics() {
    let (engine, config) = engine(Script::exits(0));
    engine.create_container(&config).await.unwrap();
    drop(engine.create_container(&config).await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "never created")]
async fn a_start_before_create_panics() {
    let (engine, config) = engine(Script::exits(0));
    drop(engine.start(&config.name).await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "before its start")]
async fn a_wait_before_start_panics() {
    let (engine, config) = engine(Script::exits(0));
    engine.create_container(&config).await.unwrap();
    drop(engine.wait(&config.name).await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "after its start")]
async fn an_attach_after_start_panics() {
    let (engine, config) = engine(Script::exits(0));
    drop(launch(&engine, &config).await);
    drop(engine.attach(&config.name, None).await);
}

#[tokio::test(start_paused = true)]
async fn the_engine_says_what_it_was_told_to() {
    let engine = FakeEngine::new();
    engine.set_info(|info| info.rootless = true);
    assert!(engine.info().await.unwrap().rootless);
    let image = ImageInfo {
        id: "sha256:1".into(),
        digests: Vec::new(),
        entrypoint: vec!["/init".into()],
        command: Vec::new(),
        ..ImageInfo::default()
    };
    engine.set_image("acme/agent:1", image.clone());
    let request = ImageRequest {
        reference: "acme/agent:1".parse().unwrap(),
        pull_policy: PullPolicy::Never,
        build: None,
    };
    assert_eq!(engine.ensure_image(&request).await.unwrap(), image);
}
