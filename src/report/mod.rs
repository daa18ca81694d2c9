//! Renders events for people and files. One small subscriber per output; nothing else prints.
//!
//! Live output goes to standard error, the summary of a run to standard output.

mod area;
mod ci;
mod egress;
mod forecast;
mod github;
mod gitlab;
mod files;
mod junit;
mod live;
mod markdown;
mod paint;
mod preview;
mod summary;
mod table;
mod tail;
mod words;

use crate::event::{Event, EventKind};
use crate::id::TaskId;
use crate::secrets::SecretString;

pub use area::Area;
use ci::Ci;
pub use ci::Service;
pub use egress::egress;
pub use files::{EventLog, WriteError, is_stdout, prepare_whole, write_whole};
pub use forecast::{conflict, forecast};
pub use github::{SpecPlaces, TaskLines, inert, inert_json, masks, outputs};
pub use junit::junit;
pub use live::Progress;
pub use markdown::markdown;
pub use paint::Paint;
pub use preview::preview;
pub use summary::{Hints, Limit, Limits, summary};
pub use table::Table;
pub use words::{
    Totals, agent, artifacts, attempt_verdict, cause, count, ending, gain, limit, padded, quoted,
    since, size, time, usd, verdict, work,
};

/// How a run is shown while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A table of the running tasks that stays in place, everything else above it.
    Terminal,
    /// Plain lines, for files and CI.
    Plain,
    /// Nothing but warnings.
    Quiet,
}

/// Which output of tasks is shown while the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Each line as it comes, behind its task's name.
    Prefixed,
    /// All lines of a task together, when it has ended.
    Group,
    /// None; the summary has the last lines of the tasks that failed.
    None,
}

/// How a run looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What it is shown on.
    pub mode: Mode,
    /// The output of its tasks.
    pub output: Output,
    /// Its colours.
    pub paint: Paint,
}

/// All outputs of a run.
pub struct Reporter {
    live: Progress,
    ci: Option<Ci>,
    events: EventLog,
}

impl Reporter {
    /// A reporter that shows a run of these tasks, and writes down its events. On a CI system, what
    /// its log view needs stands around a task's end.
    pub fn new(
        look: Look,
        tasks: &[TaskId],
        hints: &Hints,
        service: Option<Service>,
        events: EventLog,
    ) -> Self {
        let inert = matches!(service, Some(Service::GitHub(_)));
        let ci = service.map(|service| Ci::new(service, look));
        // There, groups are the service's own.
        let output = match look.output {
            Output::Group if ci.is_some() => Output::None,
            output => output,
        };
        Self {
            live: Progress::new(Look { output, ..look }, inert, tasks, &hints.limits),
            ci,
            events,
        }
    }

    /// What runs now, for whoever asks while the run goes on.
    pub fn area(&self) -> Area {
        self.live.area()
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
            Some(ci) => ci.line(task, text, &mut self.live),
            None => self.live.line(task, text),
        }
    }

    /// A value is secret from now on: a service that masks values itself is told it.
    pub fn mask(&mut self, value: &SecretString) {
        if let Some(ci) = &mut self.ci {
            ci.mask(value);
        }
    }

    /// The events files that could not be written to their end.
    pub fn failed(self) -> Vec<WriteError> {
        self.events.failed()
    }
}
