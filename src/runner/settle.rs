//! The result of a run with which nobody goes on: what its journal says of its tasks, and what was
//! collected of them since.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::bare_report;
use super::past::Past;
use super::{StepError, blocking, claim, collector};
use crate::collect::{self, Place};
use crate::event::{
    AgentUsage, BranchReport, Event, EventKind, RunSummary, StopReason, TaskOutcome, TaskReport,
    Versioned,
};
use crate::git::Repository;
use crate::id::{AttemptId, BranchName, StateDir};
use crate::journal::{JournalError, RunDirectory};
use crate::plan::{RunPlan, TaskPlan};

/// Lets go of what a run holds in its repository, its base and its claims, and, where everything else is
/// done, gives it a result of what was `collected` if it has none. Gives what went wrong, each a sentence.
pub(super) async fn conclude(
    state: &StateDir,
    directory: Arc<RunDirectory>,
    (plan, repository): (RunPlan, Repository),
    collected: Option<Vec<(AttemptId, BranchReport)>>,
) -> Vec<String> {
    let state = state.clone();
    blocking(move || {
        let told = |error: &dyn std::error::Error| StepError::new("remove", error).message;
        let unpinned = repository.unpin(&plan.run).map_err(|e| told(&e));
        let released = collect::release_packs(&state, &repository).map_err(|e| told(&e));
        let unclaimed = claim::release_of_run(&repository, &plan.run).map_err(|e| told(&e));
        let done = [unpinned, released, unclaimed].into_iter();
        let mut problems: Vec<String> = done.filter_map(Result::err).collect();
        let has_result = directory.path().join("result.json").exists();
        if let Some(collected) = collected.filter(|_| problems.is_empty() && !has_result) {
            let name = |attempt: AttemptId, branch: &BranchName, work: &mut BranchReport| {
                let place = Place {
                    repository: &repository,
                    attempt: &attempt,
                    guard: None,
                    moves: collector::moved(&plan, &attempt),
                };
                collect::name_set_aside(&state, place, branch, work);
            };
            let settled = settle(&directory, &plan, &collected, name);
            problems.extend(settled.err().map(|e| told(&e)));
        }
        problems
    })
    .await
}

/// Gives a run that died a result: what its journal says of its tasks, and what was collected since.
/// Nobody goes on with it then, so that no task runs twice.
fn settle(
    directory: &RunDirectory,
    plan: &RunPlan,
    collected: &Collected,
    name: impl Fn(AttemptId, &BranchName, &mut BranchReport),
) -> Result<(), JournalError> {
    let (mut journal, events) = directory.journal()?;
    let mut past = Past::new(plan, &events, &[]);
    let told = |task: &TaskPlan| {
        events.iter().rev().find_map(|event| match &event.kind {
            EventKind::TaskFinished { report } if report.task == task.id => Some(&**report),
            _ => None,
        })
    };
    let tasks = plan.tasks.iter().map(|task| {
        let word = past.last_word(task, collected, &name);
        match told(task) {
            // Its reason is known.
            Some(skipped) if matches!(word.outcome, TaskOutcome::Skipped { .. }) => skipped.clone(),
            _ => word,
        }
    });
    let tasks: Vec<_> = tasks.collect();
    let last = events.last();
    let summary = RunSummary {
        run: plan.run.clone(),
        stopped: stopped(&events, &tasks),
        agents: AgentUsage::of(&tasks),
        tasks,
        took: Duration::from_millis(last.map_or(0, |event| event.elapsed_ms)),
        egress: Vec::new(),
        forecast: None,
        teardown_errors: Vec::new(),
        directory: directory.path().to_owned(),
    };
    journal.release();
    directory.write_json("result.json", &Versioned::new(&summary))
}

/// Work that was collected of a run, by the attempt that it is of.
type Collected = [(AttemptId, BranchReport)];

/// Why the process that died was stopping, if it was; else that it was cut off, where it was.
fn stopped(events: &[Event], tasks: &[TaskReport]) -> Option<StopReason> {
    let of_process = events.iter().rev();
    let of_process = of_process.map_while(|event| (!is_start(event)).then_some(&event.kind));
    let mut reasons = of_process.filter_map(|kind| match kind {
        EventKind::Stopping { reason, .. } => Some(*reason),
        _ => None,
    });
    let is_cut = |task: &TaskReport| {
        matches!(
            task.outcome,
            TaskOutcome::Cancelled | TaskOutcome::Skipped { .. }
        )
    };
    let is_cut = tasks.iter().any(is_cut);
    reasons.next().or(is_cut.then_some(StopReason::Interrupted))
}

fn is_start(event: &Event) -> bool {
    matches!(event.kind, EventKind::RunStarted { .. })
}

impl Past {
    /// What is to be said of a task with which nobody goes on. `name` gives the branch to work that
    /// was set aside for an attempt that does not follow any more.
    fn last_word(
        &mut self,
        task: &TaskPlan,
        collected: &Collected,
        name: &impl Fn(AttemptId, &BranchName, &mut BranchReport),
    ) -> TaskReport {
        let id = &task.id;
        let bare = |outcome| bare_report(task, outcome);
        let branch_of = |number| {
            let mut found = collected.iter();
            let found = found.find(|(of, _)| of.task == *id && of.number == number);
            found.map(|(_, branch)| branch.clone())
        };
        let update = |report: &mut TaskReport| {
            let collected = branch_of(report.attempt);
            report.branch = collected.or(report.branch.take());
        };
        if let Some(at) = self.finished.iter().position(|report| report.task == *id) {
            let mut report = self.finished.swap_remove(at);
            report.earlier_attempts.iter_mut().for_each(update);
            update(&mut report);
            return report;
        }
        let mut earlier = self.earlier.remove(id).unwrap_or_default();
        earlier.iter_mut().for_each(update);
        let left = self
            .left
            .get(id)
            .map(|left| (left.attempt, left.has_begun()));
        let (attempt, has_begun) = left.unwrap_or((1, false));
        let branch = branch_of(attempt);
        if has_begun || branch.is_some() {
            return TaskReport {
                attempt,
                branch,
                earlier_attempts: earlier,
                ..bare(TaskOutcome::Cancelled)
            };
        }
        let Some(mut report) = earlier.pop() else {
            let reason = "the run ended before it began".into();
            return bare(TaskOutcome::Skipped {
                reason,
                claimed: false,
            });
        };
        if let Some(work) = &mut report.branch {
            name(self.attempt(id, report.attempt), &task.branch, work);
        }
        report.earlier_attempts = earlier;
        report
    }
}
