//! What the engine is: its answers to `GET /info` and `GET /version` as [`EngineInfo`].

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum, SystemVersion};

use super::DockerEngine;
use super::call::{Call, QUICK, printable};
use crate::engine::{Component, EngineError, EngineInfo, ErrorKind, Operation};

/// The name of the engine itself among its components.
const ITSELF: &str = "Engine";
/// How a platform that has a version of its own names itself: `Docker Desktop 4.43.1 (198352)`.
const DESKTOP: &str = "Docker Desktop";

impl DockerEngine {
    pub(super) async fn read_info(&self) -> Result<EngineInfo, EngineError> {
        let call = Call::new(Operation::Info, &self.endpoint.url);
        let docker = self.afresh().map_err(|kind| call.error(kind))?;
        let info = call.within(QUICK, docker.info()).await?;
        let cpus = info.ncpu.and_then(|n| usize::try_from(n).ok());
        let (Some(cpus), Some(memory)) = (cpus.filter(|n| *n > 0), info.mem_total) else {
            let words = "it does not say how many CPUs and how much memory it has";
            return Err(call.error(ErrorKind::Broken(words.into())));
        };
        Ok(EngineInfo {
            id: info.id.clone().filter(|id| !id.is_empty()),
            endpoint: self.endpoint.url.clone(),
            remote: self.endpoint.remote(),
            version: self.version.clone(),
            api_version: self.api_version.clone(),
            cpus,
            memory,
            rootless: has_option(&info, "rootless"),
            userns_root: userns_root(&info),
            missing_limits: missing_limits(&info),
            runtimes: runtimes(&info),
            cgroup_version: cgroup_version(&info),
            keeps_containers: info.live_restore_enabled.unwrap_or(false),
            data_directory: info.docker_root_dir.map(Into::into),
            components: self.components.clone(),
        })
    }
}

fn runtimes(info: &SystemInfo) -> Vec<String> {
    let names = info.runtimes.iter().flat_map(|all| all.keys());
    let mut names: Vec<String> = names.map(|name| printable(name)).collect();
    names.sort_unstable();
    names
}

fn cgroup_version(info: &SystemInfo) -> Option<u8> {
    match info.cgroup_version? {
        SystemInfoCgroupVersionEnum::_1 => Some(1),
        SystemInfoCgroupVersionEnum::_2 => Some(2),
        SystemInfoCgroupVersionEnum::EMPTY => None,
    }
}

/// The programs beside the engine itself, and the product that it is part of, if it says a version.
pub(super) fn components(version: &SystemVersion) -> Vec<Component> {
    let platform = version.platform.as_ref().and_then(|platform| {
        let version = platform.name.strip_prefix(DESKTOP)?.trim();
        (!version.is_empty()).then_some((DESKTOP, version))
    });
    let named = version.components.iter().flatten();
    let named = named
        .filter(|component| component.name != ITSELF)
        .map(|component| (component.name.as_str(), component.version.as_str()));
    let all = named.chain(platform);
    all.map(|(name, version)| Component {
        name: printable(name),
        version: printable(version),
    })
    .collect()
}

/// Whether `SecurityOptions` holds `name=<option>`, alone or before a comma.
fn has_option(info: &SystemInfo, option: &str) -> bool {
    let wanted = format!("name={option}");
    let options = info.security_options.iter().flatten();
    options
        .filter_map(|text| text.split(',').next())
        .any(|name| name == wanted)
}

/// The first host uid and gid of a remapped engine. It keeps its data in a directory named by
/// them: `/var/lib/docker/<uid>.<gid>` (docs.docker.com, "Isolate containers with a user namespace").
fn userns_root(info: &SystemInfo) -> Option<(u32, u32)> {
    if !has_option(info, "userns") {
        return None;
    }
    let directory = info.docker_root_dir.as_deref()?;
    let (uid, gid) = directory.rsplit('/').next()?.split_once('.')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// The limits that the engine says it cannot set; what it does not mention counts as missing.
fn missing_limits(info: &SystemInfo) -> Vec<&'static str> {
    let limits = [
        ("mem_limit", info.memory_limit),
        ("memswap_limit", info.swap_limit),
        ("cpus", info.cpu_cfs_quota),
        ("pids_limit", info.pids_limit),
    ];
    let missing = limits.into_iter().filter(|(_, set)| *set != Some(true));
    missing.map(|(key, _)| key).collect()
}
