//! One lock per repository, held across processes while its stores and branches change.

use std::fs::{self, File};

use super::GitError;
use crate::id::{RepoKey, StateDir};

/// Holds the repository's lock until it is dropped, or until the process ends in any way.
#[derive(Debug)]
pub struct RepositoryLock {
    _file: File,
}

impl RepositoryLock {
    /// Waits for the lock: flock(2) on a file in the repository's part of the state directory.
    pub fn acquire(state: &StateDir, repository: &RepoKey) -> Result<Self, GitError> {
        let directory = state.repo(repository);
        let failed = || GitError::io(format!("lock {}", directory.display()));
        fs::create_dir_all(&directory).map_err(failed())?;
        let file = File::create(directory.join("lock")).map_err(failed())?;
        file.lock().map_err(failed())?;
        Ok(Self { _file: file })
    }
}
