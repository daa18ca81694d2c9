//! Where the engine is: the docker command's rules, and the sockets that are known otherwise.
//!
//! Reads the docker command's configuration files, never the process environment: what the
//! environment says comes in through [`EngineLocator`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{ClientVersion, Docker};
use serde::Deserialize;

use super::registry::url_safe_credentials;
use crate::engine::ErrorKind;
use crate::id::hex_hash;

/// Bollard's own timeout is switched off by making it ten years: every call has its own deadline,
/// and `wait` has none.
const NO_CLIENT_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The name of the docker command's context that is no stored context.
const DEFAULT_CONTEXT: &str = "default";

/// What says where the engine is. Empty texts count as absent, as for the docker command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineLocator {
    /// `--host`.
    pub host: Option<String>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`, a directory.
    pub docker_config_dir: Option<PathBuf>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
}

impl EngineLocator {
    /// The directory of the docker command's configuration.
    pub(super) fn docker_config(&self) -> Option<PathBuf> {
        let named = self.docker_config_dir.clone();
        let named = named.filter(|dir| !dir.as_os_str().is_empty());
        named.or_else(|| self.home.as_ref().map(|home| home.join(".docker")))
    }
}

/// A place where an engine may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix://…` or `tcp://…`.
    pub url: String,
    /// What named it: a flag, a variable, a context; nothing for the known sockets.
    pub named_by: Option<String>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.named_by {
            Some(name) => write!(f, "{} (from {name})", self.url),
            None => f.write_str(&self.url),
        }
    }
}

impl Endpoint {
    /// Whether it is reached over the network.
    pub(super) fn remote(&self) -> bool {
        !self.url.starts_with("unix://")
    }

    /// A client of it that speaks this version. Says nothing about whether an engine answers.
    pub(super) fn open(&self, version: &ClientVersion) -> Result<Docker, ErrorKind> {
        let docker = if self.remote() {
            Docker::connect_with_http(&self.url, 0, version)
        } else {
            Docker::connect_with_unix(&self.url, 0, version)
        };
        match docker {
            Ok(docker) => Ok(docker
                .with_timeout(NO_CLIENT_TIMEOUT)
                .with_request_modifier(url_safe_credentials)),
            Err(bollard::errors::Error::SocketNotFoundError(_)) => {
                Err(ErrorKind::Unreachable(vec!["there is no socket".into()]))
            }
            Err(error) => Err(ErrorKind::Unreachable(vec![error.to_string()])),
        }
    }
}

/// The endpoints to try, in order. One that was named stands alone.
///
/// # Errors
/// [`ErrorKind::Refused`] for a context that cannot be read and for a scheme that is not spoken.
pub fn resolve(locator: &EngineLocator) -> Result<Vec<Endpoint>, ErrorKind> {
    let hosts = [
        ("--host", &locator.host),
        ("DOCKER_HOST", &locator.docker_host),
    ];
    for (source, value) in hosts {
        if let Some(url) = present(value.as_deref()) {
            return Ok(vec![named(url, source.to_owned())?]);
        }
    }
    if let Some(name) = present(locator.docker_context.as_deref()) {
        return context(locator, name, "DOCKER_CONTEXT");
    }
    if let Some(name) = current_context(locator)? {
        return context(locator, &name, "the docker configuration");
    }
    Ok(known_sockets(locator))
}

fn present(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn named(url: &str, source: String) -> Result<Endpoint, ErrorKind> {
    let refuse = |why: &str| Err(ErrorKind::Refused(format!("`{url}` (from {source}) {why}")));
    match url.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Endpoint {
            url: url.to_owned(),
            named_by: Some(source),
        }),
        Some(("tcp" | "http", address)) if !address.is_empty() => Ok(Endpoint {
            url: format!("tcp://{}", address.trim_end_matches('/')),
            named_by: Some(source),
        }),
        Some(("ssh", _)) => refuse(
            "is an engine behind ssh, which agent-run does not speak: run agent-run on that machine",
        ),
        Some(("https", _)) => refuse("is an engine behind TLS, which agent-run does not speak"),
        _ => refuse("is not of the form unix:///path or tcp://host:port"),
    }
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextMeta {
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: Option<String>,
}

/// `currentContext` of config.json; no file and no key is no context.
fn current_context(locator: &EngineLocator) -> Result<Option<String>, ErrorKind> {
    let Some(path) = locator.docker_config().map(|dir| dir.join("config.json")) else {
        return Ok(None);
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let config: ConfigFile =
        serde_json::from_slice(&text).map_err(|error| unreadable(&path, &error))?;
    Ok(present(config.current_context.as_deref()).map(str::to_owned))
}

/// The endpoint of a context, stored as docker/cli's `cli/context/store` does.
fn context(locator: &EngineLocator, name: &str, source: &str) -> Result<Vec<Endpoint>, ErrorKind> {
    if name == DEFAULT_CONTEXT {
        return Ok(known_sockets(locator));
    }
    let source = format!("context `{name}` of {source}");
    let Some(config) = locator.docker_config() else {
        let why = format!("{source}: the docker configuration directory is not known");
        return Err(ErrorKind::Refused(why));
    };
    let stored = hex_hash(name.as_bytes(), 64);
    let path = config.join("contexts/meta").join(&stored).join("meta.json");
    let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
    let meta: ContextMeta =
        serde_json::from_slice(&text).map_err(|error| unreadable(&path, &error))?;
    let host = meta.endpoints.docker.and_then(|docker| docker.host);
    let Some(host) = present(host.as_deref()) else {
        return Err(ErrorKind::Refused(format!("{source} names no docker host")));
    };
    if config.join("contexts/tls").join(&stored).is_dir() {
        let why = format!("{source} is behind TLS, which agent-run does not speak");
        return Err(ErrorKind::Refused(why));
    }
    Ok(vec![named(host, source)?])
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> ErrorKind {
    ErrorKind::Refused(format!("{} cannot be used: {error}", path.display()))
}

/// The sockets of Docker, rootless Docker, Docker Desktop, Colima, `OrbStack` and Rancher Desktop.
fn known_sockets(locator: &EngineLocator) -> Vec<Endpoint> {
    let in_home = [
        ".docker/run/docker.sock",
        ".docker/desktop/docker.sock",
        ".colima/default/docker.sock",
        ".orbstack/run/docker.sock",
        ".rd/docker.sock",
    ];
    let runtime = locator.xdg_runtime_dir.as_ref();
    let home = locator.home.as_ref();
    std::iter::once(PathBuf::from("/var/run/docker.sock"))
        .chain(runtime.map(|dir| dir.join("docker.sock")))
        .chain(
            home.into_iter()
                .flat_map(|home| in_home.map(|socket| home.join(socket))),
        )
        .map(|path| Endpoint {
            url: format!("unix://{}", path.display()),
            named_by: None,
        })
        .collect()
}
