//! A run while it runs: on a terminal one line per running task, elsewhere plain lines.

use std::collections::HashMap;
use std::time::Instant;

use super::area::{Area, Row, to_stderr};
use super::words::{cause, count, gain, padded, time, verdict};
use super::{Mode, Paint};
use crate::event::{Event, EventKind, StopReason, TaskPhase, TaskReport};
use crate::id::TaskId;

/// Names are padded to the longest, but not further than this; longer ones stand out.
const NAME_WIDTH: usize = 24;

/// Shows a run on standard error.
pub struct Progress {
    mode: Mode,
    paint: Paint,
    places: HashMap<TaskId, usize>,
    width: usize,
    area: Area,
}

impl Progress {
    /// A view of a run of these tasks.
    pub fn new(mode: Mode, paint: Paint, tasks: &[TaskId]) -> Self {
        let longest = tasks.iter().map(|t| t.as_str().len()).max().unwrap_or(0);
        Self {
            mode,
            paint,
            places: tasks.iter().cloned().zip(0..).collect(),
            width: longest.min(NAME_WIDTH),
            area: Area::default(),
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        let paint = self.paint;
        match (&event.kind, &event.task) {
            (
                EventKind::RunStarted {
                    run,
                    tasks,
                    parallel,
                },
                _,
            ) => {
                let word = paint.strong(&padded("Starting"));
                let tasks = count(*tasks as u64, "task");
                self.print(&format!("{word} {tasks}, {parallel} at a time, run {run}"));
            }
            (EventKind::Phase { phase }, Some(task)) => self.phase(task, *phase),
            (EventKind::Image { image, status }, _) => {
                self.print(&format!("{} {image} {status}", padded("image")));
            }
            (EventKind::Warning { message }, task) => {
                let task = task.as_ref().map(|t| format!("{t}: ")).unwrap_or_default();
                let word = paint.careful("warning:");
                self.note(&format!("{word} {task}{message}"));
            }
            (EventKind::Stopping { reason, forced }, _) => {
                let word = paint.careful(&padded("Stopping"));
                self.note(&format!("{word} {}", stopping(*reason, *forced)));
            }
            (EventKind::TaskFinished { report }, _) => self.finished(report),
            (
                EventKind::Phase { .. }
                | EventKind::Usage { .. }
                | EventKind::Slow
                | EventKind::RunFinished { .. },
                _,
            ) => {}
        }
    }

    fn phase(&mut self, task: &TaskId, phase: TaskPhase) {
        let words = match phase {
            TaskPhase::Waiting | TaskPhase::Finished => return,
            TaskPhase::Preparing => "preparing",
            TaskPhase::Running => "running",
            TaskPhase::Stopping => "stopping",
            TaskPhase::Collecting => "collecting",
        };
        match self.mode {
            Mode::Terminal => {
                let row = Row {
                    name: self.name(task),
                    since: Instant::now(),
                    phase: words,
                };
                self.area.set(self.place(task), row);
            }
            Mode::Plain if phase == TaskPhase::Running => {
                let name = self.paint.task(self.place(task), task.as_str());
                self.print(&format!("{}           {name}", padded("START")));
            }
            Mode::Plain | Mode::Quiet => {}
        }
    }

    fn finished(&mut self, report: &TaskReport) {
        self.area.remove(self.place(&report.task));
        let what = [cause(&report.outcome), report.branch.as_ref().map(gain)];
        let what: Vec<String> = what.into_iter().flatten().collect();
        let (word, name) = (verdict(self.paint, report), self.name(&report.task));
        let time = time(report.ran);
        self.print(&format!("{word} [{time}] {name} {}", what.join("; ")));
    }

    /// Shows a line of a task's output.
    pub fn line(&mut self, task: &TaskId, text: &str) {
        let text = self.paint.foreign(text);
        self.print(&format!("{} | {text}", self.name(task)));
    }

    /// Shows something also where little is shown.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Quiet => to_stderr(&format!("{text}\n")),
            Mode::Terminal | Mode::Plain => self.print(text),
        }
    }

    /// Takes away what stayed in place.
    pub fn finish(&mut self) {
        self.area.clear();
    }

    fn print(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Plain => to_stderr(&format!("{text}\n")),
            Mode::Terminal => self.area.print(text),
        }
    }

    fn place(&self, task: &TaskId) -> usize {
        self.places.get(task).copied().unwrap_or_default()
    }

    fn name(&self, task: &TaskId) -> String {
        let name = format!("{task:<0$}", self.width);
        self.paint.task(self.place(task), &name)
    }
}

fn stopping(reason: StopReason, forced: bool) -> String {
    let why = match reason {
        StopReason::Interrupted => "interrupted",
        StopReason::Terminated => "terminated",
        StopReason::TimedOut => "the time of the whole run is over",
    };
    if forced {
        format!("{why}: killing containers; work that is not collected stays on disk")
    } else {
        format!("{why}: containers get their grace, work is collected (again to kill them now)")
    }
}
