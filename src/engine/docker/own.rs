//! The container that this process runs in, where the engine runs it too: which of its directories
//! the engine sees, and where.
//!
//! What is found here is a guess: that a directory does arrive in containers is proved by sending
//! something through it before the first task.

use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptions;

use super::call::{Call, QUICK};
use crate::engine::Operation;

/// Files of ours that the engine mounts into every container, from a directory named by its id.
const FROM_THE_ENGINE: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// The length of a container's id, in hexadecimal digits.
const ID: usize = 64;

/// A mount of our own container: a path inside, and on the engine's host if it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnMount {
    inside: PathBuf,
    outside: Option<PathBuf>,
}

/// The mounts of the container that this process runs in; nothing if it runs in none of this engine.
pub(super) async fn mounts(docker: &Docker) -> Option<Vec<OwnMount>> {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let (cgroup, mountinfo) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    for id in ids(&cgroup, &mountinfo) {
        let call = Call::new(Operation::Connect, id);
        let container = docker.inspect_container(id, None::<InspectContainerOptions>);
        let Ok(container) = call.within(QUICK, container).await else {
            continue;
        };
        let mounts = mounts_of(&container);
        let points: Vec<PathBuf> = points(&mountinfo).map(PathBuf::from).collect();
        // With another container's network come its files, and so its id.
        if !mounts.is_empty() && mounts.iter().all(|mount| points.contains(&mount.inside)) {
            return Some(mounts);
        }
    }
    None
}

/// Where the engine has a path of ours: below the innermost mount that it lies in. Nothing where
/// that is the container's own file system, or memory.
pub(super) fn outside(mounts: &[OwnMount], path: &Path) -> Option<PathBuf> {
    let covering = mounts.iter().filter_map(|mount| {
        let rest = path.strip_prefix(&mount.inside).ok()?;
        Some((mount, rest))
    });
    let (mount, rest) = covering.max_by_key(|(mount, _)| mount.inside.components().count())?;
    let outside = mount.outside.as_ref()?;
    if rest.as_os_str().is_empty() {
        return Some(outside.clone());
    }
    Some(outside.join(rest))
}

/// The directories of ours that the engine has.
pub(super) fn shared(mounts: &[OwnMount]) -> Vec<&Path> {
    let shared = mounts.iter().filter(|mount| mount.outside.is_some());
    let inside = shared.map(|mount| mount.inside.as_path());
    let mut directories: Vec<&Path> = inside.filter(|path| path.is_dir()).collect();
    directories.sort_unstable();
    directories
}

/// Ids that may be ours, the surest first: those of our control group, then that of the directory
/// which `/etc/hostname` and its like come from. The first alone is hidden by a cgroup namespace.
fn ids<'a>(cgroup: &'a str, mountinfo: &'a str) -> impl Iterator<Item = &'a str> {
    let groups = cgroup.lines().filter_map(|line| line.rsplit('/').next());
    let groups = groups.map(|name| {
        let name = name.rsplit('-').next().unwrap_or(name);
        name.strip_suffix(".scope").unwrap_or(name)
    });
    let files = mountinfo.lines().filter_map(|line| {
        let (root, point) = root_and_point(line)?;
        FROM_THE_ENGINE.contains(&point).then_some(root)
    });
    let directories = files.flat_map(|root| root.split('/'));
    let is_id = |id: &&str| id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit());
    let mut seen = Vec::new();
    let all = groups.chain(directories).filter(is_id);
    all.filter(move |id| {
        let new = !seen.contains(id);
        seen.push(*id);
        new
    })
}

fn points(mountinfo: &str) -> impl Iterator<Item = String> {
    let points = mountinfo
        .lines()
        .filter_map(|line| Some(root_and_point(line)?.1));
    points.map(unescaped)
}

/// The fourth and fifth field of a line of `/proc/self/mountinfo`, proc(5).
fn root_and_point(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(' ').skip(3);
    Some((fields.next()?, fields.next()?))
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(field: &str) -> String {
    let pairs = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    pairs
        .iter()
        .fold(field.to_owned(), |text, (code, character)| {
            text.replace(code, character)
        })
}

fn mounts_of(container: &ContainerInspectResponse) -> Vec<OwnMount> {
    let mounts = container.mounts.iter().flatten().filter_map(|mount| {
        let on_the_host = matches!(mount.typ.as_deref(), Some("bind" | "volume"));
        // The engine says where a volume of its own lies, and nothing of those of others.
        let source = mount.source.as_ref().filter(|source| !source.is_empty());
        Some(OwnMount {
            inside: resolved(mount.destination.as_ref()?),
            outside: source.filter(|_| on_the_host).map(PathBuf::from),
        })
    });
    let tmpfs = container
        .host_config
        .as_ref()
        .and_then(|host| host.tmpfs.as_ref());
    let tmpfs = tmpfs.into_iter().flatten().map(|(inside, _)| OwnMount {
        inside: resolved(inside),
        outside: None,
    });
    mounts.chain(tmpfs).collect()
}

/// `/var/run/x` is mounted at `/run/x` where the first is a link.
fn resolved(path: &String) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "8f7c9fdf8241b8082f3b5e3abe266663920d04143de417a2e5925f098d9d0b11";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000b11";

    #[test]
    fn an_id_is_found_in_every_form_of_a_control_group() {
        for line in [
            format!("12:pids:/docker/{OURS}"),
            format!("0::/system.slice/docker-{OURS}.scope"),
            format!("1:name=systemd:/docker/{OTHER}/docker/{OURS}"),
            format!("0::/kubepods/besteffort/pod1-2/{OURS}"),
        ] {
            let found: Vec<&str> = ids(&line, "").collect();
            assert_eq!(found, [OURS], "{line}");
        }
        assert_eq!(
            ids("0::/\n1:cpu:/user.slice/user-0.slice\n", "").next(),
            None
        );
    }

    #[test]
    fn an_id_is_found_in_the_files_that_the_engine_mounts() {
        let mountinfo = format!(
            "83 54 0:43 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/{OTHER}/diff\n\
             90 83 254:0 /var/lib/docker/containers/{OTHER}/mounts /elsewhere rw - ext4 /dev/vda rw\n\
             91 83 254:0 /var/lib/docker/containers/{OURS}/hostname /etc/hostname rw - ext4 /dev/vda rw\n\
             92 83 254:0 /var/lib/docker/containers/{OURS}/hosts /etc/hosts rw - ext4 /dev/vda rw\n"
        );
        let found: Vec<&str> = ids("0::/\n", &mountinfo).collect();
        assert_eq!(found, [OURS]);
        let named = "1 2 3:4 /a\\040b /with\\040blank\\134 rw - ext4 /dev/vda rw\n";
        assert_eq!(points(named).collect::<Vec<_>>(), ["/with blank\\"]);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mount = |inside: &str, outside: Option<&str>| OwnMount {
            inside: inside.into(),
            outside: outside.map(PathBuf::from),
        };
        let mounts = [
            mount("/data", Some("/srv/a")),
            mount("/data/state", Some("/srv/b/c")),
            mount("/data/state/memory", None),
            mount("/database", Some("/srv/d")),
        ];
        let at = |path: &str| outside(&mounts, Path::new(path));
        assert_eq!(at("/data"), Some("/srv/a".into()));
        assert_eq!(at("/data/x/y"), Some("/srv/a/x/y".into()));
        assert_eq!(at("/data/state/runs"), Some("/srv/b/c/runs".into()));
        assert_eq!(at("/data/state/memory/x"), None);
        assert_eq!(at("/databases"), None);
        assert_eq!(at("/root/.local"), None);
    }
}
