//! Renders events for people and files. One small subscriber per output; nothing else prints.
//!
//! Live output goes to standard error, the summary of a run to standard output.

mod area;
mod ci;
mod github;
mod gitlab;
mod files;
mod junit;
mod live;
mod markdown;
mod paint;
mod summary;
mod words;

use crate::event::{Event, EventKind};
use crate::id::TaskId;

use ci::Ci;
pub use ci::Service;
pub use files::{EventLog, WriteError, is_stdout, prepare_whole, write_whole};
pub use github::{SpecPlaces, TaskLines, inert, masks, outputs};
pub use junit::junit;
pub use live::Progress;
pub use markdown::markdown;
pub use paint::Paint;
pub use summary::{Hints, Limits, summary};
pub use words::{cause, count, gain, limit, padded, since, size, time, verdict, work};

/// How a run is shown while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A line per running task that stays in place, everything else above it.
    Terminal,
    /// Plain lines, for files and CI.
    Plain,
    /// Nothing but warnings.
    Quiet,
}

/// All outputs of a run.
pub struct Reporter {
    live: Progress,
    ci: Option<Ci>,
    events: EventLog,
}

impl Reporter {
    /// A reporter that shows a run of these tasks, and writes down its events. On a CI system, each task's lines are shown together when it has ended.
    pub fn new(
        mode: Mode,
        paint: Paint,
        tasks: &[TaskId],
        service: Option<Service>,
        events: EventLog,
    ) -> Self {
        Self {
            live: Progress::new(mode, paint, tasks),
            ci: service.map(|service| Ci::new(service, mode, paint)),
            events,
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        for error in self.events.write(event) {
            self.live
                .note(&format!("warning: {error}; its events end here"));
        }
        match &mut self.ci {
            Some(ci) => ci.event(event, &mut self.live),
            None => self.live.event(event),
        }
        if matches!(event.kind, EventKind::RunFinished { .. }) {
            self.live.finish();
        }
    }

    /// A task wrote a line; it is masked and sanitised already.
    pub fn line(&mut self, task: &TaskId, text: &str) {
        match &mut self.ci {
            Some(ci) => ci.line(task, text),
            None => self.live.line(task, text),
        }
    }

    /// The events files that could not be written to their end.
    pub fn failed(self) -> Vec<WriteError> {
        self.events.failed()
    }
}
