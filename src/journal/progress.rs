//! How far the tasks of a run have come: by its result, or by the events that it has written so far.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use serde::Serialize;

use super::{FoundRun, JournalError, RunState, io_error};
use crate::event::{self, Event, EventKind, RunSummary, TaskPhase, TaskReport, Usage};
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
    /// What became of it, once it has ended.
    pub report: Option<TaskReport>,
}

impl FoundRun {
    /// What a finished run's result, or else its events, tell of its tasks; nothing of those that
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
            since: None,
            usage: report.usage,
            report: Some(report),
        };
        let tasks = result.tasks.into_iter();
        Ok(tasks
            .map(|report| (report.task.clone(), finished(report)))
            .collect())
    }

    /// A run that was killed may have left half a line, and one of another version lines that mean
    /// nothing here: these are passed over.
    fn events(&self) -> Result<HashMap<TaskId, TaskProgress>, JournalError> {
        let path = self.path.join("events.ndjson");
        let mut tasks = HashMap::new();
        let file = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(tasks),
            Err(e) => return Err(io_error("open", &path, e)),
        };
        for line in file.split(b'\n') {
            let line = line.map_err(|e| io_error("read", &path, e))?;
            if let Ok(event) = serde_json::from_slice(&line) {
                take(&mut tasks, event);
            }
        }
        Ok(tasks)
    }
}

fn take(tasks: &mut HashMap<TaskId, TaskProgress>, event: Event) {
    let Event { task, kind, at, .. } = event;
    let Some(task) = task else { return };
    let entry = tasks.entry(task).or_insert_with(|| TaskProgress {
        phase: TaskPhase::Waiting,
        since: Some(at.clone()),
        usage: None,
        report: None,
    });
    match kind {
        EventKind::Phase { phase } => {
            entry.phase = phase;
            entry.since = Some(at);
        }
        EventKind::Usage { usage } => entry.usage = Some(usage),
        EventKind::TaskFinished { report } => {
            entry.phase = TaskPhase::Finished;
            entry.since = Some(at);
            entry.usage = report.usage.or(entry.usage);
            entry.report = Some(*report);
        }
        _ => {}
    }
}
