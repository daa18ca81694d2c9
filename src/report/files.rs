//! Files that a run writes for others: whole ones at its end, events line by line as they happen.
//!
//! A whole file takes its place in one step, so that nobody reads half of it. What is no file but a
//! device or a pipe is written as it is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_setfl};
use tempfile::NamedTempFile;

use super::github::inert_json;
use crate::event::{Event, Versioned};

/// A place that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    source: io::Error,
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { path, source }
}

/// Whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Finds out whether a whole file could be written there, and makes the directories that it lacks.
pub fn prepare_whole(path: &Path) -> Result<(), WriteError> {
    match place(path) {
        Place::Special if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Place::Stdout | Place::Special => Ok(()),
        Place::File(file) => temporary(&file).map(drop),
    }
    .map_err(write_error(path))
}

/// Writes a whole file: all of it or, on an error, none. A reader of a pipe that has gone is no error.
pub fn write_whole(path: &Path, text: &str) -> Result<(), WriteError> {
    let written = match place(path) {
        Place::Stdout => io::stdout().write_all(text.as_bytes()),
        Place::Special => open_special(path).and_then(|mut to| to.write_all(text.as_bytes())),
        Place::File(file) => temporary(&file).and_then(|mut whole| {
            whole.write_all(text.as_bytes())?;
            whole.as_file().sync_data()?;
            whole.persist(&file)?;
            Ok(())
        }),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(write_error(path)),
    }
}

/// What a path names.
enum Place {
    Stdout,
    /// A device, a pipe, or something else that cannot be replaced.
    Special,
    /// A file, or nothing yet; links are followed.
    File(PathBuf),
}

fn place(path: &Path) -> Place {
    if is_stdout(path) {
        return Place::Stdout;
    }
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Place::Special,
        Ok(_) => Place::File(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())),
        Err(_) => Place::File(path.to_owned()),
    }
}

/// A file beside `file` that can take its place, with the permissions of any new file.
fn temporary(file: &Path) -> io::Result<NamedTempFile> {
    let directory = directory_of(file)?;
    tempfile::Builder::new()
        .prefix(".agent-run-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
}

/// The directory of a file, made if it is not there.
fn directory_of(file: &Path) -> io::Result<&Path> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    Ok(directory)
}

/// Opens a pipe only if somebody reads it: nobody may ever come.
fn open_special(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

/// Where the events of a run go, one JSON object a line.
#[derive(Debug, Default)]
pub struct EventLog {
    files: Vec<(PathBuf, File)>,
    failed: Vec<WriteError>,
}

impl EventLog {
    /// Adds a file that is open.
    pub fn add(&mut self, path: &Path, file: File) {
        self.files.push((path.to_owned(), file));
    }

    /// Adds a file, emptied or made anew, or standard output. Waits for the reader of a pipe.
    pub fn open(&mut self, path: &Path) -> Result<(), WriteError> {
        let open = || {
            if is_stdout(path) {
                return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?));
            }
            directory_of(path)?;
            File::create(path)
        };
        let file = open().map_err(write_error(path))?;
        self.add(path, file);
        Ok(())
    }

    /// Writes an event everywhere. A file that cannot be written is left as it is from then on: the
    /// run matters more than its record. Gives those that failed now.
    pub fn write(&mut self, event: &Event) -> &[WriteError] {
        // Into memory, and an event has nothing that JSON cannot hold.
        let json = serde_json::to_string(&Versioned::new(event)).unwrap_or_default();
        // Standard output may be read by GitHub's runner.
        let line = inert_json(&json) + "\n";
        let Self { files, failed } = self;
        let before = failed.len();
        files.retain_mut(|(path, file)| match file.write_all(line.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    failed.push(write_error(path)(error));
                }
                false
            }
        });
        &failed[before..]
    }

    /// The files that could not be written to their end.
    pub fn failed(self) -> Vec<WriteError> {
        self.failed
    }
}
