//! What was collected of a task, for the commands that look at it or hand it on.

use anyhow::anyhow;

use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings;
use super::target::Target;
use crate::collect::SECRET_NAME;
use crate::event::{BranchResult, TaskReport};
use crate::id::{BranchName, CommitId, TaskId};
use crate::report::quoted;
use crate::sanitize;

/// A task's work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: TaskId,
    /// What it stands on.
    pub(super) base: CommitId,
    /// Its last commit, as it was collected.
    pub(super) tip: CommitId,
    /// The branch that it was to be on.
    pub(super) branch: BranchName,
    /// Whether it is on that branch, or was.
    pub(super) is_on_branch: bool,
    /// The commits that hold the value of a secret in what they say.
    pub(super) secret_commits: Vec<CommitId>,
    /// Whether a file of it has one in its name.
    pub(super) names_secret: bool,
}

impl Work {
    /// The work of these tasks; none for one that changed nothing.
    ///
    /// # Errors
    /// Where one of them has none that was collected.
    pub(super) fn of(target: &Target, tasks: &[&TaskId]) -> Result<Vec<Option<Self>>, Failure> {
        let mut progress = target.found.progress()?;
        let mut works = Vec::with_capacity(tasks.len());
        for task in tasks {
            let report = progress.remove(task).and_then(|progress| progress.report);
            let work = report.map(|report| Self::from_report(target, report));
            works.push(work.unwrap_or_else(|| Err(no_branch(target, task)))?);
        }
        Ok(works)
    }

    /// The work of all tasks that are wanted and changed something.
    pub(super) fn of_all(
        target: &Target,
        is_wanted: impl Fn(&TaskReport) -> bool,
    ) -> Result<Vec<Self>, Failure> {
        let mut progress = target.found.progress()?;
        let tasks = target.plan.tasks.iter();
        let reports = tasks.filter_map(|task| progress.remove(&task.id)?.report);
        let works = reports.filter(is_wanted);
        let works = works.filter_map(|report| Self::from_report(target, report).ok()?);
        Ok(works.collect())
    }

    fn from_report(target: &Target, report: TaskReport) -> Result<Option<Self>, Failure> {
        let of_task = target.plan.tasks.iter().find(|task| task.id == report.task);
        let planned = of_task.map(|task| task.branch.clone());
        let Some(work) = report.branch else {
            return Err(no_branch(target, &report.task));
        };
        let reasons = work.risky_paths.iter().map(|(_, why)| why);
        let names_secret = reasons
            .chain(&work.notes)
            .any(|why| why.contains(SECRET_NAME));
        let (branch, tip, is_on_branch) = match work.result {
            BranchResult::Created { branch, commit } => (Some(branch), commit, true),
            BranchResult::Taken { branch, commit, .. } => (Some(branch), commit, false),
            BranchResult::SetAside { commit, .. } => (planned, commit, false),
            BranchResult::NoChange => return Ok(None),
            BranchResult::Rejected { .. } | BranchResult::Kept { .. } => {
                return Err(no_branch(target, &report.task));
            }
        };
        Ok(Some(Self {
            base: report
                .base
                .unwrap_or_else(|| target.plan.repository.base.clone()),
            tip,
            branch: branch.ok_or_else(|| no_branch(target, &report.task))?,
            is_on_branch,
            secret_commits: work.secret_commits,
            names_secret,
            task: report.task,
        }))
    }
}

/// A task without a branch.
pub(super) fn no_branch(target: &Target, task: &TaskId) -> Failure {
    let error = anyhow!("task {task} of run {} has no branch", target.found.run);
    let hint = format!("`agent-run show {}` tells what became of it", quoted(task));
    Failure::new(Exit::NothingSelected, error).hint(hint)
}

/// Prints a patch: for people as harmless lines, else as it is, for `git apply`.
pub(super) fn print_patch(patch: &[u8], color: bool) {
    use std::io::Write as _;
    if surroundings::is_read_by_people() {
        let lines = patch.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| sanitize::line(line.trim_ascii_end(), color) + "\n");
        print_result(&lines.collect::<String>());
    } else {
        // A reader that has gone is no error of ours.
        let _ = std::io::stdout().write_all(patch);
    }
}
