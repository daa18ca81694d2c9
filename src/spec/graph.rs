//! Which tasks need which: what is wrong with that, and what a choice of tasks takes along.

use std::collections::BTreeSet;

use super::diagnostic::Diagnostic;
use super::hints::did_you_mean;
use super::model::{RunSpec, TaskBase, TaskSpec};
use super::source::{At, Span};
use crate::id::TaskId;

/// The most tasks of a circle that a message names.
const SHOWN: usize = 12;

impl RunSpec {
    /// The places of the tasks that an id means: the one that has it, else the cells of the task with this
    /// name, all or those with these values.
    pub fn meant(&self, meant: &TaskId) -> Vec<usize> {
        let those = |is_meant: &dyn Fn(&TaskId) -> bool| -> Vec<usize> {
            let tasks = self.tasks.iter().enumerate();
            let tasks = tasks.filter(|(_, task)| is_meant(&task.id.value));
            tasks.map(|(at, _)| at).collect()
        };
        let the_one = those(&|id| id == meant);
        if !the_one.is_empty() {
            return the_one;
        }
        those(&|id| meant.means_cell(id))
    }

    /// The places of the tasks that a task needs, each with where the spec says so: those of `needs`, and
    /// what it starts from.
    pub fn needs_of(&self, task: &TaskSpec) -> Vec<(usize, Span)> {
        let mut needs: Vec<(usize, Span)> = Vec::new();
        for (id, span) in asked(task) {
            for at in self.meant(id) {
                if needs.iter().all(|(known, _)| *known != at) {
                    needs.push((at, span));
                }
            }
        }
        needs
    }

    /// These tasks and all that they need, however far; all tasks where none are chosen.
    pub fn with_needs(&self, chosen: &[TaskId]) -> BTreeSet<TaskId> {
        let is_chosen = |task: &TaskSpec| chosen.is_empty() || chosen.contains(&task.id.value);
        let places = 0..self.tasks.len();
        let mut pending: Vec<usize> = places.filter(|at| is_chosen(&self.tasks[*at])).collect();
        let mut found = BTreeSet::new();
        while let Some(at) = pending.pop() {
            let task = &self.tasks[at];
            if found.insert(task.id.value.clone()) {
                pending.extend(self.needs_of(task).into_iter().map(|(need, _)| need));
            }
        }
        found
    }
}

/// What a task asks for by name.
fn asked(task: &TaskSpec) -> Vec<(&TaskId, Span)> {
    let mut asked: Vec<_> = task.needs.iter().map(|n| (&n.value, n.span)).collect();
    if let Some(At {
        value: TaskBase::Task(id),
        span,
    }) = &task.base
    {
        asked.push((id, *span));
    }
    asked
}

/// What is wrong with the needs and the bases of tasks.
pub(super) fn check(spec: &RunSpec) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut edges: Vec<Vec<(usize, Span)>> = Vec::new();
    for (at, task) in spec.tasks.iter().enumerate() {
        problems.extend(duplicates(task));
        problems.extend(base_of_another(task, spec));
        let unknown = asked(task).into_iter();
        let unknown = unknown.filter(|(id, _)| spec.meant(id).is_empty());
        problems.extend(unknown.map(|(id, span)| self::unknown(id, span, spec)));
        let mut known = spec.needs_of(task);
        if let Some((_, span)) = known.iter().find(|(need, _)| *need == at) {
            let title = format!("task `{}` needs itself", task.id.value);
            problems.push(Diagnostic::new(*span, title, "take it out"));
        }
        known.retain(|(need, _)| *need != at);
        edges.push(known);
    }
    problems.extend(circles(spec, edges));
    problems
}

fn unknown(need: &TaskId, span: Span, spec: &RunSpec) -> Diagnostic {
    let known: BTreeSet<&str> = spec.tasks.iter().map(|t| t.id.value.task()).collect();
    let near = did_you_mean(need.as_str(), known.iter().copied());
    let hint = if near.is_empty() {
        let first: Vec<&str> = known.into_iter().take(SHOWN).collect();
        format!("its tasks: {}", first.join(", "))
    } else {
        near
    };
    Diagnostic::new(span, format!("the spec has no task `{need}`"), hint)
}

fn duplicates(task: &TaskSpec) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    let twice = task.needs.iter().filter(|need| !seen.insert(&need.value));
    let problem = |need: &At<TaskId>| {
        let title = format!("`needs` names `{}` twice", need.value);
        Diagnostic::new(need.span, title, "keep one of them")
    };
    twice.map(problem).collect()
}

/// A task has the run's base, or that of its needs: other bases would need histories of their own.
fn base_of_another(task: &TaskSpec, spec: &RunSpec) -> Option<Diagnostic> {
    let At {
        value: TaskBase::Ref(name),
        span,
    } = task.base.as_ref()?
    else {
        return None;
    };
    let run = spec.base.as_ref().map_or("HEAD", |base| &base.value);
    let title = format!("`base: {name}` is neither a task nor the base of the run, `{run}`");
    let hint = format!("write `task:` and an id, or `{run}`, which all tasks start from otherwise");
    (name != run).then(|| Diagnostic::new(*span, title, hint))
}

/// The circles: one for each set of tasks that wait for each other, or more.
fn circles(spec: &RunSpec, mut edges: Vec<Vec<(usize, Span)>>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut open: Vec<bool> = vec![true; edges.len()];
    loop {
        peel(&mut open, &edges);
        let Some(first) = open.iter().position(|open| *open) else {
            return problems;
        };
        // Each open task needs an open one, so that this comes round.
        let mut way: Vec<(usize, Span)> = Vec::new();
        let mut at = first;
        let start = loop {
            if let Some(start) = way.iter().position(|(task, _)| *task == at) {
                break start;
            }
            let Some((next, span)) = edges[at].iter().find(|(next, _)| open[*next]).copied() else {
                return problems;
            };
            way.push((at, span));
            at = next;
        };
        let circle = &way[start..];
        problems.push(circle_of(spec, circle));
        for (task, span) in circle {
            edges[*task].retain(|(_, of)| of != span);
        }
    }
}

/// Closes the tasks that can run once others have, again and again.
fn peel(open: &mut [bool], edges: &[Vec<(usize, Span)>]) {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    let mut left = vec![0_usize; edges.len()];
    for (task, needs) in edges.iter().enumerate().filter(|(task, _)| open[*task]) {
        for (need, _) in needs.iter().filter(|(need, _)| open[*need]) {
            needed_by[*need].push(task);
            left[task] += 1;
        }
    }
    let mut free: Vec<usize> = (0..edges.len())
        .filter(|task| open[*task] && left[*task] == 0)
        .collect();
    while let Some(task) = free.pop() {
        open[task] = false;
        for waiting in &needed_by[task] {
            left[*waiting] -= 1;
            if left[*waiting] == 0 {
                free.push(*waiting);
            }
        }
    }
}

/// A circle, told from the task that comes first in the spec.
fn circle_of(spec: &RunSpec, circle: &[(usize, Span)]) -> Diagnostic {
    let first = circle.iter().enumerate().min_by_key(|(_, (task, _))| *task);
    let first = first.map_or(0, |(at, _)| at);
    let round = || circle[first..].iter().chain(&circle[..first]);
    let name = |(task, span): &(usize, Span)| {
        let (line, _) = spec.source.position(span.start);
        format!("`{}` (line {line})", spec.tasks[*task].id.value)
    };
    let mut names: Vec<String> = round().map(name).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    let back = format!("`{}`", spec.tasks[circle[first].0].id.value);
    let title = format!("tasks need each other: {} → {back}", names.join(" → "));
    let hint = "none of them could ever start: take one of these needs out";
    Diagnostic::new(circle[first].1, title, hint)
}
