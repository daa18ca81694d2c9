//! A run's directory: plan, journal, result, logs, and the lock that says whether its run is alive.
//!
//! The kernel gives the lock back when the process dies, however it dies; the owner label on the
//! engine's objects is for messages and against reused process ids.

mod find;
pub mod log;
mod owner;
mod progress;
mod records;
mod requests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use find::{FoundRun, RunState, read_json};
pub use owner::{has_ended, host, owner, pid_namespace};
pub use progress::TaskProgress;
pub use records::{Journal, JournalReader};
pub use requests::StopRequest;

use crate::event::Event;
use crate::id::{RunId, StateDir};

/// How long a run is waited for that somebody tidies up after, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What can go wrong with a run's directory.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file or directory could not be made, read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The run is alive: another process holds its lock.
    #[error("run {0} is running")]
    Live(RunId),
    /// There is no such run.
    #[error("there is no run {run} in {}", state.display())]
    NoSuchRun {
        /// The run.
        run: RunId,
        /// The state directory.
        state: PathBuf,
    },
    /// A file was not written to its end, or not by agent-run.
    #[error("{} is not whole", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file is of a later version of agent-run.
    #[error("{} is of version {version}, which this agent-run does not know", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

fn io_error(action: &'static str, path: &Path, source: impl Into<io::Error>) -> JournalError {
    JournalError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A run's directory, locked by this process.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory of a new run, open to its user only, and locks it.
    pub fn create(state: &StateDir, run: &RunId) -> Result<Self, JournalError> {
        let path = state.run(run);
        fs::create_dir_all(state.runs())
            .map_err(|e| io_error("create the directory", &state.runs(), e))?;
        // Locked before it has its name: `clean` must not find a run that is not locked yet.
        let unnamed = state.runs().join(format!(".new-{run}"));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&unnamed)
            .map_err(|e| io_error("create the directory", &unnamed, e))?;
        for part in ["logs", "tasks"] {
            let part = unnamed.join(part);
            fs::create_dir(&part).map_err(|e| io_error("create the directory", &part, e))?;
        }
        let mut directory = Self::lock(unnamed, run)?;
        fs::rename(&directory.path, &path)
            .map_err(|e| io_error("create the directory", &path, e))?;
        directory.path = path;
        sync_directory(&state.runs())?;
        Ok(directory)
    }

    /// Locks the directory of a run that has ended or died. Waits for those who only look at it or
    /// tidy up after it.
    pub fn take_over(state: &StateDir, run: &RunId) -> Result<Self, JournalError> {
        let began = Instant::now();
        loop {
            match Self::lock(state.run(run), run) {
                Err(JournalError::Live(_)) if began.elapsed() < PATIENCE => {}
                taken => return taken,
            }
            // One that lives holds it alone.
            drop(Self::visit(state, run)?);
            std::thread::sleep(PAUSE);
        }
    }

    /// Locks the directory of a run that has ended or died against those who would go on with it or
    /// remove it, and not against those who look: it stays what it is. Only the holder of
    /// [`TidyLock`] does so for longer than a moment.
    pub fn visit(state: &StateDir, run: &RunId) -> Result<Self, JournalError> {
        let how = FlockOperation::NonBlockingLockShared;
        Self::lock_so(state.run(run), run, how)
    }

    fn lock(path: PathBuf, run: &RunId) -> Result<Self, JournalError> {
        let how = FlockOperation::NonBlockingLockExclusive;
        Self::lock_so(path, run, how)
    }

    fn lock_so(path: PathBuf, run: &RunId, how: FlockOperation) -> Result<Self, JournalError> {
        let file = path.join("lock");
        // Never written to: it was made when the run began, and that is what its time says.
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(|e| io_error("open", &file, e))?;
        match flock(&lock, how) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(JournalError::Live(run.clone())),
            Err(e) => Err(io_error("lock", &file, e)),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a JSON file of the directory, whole or not at all.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let path = self.path.join(name);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.as_file().sync_data()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|e| io_error("write", &path, e))?;
        sync_directory(&self.path)
    }

    /// Reads a JSON file of the directory, of version `newest` or older; nothing if it is not there or
    /// not whole.
    ///
    /// # Errors
    /// [`JournalError::NewerVersion`].
    pub fn read_json<T: DeserializeOwned>(
        &self,
        name: &str,
        newest: u32,
    ) -> Result<Option<T>, JournalError> {
        match read_json(&self.path.join(name), newest) {
            Err(error @ JournalError::NewerVersion { .. }) => Err(error),
            read => Ok(read.ok()),
        }
    }

    /// Opens the run's journal for writing, or begins it; gives what is in it.
    pub fn journal(&self) -> Result<(Journal, Vec<Event>), JournalError> {
        let opened = Journal::open(self.path.join(records::NAME))?;
        sync_directory(&self.path)?;
        Ok(opened)
    }
}

/// Held by the one process of a state directory that tidies up after runs which died.
#[derive(Debug)]
pub struct TidyLock {
    _file: File,
}

impl TidyLock {
    /// Takes it; none while another process has it.
    pub fn take(state: &StateDir) -> Result<Option<Self>, JournalError> {
        let path = state.tidy_lock();
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(|e| io_error("open", &path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(io_error("lock", &path, e)),
        }
    }
}

/// Has the names in a directory on the disk.
fn sync_directory(path: &Path) -> Result<(), JournalError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|e| io_error("sync", path, e))
}

/// Removes what is left of directories whose making was cut short: no run has begun in them. With
/// `dry_run` only says which these are; gives them.
pub fn remove_unborn(state: &StateDir, dry_run: bool) -> Result<Vec<PathBuf>, JournalError> {
    let mut removed = Vec::new();
    let entries = fs::read_dir(state.runs()).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(".new-"));
        let Some(run) = run.and_then(|run| run.parse::<RunId>().ok()) else {
            continue;
        };
        // One that is being made just now is locked in a moment.
        let age = run
            .started()
            .map(|at| jiff::Timestamp::now().duration_since(at));
        if age.is_some_and(|age| age.as_secs() < 60) {
            continue;
        }
        match RunDirectory::lock(entry.path(), &run) {
            Err(JournalError::Live(_)) => {}
            Err(error) => return Err(error),
            Ok(held) => {
                let path = held.path();
                if !dry_run {
                    fs::remove_dir_all(path).map_err(|e| io_error("remove", path, e))?;
                }
                removed.push(path.to_owned());
            }
        }
    }
    Ok(removed)
}

/// All runs that have a directory, oldest first.
pub fn runs(state: &StateDir) -> Result<Vec<RunId>, JournalError> {
    let directory = state.runs();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("read", &directory, e)),
    };
    let mut runs: Vec<RunId> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    runs.sort_by_cached_key(|run| began(state, run));
    Ok(runs)
}

/// By what runs are put in order: the second that is in the id, and within it when the lock was made,
/// which nothing writes to.
fn began(state: &StateDir, run: &RunId) -> (String, Option<SystemTime>, RunId) {
    let lock = fs::metadata(state.run(run).join("lock"));
    let made = lock.and_then(|lock| lock.modified());
    (run.second().to_owned(), made.ok(), run.clone())
}
