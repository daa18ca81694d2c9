//! What was asked of the engine against what it made: a limit that was dropped is an error.
//!
//! Docker drops limits that the kernel does not offer with a warning at most, so that only an
//! inspect shows it.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, HostConfig, MountPoint, NetworkSettings};

use super::container::{OOM_SCORE, network_mode};
use super::publish;
use crate::engine::ErrorKind;
use crate::engine::config::{ContainerConfig, Limits, NetworkAttachment};

/// Compares a container with its configuration. The key of the error is the spec's where the spec
/// has one, else the engine's.
pub(super) fn compare(
    config: &ContainerConfig,
    made: &ContainerInspectResponse,
) -> Result<(), ErrorKind> {
    let host = made.host_config.clone().unwrap_or_default();
    let user = made
        .config
        .as_ref()
        .and_then(|config| config.user.as_deref());
    let runtime = config.runtime.as_ref();
    let checks = [
        (
            "runtime",
            runtime.is_none_or(|asked| host.runtime.as_ref() == Some(asked)),
        ),
        (
            "user",
            config.user.is_empty() || user == Some(config.user.as_str()),
        ),
        (
            "read_only",
            host.readonly_rootfs.unwrap_or(false) == config.read_only,
        ),
        ("mounts", mounts_are(config, made)),
        ("ports", publish::is_as_asked(&config.publish, &host)),
        (
            "network_mode",
            network_is(&config.network, &host, made.network_settings.as_ref()),
        ),
    ];
    let all = limits(&config.limits, &host)
        .into_iter()
        .chain(hardening(&host, config))
        .chain(checks);
    match all.into_iter().find(|(_, honoured)| !honoured) {
        Some((key, _)) => Err(ErrorKind::LimitNotHonoured(key)),
        None => Ok(()),
    }
}

fn limits(asked: &Limits, host: &HostConfig) -> [(&'static str, bool); 7] {
    let ulimits = host.ulimits.iter().flatten();
    let ulimits: HashMap<_, _> = ulimits
        .filter_map(|limit| Some((limit.name.clone()?, (limit.soft?, limit.hard?))))
        .collect();
    let mut asked_ulimits = asked.ulimits.iter();
    let tmpfs = host.tmpfs.clone().unwrap_or_default();
    [
        ("mem_limit", host.memory == Some(asked.memory)),
        ("memswap_limit", host.memory_swap == Some(asked.memory_swap)),
        ("cpus", host.nano_cpus == Some(asked.nano_cpus)),
        ("pids_limit", host.pids_limit == Some(asked.pids)),
        ("shm_size", host.shm_size == Some(asked.shm_size)),
        (
            "ulimits",
            asked_ulimits.all(|(name, limit)| ulimits.get(name) == Some(&(limit.soft, limit.hard))),
        ),
        (
            "tmpfs",
            asked
                .tmpfs
                .iter()
                .all(|(path, options)| tmpfs.get(path) == Some(options)),
        ),
    ]
}

/// What the engine makes of a privileged container is no business of ours: it was asked for.
fn hardening(host: &HostConfig, config: &ContainerConfig) -> [(&'static str, bool); 9] {
    let trusted = &config.trusted;
    let privileged = trusted.privileged;
    let options = || host.security_opt.iter().flatten();
    let dropped = |cap: &String| cap.eq_ignore_ascii_case("all");
    let kept = |cap: &String| {
        let name = cap.strip_prefix("CAP_").unwrap_or(cap);
        config.capabilities.contains(&name) || trusted.cap_add.iter().any(|added| added == name)
    };
    let no_new = |option: &String| {
        option
            .strip_prefix("no-new-privileges")
            .is_some_and(|rest| rest.is_empty() || rest == ":true" || rest == "=true")
    };
    let loosened = |option: &String| option.contains("unconfined") || option.contains("disable");
    [
        ("init", host.init == Some(true)),
        ("privileged", privileged || host.privileged != Some(true)),
        ("cap_drop", host.cap_drop.iter().flatten().any(dropped)),
        ("cap_add", host.cap_add.iter().flatten().all(kept)),
        (
            "security_opt",
            // The engine sets `label=disable` by itself where it makes no sense.
            options().any(no_new) && (privileged || trusted.host_pid || !options().any(loosened)),
        ),
        ("ipc", host.ipc_mode.as_deref() == Some("private")),
        ("oom_score_adj", host.oom_score_adj == Some(OOM_SCORE)),
        (
            "masked_paths",
            privileged
                || host
                    .masked_paths
                    .as_ref()
                    .is_none_or(|paths| !paths.is_empty()),
        ),
        (
            "pid",
            trusted.host_pid || host.pid_mode.as_deref().unwrap_or_default().is_empty(),
        ),
    ]
}

/// Every bind mount is there as asked, and no other one; likewise every volume, beside those that
/// the image declares. The sources of bind mounts are not compared: an engine in a virtual machine
/// (Docker Desktop) answers with its own paths.
fn mounts_are(asked: &ContainerConfig, made: &ContainerInspectResponse) -> bool {
    let points = || made.mounts.iter().flatten();
    let binds = || points().filter(|point| point.typ.as_deref() == Some("bind"));
    let is_at = |point: &MountPoint, target: &str, writable| {
        point.destination.as_deref() == Some(target) && point.rw == Some(writable)
    };
    let mut mounts = asked.mounts.iter();
    let mut volumes = asked.volumes.iter();
    binds().count() == asked.mounts.len()
        && mounts.all(|mount| binds().any(|point| is_at(point, &mount.target, !mount.read_only)))
        && volumes.all(|mount| {
            let is_volume = |point: &MountPoint| {
                point.typ.as_deref() == Some("volume")
                    && point.name.as_ref() == Some(&mount.volume)
                    && is_at(point, &mount.target, true)
            };
            points().any(is_volume)
        })
}

fn network_is(
    asked: &NetworkAttachment,
    host: &HostConfig,
    settings: Option<&NetworkSettings>,
) -> bool {
    let networks = settings.and_then(|settings| settings.networks.clone());
    let networks = networks.unwrap_or_default();
    let only = |name: &str| networks.keys().all(|key| key == name);
    let mode = network_mode(asked);
    let has = host.network_mode.as_deref();
    if matches!(asked, NetworkAttachment::Shared { .. }) {
        // The engine puts its id in place of the name.
        return has.is_some_and(|has| has.starts_with("container:")) && networks.is_empty();
    }
    let address = match asked {
        NetworkAttachment::None | NetworkAttachment::Shared { .. } => true,
        NetworkAttachment::Network { name, address } => {
            let endpoint = networks
                .get(name)
                .and_then(|point| point.ipam_config.as_ref());
            let given = endpoint.and_then(|ipam| ipam.ipv4_address.as_deref());
            given == Some(address.to_string().as_str())
        }
    };
    has == Some(&*mode) && only(&mode) && address
}
