//! Room for another task: below a floor of free bytes or inodes none begins, and those that run go on.
//!
//! Looked at where agent-run keeps its files, and where the engine keeps its own if that is a
//! directory of this machine.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::StatVfs;
use tokio::time::sleep;

use super::{Shared, Shutdown, blocking};
use crate::engine::Engine;
use crate::event::EventKind;

/// What must be free at least, in bytes and in inodes, but no more than a share of a small disk.
const BYTES: u64 = 512 << 20;
const INODES: u64 = 10_000;
/// That share: a twentieth.
const SHARE: u64 = 20;
/// How often it is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether people know that nothing begins for want of room.
#[derive(Default)]
pub(super) struct Floor {
    is_told: AtomicBool,
}

impl<E: Engine> Shared<E> {
    /// Returns once there is room for another task, or the run stops.
    pub(super) async fn room(&self) {
        let mut shutdown = self.shutdown.clone();
        while let Some(lack) = self.lack().await {
            if !self.floor.is_told.swap(true, Ordering::Relaxed) {
                self.warn_of_room(format!(
                    "{lack}: no further task begins until there is room; `agent-run clean` \
                     removes what earlier runs left, `docker system prune` what the engine keeps"
                ));
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = shutdown.wait_for(|asked| *asked != Shutdown::None) => return,
            }
        }
        if self.floor.is_told.swap(false, Ordering::Relaxed) {
            self.warn_of_room("there is room on the disk again: tasks begin".into());
        }
    }

    /// What there is too little of, as a clause.
    async fn lack(&self) -> Option<String> {
        let own = self.context.state.runs();
        let engine = self.context.info.data_directory.clone();
        let engine = engine.filter(|_| !self.context.info.remote);
        blocking(move || {
            let places = [Some(own), engine];
            places
                .into_iter()
                .flatten()
                .find_map(|place| lack_at(&place))
        })
        .await
    }

    fn warn_of_room(&self, message: String) {
        self.event(None, EventKind::Warning { message });
    }
}

/// What a file system has too little of; nothing where it cannot be asked.
fn lack_at(place: &PathBuf) -> Option<String> {
    lack(&rustix::fs::statvfs(place).ok()?, place)
}

fn lack(disk: &StatVfs, place: &Path) -> Option<String> {
    let place = place.display();
    let floor = BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < floor {
        let (free, floor) = (free >> 20, floor >> 20);
        return Some(format!(
            "the disk of {place} has {free} MiB free, and {floor} MiB are wanted"
        ));
    }
    // File systems that make inodes as they are needed say that they have none.
    let floor = INODES.min(disk.f_files / SHARE);
    let free = disk.f_favail;
    (free < floor)
        .then(|| format!("the disk of {place} has {free} inodes free, and {floor} are wanted"))
}

#[cfg(test)]
mod tests {
    use rustix::fs::StatVfsMountFlags;

    use super::*;

    /// A disk of this many MiB and inodes, and what is free of both.
    fn disk(mebibytes: (u64, u64), inodes: (u64, u64)) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: mebibytes.0 << 8,
            f_bfree: mebibytes.1 << 8,
            f_bavail: mebibytes.1 << 8,
            f_files: inodes.0,
            f_ffree: inodes.1,
            f_favail: inodes.1,
            f_fsid: 0,
            f_flag: StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    #[test]
    fn a_floor_is_absolute_on_a_large_disk_and_a_share_of_a_small_one() {
        let low = |mebibytes, inodes| lack(&disk(mebibytes, inodes), Path::new("/x"));
        for (mebibytes, inodes) in [
            ((1 << 20, 512), (1 << 24, 10_000)),
            ((100, 5), (1000, 50)),
            ((1 << 20, 512), (0, 0)),
        ] {
            assert_eq!(low(mebibytes, inodes), None);
        }
        let told = |what: &str| Some(format!("the disk of /x has {what} are wanted"));
        let few = (1 << 24, 1 << 24);
        assert_eq!(low((1 << 20, 511), few), told("511 MiB free, and 512 MiB"));
        assert_eq!(low((100, 4), few), told("4 MiB free, and 5 MiB"));
        assert_eq!(low((100, 50), (1000, 49)), told("49 inodes free, and 50"));
        let many = (1 << 24, 9_999);
        assert_eq!(low((100, 50), many), told("9999 inodes free, and 10000"));
    }
}
