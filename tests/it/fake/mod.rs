//! A scripted engine for the loop tests: an [`Engine`] in memory, on tokio's clock, and strict.
//!
//! How to use it (the clock may be paused; nothing here waits for real time):
//!
//! ```ignore
//! let engine = FakeEngine::new();                       // clones share one engine
//! engine.script("task/fix-login", Script::exits(0).after(minutes(2)).prints("done\n")
//!     .on_exit(|container| write_bundle(host_path(container, "/agent/out"))));
//! engine.fault("task/fix-login", Operation::Stop, Fault::Fail(ErrorKind::Timeout));
//! /* run the thing under test with `engine.clone()` */
//! engine.assert_no_leaks();
//! ```
//!
//! A *subject* names what a script or fault is for: a container's, network's or volume's name, else
//! `role/task` from its labels (`task/a`, `collector/a`), else its role (`probe`, `network`), an
//! image's reference, else `*` for all. The most exact one counts. Scripts must be there before
//! `start`; a container without one panics there. Faults may be set at any time, for every call
//! ([`FakeEngine::fault`]) or the next one ([`FakeEngine::fault_once`]).
//!
//! Strict: a second create of a name, start before create, a second start, attach after start and
//! wait before start panic: no caller may do these. What a fault made untrue (a create that lied,
//! a start that failed) answers with an error instead.

mod exec;
mod objections;
mod process;
mod script;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent_run::engine::config::{
    ContainerConfig, ExecConfig, ImageRequest, NetworkAttachment, NetworkConfig, PullPolicy,
    TerminalSize, VolumeConfig,
};
use agent_run::engine::{
    ContainerUsage, Engine, EngineError, EngineInfo, ErrorKind, ExecSession, Exit, ImageInfo,
    Operation, OutputStream, OwnedObject,
};
use agent_run::id::label;
use agent_run::secrets::SecretBytes;
use futures::StreamExt;
use tokio::sync::watch;

use exec::Exec;
use objections::overlap;
use process::{Process, Signal};
pub use script::{Fault, Script, host_path};

/// An engine in memory. Clones are handles of the same one.
#[derive(Clone)]
pub struct FakeEngine(Arc<Mutex<State>>);

struct State {
    info: EngineInfo,
    images: HashMap<String, ImageInfo>,
    scripts: HashMap<String, Script>,
    faults: HashMap<(String, Operation), (Fault, bool)>,
    containers: BTreeMap<String, Container>,
    networks: BTreeMap<String, NetworkConfig>,
    volumes: BTreeMap<String, VolumeConfig>,
    unmountable: Option<String>,
    /// The subjects of everything that was ever asked for, by name.
    subjects: HashMap<String, Vec<String>>,
    /// Names whose creation failed or lied: later calls answer "not found" instead of panicking.
    never_made: BTreeSet<String>,
    commands: HashMap<Vec<String>, Script>,
    execs: BTreeMap<String, Exec>,
    calls: Vec<(Operation, String)>,
}

struct Container {
    config: ContainerConfig,
    process: Process,
    running: watch::Receiver<Option<Exit>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Started,
    /// Its start failed or hung: nobody knows whether it runs.
    StartFailed,
}

/// What a fault leaves of a call.
enum Verdict {
    Real,
    /// Do it, then give no answer.
    DoThenTimeout,
    /// Say it is done.
    Lie,
}

impl FakeEngine {
    /// An engine with 4 CPUs, 16 GiB, every limit, and no image that must be pulled.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            info: EngineInfo {
                id: Some("fake".into()),
                endpoint: "fake".into(),
                remote: false,
                version: "0".into(),
                api_version: "1.41".into(),
                cpus: 4,
                memory: 16 << 30,
                rootless: false,
                userns_root: None,
                missing_limits: Vec::new(),
                cgroup_version: None,
                data_directory: None,
                components: Vec::new(),
            },
            images: HashMap::new(),
            scripts: HashMap::new(),
            faults: HashMap::new(),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            unmountable: None,
            subjects: HashMap::new(),
            never_made: BTreeSet::new(),
            commands: HashMap::new(),
            execs: BTreeMap::new(),
            calls: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes what the engine says of itself.
    pub fn set_info(&self, change: impl FnOnce(&mut EngineInfo)) {
        change(&mut self.state().info);
    }

    /// Sets what an image holds; images that were not set are found with an id of their own.
    pub fn set_image(&self, reference: &str, image: ImageInfo) {
        self.state().images.insert(reference.to_owned(), image);
    }

    /// Sets what the containers of a subject do.
    pub fn script(&self, subject: &str, script: Script) {
        self.state().scripts.insert(subject.to_owned(), script);
    }

    /// Makes every such call go wrong.
    pub fn fault(&self, subject: &str, operation: Operation, fault: Fault) {
        let key = (subject.to_owned(), operation);
        self.state().faults.insert(key, (fault, false));
    }

    /// Makes the next such call go wrong.
    pub fn fault_once(&self, subject: &str, operation: Operation, fault: Fault) {
        let key = (subject.to_owned(), operation);
        self.state().faults.insert(key, (fault, true));
    }

    /// Every call so far, with the name it was for.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.state().calls.clone()
    }

    /// The configurations of the containers that exist now.
    pub fn containers(&self) -> Vec<ContainerConfig> {
        let state = self.state();
        state
            .containers
            .values()
            .map(|c| c.config.clone())
            .collect()
    }

    /// Panics, naming them, if a container, network or volume is left.
    pub fn assert_no_leaks(&self) {
        let state = self.state();
        let containers: Vec<_> = state.containers.keys().collect();
        let networks: Vec<_> = state.networks.keys().collect();
        let volumes: Vec<_> = state.volumes.keys().collect();
        assert!(
            containers.is_empty() && networks.is_empty() && volumes.is_empty(),
            "left on the engine: containers {containers:?}, networks {networks:?}, volumes {volumes:?}"
        );
    }

    /// Notes a call and applies the fault that is set for it.
    async fn enter(&self, operation: Operation, name: &str) -> Result<Verdict, EngineError> {
        let fault = {
            let mut state = self.state();
            state.calls.push((operation, name.to_owned()));
            state.take_fault(operation, name)
        };
        match fault {
            None => Ok(Verdict::Real),
            Some(Fault::Fail(kind)) => Err(failed(operation, name, kind)),
            Some(Fault::Slow(after)) => {
                tokio::time::sleep(after).await;
                Ok(Verdict::Real)
            }
            Some(Fault::DoneButTimeout) => Ok(Verdict::DoThenTimeout),
            Some(Fault::Lie) => Ok(Verdict::Lie),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

impl State {
    fn learn(&mut self, name: &str, labels: &[(String, String)]) {
        let value = |key| {
            labels
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let mut subjects = vec![name.to_owned()];
        if let Some(role) = value(label::ROLE) {
            if let Some(task) = value(label::TASK) {
                subjects.push(format!("{role}/{task}"));
            }
            subjects.push(role.to_owned());
        }
        subjects.push("*".to_owned());
        self.subjects.insert(name.to_owned(), subjects);
    }

    fn subjects_of(&self, name: &str) -> Vec<String> {
        let known = self.subjects.get(name).cloned();
        known.unwrap_or_else(|| vec![name.to_owned(), "*".to_owned()])
    }

    fn take_fault(&mut self, operation: Operation, name: &str) -> Option<Fault> {
        let keys = self
            .subjects_of(name)
            .into_iter()
            .map(|subject| (subject, operation));
        let key = keys.into_iter().find(|key| self.faults.contains_key(key))?;
        let (fault, once) = self.faults[&key].clone();
        if once {
            self.faults.remove(&key);
        }
        Some(fault)
    }

    fn script_of(&self, name: &str) -> Script {
        let subjects = self.subjects_of(name);
        let script = subjects
            .iter()
            .find_map(|subject| self.scripts.get(subject));
        script
            .cloned()
            .unwrap_or_else(|| panic!("no script for {subjects:?}"))
    }

    /// The container, or the error that an honest engine gives, or a panic where only a caller's
    /// mistake explains that it is not there.
    fn container(
        &mut self,
        operation: Operation,
        name: &str,
    ) -> Result<&mut Container, EngineError> {
        if self.never_made.contains(name) && !self.containers.contains_key(name) {
            return Err(failed(operation, name, ErrorKind::NotFound));
        }
        let container = self.containers.get_mut(name);
        Ok(container.unwrap_or_else(|| panic!("{operation} {name}, which was never created")))
    }

    fn running(&self) -> impl Iterator<Item = &Container> {
        let all = self.containers.values();
        all.filter(|c| c.phase == Phase::Started && c.running.borrow().is_none())
    }
}

fn failed(operation: Operation, subject: &str, kind: ErrorKind) -> EngineError {
    EngineError {
        operation,
        subject: subject.to_owned(),
        kind,
        source: None,
    }
}

/// The answer of a call that was carried out.
fn answer(verdict: &Verdict, operation: Operation, name: &str) -> Result<(), EngineError> {
    match verdict {
        Verdict::DoThenTimeout => Err(failed(operation, name, ErrorKind::Timeout)),
        Verdict::Real | Verdict::Lie => Ok(()),
    }
}

impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.enter(Operation::Info, "*").await?;
        Ok(self.state().info.clone())
    }

    async fn ensure_image(&self, request: &ImageRequest) -> Result<ImageInfo, EngineError> {
        let reference = request.reference.as_str();
        let verdict = self.enter(Operation::EnsureImage, reference).await?;
        answer(&verdict, Operation::EnsureImage, reference)?;
        let known = self.state().images.get(reference).cloned();
        match known {
            Some(image) => Ok(image),
            None if request.pull_policy == PullPolicy::Never => {
                let kind = ErrorKind::ImageUnavailable("it is not on the engine".into());
                Err(failed(Operation::EnsureImage, reference, kind))
            }
            None => Ok(ImageInfo {
                id: format!(
                    "sha256:{}",
                    agent_run::id::hex_hash(reference.as_bytes(), 64)
                ),
                digests: Vec::new(),
                entrypoint: Vec::new(),
                command: vec!["sh".into()],
            }),
        }
    }

    async fn create_network(&self, config: &NetworkConfig) -> Result<(), EngineError> {
        const OP: Operation = Operation::CreateNetwork;
        self.state().learn(&config.name, &config.labels);
        let verdict = self.enter(OP, &config.name).await?;
        let mut state = self.state();
        if !matches!(verdict, Verdict::Lie) {
            if state.networks.contains_key(&config.name) {
                return Err(failed(OP, &config.name, ErrorKind::NameInUse));
            }
            if state.networks.values().any(|other| overlap(other, config)) {
                return Err(failed(OP, &config.name, ErrorKind::AddressInUse));
            }
            state.networks.insert(config.name.clone(), config.clone());
        }
        answer(&verdict, OP, &config.name)
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
        answer(&verdict, OP, &config.name)
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<(), EngineError> {
        const OP: Operation = Operation::CreateContainer;
        let name = &config.name;
        {
            let mut state = self.state();
            assert!(
                !state.containers.contains_key(name),
                "second create of {name}"
            );
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
        answer(&verdict, OP, name)
    }

    async fn attach(
        &self,
        container: &str,
        input: Option<SecretBytes>,
    ) -> Result<OutputStream, EngineError> {
        const OP: Operation = Operation::Attach;
        let verdict = self.enter(OP, container).await?;
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
        answer(&verdict, OP, container)?;
        let output = found
            .process
            .attach(input.as_ref().map(SecretBytes::expose));
        match verdict {
            Verdict::Lie => Ok(futures::stream::empty().boxed()),
            _ => Ok(output),
        }
    }

    async fn logs(&self, container: &str) -> Result<OutputStream, EngineError> {
        self.output_of(container).await
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
        answer(&verdict, OP, container)
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
        answer(&verdict, OP, container)?;
        Ok(exit)
    }

    async fn usage(&self, container: &str) -> Result<Option<ContainerUsage>, EngineError> {
        const OP: Operation = Operation::Usage;
        let verdict = self.enter(OP, container).await?;
        answer(&verdict, OP, container)?;
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
        answer(&verdict, OP, container)?;
        let mut state = self.state();
        let was_started = state.container(OP, container)?.phase == Phase::Started;
        match verdict {
            Verdict::Lie => Ok(None),
            _ if !was_started => Ok(Some(0)),
            _ => Ok(Some(state.script_of(container).writes_bytes)),
        }
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
        answer(&verdict, OP, container)
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
        answer(&verdict, OP, container)
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
        answer(&verdict, OP, network)
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
        answer(&verdict, OP, volume)
    }

    async fn list_owned(&self) -> Result<Vec<OwnedObject>, EngineError> {
        let verdict = self.enter(Operation::ListOwned, "*").await?;
        answer(&verdict, Operation::ListOwned, "*")?;
        if matches!(verdict, Verdict::Lie) {
            return Ok(Vec::new());
        }
        Ok(self.state().owned())
    }
}
