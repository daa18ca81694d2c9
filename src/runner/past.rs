//! What a run has behind it that an earlier process began: by its journal, and by what the engine
//! still has of it. Reads a clock and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::{OwnedKind, OwnedObject};
use crate::event::{Event, EventKind, TaskOutcome, TaskPhase, TaskReport};
use crate::id::{Role, TaskId, label};
use crate::journal::Journal;
use crate::plan::RunPlan;

/// What a run writes to, and what it goes on from.
pub struct Record {
    /// Its journal.
    pub journal: Journal,
    /// What is in the journal already.
    pub events: Vec<Event>,
    /// What the engine has of the run already.
    pub owned: Vec<OwnedObject>,
}

impl From<(Journal, Vec<Event>)> for Record {
    fn from((journal, events): (Journal, Vec<Event>)) -> Self {
        Self {
            journal,
            events,
            owned: Vec::new(),
        }
    }
}

/// The tasks of a run as an earlier process left them.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Those that have ended: they stay.
    pub(super) finished: Vec<TaskReport>,
    /// Those that had begun.
    pub(super) left: HashMap<TaskId, Left>,
    /// The failed attempts of those, the oldest first.
    pub(super) earlier: HashMap<TaskId, Vec<TaskReport>>,
    /// Containers that serve nobody any more, by the task that they were of, if any.
    pub(super) remains: Vec<(Option<TaskId>, String)>,
}

/// What is left of an attempt that had begun.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) attempt: u32,
    /// The phase that it was in last.
    pub(super) last: TaskPhase,
    /// When it entered that, and when its container was started.
    since: Option<Timestamp>,
    started: Option<Timestamp>,
    container: Option<OwnedObject>,
    /// Other containers of it, by name.
    pub(super) helpers: Vec<String>,
}

impl Left {
    /// Whether its container was started, and is still there.
    pub(super) fn is_started(&self) -> bool {
        self.container.as_ref().is_some_and(|c| c.started)
    }

    pub(super) fn is_running(&self) -> bool {
        self.container.as_ref().is_some_and(|c| c.running)
    }

    /// Whether somebody may have worked in its directory.
    pub(super) fn may_have_worked(&self) -> bool {
        let never = self.container.as_ref().is_some_and(|c| !c.started);
        self.is_started() || (self.started.is_some() && !never)
    }

    /// How long ago its container was started, by the wall clock.
    pub(super) fn ran(&self) -> Duration {
        let started = self.started.map(|at| between(at, Timestamp::now()));
        started.unwrap_or_default()
    }

    /// How long it had run when it was asked to end.
    pub(super) fn ran_until_stop(&self) -> Duration {
        let times = self.started.zip(self.since);
        times.map_or(Duration::ZERO, |(from, to)| between(from, to))
    }
}

impl Past {
    pub(super) fn new(plan: &RunPlan, events: &[Event], owned: &[OwnedObject]) -> Self {
        let mut past = Self::default();
        for event in events {
            past.take(event);
        }
        past.finished.sort_by_key(|report| {
            let is_it = |task: &crate::plan::TaskPlan| task.id == report.task;
            plan.tasks.iter().position(is_it)
        });
        let containers = owned.iter().filter(|o| o.kind == OwnedKind::Container);
        for container in containers {
            past.give(container);
        }
        past
    }

    fn take(&mut self, event: &Event) {
        let Some(task) = &event.task else { return };
        match &event.kind {
            EventKind::Phase { phase } => {
                let left = self.left.entry(task.clone()).or_insert_with(Left::new);
                left.last = *phase;
                left.since = event.at.parse().ok();
                match phase {
                    TaskPhase::Preparing => left.started = None,
                    TaskPhase::Running => left.started = left.since,
                    _ => {}
                }
            }
            EventKind::Retry { report, .. } => {
                let left = self.left.entry(task.clone()).or_insert_with(Left::new);
                *left = Left::new();
                left.attempt = report.attempt + 1;
                let earlier = self.earlier.entry(task.clone()).or_default();
                earlier.push((**report).clone());
            }
            EventKind::TaskFinished { report } => {
                self.left.remove(task);
                self.earlier.remove(task);
                // What was skipped has not begun.
                if !matches!(report.outcome, TaskOutcome::Skipped { .. }) {
                    self.finished.push((**report).clone());
                }
            }
            _ => {}
        }
    }

    /// Gives a container to the task that it is of.
    fn give(&mut self, container: &OwnedObject) {
        let value = |key| container.labels.get(key).map(String::as_str);
        let task: Option<TaskId> = value(label::TASK).and_then(|task| task.parse().ok());
        let attempt: Option<u32> = value(label::ATTEMPT).and_then(|number| number.parse().ok());
        let left = task.as_ref().and_then(|task| self.left.get_mut(task));
        match left {
            Some(left)
                if value(label::ROLE) == Some(Role::Task.as_str())
                    && attempt == Some(left.attempt) =>
            {
                left.container = Some(container.clone());
            }
            Some(left) => left.helpers.push(container.name.clone()),
            None => self.remains.push((task, container.name.clone())),
        }
    }
}

/// Zero where the clock went back.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

impl Left {
    fn new() -> Self {
        Self {
            attempt: 1,
            last: TaskPhase::Waiting,
            since: None,
            started: None,
            container: None,
            helpers: Vec::new(),
        }
    }
}
