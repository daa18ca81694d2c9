//! Containers that have the network of another one.

use std::time::Duration;

use agent_run::engine::config::{ContainerConfig, NetworkAttachment};
use agent_run::engine::{Engine, ErrorKind};

use super::{Does, Side, container, ended, launch, until_ready};

pub async fn a_network_is_shared_by_a_container_that_runs(side: impl Side) {
    let engine = side.engine();
    let pod = ContainerConfig {
        local_names: vec!["db".into()],
        ..container(&side, Does::Waits)
    };
    let member = |does| ContainerConfig {
        host_name: String::new(),
        network: NetworkAttachment::Shared {
            container: pod.name.clone(),
        },
        ..container(&side, does)
    };
    engine.create_container(&pod).await.unwrap();
    let early = member(Does::Exits(0));
    engine.create_container(&early).await.unwrap();
    let refused = engine.start(&early.name).await.unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::Refused(_)), "{refused:?}");
    engine.remove_container(&early.name).await.unwrap();
    let mut output = engine.attach(&pod.name, None).await.unwrap();
    engine.start(&pod.name).await.unwrap();
    until_ready(&mut output).await;
    let joined = member(Does::Exits(7));
    drop(launch(engine, &joined).await);
    assert_eq!(engine.wait(&joined.name).await.unwrap(), ended(7));
    engine.remove_container(&joined.name).await.unwrap();
    engine.stop(&pod.name, Duration::ZERO).await.unwrap();
    engine.remove_container(&pod.name).await.unwrap();
}
