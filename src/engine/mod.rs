//! The container engine: one trait, its data, and Docker as the one engine so far.
//!
//! Knows nothing of tasks, specs or git. Only `docker/` knows Bollard; another engine would be
//! another folder beside it.

pub mod config;
pub mod docker;
mod error;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

pub use error::{EngineError, ErrorKind, Operation};

use crate::secrets::SecretBytes;
use config::{
    CommitConfig, ContainerConfig, ExecConfig, ImageRequest, NetworkConfig, TerminalSize,
    VolumeConfig,
};

/// A container engine.
///
/// Contract: `stop` and the `remove_*` functions succeed when the thing is already gone, also when
/// its creation failed. A non-zero exit is a value, never an error. Every call has a deadline of
/// its own; [`ErrorKind::Timeout`] means that the outcome is unknown: look, do not repeat blindly.
pub trait Engine: Send + Sync + 'static {
    /// What the engine is and what it honours.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, EngineError>> + Send;

    /// Makes sure that an image is there, by the request's policy, and says what it holds.
    /// Pulls and builds take as long as they take: the caller bounds them.
    fn ensure_image(
        &self,
        request: &ImageRequest,
    ) -> impl Future<Output = Result<ImageInfo, EngineError>> + Send;

    /// Creates a network on which containers reach the outside and not each other.
    /// [`ErrorKind::AddressInUse`] if its subnet overlaps another one, [`ErrorKind::LimitNotHonoured`]
    /// if the engine would not keep containers apart.
    fn create_network(
        &self,
        config: &NetworkConfig,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates a volume; one that is there already and is the same in all is as good.
    /// [`ErrorKind::NameInUse`] if another has its name, [`ErrorKind::Refused`] if the engine has
    /// no way to name the directories. That they can be mounted only the start of a container shows.
    fn create_volume(
        &self,
        config: &VolumeConfig,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates a container, inspects it, and compares every limit with what was asked.
    /// A limit that was dropped is [`ErrorKind::LimitNotHonoured`]; the container is removed then.
    fn create_container(
        &self,
        config: &ContainerConfig,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Attaches to a container's output. Called before `start`, so that nothing is missed.
    /// `input` is written to its standard input, which is closed after it; it may be secret.
    fn attach(
        &self,
        container: &str,
        input: Option<SecretBytes>,
    ) -> impl Future<Output = Result<OutputStream, EngineError>> + Send;

    /// What a started container has written, as far as the engine still has it; with `follow` also
    /// what it writes until it ends.
    fn logs(
        &self,
        container: &str,
        follow: bool,
    ) -> impl Future<Output = Result<OutputStream, EngineError>> + Send;

    /// Starts a created container. [`ErrorKind::NoNetwork`] if its network has gone,
    /// [`ErrorKind::AddressInUse`] if its address is taken.
    fn start(&self, container: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Where a running container's ports are published on the engine's host.
    fn published(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<Vec<PublishedAt>, EngineError>> + Send;

    /// Waits until a started container has ended, however long that takes.
    fn wait(&self, container: &str) -> impl Future<Output = Result<Exit, EngineError>> + Send;

    /// What a running container has used so far; nothing where it does not run. The engine may take
    /// a second to answer.
    fn usage(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<Option<ContainerUsage>, EngineError>> + Send;

    /// How much disk a container's own file system takes, in bytes: what was written in it beyond
    /// its image, without its mounts. The engine walks it for that; nothing where it does not tell.
    fn disk_use(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<Option<u64>, EngineError>> + Send;

    /// What is in the volumes that a container has because its image declares them: by path inside, a
    /// fingerprint that is another one once a file in it was written.
    fn volume_contents(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, EngineError>> + Send;

    /// Starts a command in a running container, as the container's user and in its environment.
    /// One that is not there or does not run is [`ErrorKind::NotFound`] or
    /// [`ErrorKind::Refused`]; a command that cannot be started may also be an exit code, 126 or 127.
    fn exec(
        &self,
        container: &str,
        config: &ExecConfig,
    ) -> impl Future<Output = Result<ExecSession, EngineError>> + Send;

    /// Tells the terminal of a command its size.
    fn resize_exec(
        &self,
        exec: &str,
        size: TerminalSize,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The exit code of a command whose output has ended.
    fn exec_exit(&self, exec: &str) -> impl Future<Output = Result<i64, EngineError>> + Send;

    /// Sends TERM, and KILL after `grace`; returns when the container has ended.
    fn stop(
        &self,
        container: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a container with its anonymous volumes, running or not.
    fn remove_container(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a network. [`ErrorKind::InUse`] while a container that runs is on it,
    /// [`ErrorKind::HeldByNobody`] where the engine says so and has none.
    fn remove_network(&self, network: &str)
    -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a volume; its directories stay. [`ErrorKind::InUse`] while a container has it,
    /// running or not.
    fn remove_volume(&self, volume: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Makes an image of what a container that has ended wrote in its own file system, beside its
    /// mounts. All else is that of the container's image: ENTRYPOINT, CMD, user, variables. A container
    /// with variables of its own is [`ErrorKind::Refused`]: they would be part of the image.
    fn commit(
        &self,
        container: &str,
        config: &CommitConfig,
    ) -> impl Future<Output = Result<ImageInfo, EngineError>> + Send;

    /// The images that agent-run built or prepared, by their label.
    fn list_images(&self) -> impl Future<Output = Result<Vec<OwnImage>, EngineError>> + Send;

    /// Removes an image by its reference. [`ErrorKind::InUse`] while a container is of it.
    fn remove_image(&self, image: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Everything with agent-run's labels and one of its names, running or not.
    fn list_owned(&self) -> impl Future<Output = Result<Vec<OwnedObject>, EngineError>> + Send;
}

/// A container's output until it ends, in frames as they come: a frame is not a line.
pub type OutputStream = BoxStream<'static, Result<OutputFrame, EngineError>>;

/// A piece of a container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFrame {
    /// Which stream it was written to.
    pub source: OutputSource,
    /// What was written; untrusted.
    pub bytes: Bytes,
}

/// A command in a running container. It goes on when this is dropped.
pub struct ExecSession {
    /// The engine's name for it.
    pub id: String,
    /// What it prints; all of it standard output where it has a terminal. Untrusted.
    pub output: OutputStream,
    /// Its standard input; a shutdown closes it.
    pub input: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a container has used, as the engine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerUsage {
    /// CPU time of all its processes, those that have ended too.
    pub cpu: Duration,
    /// Memory in use now, in bytes; what the kernel keeps of files counts too.
    pub memory: u64,
    /// How much of that the kernel can drop as it likes, in bytes.
    pub droppable: u64,
    /// The highest that `memory` ever was, in bytes; only cgroup v1 knows it.
    pub highest_memory: Option<u64>,
    /// Received on all its networks, in bytes.
    pub received: u64,
    /// Sent on all its networks, in bytes.
    pub sent: u64,
}

/// A container's port on the engine's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedAt {
    /// The container's port.
    pub port: u16,
    /// The host's address and port.
    pub at: SocketAddrV4,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The code of its main process; 128 + n where a signal ended it.
    pub code: i64,
    /// The engine's flag that some process of it was killed for memory.
    pub oom_killed: bool,
}

/// What an engine is. Read once per run.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineInfo {
    /// What tells it from other engines, if it says so.
    pub id: Option<String>,
    /// Where it was reached, for people.
    pub endpoint: String,
    /// Whether it was reached over the network: the host's directories may not be its own then.
    pub remote: bool,
    /// Its version.
    pub version: String,
    /// The API version that is spoken.
    pub api_version: String,
    /// CPUs that its containers can use.
    pub cpus: usize,
    /// Memory that its containers can use, in bytes: the Docker VM's where there is one.
    pub memory: i64,
    /// Whether it runs without root: container root is the caller then.
    pub rootless: bool,
    /// The first host uid and gid of its user namespace, where it remaps users.
    pub userns_root: Option<(u32, u32)>,
    /// What it cannot limit, as spec keys: `mem_limit`, `cpus`, `pids_limit`, `memswap_limit`.
    pub missing_limits: Vec<&'static str>,
    /// The names of what it can run containers with, sorted.
    pub runtimes: Vec<String>,
    /// The version of the cgroups that hold its limits, `1` or `2`; none where it does not say.
    pub cgroup_version: Option<u8>,
    /// Whether its containers go on while it is restarted.
    pub keeps_containers: bool,
    /// Where it keeps images and containers: a path of its own host.
    pub data_directory: Option<PathBuf>,
    /// The programs that it consists of, as far as it names them.
    pub components: Vec<Component>,
}

/// A program that an engine consists of, such as `containerd` and `runc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name, in the engine's words.
    pub name: String,
    /// Its version, with what a distribution added to it.
    pub version: String,
}

/// What an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageInfo {
    /// Its id, `sha256:…`.
    pub id: String,
    /// What registries call it, `name@sha256:…` each.
    pub digests: Vec<String>,
    /// Its ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// Its CMD.
    pub command: Vec<String>,
    /// Its STOPSIGNAL, if it says one.
    pub stop_signal: Option<String>,
    /// The TCP ports that it EXPOSEs, sorted.
    pub ports: Vec<u16>,
    /// Its HEALTHCHECK.
    pub healthcheck: config::Healthcheck,
}

impl ImageInfo {
    /// What a registry calls it as an image of `repository`, `name@sha256:…`; none where none does.
    pub fn digest(&self, repository: &str) -> Option<&String> {
        let is_its = |digest: &&String| digest.split('@').next() == Some(repository);
        self.digests.iter().find(is_its)
    }
}

/// An image that agent-run built or prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnImage {
    /// Its id, `sha256:…`.
    pub id: String,
    /// What it is called; nothing once its name was given to another.
    pub references: Vec<String>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// What it takes, with what it shares with others, in bytes.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// Something on the engine that carries agent-run's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedObject {
    /// What it is.
    pub kind: OwnedKind,
    /// Its name.
    pub name: String,
    /// All its labels; for a container also those of its image.
    pub labels: BTreeMap<String, String>,
    /// Whether it is a container that runs.
    pub running: bool,
    /// Whether it is a container that was ever started.
    pub started: bool,
}

/// The kinds of [`OwnedObject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnedKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
}
