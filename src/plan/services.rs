//! What a task's services come to in a plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{TaskPlan, names_only, names_without_values};
use crate::engine::config::{BuildConfig, Healthcheck, ImageRequest, Limits, Mount, Trusted};
use crate::id::{Area, ImageRef, PathPattern, ServiceName, TaskId};
use crate::secrets::SecretString;
use crate::spec::{At, Diagnostic, Diagnostics, NanoCpus, RunSpec, ServiceSpec, TaskSpec};

const BILLION: i64 = 1_000_000_000;
const DEFAULT_MEMORY: i64 = 512 << 20;
const DEFAULT_PIDS: i64 = 512;
const DEFAULT_SHM: i64 = 64 << 20;

/// What the container may use that has the network of a task with services, in bytes of memory.
pub const POD_MEMORY: i64 = 16 << 20;

/// A service of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// What the task calls it.
    pub name: ServiceName,
    /// Its image.
    pub image: ImageRequest,
    /// What that was when it was last looked at: a digest where it has one, else an id.
    pub pinned_image: Option<ImageRef>,
    /// Replaces the image's ENTRYPOINT, if given.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD, if given.
    pub command: Option<Vec<String>>,
    /// Its variables; only their names are serialised.
    #[serde(
        serialize_with = "names_only",
        deserialize_with = "names_without_values"
    )]
    pub environment: BTreeMap<String, SecretString>,
    /// Who it runs as; the image's user if nothing is said.
    pub user: Option<String>,
    /// Where it starts; where the image says if nothing is said.
    pub working_dir: Option<String>,
    /// Whether its file system is read-only.
    pub read_only: bool,
    /// Its limits.
    pub limits: Limits,
    /// When it is ready.
    pub healthcheck: Healthcheck,
    /// The ports that it listens on, where somebody says.
    pub ports: Vec<u16>,
    /// The services that come before it.
    pub depends_on: Vec<Dependency>,
    /// What it holds when a task begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotPlan>,
    /// What it has of the host, which nothing has that is not trusted.
    #[serde(default, skip_serializing_if = "is_none")]
    pub trusted: Trusted,
    /// Its directories and files of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

fn is_none(trusted: &Trusted) -> bool {
    *trusted == Trusted::default()
}

impl ServicePlan {
    /// What it has of the host, in the words of compose-spec; nothing where it has nothing.
    pub fn of_the_host(&self) -> Vec<String> {
        let Trusted {
            privileged,
            cap_add,
            devices,
            host_pid,
        } = &self.trusted;
        let mut all = Vec::new();
        all.extend(privileged.then(|| "privileged".to_owned()));
        all.extend(host_pid.then(|| "pid: host".to_owned()));
        all.extend(cap_add.iter().chain(devices).cloned());
        let mounts = self.mounts.iter();
        all.extend(mounts.map(|mount| mount.source.display().to_string()));
        all
    }
}

/// What fills a service once, so that every task has a copy-on-write branch of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    /// Its script.
    pub script: String,
    /// The files of the base that it depends on.
    pub files: Vec<PathPattern>,
}

/// A service that comes before another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub service: ServiceName,
    /// Whether it must be ready; else it is enough that it was started.
    pub ready: bool,
}

impl TaskPlan {
    /// Whether its network is that of another container, which its services share and which publishes its
    /// ports.
    pub fn has_pod(&self) -> bool {
        !self.services.is_empty() || !self.ports.is_empty()
    }

    /// The memory that its containers may use at the same time, in bytes.
    pub fn memory(&self) -> i64 {
        let pod = if self.has_pod() { POD_MEMORY } else { 0 };
        let all = self.services.iter().map(|service| service.limits.memory);
        let all = all.chain([self.limits.memory, pod]);
        all.fold(0, i64::saturating_add)
    }

    /// Whether it or a service of it has variables, whose values no plan holds.
    pub fn has_variables(&self) -> bool {
        let mut services = self.services.iter();
        !self.environment.is_empty() || services.any(|service| !service.environment.is_empty())
    }
}

/// The memory that the services of a task may use beside it, in bytes.
pub(super) fn memory_beside(task: &TaskSpec) -> i64 {
    let services = task.services.list.iter();
    let all = services.map(|service| service.mem_limit.unwrap_or(DEFAULT_MEMORY));
    let has_pod = !task.services.list.is_empty() || !task.ports.is_empty();
    all.fold(if has_pod { POD_MEMORY } else { 0 }, i64::saturating_add)
}

/// The services of a task, on an engine with so many CPUs.
pub(super) fn services(task: &TaskSpec, cpus: usize) -> Vec<ServicePlan> {
    let services = task.services.list.iter();
    services.map(|spec| service(spec, cpus)).collect()
}

fn service(spec: &ServiceSpec, cpus: usize) -> ServicePlan {
    let most = i64::try_from(cpus)
        .unwrap_or(i64::MAX)
        .saturating_mul(BILLION);
    let memory = spec.mem_limit.unwrap_or(DEFAULT_MEMORY);
    ServicePlan {
        name: spec.name.value.clone(),
        image: ImageRequest {
            reference: spec.image.value.clone(),
            pull_policy: spec.pull_policy.unwrap_or_default(),
            build: (spec.image.value == ImageRef::mail()).then_some(BuildConfig::EmbeddedMail),
        },
        pinned_image: None,
        entrypoint: spec.entrypoint.clone(),
        command: spec.command.clone(),
        environment: spec.environment.clone(),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        read_only: spec.read_only,
        limits: Limits {
            // Fewer slow it down, which is no reason to refuse it.
            nano_cpus: spec.cpus.map_or(BILLION, |NanoCpus(nanos)| nanos).min(most),
            memory,
            memory_swap: memory,
            pids: spec.pids_limit.unwrap_or(DEFAULT_PIDS),
            shm_size: spec.shm_size.unwrap_or(DEFAULT_SHM),
            ulimits: spec.ulimits.clone(),
            tmpfs: spec.tmpfs.clone(),
        },
        healthcheck: spec.healthcheck.clone(),
        ports: spec.ports.iter().map(|port| port.value).collect(),
        depends_on: spec
            .depends_on
            .iter()
            .map(|on| Dependency {
                service: on.service.value.clone(),
                ready: on.ready,
            })
            .collect(),
        snapshot: spec.snapshot.as_ref().map(|snapshot| SnapshotPlan {
            script: snapshot.script.clone(),
            files: snapshot.files.iter().map(|at| at.value.clone()).collect(),
        }),
        trusted: spec.trusted.clone(),
        mounts: spec.mounts.clone(),
    }
}

/// What people should know of services that have something of the host, each a sentence.
pub(super) fn warnings(task: &TaskPlan) -> impl Iterator<Item = String> {
    task.services.iter().filter_map(|service| {
        let has = service.of_the_host();
        let (name, task) = (&service.name, &task.id);
        let has = (!has.is_empty()).then(|| has.join(", "))?;
        Some(format!(
            "service `{name}` of task `{task}` is trusted with {has}: what reaches it may reach this machine"
        ))
    })
}

/// The patterns of files that the snapshots of these tasks, and of all that they need, depend on.
fn files_of_snapshots<'a>(
    spec: &'a RunSpec,
    select: &[TaskId],
) -> impl Iterator<Item = &'a At<PathPattern>> {
    let tasks = super::setup::selected(spec, select);
    let services = tasks.flat_map(|task| &task.services.list);
    let snapshots = services.filter_map(|service| service.snapshot.as_ref());
    snapshots.flat_map(|snapshot| &snapshot.files)
}

/// Whether [`check_snapshots`] needs to know the files of the base.
pub fn has_snapshots(spec: &RunSpec, select: &[TaskId]) -> bool {
    files_of_snapshots(spec, select).next().is_some()
}

/// Checks the snapshots of a spec against the paths of all files of the base.
///
/// # Errors
/// Each pattern that no file matches.
pub fn check_snapshots<'a>(
    spec: &RunSpec,
    select: &[TaskId],
    paths: &(impl Iterator<Item = &'a str> + Clone),
) -> Result<(), Diagnostics> {
    let is_missing = |at: &&At<PathPattern>| {
        let area = Area::of(std::slice::from_ref(&at.value));
        !paths.clone().any(|path| area.covers(path.as_bytes()))
    };
    let missing = files_of_snapshots(spec, select).filter(is_missing);
    let problems = missing.map(|at| {
        let title = format!(
            "the base has no file that matches `{}`, which `snapshot` depends on",
            at.value
        );
        Diagnostic::new(
            at.span,
            title,
            "commit what is meant, or take it out of `files`",
        )
    });
    Diagnostics::check(&spec.source, problems.collect())
}
