//! Images: by the request's policy found, pulled or built, once for all who ask at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{HealthConfig, ImageInspect};
use bollard::query_parameters::CreateImageOptions;
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use super::DockerEngine;
use super::call::{Call, QUICK};
use crate::engine::config::{Healthcheck, ImageRequest, PullPolicy};
use crate::engine::{EngineError, ErrorKind, ImageInfo, Operation};

/// What became of a request; everybody who waited for it gets it.
type Obtained = Result<ImageInfo, ErrorKind>;

/// The image requests that are being worked on, and those that are done once per engine.
#[derive(Debug, Default)]
pub(super) struct ImagesUnderWay(Mutex<HashMap<ImageRequest, Arc<OnceCell<Obtained>>>>);

impl ImagesUnderWay {
    fn join(&self, request: &ImageRequest) -> Arc<OnceCell<Obtained>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(map.entry(request.clone()).or_default())
    }

    /// Forgets a request, so that the next one works again.
    fn forget(&self, request: &ImageRequest, cell: &Arc<OnceCell<Obtained>>) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map
            .get(request)
            .is_some_and(|current| Arc::ptr_eq(current, cell))
        {
            map.remove(request);
        }
    }
}

impl DockerEngine {
    pub(super) async fn obtain_image(
        &self,
        request: &ImageRequest,
    ) -> Result<ImageInfo, EngineError> {
        let shared = self.images.join(request);
        let obtained = shared.get_or_init(|| self.obtain_now(request)).await;
        let once_per_run = matches!(request.pull_policy, PullPolicy::Always | PullPolicy::Build);
        if obtained.is_err() || !once_per_run {
            self.images.forget(request, &shared);
        }
        let call = Call::new(Operation::EnsureImage, request.reference.as_str());
        obtained.clone().map_err(|kind| call.error(kind))
    }

    async fn obtain_now(&self, request: &ImageRequest) -> Obtained {
        let reference = request.reference.as_str();
        let unavailable = |why: &str| Err(ErrorKind::ImageUnavailable(why.to_owned()));
        let may_look = matches!(request.pull_policy, PullPolicy::Missing | PullPolicy::Never);
        if may_look && let Some(image) = self.look_up(reference).await? {
            return Ok(image);
        }
        match (request.pull_policy, &request.build) {
            (PullPolicy::Never, _) => {
                return unavailable("the engine does not have it, and its pull_policy is `never`");
            }
            (_, Some(build)) => self.build(reference, build).await?,
            (PullPolicy::Build, None) => {
                return unavailable("its pull_policy is `build`, but nothing says how to build it");
            }
            (_, None) => self.pull(reference).await?,
        }
        match self.look_up(reference).await? {
            Some(image) => Ok(image),
            None => unavailable("the engine got it without an error and does not have it"),
        }
    }

    async fn look_up(&self, reference: &str) -> Result<Option<ImageInfo>, ErrorKind> {
        let call = Call::new(Operation::EnsureImage, reference);
        match call
            .within(QUICK, self.docker.inspect_image(reference))
            .await
        {
            Ok(image) => image_info(image).map(Some),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.kind),
        }
    }

    async fn pull(&self, reference: &str) -> Result<(), ErrorKind> {
        let (name, tag) = split_tag(reference);
        let options = CreateImageOptions {
            from_image: Some(name.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let login = self.logins.for_image(reference).await;
        let call = Call::new(Operation::EnsureImage, reference);
        let pulled = self
            .docker
            .create_image(Some(options), None, login.credentials);
        let done: Result<(), _> = pulled.try_for_each(|_| async { Ok(()) }).await;
        done.map_err(|error| match call.failed(&error).kind {
            ErrorKind::Refused(words) => {
                let login = login.problem.map(|why| format!("\nits log-in: {why}"));
                ErrorKind::ImageUnavailable(words + &login.unwrap_or_default())
            }
            ErrorKind::NotFound => {
                ErrorKind::ImageUnavailable(super::call::printable(&error.to_string()))
            }
            other => other,
        })
    }
}

pub(super) fn image_info(image: ImageInspect) -> Result<ImageInfo, ErrorKind> {
    let no_id = || ErrorKind::Broken("the engine describes it without an id".into());
    let config = image.config.unwrap_or_default();
    Ok(ImageInfo {
        id: image.id.filter(|id| !id.is_empty()).ok_or_else(no_id)?,
        digests: image.repo_digests.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        ports: ports(config.exposed_ports.unwrap_or_default()),
        healthcheck: config.healthcheck.map(healthcheck).unwrap_or_default(),
    })
}

/// The TCP ports of `8080/tcp`, `53/udp`.
fn ports(exposed: impl IntoIterator<Item = String>) -> Vec<u16> {
    let number = |text: String| text.strip_suffix("/tcp")?.parse().ok();
    let mut ports: Vec<u16> = exposed.into_iter().filter_map(number).collect();
    ports.sort_unstable();
    ports
}

/// A HEALTHCHECK of a Dockerfile; the engine has 0 for what is not said (moby `HealthcheckConfig`).
fn healthcheck(config: HealthConfig) -> Healthcheck {
    let time = |nanos: Option<i64>| {
        let nanos = u64::try_from(nanos?).ok().filter(|nanos| *nanos > 0);
        nanos.map(Duration::from_nanos)
    };
    let words = config.test.unwrap_or_default();
    let test = match words.split_first() {
        Some((kind, rest)) if kind == "CMD" => Some(rest.to_vec()),
        Some((kind, [line])) if kind == "CMD-SHELL" => {
            Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec())
        }
        _ => None,
    };
    let retries = config
        .retries
        .and_then(|retries| u32::try_from(retries).ok());
    Healthcheck {
        disable: false,
        test: test.filter(|words| !words.is_empty()),
        interval: time(config.interval),
        timeout: time(config.timeout),
        retries: retries.filter(|retries| *retries > 0),
        start_period: time(config.start_period),
        start_interval: time(config.start_interval),
    }
}

/// The reference as the pull call wants it: without a tag it would fetch every tag.
pub(super) fn split_tag(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}
