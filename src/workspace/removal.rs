//! Removal of directories that an agent wrote in: no symbolic link is followed, no other file
//! system entered, no depth is too deep, no path too long.
//!
//! Every subdirectory is first moved up beside the one being emptied, so that two open
//! directories and one-part names are enough for any tree.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::id::StateDir;

/// A directory that could not be removed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// What is left belongs to another user, is in use or is another file system's.
    #[error("{left} files or directories are left in {}, the first: {first}", path.display())]
    Left {
        /// The directory in the trash that holds them: for a helper with more rights.
        path: PathBuf,
        /// How many there are, not counting what is in them.
        left: usize,
        /// Why the first could not be removed.
        first: io::Error,
    },
    /// It could not be begun.
    #[error("could not move {} to the trash", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Moves a directory to the trash and deletes it there. Succeeds where it is gone already.
pub fn remove(state: &StateDir, directory: &Path) -> Result<(), RemovalError> {
    let failed = |source| RemovalError::Io {
        path: directory.to_owned(),
        source,
    };
    let is_gone =
        || matches!(fs::symlink_metadata(directory), Err(e) if e.kind() == io::ErrorKind::NotFound);
    if is_gone() {
        return Ok(());
    }
    fs::create_dir_all(state.trash()).map_err(failed)?;
    loop {
        let mut name = tempfile::Builder::new();
        let bin = name.prefix("bin-").tempdir_in(state.trash());
        let bin = bin.map_err(failed)?.keep();
        let moved = lock(&bin, FlockOperation::LockExclusive).and_then(|in_use| {
            fs::rename(directory, bin.join("0"))?;
            Ok(in_use)
        });
        match moved {
            Ok(_in_use) => return empty(&bin),
            // Somebody emptied the trash before the bin was locked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !bin.exists() => {}
            Err(source) => {
                let _ = fs::remove_dir(&bin);
                return if is_gone() {
                    Ok(())
                } else {
                    Err(failed(source))
                };
            }
        }
    }
}

/// Deletes what earlier removals left in the trash; with `dry_run` only says what that is. Leaves alone
/// what is being removed just now: two that empty one directory would each take the other's progress
/// for a failure. Gives what was deleted, and the first failure.
pub fn empty_trash(state: &StateDir, dry_run: bool) -> (Vec<PathBuf>, Result<(), RemovalError>) {
    let trash = state.trash();
    let failed = |source| RemovalError::Io {
        path: trash.clone(),
        source,
    };
    let bins = match fs::read_dir(&trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Ok(())),
        Err(error) => return (Vec::new(), Err(failed(error))),
        Ok(bins) => bins,
    };
    let (mut emptied, mut first) = (Vec::new(), Ok(()));
    for bin in bins {
        let alone = bin.map(|bin| bin.path()).and_then(|bin| {
            let alone = lock(&bin, FlockOperation::NonBlockingLockExclusive)?;
            Ok((bin, alone))
        });
        let done = match alone {
            Ok((bin, _alone)) => {
                let done = if dry_run { Ok(()) } else { empty(&bin) };
                emptied.extend(done.is_ok().then_some(bin));
                done
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(failed(error)),
        };
        first = first.and(done);
    }
    (emptied, first)
}

/// Locks a directory of the trash until the handle is dropped.
fn lock(bin: &Path, how: FlockOperation) -> io::Result<OwnedFd> {
    let handle = open_directory(CWD, bin)?;
    rustix::fs::flock(&handle, how)?;
    Ok(handle)
}

/// Empties a directory of the trash and removes it.
fn empty(bin: &Path) -> Result<(), RemovalError> {
    let mut sweep = Sweep::open(bin).map_err(|source| RemovalError::Io {
        path: bin.to_owned(),
        source,
    })?;
    sweep.run();
    match sweep.first {
        None => fs::remove_dir(bin).map_err(|source| RemovalError::Io {
            path: bin.to_owned(),
            source,
        }),
        Some(first) => Err(RemovalError::Left {
            path: bin.to_owned(),
            left: sweep.left,
            first,
        }),
    }
}

struct Sweep {
    bin: OwnedFd,
    pending: Vec<CString>,
    next: u64,
    left: usize,
    first: Option<io::Error>,
}

impl Sweep {
    fn open(bin: &Path) -> io::Result<Self> {
        let handle = open_directory(CWD, bin)?;
        let mut sweep = Self {
            bin: handle,
            pending: Vec::new(),
            next: 1,
            left: 0,
            first: None,
        };
        for (name, kind) in entries(&sweep.bin)? {
            match kind {
                FileType::Directory => sweep.pending.push(name),
                _ => rustix::fs::unlinkat(&sweep.bin, &name, AtFlags::empty())?,
            }
        }
        Ok(sweep)
    }

    fn run(&mut self) {
        while let Some(name) = self.pending.pop() {
            let result = self.directory(&name);
            if let Err(error) = result {
                self.leave(error);
            }
        }
    }

    /// Empties one directory of the bin by deleting its files and moving its directories up.
    fn directory(&mut self, name: &CString) -> io::Result<()> {
        let directory = self.open_for_emptying(name)?;
        let mut left_here = 0;
        for (entry, kind) in entries(&directory)? {
            let result = match kind {
                // Another user's directory cannot be moved, but removed once it is empty.
                FileType::Directory => self.move_up(&directory, &entry).or_else(|error| {
                    let removed = rustix::fs::unlinkat(&directory, &entry, AtFlags::REMOVEDIR);
                    removed.map_err(|_| error)
                }),
                _ => rustix::fs::unlinkat(&directory, &entry, AtFlags::empty())
                    .map_err(io::Error::from),
            };
            if let Err(error) = result {
                left_here += 1;
                self.leave(error);
            }
        }
        if left_here == 0 {
            rustix::fs::unlinkat(&self.bin, name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn open_for_emptying(&self, name: &CString) -> io::Result<OwnedFd> {
        // An agent may have taken the rights from its own directory; the owner gives them back.
        let _ = rustix::fs::chmodat(&self.bin, name, Mode::RWXU, AtFlags::empty());
        Ok(open_directory(&self.bin, name)?)
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &CString) -> io::Result<()> {
        let fresh = loop {
            let fresh = CString::new(self.next.to_string())?;
            self.next += 1;
            if rustix::fs::statat(&self.bin, &fresh, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                break fresh;
            }
        };
        match rustix::fs::renameat(parent, name, &self.bin, &fresh) {
            // Moving a directory needs write permission in itself. What is mounted on one is not ours.
            Err(Errno::ACCESS | Errno::PERM) if !is_mount_point(parent, name) => {
                rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::renameat(parent, name, &self.bin, &fresh)?;
            }
            other => other?,
        }
        self.pending.push(fresh);
        Ok(())
    }

    fn leave(&mut self, error: io::Error) {
        self.left += 1;
        self.first.get_or_insert(error);
    }
}

/// Whether another file system is seen at `name`, or it cannot be told.
fn is_mount_point(parent: &OwnedFd, name: &CString) -> bool {
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let around = rustix::fs::fstat(parent);
    !matches!((there, around), (Ok(there), Ok(around)) if there.st_dev == around.st_dev)
}

/// Opens a directory to list it; no symbolic link to one.
pub(super) fn open_directory<P: rustix::path::Arg>(
    at: impl std::os::fd::AsFd,
    name: P,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// The names in a directory and what they are, read at once so that it can change meanwhile.
fn entries(directory: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}
