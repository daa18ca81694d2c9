//! Registry log-ins, as the docker command has them: `credHelpers`, `credsStore`, `auths`.
//!
//! Credentials live only for the call that needs them and appear in no error.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;

use super::endpoint::EngineLocator;

/// The name under which the docker command keeps the log-in of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// How long a credential helper may take; some ask the user.
const HELPER_DEADLINE: Duration = Duration::from_secs(60);

/// The log-ins of one docker configuration directory.
#[derive(Debug, Clone)]
pub(super) struct RegistryLogins {
    config: Option<PathBuf>,
}

/// A log-in that was looked for: a failure is no error, since the image may be public.
#[derive(Debug, Default)]
pub(super) struct Login {
    pub(super) credentials: Option<DockerCredentials>,
    /// Why there is none although one is configured.
    pub(super) problem: Option<String>,
}

impl RegistryLogins {
    /// The log-ins of `config.json` in the directory `config`.
    pub(super) fn new(config: Option<PathBuf>) -> Self {
        Self {
            config: config.map(|dir| dir.join("config.json")),
        }
    }

    /// The log-in for the registry of an image.
    pub(super) async fn for_image(&self, reference: &str) -> Login {
        self.for_server(server_of(reference)).await
    }

    /// Every log-in that the configuration names: a build may need any of them.
    pub(super) async fn all(&self) -> HashMap<String, DockerCredentials> {
        let mut all = HashMap::new();
        for server in self.servers() {
            if let Some(credentials) = self.for_server(server.clone()).await.credentials {
                all.insert(server, credentials);
            }
        }
        all
    }

    async fn for_server(&self, server: String) -> Login {
        let Some(path) = self.config.clone().filter(|path| path.is_file()) else {
            return Login::default();
        };
        let asked = server.clone();
        // The crate runs the helper and waits for it.
        let lookup = tokio::task::spawn_blocking(move || {
            let file = File::open(path).map_err(|_| CredentialRetrievalError::ConfigReadError)?;
            docker_credential::get_credential_from_reader(file, &asked)
        });
        match tokio::time::timeout(HELPER_DEADLINE, lookup).await {
            Ok(Ok(Ok(credential))) => Login {
                credentials: Some(as_header(credential, server)),
                problem: None,
            },
            Ok(Ok(Err(CredentialRetrievalError::NoCredentialConfigured))) => Login::default(),
            Ok(Ok(Err(error))) => Login::broken(&without_output(&error)),
            Ok(Err(_)) => Login::broken("the look-up of the log-in broke"),
            Err(_) => Login::broken("the credential helper gave no answer in time"),
        }
    }

    fn servers(&self) -> Vec<String> {
        let named = self.named().ok().flatten();
        named.map_or_else(Vec::new, Named::servers)
    }

    /// What the configuration names; nothing where there is none.
    fn named(&self) -> Result<Option<Named>, String> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        let unusable =
            |why: &dyn std::error::Error| format!("{} cannot be used: {why}", path.display());
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| unusable(&e)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&error)),
        }
    }
}

/// The log-ins that a docker configuration names, without their secrets.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    auths: HashMap<String, serde_json::Value>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

impl Named {
    fn servers(self) -> Vec<String> {
        let mut servers: Vec<_> = self.auths.into_keys().collect();
        servers.extend(self.cred_helpers.into_keys());
        servers.sort();
        servers.dedup();
        servers
    }

    /// A helper that it names and that is in no directory of `search_path`.
    fn absent_helper(&self, search_path: &OsStr) -> Option<String> {
        let mut helpers = self.cred_helpers.values().chain(&self.creds_store);
        let absent = |helper: &&String| {
            let name = format!("docker-credential-{helper}");
            !helper.is_empty()
                && !std::env::split_paths(search_path).any(|dir| dir.join(&name).is_file())
        };
        helpers.find(absent).cloned()
    }
}

/// The registries for which the docker configuration has a log-in.
///
/// # Errors
/// A clause, where it cannot be used, or names a credential helper that is not on `search_path`.
pub fn configured_logins(
    locator: &EngineLocator,
    search_path: &OsStr,
) -> Result<Vec<String>, String> {
    let Some(named) = RegistryLogins::new(locator.docker_config()).named()? else {
        return Ok(Vec::new());
    };
    match named.absent_helper(search_path) {
        Some(helper) => Err(format!("`docker-credential-{helper}` is not on PATH")),
        None => Ok(named.servers()),
    }
}

impl Login {
    fn broken(problem: &str) -> Self {
        Self {
            credentials: None,
            problem: Some(problem.to_owned()),
        }
    }
}

/// The error without what a helper printed, which may be secret.
fn without_output(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => {
            format!("`{helper}` failed: log in again with `docker login`")
        }
        other => other.to_string(),
    }
}

fn as_header(credential: DockerCredential, server: String) -> DockerCredentials {
    let base = DockerCredentials {
        serveraddress: Some(server),
        ..DockerCredentials::default()
    };
    match credential {
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            ..base
        },
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            ..base
        },
    }
}

/// The registry of a reference by the rule of distribution/reference: the first part is a host if
/// it has a dot or a colon or is `localhost`.
fn server_of(reference: &str) -> String {
    match reference.split_once('/') {
        Some((host, _)) if host == "docker.io" || host == "index.docker.io" => DOCKER_HUB.into(),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        _ => DOCKER_HUB.into(),
    }
}

/// Rewrites Bollard's credential headers into the URL-safe alphabet that the engine decodes.
///
/// Bollard 0.21 writes plain base64; the engine then drops the credentials without a word.
pub(super) fn url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    for name in ["x-registry-auth", "x-registry-config"] {
        let safe = request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.replace('+', "-").replace('/', "_").parse().ok());
        if let Some(value) = safe {
            request.headers_mut().insert(name, value);
        }
    }
    request
}
