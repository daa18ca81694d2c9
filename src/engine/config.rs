//! What the engine is handed: containers, networks, volumes, images. Plain data, no I/O.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ImageRef;

/// A container to create.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerConfig {
    /// Its name, from [`crate::id`].
    pub name: String,
    /// Labels, fixed from creation.
    pub labels: Vec<(String, String)>,
    /// The image, by id or reference.
    pub image: String,
    /// Replaces the image's ENTRYPOINT; an empty list clears it.
    pub entrypoint: Vec<String>,
    /// Replaces the image's CMD.
    pub command: Vec<String>,
    /// `KEY=value`; values may be secret and never appear in errors.
    pub environment: Vec<(String, String)>,
    /// Absolute path inside; the image's where it is empty.
    pub working_dir: String,
    /// `uid:gid` inside; the image's user where it is empty.
    pub user: String,
    /// The host name inside; that of the other container where it shares a network.
    pub host_name: String,
    /// Further names of itself, beside `localhost`.
    pub local_names: Vec<String>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Volumes, mounted before what `mounts` has inside of them.
    pub volumes: Vec<VolumeMount>,
    /// Limits, set and then verified.
    pub limits: Limits,
    /// The capabilities that it keeps, by their names in capabilities(7) without `CAP_`.
    pub capabilities: &'static [&'static str],
    /// What it has of the host besides.
    pub trusted: Trusted,
    /// Whether the image's file system is read-only.
    pub read_only: bool,
    /// Its network.
    pub network: NetworkAttachment,
    /// Its ports that the engine publishes, each at a port of the host that is free.
    pub publish: Vec<Publish>,
    /// What runs it, one of [`super::EngineInfo::runtimes`]; the engine's default where nothing is said.
    pub runtime: Option<String>,
    /// The signal that asks it to end, such as `SIGINT`; TERM where nothing is said.
    pub stop_signal: Option<String>,
    /// How long the engine waits between the stop signal and the kill.
    pub stop_timeout: Duration,
    /// Whether standard input is open until [`super::Engine::attach`] has written it; else /dev/null.
    pub open_stdin: bool,
}

/// What a container has of the host, where somebody trusts it: the words of compose-spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trusted {
    /// Whether it has all capabilities and devices, and no profile.
    pub privileged: bool,
    /// Further capabilities, by their names in capabilities(7) without `CAP_`.
    pub cap_add: Vec<String>,
    /// Devices: `/dev/x`, `/dev/x:/dev/inside` or `/dev/x:/dev/inside:rwm`.
    pub devices: Vec<String>,
    /// Whether it sees the host's processes.
    pub host_pid: bool,
}

/// A command to run in a container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecConfig {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables beside those of the container; values may be secret and never appear in errors.
    pub environment: Vec<(String, String)>,
    /// Absolute path inside; the container's where it is empty.
    pub working_dir: String,
    /// The size of its terminal; none where it has none.
    pub terminal: Option<TerminalSize>,
}

/// How much a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A bind mount. Its source must exist: the engine refuses it otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path here; the engine's host may have it elsewhere, where we run in a container.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: String,
    /// Whether the container cannot write it.
    pub read_only: bool,
}

/// A volume where a container sees it, to read and to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume's name.
    pub volume: String,
    /// Absolute path inside.
    pub target: String,
}

/// What a container may use. The engine's answer is compared with it after creation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time, in billionths of a CPU.
    pub nano_cpus: i64,
    /// Memory, in bytes.
    pub memory: i64,
    /// Memory and swap together, in bytes; equal to `memory` means no swap.
    pub memory_swap: i64,
    /// Processes and threads.
    pub pids: i64,
    /// `/dev/shm`, in bytes.
    pub shm_size: i64,
    /// Resource limits by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Sized in-memory file systems: path inside → mount options.
    pub tmpfs: BTreeMap<String, String>,
}

/// When a container is ready, in the words of compose-spec; what is not said, its image says, else Docker's
/// defaults count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Healthcheck {
    /// Whether there is none, whatever the image says.
    pub disable: bool,
    /// The command, with its arguments: it is ready once that ends with 0.
    pub test: Option<Vec<String>>,
    /// How far apart two checks are.
    pub interval: Option<Duration>,
    /// What one may take.
    pub timeout: Option<Duration>,
    /// How many fail in a row before it counts as unhealthy.
    pub retries: Option<u32>,
    /// How long failures do not count at first.
    pub start_period: Option<Duration>,
    /// How far apart two checks are until the first that passes.
    pub start_interval: Option<Duration>,
}

/// A soft and a hard resource limit; -1 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What the process starts with.
    pub soft: i64,
    /// What it may raise it to.
    pub hard: i64,
}

/// How a container is attached to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkAttachment {
    /// No interface but loopback.
    None,
    /// One network of agent-run, with a fixed address.
    Network {
        /// Its name.
        name: String,
        /// The container's address on it.
        address: Ipv4Addr,
    },
    /// What another container has, which must run: its interfaces, its loopback, its `/etc/hosts`.
    Shared {
        /// That container's name.
        container: String,
    },
}

/// A TCP port of a container that the engine publishes on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The container's port.
    pub port: u16,
    /// The host's address.
    pub address: Ipv4Addr,
}

/// A network to create: a bridge whose containers cannot reach each other, with a subnet of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its name, from [`crate::id`].
    pub name: String,
    /// Labels, fixed from creation.
    pub labels: Vec<(String, String)>,
    /// The subnet's first address.
    pub subnet: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
}

/// A volume to create: a copy-on-write view of a directory, as the kernel's overlayfs mounts it
/// (kernel.org filesystems/overlayfs). Nothing is mounted before a container needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Its name, from [`crate::id`].
    pub name: String,
    /// Labels, fixed from creation.
    pub labels: Vec<(String, String)>,
    /// What is seen where nothing was written; never written to. Absolute, as all of these are.
    pub lower: PathBuf,
    /// What was written, and marks for what was deleted.
    pub upper: PathBuf,
    /// The kernel's own, empty at first, on the same file system as `upper`.
    pub work: PathBuf,
}

/// An image to make of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitConfig {
    /// Its tag; taken from the image that has it.
    pub reference: ImageRef,
    /// Labels beside those of the container's image.
    pub labels: Vec<(String, String)>,
}

/// When an image is pulled. The words of compose-spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// At every run.
    Always,
    /// Where the engine does not have it.
    #[default]
    Missing,
    /// Never: a missing image is an error.
    Never,
    /// Built at every run.
    Build,
}

/// An image that a task needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Its reference; the tag to give it where it is built.
    pub reference: ImageRef,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// How to build it, where it is built.
    pub build: Option<BuildConfig>,
}

/// How to build an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BuildConfig {
    /// From a directory of the host, read when it is built; `.dockerignore` is honoured.
    Directory {
        /// The build context: an absolute path.
        context: PathBuf,
        /// The Dockerfile, relative to the context.
        dockerfile: String,
        /// The stage to stop at.
        target: Option<String>,
        /// Build arguments; no place for secrets.
        args: BTreeMap<String, String>,
    },
    /// From a Dockerfile that needs nothing beside it.
    Dockerfile {
        /// The Dockerfile.
        text: String,
        /// Build arguments; no place for secrets.
        args: BTreeMap<String, String>,
        /// The image that it stands on, where that has to be there before.
        below: Option<Box<ImageRequest>>,
    },
    /// The Dockerfile of the base image, which is part of agent-run.
    EmbeddedBase,
    /// The Dockerfile of the egress proxy, which is part of agent-run too.
    EmbeddedEgressProxy,
    /// The Dockerfile of the catcher of mail, likewise.
    EmbeddedMail,
}
