//! Removal of what is no longer needed: base stores that no run has used for long, with the results
//! that build on them, and what a promotion that was killed left in the user's repository.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::promote::KEEP;
use crate::git::{GitError, Repository, RepositoryLock};
use crate::id::{RepoKey, StateDir};
use crate::workspace::BaseStore;

/// Removes base stores of a repository that were not used for `unused_for`, and the results that build
/// on them; with `dry_run` only says which these are. Returns what was removed. The user's repository is
/// not touched: the branches that were made of the results are complete there.
pub fn remove_unused(
    state: &StateDir,
    repository: &RepoKey,
    unused_for: Duration,
    dry_run: bool,
) -> Result<Vec<PathBuf>, GitError> {
    let _lock = RepositoryLock::acquire(state, repository)?;
    let directory = state.repo(repository);
    let failed = || GitError::io(format!("clean {}", directory.display()));
    let mut removed = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        let Some(key) = name.and_then(StateDir::base_store_key) else {
            continue;
        };
        let used = BaseStore::last_used(&path).map_err(failed())?;
        if SystemTime::now().duration_since(used).unwrap_or_default() < unused_for {
            continue;
        }
        let results = Some(state.results(repository, key)).filter(|results| results.exists());
        for unused in results.into_iter().chain([path]) {
            if !dry_run {
                fs::remove_dir_all(&unused).map_err(failed())?;
            }
            removed.push(unused);
        }
    }
    Ok(removed)
}

/// Lets repacking have the packs that a promotion which was killed was holding.
pub fn release_packs(state: &StateDir, repository: &Repository) -> Result<(), GitError> {
    // Under the lock no promotion is under way: every mark of ours is one that was left.
    let _lock = RepositoryLock::acquire(state, repository.key())?;
    let packs = repository.common_dir().join("objects/pack");
    let failed = || GitError::io(format!("clean {}", packs.display()));
    for entry in fs::read_dir(&packs).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let is_keep = path
            .extension()
            .is_some_and(|extension| extension == "keep");
        if is_keep && fs::read(&path).is_ok_and(|text| text.trim_ascii() == KEEP.as_bytes()) {
            fs::remove_file(&path).map_err(failed())?;
        }
    }
    Ok(())
}
