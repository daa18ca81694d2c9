//! What the engine is handed for a pod and for a service: the hardening profile *service*. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Served, failed, relay};
use crate::engine::config::{ContainerConfig, Limits, NetworkAttachment, Trusted};
use crate::engine::{Engine, ImageInfo};
use crate::id::{Role, label};
use crate::plan::{POD_MEMORY, ServicePlan};
use crate::runner::StepError;
use crate::runner::setup::variables_as_input;
use crate::secrets::SecretBytes;

/// What images of servers need, which start as root: to give their data to the server's user and to
/// become that (docker-library images, `docker-entrypoint.sh`); and to end it.
const SERVICE: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "SETGID",
    "SETUID",
];

/// The container that has the network of a task and its services, on this one.
pub(super) fn pod<E: Engine>(
    served: Served<'_, E>,
    image: &ImageInfo,
    network: NetworkAttachment,
) -> ContainerConfig {
    let services = served.task.services.iter();
    let (memory, pids, publish) = if served.is_relayed() {
        (relay::MEMORY, relay::PIDS, Vec::new())
    } else {
        (POD_MEMORY, 16, served.task.ports.clone())
    };
    ContainerConfig {
        name: served.pod_name(),
        labels: labels(served, served.pod_role()),
        image: image.id.clone(),
        entrypoint: vec!["/bin/sleep".into()],
        command: vec!["infinity".into()],
        environment: Vec::new(),
        working_dir: "/".into(),
        user: "65534:65534".into(),
        host_name: served.attempt.host_name(),
        local_names: services.map(|service| service.name.to_string()).collect(),
        mounts: Vec::new(),
        volumes: Vec::new(),
        limits: Limits {
            nano_cpus: 100_000_000,
            memory,
            memory_swap: memory,
            pids,
            shm_size: 1 << 20,
            ulimits: BTreeMap::new(),
            tmpfs: BTreeMap::new(),
        },
        capabilities: &[],
        trusted: Trusted::default(),
        read_only: true,
        network,
        publish,
        runtime: served.task.runtime.clone(),
        stop_signal: None,
        stop_timeout: Duration::ZERO,
        open_stdin: false,
    }
}

/// The variables of a service.
pub(super) fn variables(service: &ServicePlan) -> Vec<(String, String)> {
    let variables = service.environment.iter();
    variables
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect()
}

/// The container of a service, and what is written to its standard input.
pub(super) fn service<E: Engine>(
    served: Served<'_, E>,
    service: &ServicePlan,
    image: &ImageInfo,
) -> Result<(ContainerConfig, Option<SecretBytes>), StepError> {
    let entrypoint = service.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    // As Docker does: an ENTRYPOINT given anew drops the image's CMD.
    let default = match service.entrypoint {
        Some(_) => &[][..],
        None => &image.command[..],
    };
    let command = service.command.as_deref().unwrap_or(default);
    if entrypoint.is_empty() && command.is_empty() {
        let (name, image) = (&service.name, &service.image.reference);
        let message = format!("service `{name}`: image {image} has no command; give it `command`");
        return Err(failed(message));
    }
    let mut config = ContainerConfig {
        name: served.container_of(&service.name),
        labels: labels(served, served.service_role()),
        image: image.id.clone(),
        entrypoint: entrypoint.clone(),
        command: command.to_vec(),
        environment: variables(service),
        working_dir: service.working_dir.clone().unwrap_or_default(),
        user: service.user.clone().unwrap_or_default(),
        host_name: String::new(),
        local_names: Vec::new(),
        mounts: service.mounts.clone(),
        volumes: Vec::new(),
        limits: service.limits.clone(),
        capabilities: SERVICE,
        trusted: service.trusted.clone(),
        read_only: service.read_only,
        network: NetworkAttachment::Shared {
            container: served.pod_name(),
        },
        publish: Vec::new(),
        runtime: served.task.runtime.clone(),
        stop_signal: image.stop_signal.clone(),
        stop_timeout: Duration::ZERO,
        open_stdin: false,
    };
    if served.role != Role::Setup {
        return Ok((config, None));
    }
    // All words are here: an empty CMD is not taken for that of the image that is made.
    let entry = ["/bin/sh", "/agent/setup-entry"].map(str::to_owned);
    let words = config.entrypoint.into_iter().chain(config.command);
    config.entrypoint = entry.into_iter().chain(words).collect();
    config.command = Vec::new();
    config.open_stdin = true;
    let input = variables_as_input(std::mem::take(&mut config.environment));
    Ok((config, Some(SecretBytes::new(input.into_bytes()))))
}

fn labels<E: Engine>(served: Served<'_, E>, role: Role) -> Vec<(String, String)> {
    let context = &served.shared.context;
    let mut labels = served.attempt.labels(role);
    labels.push((label::OWNER.into(), context.owner.clone()));
    labels.push((label::REPO.into(), context.repository.key().to_string()));
    labels
}
