//! Removal of what is no longer needed: base stores that no run has used for long, with the results
//! that build on them, and what a promotion that was killed left in the user's repository.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::promote::KEEP;
use crate::git::{Git, GitError, Repository, RepositoryLock};
use crate::id::{RepoKey, StateDir};
use crate::workspace::BaseStore;

/// Removes base stores of a repository that were not used for `unused_for`. Returns what was
/// removed. The user's repository is not touched: the branches that were made of the results are
/// complete there.
pub fn remove_unused(
    git: &Git,
    state: &StateDir,
    repository: &RepoKey,
    unused_for: Duration,
) -> Result<Vec<PathBuf>, GitError> {
    let _lock = RepositoryLock::acquire(state, repository)?;
    let directory = state.repo(repository);
    let failed = || GitError::io(format!("clean {}", directory.display()));
    let mut removed = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default().as_bytes();
        if !name.starts_with(b"base-") {
            continue;
        }
        let used = BaseStore::last_used(&path).map_err(failed())?;
        if SystemTime::now().duration_since(used).unwrap_or_default() < unused_for {
            continue;
        }
        forget_results(git, &state.results(repository), &path)?;
        fs::remove_dir_all(&path).map_err(failed())?;
        removed.push(path);
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

/// Removes the results that borrow from a store, and the borrowing.
fn forget_results(git: &Git, results: &Path, store: &Path) -> Result<(), GitError> {
    if !results.join("HEAD").is_file() {
        return Ok(());
    }
    let key = store
        .file_stem()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let prefix = format!("refs/results/{}/", key.trim_start_matches("base-"));
    let call = git.call(["for-each-ref", "--format=delete %(refname)", &prefix]);
    let deletions = call.git_dir(results).run()?;
    let call = git.call(["update-ref", "--stdin"]).git_dir(results);
    call.input(deletions).run()?;
    let alternates = results.join("objects/info/alternates");
    let objects = store.join("objects");
    let failed = || GitError::io(format!("write {}", alternates.display()));
    let lines = match fs::read(&alternates) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed())?,
    };
    let kept = |line: &&[u8]| !line.is_empty() && *line != objects.as_os_str().as_bytes();
    let lines: Vec<_> = lines.split(|b| *b == b'\n').filter(kept).collect();
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    fs::write(&alternates, text).map_err(failed())
}
