//! What is kept of setups and caches for tasks to come: listed, and removed once it is unused for long
//! enough and no run may still have it mounted.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::setup::names;
use super::shared::{LAST_USED, is_old, is_unused};
use super::{PreparedLock, WorkspaceError, remove};
use crate::git::RepositoryLock;
use crate::id::{RepoKey, RunId, StateDir};

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub kind: KeptKind,
    /// The repository.
    pub repository: RepoKey,
    /// Tells those of a kind apart.
    pub key: String,
    /// The directory.
    pub path: PathBuf,
}

/// The kinds of [`Kept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeptKind {
    /// What a setup prepared.
    Prepared,
    /// A cache.
    Cache,
}

impl Kept {
    /// All that is kept, by repository, kind and key.
    pub fn all(state: &StateDir) -> Result<Vec<Self>, WorkspaceError> {
        let mut repositories: Vec<RepoKey> = names(&state.repos())?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        repositories.sort();
        let all = repositories.iter().map(|key| Self::of(state, key));
        Ok(all.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// What is kept for tasks of a repository, by kind and key.
    fn of(state: &StateDir, repository: &RepoKey) -> Result<Vec<Self>, WorkspaceError> {
        let directory = state.repo(repository);
        let mut found = Vec::new();
        for name in names(&directory)? {
            let kind = match (StateDir::prepared_key(&name), StateDir::cache_key(&name)) {
                (Some(key), _) => Some((KeptKind::Prepared, key)),
                (None, Some(key)) => Some((KeptKind::Cache, key)),
                (None, None) => None,
            };
            found.extend(kind.map(|(kind, key)| Self {
                kind,
                repository: repository.clone(),
                key: key.to_owned(),
                path: directory.join(&name),
            }));
        }
        found.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
        Ok(found)
    }

    /// When a run last used it, or when it was begun.
    pub fn last_used(&self) -> Option<SystemTime> {
        let stamp = fs::metadata(self.path.join(LAST_USED));
        stamp
            .or_else(|_| fs::metadata(&self.path))
            .ok()?
            .modified()
            .ok()
    }

    /// Whether it can be removed: nobody has used it for so long, and no run but those may have it
    /// mounted.
    pub fn is_unused(
        &self,
        state: &StateDir,
        unused_for: Duration,
        but: &[RunId],
    ) -> Result<bool, WorkspaceError> {
        match self.kind {
            KeptKind::Prepared => {
                let name = format!("prepared-{}", self.key);
                is_unused(state, &name, &self.path, unused_for, but)
            }
            KeptKind::Cache => Ok(is_old(&self.path, unused_for)? && !self.is_taken(state, but)?),
        }
    }

    /// Whether an attempt of any run but those has it.
    fn is_taken(&self, state: &StateDir, but: &[RunId]) -> Result<bool, WorkspaceError> {
        let prefix = format!("cache-{}-", self.key);
        for run in names(&state.runs())? {
            let Ok(run) = run.parse::<RunId>() else {
                continue;
            };
            let marks = names(&state.views(&run))?;
            if !but.contains(&run) && marks.iter().any(|mark| mark.starts_with(&prefix)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes it, if it is unused for so long; says whether it did.
    pub fn remove(&self, state: &StateDir, unused_for: Duration) -> Result<bool, WorkspaceError> {
        let gone = || remove(state, &self.path).map_err(WorkspaceError::Removal);
        match self.kind {
            KeptKind::Prepared => {
                let Some(lock) = PreparedLock::try_acquire(state, &self.repository, &self.key)?
                else {
                    return Ok(false);
                };
                if !self.is_unused(state, unused_for, &[])? {
                    return Ok(false);
                }
                gone()?;
                if !state.prepared(&self.repository, &self.key).exists() {
                    lock.remove();
                }
            }
            KeptKind::Cache => {
                let _lock = RepositoryLock::acquire(state, &self.repository)
                    .map_err(WorkspaceError::git("lock the caches"))?;
                if !self.is_unused(state, unused_for, &[])? {
                    return Ok(false);
                }
                gone()?;
            }
        }
        Ok(true)
    }
}
