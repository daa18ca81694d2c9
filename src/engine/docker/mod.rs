//! Docker, by Bollard: the only folder that knows Bollard.
//!
//! This file holds the connection and hands each call of [`Engine`] to the file that makes it.
//! Nothing here knows tasks; no request is sent without a deadline.

mod build;
mod call;
mod commit;
mod container;
mod contents;
mod context;
pub mod endpoint;
mod exec;
mod ignore;
mod image;
mod info;
mod lifecycle;
mod network;
mod own;
mod publish;
mod registry;
mod usage;
mod verify;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};

pub use endpoint::EngineLocator;
pub use registry::configured_logins;

use super::config::{
    CommitConfig, ContainerConfig, ExecConfig, ImageRequest, NetworkConfig, TerminalSize,
    VolumeConfig,
};
use super::{
    Component, ContainerUsage, Engine, EngineError, EngineInfo, ErrorKind, ExecSession, Exit,
    ImageInfo, Operation, OutputStream, OwnImage, OwnedObject, PublishedAt,
};
use crate::secrets::SecretBytes;
use call::Call;
use endpoint::Endpoint;
use image::ImagesUnderWay;
use own::OwnMount;
use registry::RegistryLogins;

/// The oldest API that has all that agent-run needs; Docker 20.10 speaks it.
const OLDEST_API: (usize, usize) = (1, 41);

/// How long an engine may take to say which version it is.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A Docker engine that answered.
#[derive(Debug)]
pub struct DockerEngine {
    docker: Docker,
    endpoint: Endpoint,
    version: String,
    api_version: String,
    components: Vec<Component>,
    /// Of the container that we run in, if the engine runs it.
    own_mounts: Option<Vec<OwnMount>>,
    logins: RegistryLogins,
    images: ImagesUnderWay,
}

impl DockerEngine {
    /// Finds the engine as the docker command does and asks for its version.
    ///
    /// An endpoint that was named (`--host`, `DOCKER_HOST`, a context) and does not answer is an
    /// error at once; only the known sockets are tried one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] with what was tried, [`ErrorKind::TooOld`], and
    /// [`ErrorKind::Refused`] for an endpoint that agent-run cannot use.
    pub async fn connect(locator: &EngineLocator) -> Result<Self, EngineError> {
        let call = Call::new(Operation::Connect, "the container engine");
        let endpoints = endpoint::resolve(locator).map_err(|why| call.error(why))?;
        let mut tried = Vec::new();
        for endpoint in endpoints {
            match Self::reach(endpoint.clone(), locator).await {
                Ok(engine) => return Ok(engine),
                Err(ErrorKind::Unreachable(why)) => {
                    tried.extend(why.iter().map(|why| format!("{endpoint}: {why}")));
                }
                Err(kind) => return Err(Call::new(Operation::Connect, &endpoint.url).error(kind)),
            }
        }
        Err(call.error(ErrorKind::Unreachable(tried)))
    }

    /// Connects to one endpoint and checks the API version that it speaks.
    async fn reach(endpoint: Endpoint, locator: &EngineLocator) -> Result<Self, ErrorKind> {
        let docker = endpoint.open(API_DEFAULT_VERSION)?;
        let call = Call::new(Operation::Connect, &endpoint.url);
        let version = match call.within(CONNECT_DEADLINE, docker.version()).await {
            Ok(version) => version,
            Err(error) => return Err(unreachable_for(error.kind)),
        };
        let components = info::components(&version);
        let api_version = version.api_version.unwrap_or_default();
        let spoken = match parse_api_version(&api_version) {
            Some(api) if api >= OLDEST_API => ClientVersion {
                major_version: api.0,
                minor_version: api.1,
            },
            Some(_) => return Err(ErrorKind::TooOld(api_version)),
            None => return Err(ErrorKind::Broken(not_an_engine())),
        };
        let docker = if spoken < *API_DEFAULT_VERSION {
            endpoint.open(&spoken)?
        } else {
            docker
        };
        let own_mounts = own::mounts(&docker).await;
        Ok(Self {
            docker,
            endpoint,
            version: version.version.unwrap_or_default(),
            api_version,
            components,
            own_mounts,
            logins: RegistryLogins::new(locator.docker_config()),
            images: ImagesUnderWay::default(),
        })
    }
}

impl DockerEngine {
    /// A client that shares no connection with the others: an engine that is about to end answers
    /// those that it has, and takes no new one.
    fn afresh(&self) -> Result<Docker, ErrorKind> {
        self.endpoint.open(&self.docker.client_version())
    }

    /// Where the engine's host has a path of ours; nothing if it has it nowhere. They differ where
    /// we run in a container of this engine.
    pub fn host_path(&self, path: &Path) -> Option<PathBuf> {
        match &self.own_mounts {
            None => Some(path.to_owned()),
            Some(mounts) => own::outside(mounts, path),
        }
    }

    /// The directories of the container that we run in which the engine's host has too.
    pub fn shared_directories(&self) -> Vec<&Path> {
        own::shared(self.own_mounts.as_deref().unwrap_or_default())
    }
}

/// A first call that got no proper answer is a reason to try the next endpoint.
fn unreachable_for(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Broken(words) => ErrorKind::Unreachable(vec![words]),
        ErrorKind::Timeout => ErrorKind::Unreachable(vec!["no answer in time".into()]),
        other => other,
    }
}

fn not_an_engine() -> String {
    "what answers there does not say an API version: it is no container engine".into()
}

fn parse_api_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Engine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.read_info().await
    }

    async fn ensure_image(&self, request: &ImageRequest) -> Result<ImageInfo, EngineError> {
        self.obtain_image(request).await
    }

    async fn create_network(&self, config: &NetworkConfig) -> Result<(), EngineError> {
        self.make_network(config).await
    }

    async fn create_volume(&self, config: &VolumeConfig) -> Result<(), EngineError> {
        self.make_volume(config).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<(), EngineError> {
        self.make_container(config).await
    }

    async fn attach(
        &self,
        container: &str,
        input: Option<SecretBytes>,
    ) -> Result<OutputStream, EngineError> {
        self.attach_output(container, input).await
    }

    async fn logs(&self, container: &str, follow: bool) -> Result<OutputStream, EngineError> {
        Ok(self.read_logs(container, follow))
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        self.start_container(container).await
    }

    async fn published(&self, container: &str) -> Result<Vec<PublishedAt>, EngineError> {
        self.read_published(container).await
    }

    async fn wait(&self, container: &str) -> Result<Exit, EngineError> {
        self.wait_for_exit(container).await
    }

    async fn usage(&self, container: &str) -> Result<Option<ContainerUsage>, EngineError> {
        self.measure(container).await
    }

    async fn disk_use(&self, container: &str) -> Result<Option<u64>, EngineError> {
        self.measure_disk(container).await
    }

    async fn volume_contents(
        &self,
        container: &str,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        self.read_volumes(container).await
    }

    async fn exec(&self, container: &str, config: &ExecConfig) -> Result<ExecSession, EngineError> {
        self.start_exec(container, config).await
    }

    async fn resize_exec(&self, exec: &str, size: TerminalSize) -> Result<(), EngineError> {
        self.resize_terminal(exec, size).await
    }

    async fn exec_exit(&self, exec: &str) -> Result<i64, EngineError> {
        self.exit_of_exec(exec).await
    }

    async fn stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        self.stop_container(container, grace).await
    }

    async fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        self.delete_container(container, Operation::RemoveContainer)
            .await
    }

    async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        self.delete_network(network).await
    }

    async fn remove_volume(&self, volume: &str) -> Result<(), EngineError> {
        self.delete_volume(volume).await
    }

    async fn commit(
        &self,
        container: &str,
        config: &CommitConfig,
    ) -> Result<ImageInfo, EngineError> {
        self.commit_container(container, config).await
    }

    async fn list_images(&self) -> Result<Vec<OwnImage>, EngineError> {
        self.own_images().await
    }

    async fn remove_image(&self, image: &str) -> Result<(), EngineError> {
        self.delete_image(image).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedObject>, EngineError> {
        self.find_owned().await
    }
}
