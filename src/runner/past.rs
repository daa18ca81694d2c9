//! What a run has behind it that an earlier process began: by its journal, and by what the engine
//! still has of it. Reads a clock and nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::outcome::StoppedBy;
use super::teardown::Remains;
use crate::engine::{OwnedKind, OwnedObject};
use crate::event::{
    BranchReport, Event, EventKind, RunSummary, TaskOutcome, TaskPhase, TaskReport,
};
use crate::id::{AttemptId, Role, RunId, TaskId, label};
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
#[derive(Debug)]
pub(super) struct Past {
    run: RunId,
    /// Those that have ended: they stay.
    pub(super) finished: Vec<TaskReport>,
    /// Those that had begun.
    pub(super) left: HashMap<TaskId, Left>,
    /// The failed attempts of those, the oldest first.
    pub(super) earlier: HashMap<TaskId, Vec<TaskReport>>,
    /// Containers of attempts that have come to their end, and such that serve no attempt.
    over: Vec<(Option<AttemptId>, String)>,
    /// The volumes that are there, by name, each with the attempt that it is of.
    volumes: Vec<(AttemptId, String)>,
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
    /// When its container was asked to end.
    stopping: Option<Timestamp>,
    /// What it has used up, if anything.
    pub(super) over: Option<StoppedBy>,
    container: Option<OwnedObject>,
    /// Other containers of it, by name.
    pub(super) helpers: Vec<String>,
    /// Those of its services.
    pub(super) services: Vec<String>,
}

impl Left {
    /// Whether it has come further than to wait for its turn.
    pub(super) fn has_begun(&self) -> bool {
        self.last != TaskPhase::Waiting
    }

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

    /// How long ago it was asked to end, by the wall clock, if it was.
    pub(super) fn asked_to_end(&self) -> Option<Duration> {
        Some(between(self.stopping?, Timestamp::now()))
    }

    /// Whether its container was asked to end and did so in that time, as far as anybody knows.
    pub(super) fn was_stopped_within(&self, grace: Duration) -> bool {
        let took = self.stopping.zip(self.since);
        took.is_some_and(|(asked, ended)| between(asked, ended) <= grace)
    }

    /// How long it had run when it was asked to end.
    pub(super) fn ran_until_stop(&self) -> Duration {
        let times = self.started.zip(self.stopping);
        times.map_or(Duration::ZERO, |(from, to)| between(from, to))
    }
}

impl Past {
    /// A run that has not begun, of which nothing is left.
    pub(super) fn none(run: &RunId) -> Self {
        Self {
            run: run.clone(),
            finished: Vec::new(),
            left: HashMap::new(),
            earlier: HashMap::new(),
            over: Vec::new(),
            volumes: Vec::new(),
        }
    }

    /// A run that died, by its journal.
    pub(super) fn new(plan: &RunPlan, events: &[Event], owned: &[OwnedObject]) -> Self {
        let mut past = Self::none(&plan.run);
        for event in events {
            past.take(event);
        }
        past.finished.sort_by_key(|report| {
            let is_it = |task: &crate::plan::TaskPlan| task.id == report.task;
            plan.tasks.iter().position(is_it)
        });
        past.own(owned);
        past
    }

    /// A run that came to its end, by its result.
    pub(super) fn of_result(result: RunSummary, owned: &[OwnedObject]) -> Self {
        let mut past = Self::none(&result.run);
        past.finished = result.tasks;
        past.own(owned);
        past
    }

    fn own(&mut self, owned: &[OwnedObject]) {
        for object in owned {
            match object.kind {
                OwnedKind::Container => self.give(object),
                OwnedKind::Volume => {
                    let attempt = self.attempt_of(object);
                    let volume = attempt.map(|attempt| (attempt, object.name.clone()));
                    self.volumes.extend(volume);
                }
                // They belong to no run.
                OwnedKind::Network => {}
            }
        }
    }

    /// Whether nothing was begun, and nothing is left.
    pub(super) fn is_none(&self) -> bool {
        self.finished.is_empty() && self.left.is_empty() && self.over.is_empty()
    }

    /// Whether nothing is left to be done of any task.
    pub(super) fn is_whole(&self, plan: &RunPlan) -> bool {
        self.left.is_empty() && self.finished.len() == plan.tasks.len()
    }

    /// The reports of all attempts that have come to their end.
    pub(super) fn reports(&self) -> impl Iterator<Item = &TaskReport> {
        let finished = self.finished.iter().flat_map(TaskReport::attempts);
        finished.chain(self.earlier.values().flatten())
    }

    /// What is left of attempts that have come to their end, each with its task. Their work has its
    /// place; where that is their directory, it stays.
    pub(super) fn ended(&self) -> Vec<(TaskId, Remains)> {
        let begun = self.reports().filter(|report| report.attempt > 0);
        let left_behind = |branch: &BranchReport| branch.content_left_behind;
        let remains = begun.map(|report| {
            let attempt = self.attempt(&report.task, report.attempt);
            let keep_work = report.branch.as_ref().is_some_and(left_behind);
            (report.task.clone(), self.remains(attempt, keep_work))
        });
        remains.collect()
    }

    /// What was made for attempts in which nobody has worked.
    pub(super) fn unused(&self) -> Vec<(TaskId, Remains)> {
        let left = self.left.iter().filter(|(_, left)| !left.may_have_worked());
        let remains = left.map(|(task, left)| {
            let attempt = self.attempt(task, left.attempt);
            let mut remains = self.remains(attempt, false);
            let never_started = left.container.iter().map(|c| c.name.clone());
            remains.containers.extend(never_started);
            (task.clone(), remains)
        });
        remains.collect()
    }

    /// Containers that serve no attempt any more, or never did.
    pub(super) fn nobodys(&self) -> Remains {
        let ended = self.ended().into_iter();
        let of_ended: HashSet<_> = ended.flat_map(|(_, remains)| remains.containers).collect();
        let helpers = self.left.values().flat_map(|left| {
            // They serve one that still runs.
            let services = left.services.iter().filter(|_| !left.is_running());
            left.helpers.iter().chain(services)
        });
        let over = self.over.iter().map(|(_, name)| name).chain(helpers);
        Remains {
            containers: over
                .filter(|name| !of_ended.contains(*name))
                .cloned()
                .collect(),
            ..Remains::default()
        }
    }

    pub(super) fn attempt(&self, task: &TaskId, number: u32) -> AttemptId {
        let (run, task) = (self.run.clone(), task.clone());
        AttemptId { run, task, number }
    }

    /// The volumes of an attempt, by name.
    pub(super) fn volumes_of(&self, attempt: &AttemptId) -> Vec<String> {
        let volumes = self.volumes.iter().filter(|(of, _)| of == attempt);
        volumes.map(|(_, name)| name.clone()).collect()
    }

    fn remains(&self, attempt: AttemptId, keep_work: bool) -> Remains {
        let is_its = |(of, _): &&(Option<AttemptId>, String)| of.as_ref() == Some(&attempt);
        let containers = self.over.iter().filter(is_its);
        Remains {
            containers: containers.map(|(_, name)| name.clone()).collect(),
            volumes: self.volumes_of(&attempt),
            keep_work,
            attempt: Some(attempt),
            ..Remains::default()
        }
    }

    fn take(&mut self, event: &Event) {
        let Some(task) = &event.task else { return };
        match &event.kind {
            EventKind::Phase { phase } => {
                let left = self.left.entry(task.clone()).or_insert_with(Left::new);
                left.last = *phase;
                left.since = event.at.parse().ok();
                match phase {
                    TaskPhase::Preparing => {
                        (left.started, left.stopping, left.over) = (None, None, None);
                    }
                    TaskPhase::Running => left.started = left.since,
                    TaskPhase::Stopping => left.stopping = left.since,
                    _ => {}
                }
            }
            EventKind::OutOfDisk { used_bytes } => {
                let left = self.left.entry(task.clone()).or_insert_with(Left::new);
                left.over = Some(StoppedBy::Disk(*used_bytes));
            }
            EventKind::OutOfBudget { used, budget } => {
                let left = self.left.entry(task.clone()).or_insert_with(Left::new);
                let (used, budget) = (*used, *budget);
                left.over = Some(StoppedBy::Budget { used, budget });
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

    /// The attempt that something on the engine is of, by its labels.
    fn attempt_of(&self, object: &OwnedObject) -> Option<AttemptId> {
        let task: TaskId = object.labels.get(label::TASK)?.parse().ok()?;
        let number: u32 = object.labels.get(label::ATTEMPT)?.parse().ok()?;
        Some(self.attempt(&task, number))
    }

    /// Gives a container to the attempt that it is of.
    fn give(&mut self, container: &OwnedObject) {
        let attempt = self.attempt_of(container);
        let role = container.labels.get(label::ROLE).map(String::as_str);
        let left = attempt.as_ref().and_then(|of| {
            let left = self.left.get_mut(&of.task)?;
            (left.attempt == of.number).then_some(left)
        });
        match left {
            Some(left) if role == Some(Role::Task.as_str()) => {
                left.container = Some(container.clone());
            }
            Some(left) if SERVICES.contains(&role) => left.services.push(container.name.clone()),
            Some(left) => left.helpers.push(container.name.clone()),
            None => self.over.push((attempt, container.name.clone())),
        }
    }
}

/// The roles of what runs beside a task for it, as labels have them.
const SERVICES: [Option<&str>; 2] = [Some(Role::Pod.as_str()), Some(Role::Service.as_str())];

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
            stopping: None,
            over: None,
            container: None,
            helpers: Vec::new(),
            services: Vec::new(),
        }
    }
}
