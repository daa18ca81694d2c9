//! The open rules: how the host opens what a container could write.
//!
//! One name at a time, below the handle of a directory: never through a symbolic link, never
//! blocking, and only what is a regular file then.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Why something is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// There is nothing of that name.
    #[error("is not there")]
    Missing,
    /// It leads elsewhere.
    #[error("is a symbolic link")]
    SymbolicLink,
    /// It is a directory, a pipe, a socket or a device.
    #[error("is not a regular file")]
    NotRegular,
    /// The system refused.
    #[error("cannot be opened: {0}")]
    Io(Errno),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::LOOP => Self::SymbolicLink,
            other => Self::Io(other),
        }
    }
}

/// Opens a directory of agent-run's own, whose last part is no symbolic link.
pub(super) fn top(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the directory `name` in `at`.
pub(super) fn directory(at: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, name, DIRECTORY, Mode::empty())
}

/// Opens the regular file `name` in `at`, and says what it is.
pub(super) fn regular(
    at: impl AsFd,
    name: impl rustix::path::Arg,
) -> Result<(File, Stat), Refused> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refused::NotRegular);
    }
    Ok((File::from(file), stat))
}
