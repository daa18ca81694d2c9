//! What no run needs any more and none owns: the trash, directories in which no run has begun, base
//! stores and shared checkouts that were not used for long.

use std::path::PathBuf;
use std::time::Duration;

use super::clean::CleanReport;
use super::teardown::Removed;
use super::{StepError, blocking};
use crate::collect;
use crate::id::{RepoKey, RunId, StateDir};
use crate::journal;
use crate::workspace::{self, SharedCheckout};

/// How long a base store may lie unused.
const STORE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes it all. Where runs `would_release` their checkouts, it only says what it would remove then.
pub async fn remove_unused(state: &StateDir, would_release: Option<Vec<RunId>>) -> CleanReport {
    let state = state.clone();
    blocking(move || {
        let dry_run = would_release.is_some();
        let mut report = CleanReport::default();
        let (emptied, failed) = workspace::empty_trash(&state, dry_run);
        report.take_paths("trash", Ok(emptied));
        report.take_paths("trash", failed.map(|()| Vec::new()).map_err(|e| told(&e)));
        let unborn = journal::remove_unborn(&state, dry_run).map_err(|e| told(&e));
        report.take_paths("unfinished run", unborn);
        for repo in repositories(&state) {
            let stores = collect::remove_unused(&state, &repo, STORE_AGE, dry_run);
            report.take_paths("unused store", stores.map_err(|e| told(&e)));
            let checkouts = SharedCheckout::remove_unused(&state, &repo, would_release.as_deref());
            report.take_paths("unused checkout", checkouts.map_err(|e| told(&e)));
        }
        report
    })
    .await
}

/// Deletes what removals that were cut short left in the trash; gives a sentence if that failed.
pub(super) async fn empty_trash(state: &StateDir) -> Option<String> {
    let state = state.clone();
    let emptied = blocking(move || workspace::empty_trash(&state, false).1).await;
    emptied.err().map(|e| told(&e))
}

fn told(error: &dyn std::error::Error) -> String {
    StepError::new("remove", error).message
}

impl CleanReport {
    fn take_paths(&mut self, what: &'static str, removed: Result<Vec<PathBuf>, String>) {
        match removed {
            Ok(paths) => {
                let paths = paths.iter().map(|path| Removed::new(what, &path.display()));
                self.removed.extend(paths);
            }
            Err(problem) => self.problems.push(problem),
        }
    }
}

/// The repositories that have a directory in the state directory.
fn repositories(state: &StateDir) -> Vec<RepoKey> {
    let entries = std::fs::read_dir(state.repos()).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
