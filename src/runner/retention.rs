//! What is left of a dead run when its work is safe: a result, for a while its directory with logs
//! and reports, and the refs of its attempts.

use std::collections::BTreeSet;

use super::clean::{CleanReport, Cleaner};
use super::outcome::bare_report;
use super::{StepError, blocking};
use crate::engine::Engine;
use crate::event::{
    BranchReport, EventKind, RunSummary, StopReason, TaskOutcome, TaskPhase, TaskReport, Versioned,
};
use crate::git::Repository;
use crate::id::{RunId, TaskId};
use crate::journal::{FoundRun, JournalError, RunDirectory};
use crate::plan::{RunPlan, TaskPlan};
use crate::workspace;

/// Gives a run that died a result: what its journal says of its tasks, and what was collected since.
/// Nobody goes on with it then, so that no task runs twice.
pub(super) fn settle(
    directory: &RunDirectory,
    plan: &RunPlan,
    collected: &[(TaskId, BranchReport)],
) -> Result<(), JournalError> {
    let (mut journal, events) = directory.journal()?;
    let began = |task: &TaskId| {
        let begins = |kind: &EventKind| matches!(kind, EventKind::Phase { phase } if *phase != TaskPhase::Waiting);
        let mut events = events.iter();
        events.any(|event| event.task.as_ref() == Some(task) && begins(&event.kind))
    };
    let report = |plan: &TaskPlan| {
        let task = &plan.id;
        let bare = |outcome| bare_report(plan, outcome);
        let mut reports = events.iter().rev().filter_map(|event| match &event.kind {
            EventKind::TaskFinished { report } if report.task == *task => Some(report),
            _ => None,
        });
        let branch = collected.iter().find(|(of, _)| of == task);
        let branch = branch.map(|(_, branch)| branch.clone());
        match reports.next() {
            Some(report) => {
                let mut report = TaskReport::clone(report);
                report.branch = branch.or(report.branch);
                report
            }
            None if began(task) || branch.is_some() => TaskReport {
                attempt: 1,
                branch,
                ..bare(TaskOutcome::Cancelled)
            },
            None => {
                let reason = "the run ended before it began".into();
                bare(TaskOutcome::Skipped {
                    reason,
                    claimed: false,
                })
            }
        }
    };
    let last = events.last();
    let summary = RunSummary {
        run: plan.run.clone(),
        tasks: plan.tasks.iter().map(report).collect(),
        stopped: Some(StopReason::Interrupted),
        took: std::time::Duration::from_millis(last.map_or(0, |event| event.elapsed_ms)),
        teardown_errors: Vec::new(),
        directory: directory.path().to_owned(),
    };
    journal.release();
    directory.write_json("result.json", &Versioned::new(&summary))
}

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
        let removed = blocking(move || -> Result<Vec<String>, StepError> {
            let mut removed = Vec::new();
            if let Some(repository) = repository {
                let refs = repository
                    .refs(&run.attempts_prefix())
                    .map_err(|e| StepError::new("remove", &e))?;
                if !dry_run {
                    let gone = repository.delete_refs(&refs);
                    gone.map_err(|e| StepError::new("remove", &e))?;
                }
                let named = refs
                    .iter()
                    .map(|(name, id)| format!("{name} ({})", id.short()));
                removed.extend(named);
            }
            if !dry_run {
                let gone = workspace::remove(&state, &state.run(&run));
                gone.map_err(|e| StepError::new("remove", &e))?;
            }
            removed.push("its directory with plan, journal, logs and reports".into());
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
) -> Result<Vec<String>, String> {
    let removed = blocking(move || {
        let mut removed = Vec::new();
        for (branch, tip) in repository.merged_branches()? {
            if made.contains(&branch) {
                let full = format!("refs/heads/{branch}");
                if !dry_run {
                    repository.delete_refs(&[(full, tip.clone())])?;
                }
                removed.push(format!("branch {branch} ({})", tip.short()));
            }
        }
        Ok(removed)
    });
    let told = |e: crate::git::GitError| StepError::new("remove", &e).message;
    removed.await.map_err(told)
}
