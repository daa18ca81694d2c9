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

mod engine;
mod exec;
mod images;
mod objections;
mod process;
mod script;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use agent_run::engine::config::{ContainerConfig, NetworkConfig, VolumeConfig};
use agent_run::engine::{
    EngineError, EngineInfo, ErrorKind, Exit, ImageInfo, Operation, OwnImage, OwnedObject,
};
use agent_run::id::label;
use tokio::sync::{Notify, watch};

use exec::Exec;
use process::Process;
pub use script::{Fault, Script, host_path};

/// An engine in memory. Clones are handles of the same one.
#[derive(Clone)]
pub struct FakeEngine(Arc<Mutex<State>>);

struct State {
    info: EngineInfo,
    images: HashMap<String, ImageInfo>,
    own_images: Vec<OwnImage>,
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
    /// Names whose removal went wrong: they are still taken.
    not_removed: BTreeSet<String>,
    commands: HashMap<Vec<String>, Script>,
    /// How often somebody asked what is in the volumes of a container.
    volumes_asked: BTreeMap<String, u32>,
    execs: BTreeMap<String, Exec>,
    calls: Vec<(Operation, String)>,
    cut: Option<Cut>,
    planned: Option<(Nth, Fault)>,
}

/// A call, and which of those that are the same, from 1.
pub type Nth = ((Operation, String), usize);

/// A call after which its caller is killed.
struct Cut {
    /// Its number among all calls, from 1.
    at: usize,
    /// Whether it is carried out.
    is_done: bool,
    reached: Arc<Notify>,
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
    /// Do it, then say that it failed.
    DoThenSay(ErrorKind),
    /// Do it, say so to nobody but the test, and give no answer.
    DoThenHang(Arc<Notify>),
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
                runtimes: vec!["other".into(), "runc".into(), "runsc".into()],
                cgroup_version: None,
                keeps_containers: false,
                data_directory: None,
                components: Vec::new(),
            },
            images: HashMap::new(),
            own_images: Vec::new(),
            scripts: HashMap::new(),
            faults: HashMap::new(),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            unmountable: None,
            subjects: HashMap::new(),
            never_made: BTreeSet::new(),
            not_removed: BTreeSet::new(),
            commands: HashMap::new(),
            volumes_asked: BTreeMap::new(),
            execs: BTreeMap::new(),
            calls: Vec::new(),
            cut: None,
            planned: None,
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

    /// Says when that many calls, from 1, were made, and gives no answer to the last of them;
    /// `is_done` where it is carried out.
    pub fn cut_at(&self, number: usize, is_done: bool) -> Arc<Notify> {
        let reached = Arc::new(Notify::new());
        self.state().cut = Some(Cut {
            at: number,
            is_done,
            reached: reached.clone(),
        });
        reached
    }

    /// Says when this call is made, and gives no answer to it; it is not carried out.
    pub fn cut_before(&self, call: (Operation, String)) -> Arc<Notify> {
        let reached = Arc::new(Notify::new());
        self.fault_at((call, 1), Fault::Tell(reached.clone()));
        reached
    }

    /// What it lists as agent-run's own.
    pub fn owned(&self) -> Vec<OwnedObject> {
        self.state().owned()
    }

    /// Makes exactly this call go wrong.
    pub fn fault_at(&self, call: Nth, fault: Fault) {
        self.state().planned = Some((call, fault));
    }

    /// Whether the call that was to go wrong was made.
    pub fn went_wrong(&self) -> bool {
        self.state().planned.is_none()
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
        let (fault, cut) = {
            let state = &mut *self.state();
            let call = (operation, name.to_owned());
            state.calls.push(call.clone());
            let calls = &state.calls;
            let cut = state.cut.take_if(|cut| cut.at == calls.len());
            let nth = || calls.iter().filter(|other| **other == call).count();
            let planned = state
                .planned
                .take_if(|((wanted, at), _)| *wanted == call && *at == nth());
            let fault = planned.map(|(_, fault)| fault);
            (fault.or_else(|| state.take_fault(operation, name)), cut)
        };
        if let Some(cut) = cut {
            if cut.is_done {
                return Ok(Verdict::DoThenHang(cut.reached));
            }
            cut.reached.notify_one();
            return std::future::pending().await;
        }
        if fault.is_some() && operation == Operation::RemoveContainer {
            self.state().not_removed.insert(name.to_owned());
        }
        match fault {
            None => Ok(Verdict::Real),
            Some(Fault::Fail(kind)) => Err(failed(operation, name, kind)),
            Some(Fault::Slow(after)) => {
                tokio::time::sleep(after).await;
                Ok(Verdict::Real)
            }
            Some(Fault::DoneBut(kind)) => Ok(Verdict::DoThenSay(kind)),
            Some(Fault::Lie) => Ok(Verdict::Lie),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Tell(reached)) => {
                reached.notify_one();
                std::future::pending().await
            }
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
