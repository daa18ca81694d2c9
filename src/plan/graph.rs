//! The graph of a plan's tasks: how long the way is from each to the end, which can run together, and
//! in which order they would run one at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TaskPlan;
use crate::id::TaskId;
use crate::spec::{RunSpec, TaskBase};

/// The order of a plan's tasks, for people and scripts. The runner follows the same rule with what is
/// free at the time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderPlan {
    /// How they would run one at a time.
    pub order: Vec<TaskId>,
    /// Those of each level need some task of the level before, and none of their own.
    pub levels: Vec<Vec<TaskId>>,
}

impl OrderPlan {
    /// The most tasks of one level.
    pub fn widest(&self) -> usize {
        self.levels.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Fills in what tasks need and start from, in the order of the spec. What does not run is left out.
pub(super) fn link(spec: &RunSpec, tasks: &mut [TaskPlan]) {
    let places: BTreeMap<TaskId, usize> = tasks.iter().map(|t| t.id.clone()).zip(0..).collect();
    let sorted = |meant: Vec<usize>| {
        let ids = meant.into_iter().map(|at| &spec.tasks[at].id.value);
        let mut ids: Vec<&TaskId> = ids.filter(|id| places.contains_key(*id)).collect();
        ids.sort_by_key(|id| places.get(*id));
        ids.dedup();
        ids.into_iter().cloned().collect::<Vec<_>>()
    };
    for asked in &spec.tasks {
        let Some(at) = places.get(&asked.id.value) else {
            continue;
        };
        let needs = spec.needs_of(asked).into_iter().map(|(at, _)| at).collect();
        let task = &mut tasks[*at];
        task.needs = sorted(needs);
        task.starts_from = match asked.base.as_ref().map(|base| &base.value) {
            Some(TaskBase::Task(id)) => sorted(spec.meant(id)),
            Some(TaskBase::Ref(_)) => Vec::new(),
            None => task.needs.clone(),
        };
    }
}

/// The places of the tasks that each task needs.
pub fn needs(tasks: &[TaskPlan]) -> Vec<Vec<usize>> {
    let places: BTreeMap<&TaskId, usize> = tasks.iter().map(|t| &t.id).zip(0..).collect();
    let place = |id| places.get(id).copied();
    let needs = tasks
        .iter()
        .map(|task| task.needs.iter().filter_map(place).collect());
    needs.collect()
}

/// The chosen tasks and all that they need; all tasks where none are chosen.
pub fn with_needs(tasks: &[TaskPlan], chosen: &[TaskId]) -> BTreeSet<TaskId> {
    let is_chosen = |task: &TaskPlan| chosen.is_empty() || chosen.contains(&task.id);
    let places = 0..tasks.len();
    let mut pending: Vec<usize> = places.filter(|at| is_chosen(&tasks[*at])).collect();
    let needs = self::needs(tasks);
    let mut found = BTreeSet::new();
    while let Some(at) = pending.pop() {
        if found.insert(tasks[at].id.clone()) {
            pending.extend(&needs[at]);
        }
    }
    found
}

/// The longest way from each task to the end, itself included, measured by `timeout`: so by the number
/// of tasks where none says its own. Nothing where tasks need each other in a circle.
pub fn longest_paths(tasks: &[TaskPlan]) -> Option<Vec<Duration>> {
    let needs = needs(tasks);
    let order = sorted(&needs)?;
    let mut paths: Vec<Duration> = tasks.iter().map(|task| task.timeout).collect();
    for task in order.into_iter().rev() {
        let path = paths[task];
        for need in &needs[task] {
            let through = path.saturating_add(tasks[*need].timeout);
            paths[*need] = paths[*need].max(through);
        }
    }
    Some(paths)
}

/// The order of tasks; empty where they need each other in a circle.
pub(super) fn order(tasks: &[TaskPlan]) -> OrderPlan {
    let needs = needs(tasks);
    let (Some(paths), Some(sorted)) = (longest_paths(tasks), sorted(&needs)) else {
        return OrderPlan::default();
    };
    let mut levels: Vec<usize> = vec![0; tasks.len()];
    for task in sorted {
        let below = needs[task].iter().map(|need| levels[*need] + 1);
        levels[task] = below.max().unwrap_or(0);
    }
    let mut by_level = vec![Vec::new(); levels.iter().max().map_or(0, |most| most + 1)];
    for (task, level) in tasks.iter().zip(levels) {
        by_level[level].push(task.id.clone());
    }
    let order = by_priority(&needs, |task| Reverse(paths[task]));
    OrderPlan {
        order: order.into_iter().map(|at| tasks[at].id.clone()).collect(),
        levels: by_level,
    }
}

/// All tasks, each after those that it needs; nothing where there is a circle.
fn sorted(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    let sorted = by_priority(needs, |_| ());
    (sorted.len() == needs.len()).then_some(sorted)
}

/// Tasks, each after those that it needs, and of several that could come the least by `key`.
fn by_priority<K: Ord>(needs: &[Vec<usize>], key: impl Fn(usize) -> K) -> Vec<usize> {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut left: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (task, needs) in needs.iter().enumerate() {
        for need in needs {
            needed_by[*need].push(task);
        }
    }
    let free = (0..needs.len()).filter(|task| left[*task] == 0);
    let mut free: BTreeSet<(K, usize)> = free.map(|task| (key(task), task)).collect();
    let mut sorted = Vec::with_capacity(needs.len());
    while let Some((_, task)) = free.pop_first() {
        sorted.push(task);
        for waiting in &needed_by[task] {
            left[*waiting] -= 1;
            if left[*waiting] == 0 {
                free.insert((key(*waiting), *waiting));
            }
        }
    }
    sorted
}
