//! Throw-away containers that ask what an engine does, on one that answers, fails or hangs.

use std::sync::Arc;
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{Engine as _, ErrorKind, ImageInfo, Operation};
use agent_run::event::StopReason;
use agent_run::id::{Role, hex_hash, run_container_name};
use agent_run::runner::{Examination, ExamineError, Examiner, Internet, Pool, RunError, Shutdown};

use super::scene::{Scene, answer_probe};
use crate::fake::{FakeEngine, Fault, Script};

const IMAGE: &str = "sha256:base";

/// What an honest container prints.
fn answer(config: &ContainerConfig) -> Vec<u8> {
    if !config.mounts.is_empty() {
        return answer_probe(config);
    }
    let asks_to_reach = |name: &str| config.environment.iter().any(|(key, _)| key == name);
    if asks_to_reach("AGENT_PEER") {
        return b"names\nmetadata\n".to_vec();
    }
    b"mem_limit 100663296\nmemswap_limit 0\ncpus 50000 100000\npids_limit max\n".to_vec()
}

fn name(scene: &Scene, purpose: &str) -> String {
    let purpose = format!("{purpose}-{}", hex_hash(IMAGE.as_bytes(), 12));
    run_container_name(&scene.run, Role::Probe, &purpose)
}

async fn examiner(scene: &Scene) -> Examiner<FakeEngine> {
    std::fs::create_dir_all(scene.state().run(&scene.run)).unwrap();
    let engine = &scene.engine;
    engine.script(
        "probe",
        Script::exits(0).replies(|config, _| answer(config)),
    );
    let listener = Script::runs_forever().prints("ready\n");
    engine.script(&name(scene, "listen"), listener);
    Examiner {
        engine: Arc::new(engine.clone()),
        info: engine.info().await.unwrap(),
        image: ImageInfo {
            id: IMAGE.into(),
            digests: Vec::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            ..ImageInfo::default()
        },
        state: scene.state(),
        run: scene.run.clone(),
        owner: "owner".into(),
        pool: Pool::default(),
        shutdown: scene.shutdown.subscribe(),
    }
}

async fn examine(scene: &Scene) -> Examination {
    examiner(scene).await.examine().await
}

#[tokio::test(start_paused = true)]
async fn what_containers_say_is_read_and_nothing_is_left() {
    let scene = Scene::new();
    let found = examine(&scene).await;
    assert_eq!(found.bind_mounts, Ok(()));
    let limits = [
        ("mem_limit", true),
        ("memswap_limit", true),
        ("cpus", true),
        ("pids_limit", false),
    ];
    assert_eq!(found.limits, Ok(limits.to_vec()));
    let reach = found.reach.unwrap();
    assert_eq!(reach.internet, Internet::NoConnections);
    assert!(reach.metadata && !reach.peer);
    assert_eq!(found.left, [] as [&str; 0]);
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nothing_more_is_made() {
    let scene = Scene::new();
    scene
        .shutdown
        .send_replace(Shutdown::Graceful(StopReason::Interrupted));
    let found = examine(&scene).await;
    assert_eq!(found.bind_mounts, Err(ExamineError::Stopped));
    assert_eq!(found.limits, Err(ExamineError::Stopped));
    assert_eq!(found.reach, Err(ExamineError::Stopped));
    let made = |(operation, _): &(Operation, String)| *operation == Operation::CreateContainer;
    assert!(!scene.engine.calls().iter().any(made));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_gets_a_bounded_answer() {
    for operation in [
        Operation::CreateContainer,
        Operation::Start,
        Operation::Wait,
    ] {
        let scene = Scene::new();
        scene.engine.fault("probe", operation, Fault::Hang);
        let began = tokio::time::Instant::now();
        let found = examine(&scene).await;
        let in_time = |error: &ExamineError| error.to_string().contains("no answer in time");
        assert!(
            found.limits.as_ref().is_err_and(in_time),
            "{operation:?}: {found:?}"
        );
        assert!(
            found.bind_mounts.as_ref().is_err_and(in_time),
            "{operation:?}: {found:?}"
        );
        assert!(
            found.reach.as_ref().is_err_and(in_time),
            "{operation:?}: {found:?}"
        );
        assert!(
            began.elapsed().as_secs() <= 60,
            "{operation:?}: {:?}",
            began.elapsed()
        );
        scene.engine.assert_no_leaks();
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_named() {
    let scene = Scene::new();
    let fault = Fault::Fail(ErrorKind::Broken("the connection broke".into()));
    scene
        .engine
        .fault(&name(&scene, "limits"), Operation::RemoveContainer, fault);
    let found = examine(&scene).await;
    assert_eq!(found.left, [name(&scene, "limits")]);
    assert!(found.limits.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_the_engine_drops_is_what_a_run_would_end_with() {
    let scene = Scene::new();
    let fault = Fault::Fail(ErrorKind::LimitNotHonoured("pids_limit"));
    scene
        .engine
        .fault(&name(&scene, "limits"), Operation::CreateContainer, fault);
    let found = examine(&scene).await;
    let Err(ExamineError::Run(RunError::LimitNotHonoured { key, .. })) = found.limits else {
        panic!("{found:?}");
    };
    assert_eq!(key, "pids_limit");
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn a_network_that_another_run_has_just_removed_is_made_anew() {
    let scene = Scene::new();
    let fault = Fault::Fail(ErrorKind::NoNetwork);
    scene
        .engine
        .fault_once(&name(&scene, "reach"), Operation::Start, fault);
    let found = examine(&scene).await;
    assert!(found.reach.is_ok(), "{found:?}");
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_free_subnet_is_told_apart() {
    let scene = Scene::new();
    let taken = Fault::Fail(ErrorKind::AddressInUse);
    scene.engine.fault("*", Operation::CreateNetwork, taken);
    let found = examine(&scene).await;
    assert_eq!(found.reach, Err(ExamineError::PoolTaken));
    assert!(found.limits.is_ok(), "{found:?}");
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn what_is_being_made_at_a_stop_is_made_and_removed() {
    for purpose in ["listen", "reach"] {
        let scene = Scene::new();
        let slow = Duration::from_secs(5);
        let create = Operation::CreateContainer;
        let name = name(&scene, purpose);
        scene.engine.fault_once(&name, create, Fault::Slow(slow));
        let began = tokio::time::Instant::now();
        let examiner = examiner(&scene).await;
        let reach = examiner.reach(tokio::time::sleep(Duration::from_secs(1)));
        assert_eq!(reach.await, Ok(None));
        assert!(began.elapsed() >= slow, "{purpose}: {:?}", began.elapsed());
        scene.engine.assert_no_leaks();
    }
}
