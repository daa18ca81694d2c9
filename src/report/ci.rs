//! Output for the log view of a CI system: each task's lines together, when it has ended and its
//! success is known, in a group that can be folded.

use std::collections::HashMap;

use super::area::to_stderr;
use super::github::{GitHub, SpecPlaces, inert, masks};
use super::tail::Tail;
use super::words::{attempt_verdict, time, verdict};
use super::{Look, Mode, Output, Paint, Progress, gitlab};
use crate::event::{Event, EventKind, TaskReport};
use crate::id::TaskId;
use crate::secrets::SecretString;

const PLAIN: Paint = Paint { color: false };

/// A CI system whose log has a syntax of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// GitHub Actions, with what annotations need.
    GitHub(SpecPlaces),
    /// GitLab CI.
    GitLab,
}

pub(super) struct Ci {
    syntax: Syntax,
    /// Whether tasks' lines are shown in groups.
    groups: bool,
    paint: Paint,
    tails: HashMap<TaskId, Tail>,
}

enum Syntax {
    GitHub(GitHub),
    GitLab,
}

impl Ci {
    pub(super) fn new(service: Service, look: Look) -> Self {
        let syntax = match service {
            Service::GitHub(places) => Syntax::GitHub(GitHub::new(places)),
            Service::GitLab => Syntax::GitLab,
        };
        Self {
            syntax,
            groups: look.mode != Mode::Quiet && look.output == Output::Group,
            paint: look.paint,
            tails: HashMap::new(),
        }
    }

    /// Shows an event through `live`, within what the service needs around it.
    pub(super) fn event(&mut self, event: &Event, live: &mut Progress) {
        match &event.kind {
            EventKind::TaskFinished { report } => {
                let title = title(&verdict(PLAIN, report), report);
                self.ended(event, report, &title, live);
                if let Syntax::GitHub(github) = &mut self.syntax {
                    to_stderr(&github.annotation(&title, report));
                }
            }
            EventKind::Retry { report, .. } => {
                let title = title(&attempt_verdict(PLAIN, report), report);
                self.ended(event, report, &title, live);
            }
            // They may hold names that an agent chose.
            EventKind::Warning { .. }
            | EventKind::EgressDenied { .. }
            | EventKind::Image { .. } => {
                to_stderr(&self.foreign());
                live.event(event);
            }
            _ => live.event(event),
        }
    }

    /// Has the service mask a value, where it does so.
    pub(super) fn mask(&mut self, value: &SecretString) {
        if let Syntax::GitHub(github) = &mut self.syntax {
            to_stderr(&(github.own() + &masks([value])));
        }
    }

    /// Keeps a line for its task's group, or shows it through `live` if it does so.
    pub(super) fn line(&mut self, task: &TaskId, text: &str, live: &mut Progress) {
        if self.groups {
            self.tails.entry(task.clone()).or_default().push(text);
        } else {
            to_stderr(&self.foreign());
        }
        live.line(task, text);
    }

    /// Shows an attempt's end through `live`, in its group.
    fn ended(&mut self, event: &Event, report: &TaskReport, title: &str, live: &mut Progress) {
        let tail = self.tails.remove(&report.task).unwrap_or_default();
        let grouped = self.groups && report.log.is_some();
        if grouped {
            to_stderr(&self.begin(report, title, tail));
        }
        to_stderr(&self.foreign());
        live.event(event);
        if grouped {
            to_stderr(&self.end(report));
        }
    }

    /// The head of an attempt's group, and its lines.
    fn begin(&mut self, report: &TaskReport, title: &str, tail: Tail) -> String {
        let title = format!("{title} {}", time(report.ran).trim());
        let mut text = match &mut self.syntax {
            Syntax::GitHub(github) => github.begin(&title) + &github.foreign(),
            Syntax::GitLab => gitlab::begin(&title, report, now(), self.paint),
        };
        for line in tail.into_lines() {
            // No agent's line begins as one of ours.
            let line = format!("| {}\n", self.paint.foreign(&line));
            text += &match self.syntax {
                Syntax::GitHub(_) => inert(&line),
                Syntax::GitLab => line.into(),
            };
        }
        text
    }

    fn end(&mut self, report: &TaskReport) -> String {
        match &mut self.syntax {
            Syntax::GitHub(github) => github.end(),
            Syntax::GitLab => gitlab::end(report, now()),
        }
    }

    fn foreign(&mut self) -> String {
        match &mut self.syntax {
            Syntax::GitHub(github) => github.foreign(),
            Syntax::GitLab => String::new(),
        }
    }
}

/// However the run ends, the runner reads the commands of whoever comes next.
impl Drop for Ci {
    fn drop(&mut self) {
        if let Syntax::GitHub(github) = &mut self.syntax {
            to_stderr(&github.own());
        }
    }
}

/// How an attempt ended, in words of ours only.
fn title(verdict: &str, report: &TaskReport) -> String {
    format!("{} {}", verdict.trim(), report.task)
}

/// Seconds since 1970.
fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}
