//! What the engine is: its answer to `GET /info` as [`EngineInfo`].

use bollard::models::SystemInfo;

use super::DockerEngine;
use super::call::{Call, QUICK};
use crate::engine::{EngineError, EngineInfo, ErrorKind, Operation};

impl DockerEngine {
    pub(super) async fn read_info(&self) -> Result<EngineInfo, EngineError> {
        let call = Call::new(Operation::Info, &self.endpoint.url);
        let info = call.within(QUICK, self.docker.info()).await?;
        let cpus = info.ncpu.and_then(|n| usize::try_from(n).ok());
        let (Some(cpus), Some(memory)) = (cpus.filter(|n| *n > 0), info.mem_total) else {
            let words = "it does not say how many CPUs and how much memory it has";
            return Err(call.error(ErrorKind::Broken(words.into())));
        };
        Ok(EngineInfo {
            endpoint: self.endpoint.url.clone(),
            remote: self.endpoint.remote(),
            version: self.version.clone(),
            api_version: self.api_version.clone(),
            cpus,
            memory,
            rootless: has_option(&info, "rootless"),
            userns_root: userns_root(&info),
            missing_limits: missing_limits(&info),
        })
    }
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
