//! Finding runs without being one: whose they are, and whether they are alive. Reads only.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{JournalError, io_error, runs};
use crate::id::{RepoKey, RunId, StateDir, task_directories};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its process holds its lock.
    Live,
    /// Its process has gone without writing a result.
    Interrupted,
    /// It has a result.
    Finished,
}

/// A run as its directory shows it to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// The run.
    pub run: RunId,
    /// Its directory.
    pub path: PathBuf,
    /// How far it has come.
    pub state: RunState,
}

impl FoundRun {
    /// The run with this id, whatever its repository.
    ///
    /// # Errors
    /// [`JournalError::NoSuchRun`].
    pub fn of(state: &StateDir, run: &RunId) -> Result<Self, JournalError> {
        let path = state.run(run);
        if !path.is_dir() {
            return Err(JournalError::NoSuchRun {
                run: run.clone(),
                state: state.path().to_owned(),
            });
        }
        let state = run_state(&path)?;
        let run = run.clone();
        Ok(Self { run, path, state })
    }

    /// All runs, oldest first.
    pub fn all(state: &StateDir) -> Result<Vec<Self>, JournalError> {
        let all = runs(state)?;
        let directories = all.iter().filter(|run| state.run(run).is_dir());
        directories.map(|run| Self::of(state, run)).collect()
    }

    /// The newest run of a repository, if it has any; a preview is none.
    pub fn latest(state: &StateDir, repo: &RepoKey) -> Result<Option<Self>, JournalError> {
        for run in runs(state)?.iter().rev() {
            let whose = whose(&state.run(run));
            if whose.is_some_and(|its| its.previews.is_none() && its.repository.key == *repo) {
                return Self::of(state, run).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether work of its tasks is still in its directory.
    pub fn holds_work(&self) -> bool {
        fs::read_dir(task_directories(&self.path)).is_ok_and(|mut tasks| tasks.next().is_some())
    }

    /// The repository that it works on; none where its plan says none, or cannot be read.
    pub fn repo(&self) -> Option<RepoKey> {
        whose(&self.path).map(|its| its.repository.key)
    }

    /// Whether it only shows what a task of another run has made: nobody misses it.
    pub fn is_preview(&self) -> bool {
        whose(&self.path).is_some_and(|its| its.previews.is_some())
    }

    /// Reads a JSON file of its directory, of version `newest` or older.
    ///
    /// # Errors
    /// [`JournalError::Io`], also where there is no such file, [`JournalError::NewerVersion`] and
    /// [`JournalError::Damaged`].
    pub fn read_json<T: DeserializeOwned>(
        &self,
        name: &str,
        newest: u32,
    ) -> Result<T, JournalError> {
        read_json(&self.path.join(name), newest)
    }
}

/// Reads a JSON file that a run wrote, of version `newest` or older.
///
/// # Errors
/// [`JournalError::Io`], also where there is no such file, [`JournalError::NewerVersion`] and
/// [`JournalError::Damaged`].
pub fn read_json<T: DeserializeOwned>(path: &Path, newest: u32) -> Result<T, JournalError> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<u32>,
    }
    let text = fs::read(path).map_err(|e| io_error("read", path, e))?;
    let damaged = |source| JournalError::Damaged {
        path: path.to_owned(),
        source,
    };
    match serde_json::from_slice::<Head>(&text).map_err(damaged)? {
        Head { version: Some(v) } if v > newest => Err(JournalError::NewerVersion {
            path: path.to_owned(),
            version: v,
        }),
        _ => serde_json::from_slice(&text).map_err(damaged),
    }
}

/// What of its plan says whose a run is.
#[derive(Deserialize)]
struct Whose {
    repository: Repository,
    previews: Option<RunId>,
}

#[derive(Deserialize)]
struct Repository {
    key: RepoKey,
}

fn whose(directory: &Path) -> Option<Whose> {
    let text = fs::read(directory.join("plan.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The lock is shared for the moment of looking, so that those who look do not see each other.
fn run_state(directory: &Path) -> Result<RunState, JournalError> {
    let path = directory.join("lock");
    // A run writes its result before it lets go of its lock: asked in this order, no run that ends
    // meanwhile looks interrupted.
    let is_live = match File::open(&path) {
        Ok(lock) => match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => false,
            Err(Errno::WOULDBLOCK) => true,
            Err(e) => return Err(io_error("lock", &path, e)),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) => return Err(io_error("open", &path, e)),
    };
    if is_live {
        return Ok(RunState::Live);
    }
    let result = directory.join("result.json");
    match result.try_exists() {
        Ok(true) => Ok(RunState::Finished),
        Ok(false) => Ok(RunState::Interrupted),
        Err(e) => Err(io_error("read", &result, e)),
    }
}
