//! The pod: the container that has the network of a task and its services.

use super::{SERVICES, Served, Services, config, image};
use crate::engine::config::{BuildConfig, ImageRequest, NetworkAttachment, PullPolicy};
use crate::engine::{Engine, EngineError};
use crate::id::ImageRef;
use crate::runner::StepError;
use crate::runner::places::started;
use crate::runner::prepare::{self, Connection};

/// Variables whose value names the hosts that are reached without a proxy.
const WITHOUT_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Starts it, and gives what a container is attached by to what is in it; nothing if the task is to stop.
pub(super) async fn start<E: Engine>(
    served: Served<'_, E>,
    services: &mut Services<E>,
) -> Result<Option<Connection>, StepError> {
    let (shared, task) = (served.shared, served.task);
    let Some(image) = image(served, &request()).await? else {
        return Ok(None);
    };
    let mut connection = Connection::from(NetworkAttachment::Shared {
        container: served.pod_name(),
    });
    services.pod = Some(served.pod_name());
    if task.has_only_loopback() {
        let out = prepare::network(shared, task).await?;
        connection.mounts = out.mounts;
        connection.environment = out.environment;
        for (name, value) in &mut connection.environment {
            if WITHOUT_PROXY.contains(&name.as_str()) {
                let names = task.services.iter().map(|service| service.name.as_str());
                *value = [value.as_str()]
                    .into_iter()
                    .chain(names)
                    .collect::<Vec<_>>()
                    .join(",");
            }
        }
        let engine = &*shared.context.engine;
        let step = |error: EngineError| shared.step_error(SERVICES, error);
        let config = config::pod(served, &image, NetworkAttachment::None);
        engine.create_container(&config).await.map_err(step)?;
        engine.start(&config.name).await.map_err(step)?;
    } else {
        let config = |network| (config::pod(served, &image, network), None);
        // It says nothing.
        drop(started(shared, SERVICES, config).await?);
    }
    Ok(Some(connection))
}

/// Its image, which is that of tasks that name none.
fn request() -> ImageRequest {
    ImageRequest {
        reference: ImageRef::base(),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::EmbeddedBase),
    }
}
