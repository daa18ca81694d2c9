//! What is asked for of a task's services. Plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::model::{NanoCpus, TaskSpec};
use super::super::source::At;
use crate::engine::config::{Healthcheck, Mount, PullPolicy, Trusted, Ulimit};
use crate::id::{ImageRef, PathPattern, ServiceName};
use crate::secrets::SecretString;

/// What runs beside a task.
#[derive(Debug, Clone, Default)]
pub struct ServicesSpec {
    /// Each service.
    pub list: Vec<ServiceSpec>,
    /// The compose file that names them, where one does; [`super::super::read_files`] reads it.
    pub file: Option<ComposeFile>,
    /// What they tell the task by variables, where it says nothing else.
    pub exports: BTreeMap<String, SecretString>,
}

impl TaskSpec {
    /// Its variables, with those that its services tell it.
    pub fn variables(&self) -> BTreeMap<String, SecretString> {
        let mut variables = self.services.exports.clone();
        variables.extend(self.environment.clone());
        variables
    }
}

/// A project's compose file.
#[derive(Debug, Clone)]
pub struct ComposeFile {
    /// An absolute path.
    pub path: At<PathBuf>,
    /// The services of it that are meant, with those that they depend on; all where there is no list.
    pub only: Option<Vec<At<ServiceName>>>,
    /// Those that may have something of the host.
    pub trust: Vec<At<ServiceName>>,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// What the task calls it: its host name too.
    pub name: At<ServiceName>,
    /// Its image.
    pub image: At<ImageRef>,
    /// When that is pulled.
    pub pull_policy: Option<PullPolicy>,
    /// Replaces the image's ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD.
    pub command: Option<Vec<String>>,
    /// Its variables.
    pub environment: BTreeMap<String, SecretString>,
    /// Who it runs as, in the engine's words.
    pub user: Option<String>,
    /// Where it starts: an absolute path.
    pub working_dir: Option<String>,
    /// Whether its file system is read-only.
    pub read_only: bool,
    /// CPUs.
    pub cpus: Option<NanoCpus>,
    /// Memory, in bytes.
    pub mem_limit: Option<i64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
    /// `/dev/shm`, in bytes.
    pub shm_size: Option<i64>,
    /// Resource limits by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// File systems in memory: path inside → mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// When it is ready.
    pub healthcheck: Healthcheck,
    /// The ports that it listens on.
    pub ports: Vec<At<u16>>,
    /// What must be there before it.
    pub depends_on: Vec<DependsOn>,
    /// What it holds when a task begins.
    pub snapshot: Option<SnapshotSpec>,
    /// What it has of the host.
    pub trusted: Trusted,
    /// Its directories and files of the host, absolute.
    pub mounts: Vec<Mount>,
}

/// What a service holds when a task begins: made once, and every task has a copy-on-write branch of it.
#[derive(Debug, Clone)]
pub struct SnapshotSpec {
    /// What fills the service.
    pub script: String,
    /// The files of the base that it depends on; it is made anew when one of them changes.
    pub files: Vec<At<PathPattern>>,
}

/// A service that another one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependsOn {
    /// Which.
    pub service: At<ServiceName>,
    /// Whether it must be ready; else it is enough that it was started.
    pub ready: bool,
}
