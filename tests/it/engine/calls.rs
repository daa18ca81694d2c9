//! Every call of the Docker engine, to be made for its error.

use std::time::Duration;

use agent_run::engine::config::{CommitConfig, ExecConfig, ImageRequest, PullPolicy};
use agent_run::engine::docker::DockerEngine;
use agent_run::engine::{Engine, EngineError, Operation};

use super::answers::{config, network};
use super::volumes::volume;

/// Makes one call, for its error.
pub(super) async fn call(engine: &DockerEngine, operation: Operation) -> Result<(), EngineError> {
    let name = "agent-run-scripted";
    match operation {
        Operation::Info => engine.info().await.map(drop),
        Operation::EnsureImage => {
            let request = ImageRequest {
                reference: "acme/agent:1".parse().unwrap(),
                pull_policy: PullPolicy::Missing,
                build: None,
            };
            engine.ensure_image(&request).await.map(drop)
        }
        Operation::CreateNetwork => engine.create_network(&network()).await,
        Operation::CreateContainer => engine.create_container(&config()).await,
        Operation::Attach => engine.attach(name, None).await.map(drop),
        Operation::Logs => engine.logs(name, true).await.map(drop),
        Operation::Start => engine.start(name).await,
        Operation::Published => engine.published(name).await.map(drop),
        Operation::Wait => engine.wait(name).await.map(drop),
        Operation::Usage => engine.usage(name).await.map(drop),
        Operation::DiskUse => engine.disk_use(name).await.map(drop),
        Operation::VolumeContents => engine.volume_contents(name).await.map(drop),
        Operation::Exec => {
            let command = ExecConfig {
                command: vec!["true".into()],
                environment: Vec::new(),
                working_dir: "/".into(),
                terminal: None,
            };
            engine.exec(name, &command).await.map(drop)
        }
        Operation::Stop => engine.stop(name, Duration::from_millis(1500)).await,
        Operation::RemoveContainer => engine.remove_container(name).await,
        Operation::RemoveNetwork => engine.remove_network(name).await,
        Operation::CreateVolume => engine.create_volume(&volume("/srv")).await,
        Operation::RemoveVolume => engine.remove_volume(name).await,
        Operation::Commit => {
            let image = CommitConfig {
                reference: "acme/prepared".parse().unwrap(),
                labels: Vec::new(),
            };
            engine.commit(name, &image).await.map(drop)
        }
        Operation::ListImages => engine.list_images().await.map(drop),
        Operation::RemoveImage => engine.remove_image(name).await,
        Operation::ListOwned => engine.list_owned().await.map(drop),
        Operation::Connect => unreachable!("it is connected"),
    }
}

pub(super) const CALLS: [Operation; 21] = [
    Operation::Info,
    Operation::EnsureImage,
    Operation::CreateNetwork,
    Operation::CreateContainer,
    Operation::Attach,
    Operation::Start,
    Operation::Published,
    Operation::Wait,
    Operation::Usage,
    Operation::DiskUse,
    Operation::VolumeContents,
    Operation::Exec,
    Operation::Stop,
    Operation::RemoveContainer,
    Operation::RemoveNetwork,
    Operation::CreateVolume,
    Operation::RemoveVolume,
    Operation::Commit,
    Operation::ListImages,
    Operation::RemoveImage,
    Operation::ListOwned,
];
