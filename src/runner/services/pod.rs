//! The pod: the container that has the network of a task and its services, and publishes its ports.

use super::{SERVICES, Served, Services, config, failed, image, relay};
use crate::engine::config::{BuildConfig, ImageRequest, NetworkAttachment, Publish, PullPolicy};
use crate::engine::{Engine, EngineError, PublishedAt};
use crate::event::{EventKind, PublishedPort};
use crate::id::{ImageRef, Role};
use crate::plan::TaskPlan;
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
        if let Some(port) = task.ports.first().filter(|_| served.is_relayed()) {
            let (at, open) = relay::open(served, *port).await?;
            services.ports = vec![at];
            services.relay = Some(open);
        }
    } else {
        let config = |network| (config::pod(served, &image, network), None);
        let output = started(shared, SERVICES, config).await;
        // It says nothing.
        drop(output.map_err(|error| without_a_port(task, error))?);
        services.ports = published(served).await?;
    }
    let ports = services.ports.iter().map(|port| {
        let name = format!("AGENT_PORT_{}", port.port);
        (name, port.host_port.to_string())
    });
    connection.environment.extend(ports);
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

/// Where the ports of the task are published; tells it.
pub(super) async fn published<E: Engine>(
    served: Served<'_, E>,
) -> Result<Vec<PublishedPort>, StepError> {
    let (shared, task) = (served.shared, served.task);
    if task.ports.is_empty() {
        return Ok(Vec::new());
    }
    let found = shared.context.engine.published(&served.pod_name()).await;
    let found = found.map_err(StepError::engine(SERVICES))?;
    let at = |asked: &Publish| {
        let is_it = |found: &&PublishedAt| found.port == asked.port;
        let found = found.iter().find(is_it).ok_or_else(|| {
            let port = asked.port;
            failed(format!(
                "the engine does not say where port {port} is published"
            ))
        })?;
        Ok(PublishedPort {
            port: asked.port,
            address: *found.at.ip(),
            host_port: found.at.port(),
        })
    };
    let ports: Vec<PublishedPort> = task
        .ports
        .iter()
        .map(at)
        .collect::<Result<_, StepError>>()?;
    // That of a preview is told once it answers.
    if served.role != Role::Preview {
        let ports = ports.clone();
        shared.event(Some(&task.id), EventKind::Ports { ports });
    }
    Ok(ports)
}

/// Says that the machine has no free port, where the engine does (libnetwork, `portallocator`).
fn without_a_port(task: &TaskPlan, error: StepError) -> StepError {
    let lower = error.message.to_lowercase();
    let is_it =
        lower.contains("ports are allocated") || lower.contains("port is already allocated");
    if !is_it || task.ports.is_empty() {
        return error;
    }
    failed(format!(
        "the engine's machine has no free port for `ports`: end what holds them (`ss -ltnp`), or run fewer \
         tasks at once with `max_parallel`: {}",
        error.message
    ))
}
