//! How much disk a run takes. An agent may write in its directory meanwhile: no symbolic link is
//! followed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FoundRun;

/// The deepest directory that is looked into: each level holds one open.
const DEPTH: usize = 64;

/// The size of a block of `st_blocks`, in bytes: stat(2).
const BLOCK: u64 = 512;

/// How much disk a directory takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// What was counted, in bytes; a file with several names counts once for each.
    pub bytes: u64,
    /// Whether there is more that could not be counted.
    pub is_partial: bool,
}

impl FoundRun {
    /// How much disk its directory takes.
    pub fn disk_use(&self) -> DiskUse {
        let mut disk = DiskUse::default();
        match open(CWD, &self.path) {
            Ok(directory) => count(&directory, DEPTH, &mut disk),
            Err(_) => disk.is_partial = true,
        }
        disk
    }
}

fn open<P: rustix::path::Arg>(
    at: impl std::os::fd::AsFd,
    name: P,
) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn count(directory: &std::os::fd::OwnedFd, depth: usize, disk: &mut DiskUse) {
    let Ok(entries) = Dir::read_from(directory) else {
        disk.is_partial = true;
        return;
    };
    for entry in entries {
        let Ok(entry) = entry else {
            disk.is_partial = true;
            return;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let facts = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(facts) => facts,
            // It was removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(_) => {
                disk.is_partial = true;
                continue;
            }
        };
        disk.bytes += u64::try_from(facts.st_blocks).unwrap_or(0) * BLOCK;
        if FileType::from_raw_mode(facts.st_mode) != FileType::Directory {
            continue;
        }
        match open(directory, name) {
            _ if depth == 0 => disk.is_partial = true,
            Ok(inner) => count(&inner, depth - 1, disk),
            Err(Errno::NOENT) => {}
            Err(_) => disk.is_partial = true,
        }
    }
}
