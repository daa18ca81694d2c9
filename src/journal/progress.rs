//! How far the tasks of a run have come: by its result, or by its journal.

use std::collections::HashMap;

use serde::Serialize;

use super::{FoundRun, JournalError, JournalReader, RunState, records};
use crate::event::{
    self, Event, EventKind, PublishedPort, RunSummary, TaskPhase, TaskReport, Usage,
};
use crate::id::TaskId;

/// How far a task has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskProgress {
    /// The phase that it was in last.
    pub phase: TaskPhase,
    /// Since when, RFC 3339 in UTC, if events tell it.
    pub since: Option<String>,
    /// What its container had used by then, if that was measured.
    pub usage: Option<Usage>,
    /// Where its ports are published; none once it has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// The attempts at it that have failed and that another follows, the oldest first; empty once it
    /// has ended: then its report tells of them.
    pub earlier_attempts: Vec<TaskReport>,
    /// What became of it, once it has ended.
    pub report: Option<TaskReport>,
}

impl TaskProgress {
    /// The progress of a task that has not begun.
    pub fn not_begun() -> Self {
        Self {
            phase: TaskPhase::Waiting,
            since: None,
            usage: None,
            ports: Vec::new(),
            earlier_attempts: Vec::new(),
            report: None,
        }
    }

    /// The number of the latest attempt, from 1.
    pub fn attempt(&self) -> u32 {
        let earlier = self.earlier_attempts.last().map_or(0, |last| last.attempt);
        self.report
            .as_ref()
            .map_or(earlier + 1, |report| report.attempt.max(1))
    }
}

impl FoundRun {
    /// What a finished run's result, or else its journal, tell of its tasks; nothing of those that
    /// have not begun.
    ///
    /// # Errors
    /// [`JournalError::Io`], and where the result is there [`JournalError::NewerVersion`] and
    /// [`JournalError::Damaged`].
    pub fn progress(&self) -> Result<HashMap<TaskId, TaskProgress>, JournalError> {
        if self.state != RunState::Finished {
            return self.events();
        }
        let result: RunSummary = self.read_json("result.json", event::VERSION)?;
        let finished = |report: TaskReport| TaskProgress {
            phase: TaskPhase::Finished,
            usage: report.usage,
            report: Some(report),
            ..TaskProgress::not_begun()
        };
        let tasks = result.tasks.into_iter();
        Ok(tasks
            .map(|report| (report.task.clone(), finished(report)))
            .collect())
    }

    /// Its journal, to be read from the beginning.
    pub fn journal(&self) -> JournalReader {
        JournalReader::new(&self.path.join(records::NAME))
    }

    fn events(&self) -> Result<HashMap<TaskId, TaskProgress>, JournalError> {
        let mut tasks = HashMap::new();
        for event in self.journal().read()? {
            take(&mut tasks, event);
        }
        Ok(tasks)
    }
}

fn take(tasks: &mut HashMap<TaskId, TaskProgress>, event: Event) {
    let Event { task, kind, at, .. } = event;
    let Some(task) = task else { return };
    let entry = tasks.entry(task).or_insert_with(|| TaskProgress {
        since: Some(at.clone()),
        ..TaskProgress::not_begun()
    });
    match kind {
        EventKind::Phase { phase } => {
            entry.phase = phase;
            entry.since = Some(at);
        }
        EventKind::Usage { usage } => entry.usage = Some(usage),
        EventKind::Ports { ports } => entry.ports = ports,
        EventKind::Answers { port } => entry.ports = vec![port],
        EventKind::Retry { report, .. } => {
            entry.phase = TaskPhase::Waiting;
            entry.since = Some(at);
            entry.usage = None;
            entry.ports.clear();
            entry.earlier_attempts.push(*report);
        }
        EventKind::TaskFinished { report } => {
            entry.earlier_attempts.clear();
            entry.ports.clear();
            entry.phase = TaskPhase::Finished;
            entry.since = Some(at);
            entry.usage = report.usage.or(entry.usage);
            entry.report = Some(*report);
        }
        _ => {}
    }
}
