//! Makes the index of a fresh checkout one that git believes.
//!
//! Git trusts an entry only if the file is older than the index by a second (gitformat-index(5),
//! "racy git"), and in a checkout all files are as new as the index. Every command inside would read
//! each file again, and `git add` would store a copy of each: what it borrows is read-only, so that
//! it cannot mark it as in use. So the files are dated back, on the disk and in the index.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid};
use sha1::{Digest, Sha1};

/// How much older than their index the files are made, in seconds.
const AGE: i64 = 10;
/// Sizes in an index of version 2, in bytes.
const HEADER: usize = 12;
const ENTRY: usize = 62;
const CHECKSUM: usize = 20;
const MODE_GITLINK: u32 = 0o160_000;

/// Dates all files of a checkout back, before anybody else sees them, and gives them to their owner: of
/// many files one pass is felt. Fails where the index is not of version 2.
pub(super) fn settle(index: &Path, worktree: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let owner = owner.map(|(uid, gid)| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))));
    let when = fs::metadata(index)?.mtime() - AGE;
    let mut bytes = fs::read(index)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an index of version 2");
    let end = bytes.len().checked_sub(CHECKSUM).ok_or_else(malformed)?;
    if !bytes.starts_with(b"DIRC\0\0\0\x02") {
        return Err(malformed());
    }
    let mut names = Vec::new();
    let mut at = HEADER;
    for _ in 0..number(&bytes, 8).ok_or_else(malformed)? {
        let mode = number(&bytes, at + 24).ok_or_else(malformed)?;
        let rest = bytes.get(at + ENTRY..end).ok_or_else(malformed)?;
        let length = rest.iter().position(|b| *b == 0).ok_or_else(malformed)?;
        if mode != MODE_GITLINK {
            names.push(at + ENTRY..at + ENTRY + length);
            let seconds = u32::try_from(when).map_err(|_| malformed())?;
            bytes[at + 8..at + 12].copy_from_slice(&seconds.to_be_bytes());
            bytes[at + 12..at + 16].fill(0);
        }
        // One NUL at least, up to a multiple of eight.
        at += (ENTRY + length + 8) & !7;
    }
    let worktree = File::open(worktree)?;
    on_two_threads(&names, |name| {
        let name = OsStr::from_bytes(&bytes[name.clone()]);
        if let Some((uid, gid)) = owner {
            rustix::fs::chownat(&worktree, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        set_mtime(&worktree, name, when)
    })?;
    let checksum = Sha1::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum);
    fs::write(index, bytes)
}

/// The number at an offset, in network byte order.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(digits))
}

fn set_mtime(worktree: &File, name: &OsStr, seconds: i64) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
    };
    rustix::fs::utimensat(worktree, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Does something to each of many files, half of them by a second thread.
fn on_two_threads<T: Sync, E: Send>(
    items: &[T],
    act: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (first, second) = items.split_at(items.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| second.iter().try_for_each(&act));
        let first = first.iter().try_for_each(&act);
        match second.join() {
            Ok(second) => first.and(second),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
