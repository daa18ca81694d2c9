//! What stays of a dead run when its work is safe, until somebody wants it gone: its directory with
//! logs and reports, the refs of its attempts, and its branches.

use std::collections::BTreeSet;

use super::clean::{CleanReport, Cleaner};
use super::teardown::Removed;
use super::{StepError, blocking};
use crate::engine::Engine;
use crate::git::Repository;
use crate::id::RunId;
use crate::journal::{FoundRun, JournalError, RunDirectory};
use crate::workspace;

impl<E: Engine> Cleaner<E> {
    /// Removes the directory of a dead run that holds no work, with its logs and reports, and the
    /// refs of its attempts; or says what it would remove.
    ///
    /// # Errors
    /// [`JournalError::Live`] if the run is alive.
    pub async fn forget(
        &self,
        run: &RunId,
        repository: Option<Repository>,
        dry_run: bool,
    ) -> Result<CleanReport, JournalError> {
        let mut report = CleanReport::default();
        let _lock = RunDirectory::take_over(&self.state, run)?;
        if !dry_run && FoundRun::of(&self.state, run)?.holds_work() {
            return Ok(report);
        }
        let (state, run) = (self.state.clone(), run.clone());
        let removed = blocking(move || -> Result<Vec<Removed>, StepError> {
            let mut removed = Vec::new();
            if let Some(repository) = repository {
                let refs = repository
                    .refs(&run.attempts_prefix())
                    .map_err(|e| StepError::new("remove", &e))?;
                if !dry_run {
                    let gone = repository.delete_refs(&refs);
                    gone.map_err(|e| StepError::new("remove", &e))?;
                }
                let named = refs.iter().map(|(name, id)| {
                    let name = format!("{name} ({})", id.short());
                    Removed::new("ref", &name)
                });
                removed.extend(named);
            }
            if !dry_run {
                let gone = workspace::remove(&state, &state.run(&run));
                gone.map_err(|e| StepError::new("remove", &e))?;
            }
            let what = "with plan, journal, logs and reports";
            removed.push(Removed::new("its directory", &what));
            Ok(removed)
        });
        match removed.await {
            Ok(removed) => report.removed = removed,
            Err(error) => report.problems.push(error.message),
        }
        Ok(report)
    }
}

/// Removes the branches that a run made and that are merged; gives their names, with what they were.
///
/// # Errors
/// A sentence, where the repository does not answer; what is checked out or unmerged stays.
pub async fn remove_merged(
    repository: Repository,
    made: BTreeSet<String>,
    dry_run: bool,
) -> Result<Vec<Removed>, String> {
    let removed = blocking(move || {
        let mut removed = Vec::new();
        for (branch, tip) in repository.merged_branches()? {
            if made.contains(&branch) {
                let full = format!("refs/heads/{branch}");
                if !dry_run {
                    repository.delete_refs(&[(full, tip.clone())])?;
                }
                let name = format!("{branch} ({})", tip.short());
                removed.push(Removed::new("branch", &name));
            }
        }
        Ok(removed)
    });
    let told = |e: crate::git::GitError| StepError::new("remove", &e).message;
    removed.await.map_err(told)
}
