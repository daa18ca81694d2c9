//! Where a task starts: at the run's base, or at what the tasks made that it starts from.

use std::sync::Arc;

use super::{Shared, StepError, blocking};
use crate::collect::{self, MergeRequest, Merged};
use crate::engine::Engine;
use crate::event::{BranchResult, TaskReport};
use crate::id::{CommitId, TaskId};
use crate::workspace::Start;

/// What a task has made: its work, or what it started from where it changed nothing; none where that
/// is the run's base.
pub(super) fn result(report: &TaskReport) -> Option<CommitId> {
    let work = report.branch.as_ref().map(|branch| &branch.result);
    match work {
        Some(
            BranchResult::Created { commit, .. }
            | BranchResult::Taken { commit, .. }
            | BranchResult::SetAside { commit, .. },
        ) => Some(commit.clone()),
        _ => report.base.clone(),
    }
}

/// The results that a task's needs have, as far as they are not the run's base.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Of those that it starts from.
    pub(super) from: Vec<(TaskId, CommitId)>,
    /// Of all.
    pub(super) needs: Vec<(TaskId, CommitId)>,
}

/// Merges results into a start; none where all is at the run's base. Otherwise says why there is none.
pub(super) async fn of<E: Engine>(
    shared: &Arc<Shared<E>>,
    Results { from, needs }: Results,
) -> Result<Result<Option<Start>, String>, StepError> {
    if needs.is_empty() {
        return Ok(Ok(None));
    }
    let base = shared.context.store.base();
    let start = |head: CommitId| Start {
        results: shared
            .context
            .state
            .results(shared.context.repository.key(), shared.context.store.key()),
        base: head.clone(),
        head,
        needs,
    };
    if from.is_empty() {
        return Ok(Ok(Some(start(base.clone()))));
    }
    let held = shared.clone();
    let merged = blocking(move || {
        let context = &held.context;
        let results = context
            .state
            .results(context.repository.key(), context.store.key());
        let author = &context.plan.author;
        collect::merge(&MergeRequest {
            git: context.repository.git(),
            results: &results,
            from: &from,
            author: (&author.name, &author.email),
            limits: context.plan.collect_limits,
        })
    });
    let merged = merged.await;
    Ok(match merged.map_err(|e| StepError::new("merge", &e))? {
        Merged::Commit(commit) => Ok(Some(start(commit))),
        Merged::Conflict { tasks, paths } => Err(conflict(&tasks, &paths)),
    })
}

/// How many files a reason names.
const SHOWN: usize = 5;

fn conflict(tasks: &[TaskId], paths: &[String]) -> String {
    let tasks: Vec<&str> = tasks.iter().map(TaskId::as_str).collect();
    let shown = paths.len().min(SHOWN);
    let more = match paths.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (tasks, paths) = (tasks.join(" and "), paths[..shown].join(", "));
    format!("the results of {tasks} conflict in {paths}{more}")
}
