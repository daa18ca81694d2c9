//! Removal of what repositories' parts of the state directory no longer need: base stores that no
//! run has used for long, with the results that build on them, and abandoned quarantines.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::git::{Git, GitError, RepositoryLock};
use crate::id::{RepoKey, StateDir};
use crate::workspace::BaseStore;

/// No collection takes longer: an older quarantine belongs to a process that was killed.
const QUARANTINE_AGE: Duration = Duration::from_secs(24 * 3600);

/// Removes base stores of a repository that were not used for `unused_for`, and quarantines that
/// nobody works in. Returns what was removed. The user's repository is not touched: the branches
/// that were made of the results are complete there.
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
        let is_store = name.starts_with(b"base-");
        let age = if is_store {
            BaseStore::last_used(&path)
        } else {
            fs::metadata(&path).and_then(|m| m.modified())
        };
        let age = age.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        let limit = match (is_store, name.starts_with(b"quarantine-")) {
            (true, _) => unused_for,
            (false, true) => QUARANTINE_AGE,
            (false, false) => continue,
        };
        if age.map_err(failed())? < limit {
            continue;
        }
        if is_store {
            forget_results(git, &state.results(repository), &path)?;
        }
        fs::remove_dir_all(&path).map_err(failed())?;
        removed.push(path);
    }
    Ok(removed)
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
