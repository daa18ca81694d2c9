//! The calls of the fake engine: what an honest engine does, and what a fault leaves of it.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use agent_run::engine::config::{
    CommitConfig, ContainerConfig, ExecConfig, ImageRequest, NetworkAttachment, NetworkConfig,
    Publish, TerminalSize, VolumeConfig,
};
use agent_run::engine::{
    ContainerUsage, Engine, EngineError, EngineInfo, ErrorKind, ExecSession, Exit, ImageInfo,
    Operation, OutputStream, OwnImage, OwnedObject, PublishedAt,
};
use agent_run::secrets::SecretBytes;
use futures::StreamExt;

use super::objections::overlap;
use super::process::{Process, Signal};
use super::{Container, FakeEngine, Phase, Script, Verdict, failed};

/// The answer of a call that was carried out.
pub(super) async fn answer(
    verdict: &Verdict,
    operation: Operation,
    name: &str,
) -> Result<(), EngineError> {
    match verdict {
        Verdict::DoThenSay(kind) => Err(failed(operation, name, kind.clone())),
        Verdict::DoThenHang(reached) => {
            reached.notify_one();
            std::future::pending().await
        }
        Verdict::Real | Verdict::Lie => Ok(()),
    }
}

impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.enter(Operation::Info, "*").await?;
        Ok(self.state().info.clone())
    }

    async fn ensure_image(&self, request: &ImageRequest) -> Result<ImageInfo, EngineError> {
        self.find_image(request).await
    }

    async fn create_network(&self, config: &NetworkConfig) -> Result<(), EngineError> {
        const OP: Operation = Operation::CreateNetwork;
        self.state().learn(&config.name, &config.labels);
        let verdict = self.enter(OP, &config.name).await?;
        if !matches!(verdict, Verdict::Lie) {
            let mut state = self.state();
            if state.networks.contains_key(&config.name) {
                return Err(failed(OP, &config.name, ErrorKind::NameInUse));
            }
            if state.networks.values().any(|other| overlap(other, config)) {
                return Err(failed(OP, &config.name, ErrorKind::AddressInUse));
            }
            state.networks.insert(config.name.clone(), config.clone());
        }
        answer(&verdict, OP, &config.name).await
    }

    async fn create_volume(&self, config: &VolumeConfig) -> Result<(), EngineError> {
        const OP: Operation = Operation::CreateVolume;
        self.state().learn(&config.name, &config.labels);
        let verdict = self.enter(OP, &config.name).await?;
        if !matches!(verdict, Verdict::Lie) {
            let mut state = self.state();
            let found = state.volumes.entry(config.name.clone());
            if found.or_insert_with(|| config.clone()) != config {
                return Err(failed(OP, &config.name, ErrorKind::NameInUse));
            }
        }
        answer(&verdict, OP, &config.name).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<(), EngineError> {
        const OP: Operation = Operation::CreateContainer;
        let name = &config.name;
        {
            let mut state = self.state();
            let is_there = state.containers.contains_key(name);
            if is_there && state.not_removed.contains(name) {
                return Err(failed(OP, name, ErrorKind::NameInUse));
            }
            assert!(!is_there, "second create of {name}");
            state.learn(name, &config.labels);
            state.never_made.insert(name.clone());
        }
        let verdict = self.enter(OP, name).await?;
        let missing = config.mounts.iter().find(|mount| !mount.source.exists());
        if let Some(mount) = missing {
            let words = format!(
                "bind source path does not exist: {}",
                mount.source.display()
            );
            return Err(failed(OP, name, ErrorKind::Refused(words)));
        }
        let volumes = config.volumes.iter();
        let gone = |name: &&String| !self.state().volumes.contains_key(*name);
        if let Some(volume) = volumes.map(|mount| &mount.volume).find(gone) {
            let words = format!("volume {volume} has gone");
            return Err(failed(OP, name, ErrorKind::Refused(words)));
        }
        if !matches!(verdict, Verdict::Lie) {
            let (process, running) = Process::new();
            let container = Container {
                config: config.clone(),
                process,
                running,
                phase: Phase::Created,
            };
            self.state().containers.insert(name.clone(), container);
        }
        answer(&verdict, OP, name).await
    }

    async fn attach(
        &self,
        container: &str,
        input: Option<SecretBytes>,
    ) -> Result<OutputStream, EngineError> {
        const OP: Operation = Operation::Attach;
        let verdict = self.enter(OP, container).await?;
        let output = {
            let mut state = self.state();
            let found = state.container(OP, container)?;
            assert!(
                found.phase == Phase::Created,
                "attach to {container} after its start"
            );
            let open = found.config.open_stdin;
            assert!(
                open || input.is_none(),
                "input for {container}, whose stdin is closed"
            );
            let input = input.as_ref().map(SecretBytes::expose);
            found.process.attach(input)
        };
        answer(&verdict, OP, container).await?;
        match verdict {
            Verdict::Lie => Ok(futures::stream::empty().boxed()),
            _ => Ok(output),
        }
    }

    async fn logs(&self, container: &str, follow: bool) -> Result<OutputStream, EngineError> {
        const OP: Operation = Operation::Logs;
        let verdict = self.enter(OP, container).await?;
        let output = self.state().container(OP, container)?.process.logs(follow);
        answer(&verdict, OP, container).await?;
        match verdict {
            Verdict::Lie => Ok(futures::stream::empty().boxed()),
            _ => Ok(output),
        }
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        const OP: Operation = Operation::Start;
        {
            // A start that fails or never answers leaves a container that may be waited for.
            let mut state = self.state();
            let found = state.containers.get_mut(container);
            if let Some(found) = found {
                assert!(found.phase == Phase::Created, "second start of {container}");
                found.phase = Phase::StartFailed;
            }
        }
        let verdict = self.enter(OP, container).await?;
        let (config, script, process) = {
            let mut state = self.state();
            let config = state.container(OP, container)?.config.clone();
            let joins = state.joins(&config);
            joins.map_err(|kind| failed(OP, container, kind))?;
            let script = match verdict {
                Verdict::Lie => Script::runs_forever(),
                _ => state.script_of(container),
            };
            let found = state.container(OP, container)?;
            found.phase = Phase::Started;
            (config, script, found.process.take())
        };
        process.start(config, script);
        answer(&verdict, OP, container).await
    }

    async fn published(&self, container: &str) -> Result<Vec<PublishedAt>, EngineError> {
        const OP: Operation = Operation::Published;
        let verdict = self.enter(OP, container).await?;
        answer(&verdict, OP, container).await?;
        let mut state = self.state();
        let publish = state.container(OP, container)?.config.publish.clone();
        let place = |port: &Publish| PublishedAt {
            port: port.port,
            at: SocketAddrV4::new(port.address, 40_000 + port.port % 10_000),
        };
        match verdict {
            Verdict::Lie => Ok(Vec::new()),
            _ => Ok(publish.iter().map(place).collect()),
        }
    }

    async fn wait(&self, container: &str) -> Result<Exit, EngineError> {
        const OP: Operation = Operation::Wait;
        let verdict = self.enter(OP, container).await?;
        let mut running = {
            let mut state = self.state();
            let found = state.container(OP, container)?;
            assert!(
                found.phase != Phase::Created,
                "wait for {container} before its start"
            );
            if found.phase == Phase::StartFailed {
                let words = "it may never have started".to_owned();
                return Err(failed(OP, container, ErrorKind::Broken(words)));
            }
            found.running.clone()
        };
        if matches!(verdict, Verdict::Lie) {
            return Ok(Exit {
                code: 0,
                oom_killed: false,
            });
        }
        let exit = running.wait_for(Option::is_some).await;
        let exit = exit
            .expect("a process ends with an exit")
            .expect("it has one");
        answer(&verdict, OP, container).await?;
        Ok(exit)
    }

    async fn usage(&self, container: &str) -> Result<Option<ContainerUsage>, EngineError> {
        const OP: Operation = Operation::Usage;
        let verdict = self.enter(OP, container).await?;
        answer(&verdict, OP, container).await?;
        let mut state = self.state();
        let found = state.container(OP, container)?;
        let runs = found.phase == Phase::Started && found.running.borrow().is_none();
        if !runs || matches!(verdict, Verdict::Lie) {
            return Ok(None);
        }
        Ok(Some(state.script_of(container).uses))
    }

    async fn disk_use(&self, container: &str) -> Result<Option<u64>, EngineError> {
        const OP: Operation = Operation::DiskUse;
        let verdict = self.enter(OP, container).await?;
        answer(&verdict, OP, container).await?;
        let mut state = self.state();
        let was_started = state.container(OP, container)?.phase == Phase::Started;
        match verdict {
            Verdict::Lie => Ok(None),
            _ if !was_started => Ok(Some(0)),
            _ => Ok(Some(state.script_of(container).writes_bytes)),
        }
    }

    async fn volume_contents(
        &self,
        container: &str,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        const OP: Operation = Operation::VolumeContents;
        let verdict = self.enter(OP, container).await?;
        answer(&verdict, OP, container).await?;
        let mut state = self.state();
        state.container(OP, container)?;
        let asked = state.volumes_asked.entry(container.to_owned()).or_default();
        *asked += 1;
        let asked = *asked;
        let volume = state.script_of(container).writes_in_volume.clone();
        let print = |path| (path, asked.to_string());
        Ok(volume.map(print).into_iter().collect())
    }

    async fn exec(&self, container: &str, config: &ExecConfig) -> Result<ExecSession, EngineError> {
        self.start_exec(container, config).await
    }

    async fn resize_exec(&self, exec: &str, size: TerminalSize) -> Result<(), EngineError> {
        self.resize(exec, size).await
    }

    async fn exec_exit(&self, exec: &str) -> Result<i64, EngineError> {
        self.exit_of(exec).await
    }

    async fn stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        const OP: Operation = Operation::Stop;
        let verdict = self.enter(OP, container).await?;
        let target = {
            let state = self.state();
            let found = state.containers.get(container);
            found
                .filter(|found| found.phase == Phase::Started)
                .map(|found| (found.process.signals(), found.running.clone()))
        };
        if let (Some((signals, mut running)), false) = (target, matches!(verdict, Verdict::Lie)) {
            signals.send_if_modified(|signal| signal.raise(Signal::Term));
            let ended = running.wait_for(Option::is_some);
            if tokio::time::timeout(grace, ended).await.is_err() {
                signals.send_if_modified(|signal| signal.raise(Signal::Kill));
                drop(running.wait_for(Option::is_some).await);
            }
        }
        answer(&verdict, OP, container).await
    }

    async fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        const OP: Operation = Operation::RemoveContainer;
        let verdict = self.enter(OP, container).await?;
        if !matches!(verdict, Verdict::Lie) {
            let removed = self.state().containers.remove(container);
            if let Some(removed) = removed.filter(|removed| removed.phase == Phase::Started) {
                let signals = removed.process.signals();
                signals.send_if_modified(|signal| signal.raise(Signal::Kill));
                let mut running = removed.running;
                drop(running.wait_for(Option::is_some).await);
            }
            self.state().never_made.insert(container.to_owned());
        }
        answer(&verdict, OP, container).await
    }

    async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        const OP: Operation = Operation::RemoveNetwork;
        let verdict = self.enter(OP, network).await?;
        if !matches!(verdict, Verdict::Lie) {
            let mut state = self.state();
            let on_it = |container: &Container| matches!(&container.config.network, NetworkAttachment::Network { name, .. } if name == network);
            if state.running().any(on_it) {
                return Err(failed(OP, network, ErrorKind::InUse));
            }
            state.networks.remove(network);
        }
        answer(&verdict, OP, network).await
    }

    async fn remove_volume(&self, volume: &str) -> Result<(), EngineError> {
        const OP: Operation = Operation::RemoveVolume;
        let verdict = self.enter(OP, volume).await?;
        if !matches!(verdict, Verdict::Lie) {
            let mut state = self.state();
            let mut containers = state.containers.values();
            if containers.any(|c| c.config.volumes.iter().any(|mount| mount.volume == volume)) {
                return Err(failed(OP, volume, ErrorKind::InUse));
            }
            state.volumes.remove(volume);
        }
        answer(&verdict, OP, volume).await
    }

    async fn commit(
        &self,
        container: &str,
        config: &CommitConfig,
    ) -> Result<ImageInfo, EngineError> {
        self.make_image(container, config).await
    }

    async fn list_images(&self) -> Result<Vec<OwnImage>, EngineError> {
        self.images_of_ours().await
    }

    async fn remove_image(&self, image: &str) -> Result<(), EngineError> {
        self.drop_image(image).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedObject>, EngineError> {
        let verdict = self.enter(Operation::ListOwned, "*").await?;
        answer(&verdict, Operation::ListOwned, "*").await?;
        if matches!(verdict, Verdict::Lie) {
            return Ok(Vec::new());
        }
        Ok(self.state().owned())
    }
}
