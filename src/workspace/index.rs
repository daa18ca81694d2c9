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
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, UTIME_OMIT, Uid};
use sha1::{Digest, Sha1};

/// How much older than their checkout the files are made.
const AGE: Duration = Duration::from_secs(10);
/// After what time of git's a second thread helps.
const WORTH_IT: Duration = Duration::from_millis(60);
/// How many files it stays behind git, and how soon it looks whether there are so many again.
const BEHIND: usize = 64;
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Sizes in an index of version 2, in bytes.
const HEADER: usize = 12;
const ENTRY: usize = 62;
const CHECKSUM: usize = 20;
const MODE_GITLINK: u32 = 0o160_000;

/// A checkout whose files are dated back, before anybody else sees them, and given to their owner: of many
/// files one pass is felt, so that it begins while git still writes them.
pub(super) struct Settling {
    worktree: File,
    owner: Option<(Option<Uid>, Option<Gid>)>,
    /// What files are dated, in seconds of Unix time.
    when: u32,
    git_has_ended: Mutex<bool>,
    ends: Condvar,
}

/// Git runs until this is dropped: after a panic too, or the second thread would wait for ever.
struct Ends<'a>(&'a Settling);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        *self.0.lock() = true;
        self.0.ends.notify_one();
    }
}

/// What was settled while git ran.
pub(super) struct Settled {
    /// What `ls-tree -r -z` says.
    list: Vec<u8>,
    /// How many of its files.
    files: usize,
}

/// The files of what `ls-tree -r -z` says: not the commits of submodules.
fn files(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        (!entry.starts_with(b"160000 ")).then(|| &entry[tab + 1..])
    })
}

impl Settling {
    /// Of what git is about to write there.
    pub(super) fn begin(worktree: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let when = now.ok().and_then(|now| now.checked_sub(AGE));
        let when = when.and_then(|when| u32::try_from(when.as_secs()).ok());
        Ok(Self {
            worktree: File::open(worktree)?,
            owner: owner.map(|(uid, gid)| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))),
            when: when.ok_or_else(|| io::Error::other("the clock is not set"))?,
            git_has_ended: Mutex::default(),
            ends: Condvar::new(),
        })
    }

    /// Lets git check out, and settles what it has written meanwhile. `list` gives what `ls-tree -r -z` says
    /// of the same tree; git writes files in that order. Gives what git gave, and the names of these files.
    pub(super) fn while_git<T>(
        &self,
        checks_out: impl FnOnce() -> T,
        list: impl FnOnce() -> Option<Vec<u8>> + Send,
    ) -> (T, Settled) {
        thread::scope(|scope| {
            let settled = scope.spawn(|| {
                // Most checkouts are over by then, and need no list.
                let list = if self.ends_within(WORTH_IT) {
                    None
                } else {
                    list()
                };
                let list = list.unwrap_or_default();
                let files = self.follow(&files(&list).collect::<Vec<_>>());
                Settled { list, files }
            });
            let ends = Ends(self);
            let checked_out = checks_out();
            drop(ends);
            match settled.join() {
                Ok(settled) => (checked_out, settled),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Settles files in the order in which git writes them; gives how many there were.
    fn follow(&self, files: &[&[u8]]) -> usize {
        let mut settled = 0;
        while let Some(next) = files.get(settled + BEHIND) {
            // Where it is there, all before it are whole.
            if !self.has(next) {
                if self.ends_within(LOOK_AGAIN) {
                    break;
                }
                continue;
            }
            let some = &files[settled..settled + BEHIND];
            if some.iter().any(|name| self.settle(name).is_err()) {
                break;
            }
            settled += BEHIND;
        }
        settled
    }

    /// Settles the files of an index but these, and the index itself. Fails where it is not of version 2.
    pub(super) fn finish(&self, index: &Path, settled: &Settled) -> io::Result<()> {
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
                bytes[at + 8..at + 12].copy_from_slice(&self.when.to_be_bytes());
                bytes[at + 12..at + 16].fill(0);
            }
            // One NUL at least, up to a multiple of eight.
            at += (ENTRY + length + 8) & !7;
        }
        let first = names.iter().take(settled.files);
        let is_settled = first
            .map(|name| &bytes[name.clone()])
            .eq(files(&settled.list).take(settled.files));
        let open = if is_settled { settled.files } else { 0 };
        let open = &names[open..];
        on_two_threads(open, |name| self.settle(&bytes[name.clone()]))?;
        let checksum = Sha1::digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum);
        fs::write(index, bytes)
    }

    fn settle(&self, name: &[u8]) -> io::Result<()> {
        let name = OsStr::from_bytes(name);
        if let Some((uid, gid)) = self.owner {
            rustix::fs::chownat(&self.worktree, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.when.into(),
                tv_nsec: 0,
            },
        };
        rustix::fs::utimensat(&self.worktree, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn has(&self, name: &[u8]) -> bool {
        let name = OsStr::from_bytes(name);
        rustix::fs::statat(&self.worktree, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether git ends before that time is over.
    fn ends_within(&self, time: Duration) -> bool {
        let waited = self
            .ends
            .wait_timeout_while(self.lock(), time, |has_ended| !*has_ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.git_has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number at an offset, in network byte order.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(digits))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Instant;

    use super::*;

    #[test]
    fn files_are_dated_back_while_others_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = |file: usize| directory.path().join(format!("{file:03}"));
        let settling = Settling::begin(directory.path(), None).unwrap();
        let is_dated = |file| {
            let of_file = fs::symlink_metadata(path(file)).unwrap();
            of_file.mtime() == i64::from(settling.when)
        };
        let mut list = String::from("160000 commit x\t+submodule\0");
        for file in 0..400 {
            list += &format!("100644 blob x\t{file:03}\0");
        }
        let write = |file| fs::write(path(file), "text").unwrap();
        let git = || {
            (0..150).for_each(write);
            let patience = Instant::now() + Duration::from_secs(60);
            while !(0..BEHIND).all(is_dated) {
                assert!(Instant::now() < patience, "nobody dates what is written");
                thread::yield_now();
            }
            assert!(!is_dated(149), "git may not have written all of it");
            (150..400).for_each(write);
        };
        let ((), settled) = settling.while_git(git, || Some(list.into_bytes()));
        assert!(settled.files >= BEHIND, "{}", settled.files);
        for file in 0..400 {
            assert_eq!(is_dated(file), file < settled.files, "{file}");
        }
    }
}
