//! What others ask of a run that is alive, as lines through a named pipe in its directory.
//!
//! Only the run's user can reach it, and only a process that lives reads it: nobody is asked by a
//! process id that may be another's by now.

use std::fs::File;
use std::io::Write as _;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{FoundRun, JournalError, RunDirectory, io_error};
use crate::id::TaskId;

const NAME: &str = "requests";

/// A request to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// The task; the whole run where none is named.
    pub task: Option<TaskId>,
    /// Whether containers are killed without grace.
    pub forced: bool,
}

impl StopRequest {
    /// Reads one from its line; none where it is none.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

impl RunDirectory {
    /// Makes the pipe that requests come through, to be read without blocking. It never ends.
    #[cfg(target_os = "linux")]
    pub fn requests(&self) -> Result<Option<File>, JournalError> {
        let path = self.path.join(NAME);
        let open = || -> Result<File, Errno> {
            match rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR) {
                Err(error) if error != Errno::EXIST => return Err(error),
                _ => {}
            }
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(CWD, &path, flags, Mode::empty())?.into())
        };
        open().map(Some).map_err(|e| io_error("open", &path, e))
    }

    /// There is no such pipe: the call that makes one is not offered for other systems.
    #[cfg(not(target_os = "linux"))]
    pub fn requests(&self) -> Result<Option<File>, JournalError> {
        Ok(None)
    }
}

impl FoundRun {
    /// Asks the run's process; says whether there is one that listens.
    pub fn ask(&self, request: &StopRequest) -> Result<bool, JournalError> {
        let path = self.path.join(NAME);
        let failed = |e: std::io::Error| io_error("write", &path, e);
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut pipe: File = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(pipe) => pipe.into(),
            // Nobody reads it.
            Err(Errno::NOENT | Errno::NXIO) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        };
        let line = serde_json::to_string(request).unwrap_or_default() + "\n";
        pipe.write_all(line.as_bytes()).map_err(failed)?;
        Ok(true)
    }
}
