//! A run while it runs: on a terminal one line per running task, elsewhere plain lines.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::words::{cause, padded, time, verdict, work};
use super::{Mode, Paint};
use crate::event::{Event, EventKind, StopReason, TaskPhase, TaskReport};
use crate::id::TaskId;

/// Shows a run on standard error.
pub struct Progress {
    mode: Mode,
    paint: Paint,
    places: HashMap<TaskId, usize>,
    width: usize,
    bars: MultiProgress,
    running: HashMap<TaskId, ProgressBar>,
}

impl Progress {
    /// A view of a run of these tasks.
    pub fn new(mode: Mode, paint: Paint, tasks: &[TaskId]) -> Self {
        let target = match mode {
            Mode::Terminal => ProgressDrawTarget::stderr(),
            Mode::Plain | Mode::Quiet => ProgressDrawTarget::hidden(),
        };
        Self {
            mode,
            paint,
            places: tasks.iter().cloned().zip(0..).collect(),
            width: tasks.iter().map(|t| t.as_str().len()).max().unwrap_or(0),
            bars: MultiProgress::with_draw_target(target),
            running: HashMap::new(),
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
                let noun = if *tasks == 1 { "task" } else { "tasks" };
                self.print(&format!(
                    "{word} {tasks} {noun}, {parallel} at a time, run {run}"
                ));
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
            (EventKind::Phase { .. } | EventKind::RunFinished { .. }, _) => {}
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
                let name = self.name(task);
                let bar = self.running.entry(task.clone()).or_insert_with(|| {
                    let bar = self.bars.add(ProgressBar::new_spinner());
                    bar.set_style(bar_style());
                    bar.set_prefix(name);
                    bar.enable_steady_tick(Duration::from_millis(250));
                    bar
                });
                bar.set_message(words);
            }
            Mode::Plain if phase == TaskPhase::Running => {
                let name = self.name(task);
                self.print(&format!("{}           {name}", padded("START")));
            }
            Mode::Plain | Mode::Quiet => {}
        }
    }

    fn finished(&mut self, report: &TaskReport) {
        if let Some(bar) = self.running.remove(&report.task) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        let what = [cause(&report.outcome), report.branch.as_ref().map(work)];
        let what: Vec<String> = what.into_iter().flatten().collect();
        let (word, name) = (verdict(self.paint, report), self.name(&report.task));
        let time = time(report.ran);
        self.print(&format!("{word} [{time}] {name} {}", what.join("; ")));
    }

    /// Shows a line of a task's output.
    pub fn line(&mut self, task: &TaskId, text: &str) {
        self.print(&format!("{} | {text}", self.name(task)));
    }

    /// Shows something also where little is shown.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Quiet => to_stderr(text),
            Mode::Terminal | Mode::Plain => self.print(text),
        }
    }

    /// Takes away what stayed in place.
    pub fn finish(&mut self) {
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
        // What was taken away cannot be brought back, and a closed terminal needs no clearing.
        let _ = self.bars.clear();
    }

    fn print(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Plain => to_stderr(text),
            // A terminal that is gone must not end the run.
            Mode::Terminal => drop(self.bars.println(text)),
        }
    }

    fn name(&self, task: &TaskId) -> String {
        let place = self.places.get(task).copied().unwrap_or_default();
        self.paint.task(place, &format!("{task:<0$}", self.width))
    }
}

/// Nobody may be reading any more; that must not end the run.
fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("     {spinner} [{elapsed:>7}] {prefix} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
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
