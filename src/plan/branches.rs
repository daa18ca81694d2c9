//! Whether every task can get its branch: a branch is a file, and `a` excludes `a/b`.

use std::collections::BTreeSet;

use super::PlanInputs;
use crate::id::{BranchName, RunId, TaskId};
use crate::spec::{Diagnostic, RunSpec, Span, TaskSpec};

/// The branch of a task.
pub(super) fn of(task: &TaskSpec, run: &RunId) -> BranchName {
    match &task.branch {
        Some(branch) => branch.value.clone(),
        None => BranchName::default_for(run, &task.id.value),
    }
}

/// Compares the branches of all tasks with each other, and those of the selected ones with the
/// repository's.
pub(super) fn check(
    spec: &RunSpec,
    inputs: &PlanInputs<'_>,
    selected: &BTreeSet<TaskId>,
    problems: &mut Vec<Diagnostic>,
) {
    let named: Vec<(&TaskSpec, BranchName)> = spec
        .tasks
        .iter()
        .map(|task| (task, of(task, &inputs.run)))
        .collect();
    for (at, (task, branch)) in named.iter().enumerate() {
        let others = named[..at].iter();
        let taken = others.filter_map(|(other, taken)| {
            let title = between_tasks(branch.as_str(), taken.as_str(), other)?;
            let hint = if task.id.value.is_cell() {
                "give each cell a branch of its own: write `${task.slug}` or its values into the name"
            } else {
                "give each task a branch of its own"
            };
            Some(Diagnostic::new(place(task), title, hint))
        });
        // Cells may be many, and one is enough to see it.
        let shown = if task.id.value.is_cell() {
            1
        } else {
            usize::MAX
        };
        problems.extend(taken.take(shown));
        if selected.contains(&task.id.value) {
            let existing = inputs.branches.iter();
            problems.extend(existing.filter_map(|taken| against_existing(task, branch, taken)));
        }
    }
}

fn place(task: &TaskSpec) -> Span {
    task.branch.as_ref().map_or(task.id.span, |b| b.span)
}

fn between_tasks(branch: &str, taken: &str, other: &TaskSpec) -> Option<String> {
    let other = &other.id.value;
    if branch == taken {
        Some(format!("task `{other}` has the same branch `{branch}`"))
    } else if excludes(branch, taken) {
        let owner = format!("the branch `{taken}` of task `{other}`");
        Some(format!("the branch `{branch}` cannot be beside {owner}"))
    } else {
        None
    }
}

fn against_existing(task: &TaskSpec, branch: &BranchName, taken: &str) -> Option<Diagnostic> {
    let title = if branch.as_str() == taken {
        format!("the branch `{branch}` exists already")
    } else if excludes(branch.as_str(), taken) {
        format!("the branch `{branch}` cannot be made: a branch `{taken}` exists")
    } else {
        return None;
    };
    let hint = match task.branch {
        Some(_) => "choose another name, or rename the one that exists",
        None => "choose another name by `branch`, or rename the one that exists",
    };
    Some(Diagnostic::new(place(task), title, hint))
}

/// Whether one name is a directory of the other.
pub(super) fn excludes(a: &str, b: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}
