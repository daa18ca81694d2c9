//! Creating a container: the one hardening profile, and nothing that a spec could soften.
//!
//! What was asked is compared with what the engine made in `verify.rs`.

use std::borrow::Cow;
use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions, WaitContainerOptions,
};
use futures::TryStreamExt;

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use super::{publish, verify};
use crate::engine::config::{ContainerConfig, Limits, NetworkAttachment};
use crate::engine::{EngineError, ErrorKind, Operation};

/// The kernel ends a task's processes before the host's own.
pub(super) const OOM_SCORE: i64 = 500;

/// The one security option; the seccomp and `AppArmor` profiles stay the engine's defaults.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges:true";

impl DockerEngine {
    pub(super) async fn make_container(&self, config: &ContainerConfig) -> Result<(), EngineError> {
        let call = Call::new(Operation::CreateContainer, &config.name);
        check_environment(config).map_err(|why| call.error(ErrorKind::Refused(why)))?;
        let config = &self.on_the_host(config);
        let options = CreateContainerOptions {
            name: Some(config.name.clone()),
            ..CreateContainerOptions::default()
        };
        let created = self.docker.create_container(Some(options), body(config));
        let created = call.within(WORK, created).await?;
        let made = self
            .docker
            .inspect_container(&created.id, None::<InspectContainerOptions>);
        let checked = match call.within(QUICK, made).await {
            Ok(made) => verify::compare(config, &made).map_err(|kind| call.error(kind)),
            Err(error) => Err(error),
        };
        let checked = match checked {
            Ok(()) => self.look_at_volumes(config, &call).await,
            failed => failed,
        };
        if checked.is_err() {
            // The first error counts; the caller removes by name whatever is left.
            drop(
                self.delete_container(&created.id, Operation::CreateContainer)
                    .await,
            );
        }
        checked
    }

    /// The same with the sources of its mounts as the engine's host names them.
    fn on_the_host(&self, config: &ContainerConfig) -> ContainerConfig {
        let mut config = config.clone();
        for mount in &mut config.mounts {
            if let Some(source) = self.host_path(&mount.source) {
                mount.source = source;
            }
        }
        config
    }

    /// Removes a container with its anonymous volumes; one that is gone is as good.
    pub(super) async fn delete_container(
        &self,
        container: &str,
        operation: Operation,
    ) -> Result<(), EngineError> {
        let call = Call::new(operation, container);
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        let removed = self.docker.remove_container(container, Some(options));
        match call.within(WORK, removed).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) if is_under_way(&error.kind) => self.await_removal(container, &call).await,
            Err(error) => Err(error),
        }
    }

    async fn await_removal(&self, container: &str, call: &Call) -> Result<(), EngineError> {
        let options = WaitContainerOptions {
            condition: "removed".into(),
        };
        let gone = self.docker.wait_container(container, Some(options));
        let gone = gone.try_for_each(|_| async { Ok(()) });
        match tokio::time::timeout(WORK, gone).await {
            // A container that had failed: Bollard makes an error of its exit code.
            Ok(Ok(()) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => Ok(()),
            Ok(Err(error)) => match call.failed(&error) {
                failed if failed.kind == ErrorKind::NotFound => Ok(()),
                failed => Err(failed),
            },
            Err(_) => Err(call.error(ErrorKind::Timeout)),
        }
    }
}

/// The engine's words for a container that somebody else is removing (moby `daemon/delete.go`).
fn is_under_way(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused(words) if words.contains("is already in progress"))
}

/// Refuses names and values that the engine would repeat in its error, value and all.
fn check_environment(config: &ContainerConfig) -> Result<(), String> {
    let fits = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    for (name, value) in &config.environment {
        if !fits(name) {
            return Err("an environment variable has an empty name, or one with `=`".into());
        }
        if value.contains('\0') {
            return Err(format!(
                "the environment variable {name} holds a NUL character"
            ));
        }
    }
    Ok(())
}

fn body(config: &ContainerConfig) -> ContainerCreateBody {
    let is_alone = !matches!(config.network, NetworkAttachment::Shared { .. });
    ContainerCreateBody {
        hostname: is_alone.then(|| config.host_name.clone()),
        user: Some(config.user.clone()),
        attach_stdin: Some(config.open_stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        open_stdin: Some(config.open_stdin),
        stdin_once: Some(config.open_stdin),
        env: Some(variables(&config.environment)),
        cmd: Some(config.command.clone()),
        entrypoint: Some(entrypoint(&config.entrypoint)),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        image: Some(config.image.clone()),
        working_dir: Some(config.working_dir.clone()),
        labels: Some(config.labels.iter().cloned().collect()),
        stop_signal: Some(
            config
                .stop_signal
                .clone()
                .unwrap_or_else(|| "SIGTERM".into()),
        ),
        stop_timeout: Some(whole_seconds(config.stop_timeout).into()),
        host_config: Some(host_config(config)),
        network_disabled: Some(is_disabled(config)),
        exposed_ports: publish::exposed(&config.publish),
        networking_config: networking(&config.network),
        ..ContainerCreateBody::default()
    }
}

/// Variables as the engine has them: `KEY=value`.
pub(super) fn variables(environment: &[(String, String)]) -> Vec<String> {
    let environment = environment.iter();
    environment
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// One empty text clears the image's ENTRYPOINT, as `docker run --entrypoint ""` does.
fn entrypoint(words: &[String]) -> Vec<String> {
    if words.is_empty() {
        vec![String::new()]
    } else {
        words.to_vec()
    }
}

/// The engine counts its timeouts in whole seconds: rounded up.
pub(super) fn whole_seconds(duration: std::time::Duration) -> i32 {
    let started = u64::from(duration.subsec_nanos() > 0);
    i32::try_from(duration.as_secs().saturating_add(started)).unwrap_or(i32::MAX)
}

/// The hardening profile. `MaskedPaths` and `ReadonlyPaths` stay absent: an empty list would
/// unmask them (moby `daemon/create_unix.go`).
fn host_config(config: &ContainerConfig) -> HostConfig {
    // Compressing what is read as it comes costs the engine a quarter of the CPU that a flood takes.
    let log_limits = [
        ("max-size", "32m"),
        ("max-file", "2"),
        ("compress", "false"),
    ];
    let log_limits = log_limits.map(|(key, value)| (key.to_owned(), value.to_owned()));
    HostConfig {
        init: Some(true),
        privileged: Some(config.trusted.privileged),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: cap_add(config),
        devices: devices(&config.trusted.devices),
        pid_mode: config.trusted.host_pid.then(|| "host".into()),
        security_opt: Some(vec![NO_NEW_PRIVILEGES.into()]),
        ipc_mode: Some("private".into()),
        readonly_rootfs: Some(config.read_only),
        oom_score_adj: Some(OOM_SCORE),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some(HashMap::from(log_limits)),
        }),
        mounts: Some(mounts(config)),
        network_mode: Some(network_mode(&config.network).into_owned()),
        port_bindings: publish::bindings(&config.publish),
        extra_hosts: Some(
            config
                .local_names
                .iter()
                .map(|name| format!("{name}:127.0.0.1"))
                .collect(),
        ),
        runtime: config.runtime.clone(),
        ..limits(&config.limits)
    }
}

fn cap_add(config: &ContainerConfig) -> Option<Vec<String>> {
    let kept = config.capabilities.iter().map(|&name| name.to_owned());
    let all: Vec<String> = kept.chain(config.trusted.cap_add.iter().cloned()).collect();
    (!all.is_empty()).then_some(all)
}

fn devices(devices: &[String]) -> Option<Vec<DeviceMapping>> {
    let mapping = |device: &String| {
        let mut words = device.splitn(3, ':');
        let path = words.next().unwrap_or_default();
        DeviceMapping {
            path_on_host: Some(path.to_owned()),
            path_in_container: Some(words.next().unwrap_or(path).to_owned()),
            cgroup_permissions: Some(words.next().unwrap_or("rwm").to_owned()),
        }
    };
    (!devices.is_empty()).then(|| devices.iter().map(mapping).collect())
}

fn limits(limits: &Limits) -> HostConfig {
    let ulimits = limits.ulimits.iter().map(|(name, limit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    HostConfig {
        memory: Some(limits.memory),
        memory_swap: Some(limits.memory_swap),
        nano_cpus: Some(limits.nano_cpus),
        pids_limit: Some(limits.pids),
        shm_size: Some(limits.shm_size),
        ulimits: Some(ulimits.collect()),
        tmpfs: Some(limits.tmpfs.clone().into_iter().collect()),
        ..HostConfig::default()
    }
}

fn mounts(config: &ContainerConfig) -> Vec<Mount> {
    let volumes = config.volumes.iter().map(|mount| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(mount.volume.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(false),
        // The engine would copy what the image has there.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    volumes.chain(config.mounts.iter().map(bind)).collect()
}

fn bind(mount: &crate::engine::config::Mount) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    }
}

/// The engine's name for a way to be attached. With `none` the container gets a network namespace
/// either way; with `NetworkDisabled` beside it the runtime brings loopback up, and Docker starts no
/// process of its own per container to do so (moby `daemon/oci_linux.go`): a start takes half the
/// time. It writes no `/etc/hosts` then.
pub(super) fn network_mode(network: &NetworkAttachment) -> Cow<'_, str> {
    match network {
        NetworkAttachment::None => "none".into(),
        NetworkAttachment::Network { name, .. } => name.into(),
        NetworkAttachment::Shared { container } => format!("container:{container}").into(),
    }
}

/// Whether the engine has no part in it.
fn is_disabled(config: &ContainerConfig) -> bool {
    config.network == NetworkAttachment::None && config.local_names.is_empty()
}

fn networking(network: &NetworkAttachment) -> Option<NetworkingConfig> {
    let NetworkAttachment::Network { name, address } = network else {
        return None;
    };
    let settings = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(name.clone(), settings)])),
    })
}
