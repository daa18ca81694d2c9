//! What can be told of this machine without an engine: git, the repository, disks, routes, log-ins.

use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::finding::Finding;
use crate::cli::prepare::refuse_state_inside;
use crate::cli::surroundings::Surroundings;
use crate::engine::EngineInfo;
use crate::engine::docker::configured_logins;
use crate::git::{Git, GitError, Repository};
use crate::runner::Pool;
use crate::sanitize;

const GIB: u64 = 1 << 30;
/// Less free space than this is told of, in bytes, and less than that is too little for any run.
const LITTLE: u64 = 5 * GIB;
const TOO_LITTLE: u64 = 64 << 20;
/// Fewer free inodes than this are told of.
const FEW_FILES: u64 = 50_000;

/// Host git, and whether a run could start in this directory.
pub(super) fn git(surroundings: &Surroundings) -> Vec<Finding> {
    let found = Git::new(
        &surroundings.search_path,
        &surroundings.state.path().join("git"),
    )
    .and_then(|git| git.version().map(|version| (git, version)));
    let (git, version) = match found {
        Ok(found) => found,
        Err(error) => {
            let fix = "install git 2.39 or newer, as by: apt-get install git";
            return vec![failed("git", &error).fix(fix)];
        }
    };
    vec![
        Finding::ok("git", format!("{version} (2.39 or newer is needed)")),
        repository(surroundings, &git),
    ]
}

fn failed(check: &str, error: &GitError) -> Finding {
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        message = format!("{message}: {source}");
    }
    Finding::fail(check, message)
}

/// A spec can name another repository, so that this one only matters to who stands in it.
fn repository(surroundings: &Surroundings, git: &Git) -> Finding {
    let check = "repository";
    match Repository::open(git, &surroundings.directory) {
        Ok(repository) => {
            if refuse_state_inside(surroundings, &repository).is_err() {
                return Finding::fail(check, "the state directory lies inside of it")
                    .fix("name another with --state-dir");
            }
            let shallow = if repository.is_shallow() {
                ", a shallow clone: tasks see as much history as it has"
            } else {
                ""
            };
            let path = shown(repository.directory());
            Finding::ok(check, format!("{path}{shallow}"))
        }
        Err(error) => failed(check, &error)
            .only_a_warning()
            .fix("go where your repository is, or name it in the spec with `repo`"),
    }
}

/// How much is free where this directory lies.
pub(super) fn disk(check: &str, directory: &Path) -> Finding {
    let place = shown(directory);
    let found = match rustix::fs::statvfs(directory) {
        Ok(found) => found,
        Err(error) => return Finding::skip(check, format!("{place} cannot be looked at: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let message = format!("{place}: {:.1} GiB free", gib(free));
    let fix = "free some: agent-run clean, and what `docker system df` shows";
    if free < TOO_LITTLE {
        return Finding::fail(check, message).fix(fix);
    }
    if free < LITTLE {
        return Finding::warn(check, message + ", which many tasks fill quickly").fix(fix);
    }
    // A file system without a fixed number of inodes says 0.
    if found.f_files > 0 && found.f_favail < FEW_FILES {
        let files = found.f_favail;
        return Finding::warn(check, format!("{message}, but only {files} inodes")).fix(fix);
    }
    Finding::ok(check, message)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

/// Where the engine keeps its data, if that is a place of this machine.
pub(super) fn engine_data(info: &EngineInfo) -> Finding {
    let check = "engine's data";
    match &info.data_directory {
        Some(directory) if !info.remote && directory.is_dir() => disk(check, directory),
        Some(directory) => {
            let place = shown(directory);
            Finding::skip(check, format!("{place} is on the engine's own machine"))
                .fix("docker system df shows how much it holds")
        }
        None => Finding::skip(check, "the engine does not say where it is"),
    }
}

/// A route of this machine into the range would send packets of tasks elsewhere, or the other way.
pub(super) fn pool(pool: Pool) -> Finding {
    let check = "network pool";
    let Ok(table) = std::fs::read_to_string("/proc/net/route") else {
        return Finding::skip(
            check,
            format!("{pool}; this system's routes are not looked at"),
        );
    };
    let crossing = crossing(&table, pool);
    let (of_engine, foreign): (Vec<_>, Vec<_>) =
        crossing.into_iter().partition(|(interface, _)| {
            interface.starts_with("br-") || interface.starts_with("docker")
        });
    if foreign.is_empty() {
        let used = match of_engine.len() {
            0 => String::new(),
            n => format!(", {n} of its subnets in use on this engine"),
        };
        return Finding::ok(
            check,
            format!("{pool}: no other route of this machine{used}"),
        );
    }
    let routes: Vec<String> = foreign
        .iter()
        .map(|(interface, route)| format!("{route} by {interface}"))
        .collect();
    Finding::warn(
        check,
        format!("{pool} overlaps a route: {}", routes.join(", ")),
    )
    .fix(super::POOL_FIX)
}

/// The routes of proc(5)'s `/proc/net/route` that lead into the pool, without the default one:
/// interface and range. Addresses are hexadecimal in the machine's byte order.
fn crossing(table: &str, pool: Pool) -> Vec<(String, String)> {
    let route = |line: &str| {
        let mut words = line.split_whitespace();
        let interface = sanitize::line(words.next()?.as_bytes(), false);
        let address = |hex: &str| {
            let number = u32::from_str_radix(hex, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let first = address(words.next()?)?;
        let prefix = u8::try_from(u32::from(address(words.nth(5)?)?).leading_ones()).ok()?;
        let crosses = prefix > 0 && pool.overlaps(first, prefix);
        crosses.then(|| (interface, format!("{first}/{prefix}")))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// The log-ins of registries that images may be pulled with.
pub(super) fn logins(surroundings: &Surroundings) -> Finding {
    let check = "registry log-ins";
    match configured_logins(&surroundings.engine, &surroundings.search_path) {
        Ok(servers) if servers.is_empty() => Finding::ok(check, "none: public images only"),
        Ok(servers) => {
            let servers = sanitize::line(servers.join(", ").as_bytes(), false);
            Finding::ok(check, servers)
        }
        Err(why) => Finding::warn(check, format!("{why}: public images only"))
            .fix("mend the file, or log in again: docker login REGISTRY"),
    }
}

pub(super) fn shown(path: &Path) -> String {
    sanitize::line(path.as_os_str().as_bytes(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_into_the_pool_are_found_but_not_the_default_one() {
        let hex = |text: &str| {
            let address: Ipv4Addr = text.parse().expect("an address");
            format!("{:08X}", u32::from_ne_bytes(address.octets()))
        };
        let line = |interface: &str, first: &str, mask: &str| {
            format!(
                "{interface}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n",
                hex(first),
                hex(mask)
            )
        };
        let table = "Iface\tDestination\n".to_owned()
            + &line("eth0", "0.0.0.0", "0.0.0.0")
            + &line("eth0", "192.168.1.0", "255.255.255.0")
            + &line("tun0", "10.0.0.0", "255.0.0.0")
            + &line("br-1", "10.213.0.0", "255.255.240.0")
            + "garbage\n";
        let found = crossing(&table, Pool::default());
        let expected = [("tun0", "10.0.0.0/8"), ("br-1", "10.213.0.0/20")];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found, expected);
    }
}
