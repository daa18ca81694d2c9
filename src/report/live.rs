//! A run while it runs, in words: what is printed for each event and for each line of output.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::area::Area;
use super::table::Table;
use super::tail::Tail;
use super::words::{
    attempt_verdict, cause, count, ending, gain, limit, padded, time, verdict, verified,
};
use super::{Limits, Look, Mode, Output, Paint};
use crate::event::{Event, EventKind, StopReason, TaskOutcome, TaskPhase, TaskReport};
use crate::id::TaskId;

/// Names are padded to the longest, but not further than this; longer ones stand out.
const NAME_WIDTH: usize = 24;

/// Shows a run on standard error.
pub struct Progress {
    look: Look,
    paint: Paint,
    places: HashMap<TaskId, usize>,
    limits: HashMap<TaskId, Limits>,
    width: usize,
    area: Area,
    stopping: bool,
    /// The reasons that were told of one task.
    skipped_for: HashSet<String>,
    tails: HashMap<TaskId, Tail>,
    /// The numbers of attempts that are not the first.
    attempts: HashMap<TaskId, u32>,
}

impl Progress {
    /// A view of a run of these tasks, which begins now; `inert` where GitHub's runner reads it.
    pub fn new(
        look: Look,
        inert: bool,
        tasks: &[TaskId],
        limits: &HashMap<TaskId, Limits>,
    ) -> Self {
        let longest = tasks.iter().map(|t| t.as_str().len()).max().unwrap_or(0);
        let table = Table::new(tasks, limits, look.paint, Instant::now());
        Self {
            look,
            paint: look.paint,
            places: tasks.iter().cloned().zip(0..).collect(),
            limits: limits.clone(),
            width: longest.min(NAME_WIDTH),
            area: Area::new(look.mode, inert, table),
            stopping: false,
            skipped_for: HashSet::new(),
            tails: HashMap::new(),
            attempts: HashMap::new(),
        }
    }

    /// What runs now, for whoever asks while the run goes on.
    pub fn area(&self) -> Area {
        self.area.clone()
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        self.area.event(event);
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
            (
                EventKind::Phase {
                    phase: TaskPhase::Running,
                },
                Some(task),
            ) => self.started(task),
            (EventKind::Slow, Some(task)) => self.slow(task),
            (EventKind::Image { image, status }, _) => {
                self.print(&format!("{} {image} {status}", padded("image")));
            }
            (EventKind::Setup { status, .. }, Some(task)) => {
                self.print(&format!("{} of {task} {status}", padded("setup")));
            }
            (EventKind::Ports { ports }, Some(task)) => {
                for port in ports {
                    self.print(&format!("{} of {task} {port}", padded("port")));
                }
            }
            (EventKind::Answers { port }, Some(task)) => {
                let (word, link) = (paint.good(&padded("preview")), port.link());
                self.note(&format!("{word} of {task} at {}", paint.strong(&link)));
            }
            (EventKind::Warning { message }, task) => {
                let task = task.as_ref().map(|t| format!("{t}: ")).unwrap_or_default();
                let word = paint.careful("warning:");
                self.note(&format!("{word} {task}{message}"));
            }
            (EventKind::EgressDenied { host, port }, Some(task)) => {
                let word = paint.careful("warning:");
                self.note(&format!("{word} {task}: egress denied {host}:{port}"));
            }
            (EventKind::Stopping { reason, forced }, _) => {
                self.stopping = true;
                let word = paint.careful(&padded("Stopping"));
                self.note(&format!("{word} {}", stopping(*reason, *forced)));
            }
            (
                EventKind::Retry {
                    report,
                    wait,
                    goes_on,
                },
                Some(task),
            ) => {
                self.attempts.insert(task.clone(), report.attempt + 1);
                let again = again(report, *wait, *goes_on);
                self.ended(report, &attempt_verdict(paint, report), Some(again));
            }
            (EventKind::TaskFinished { report }, _) => self.finished(report),
            (
                EventKind::Phase { .. }
                | EventKind::Slow
                | EventKind::Setup { .. }
                | EventKind::Ports { .. }
                | EventKind::Answers { .. }
                | EventKind::OutOfDisk { .. }
                | EventKind::OutOfBudget { .. }
                | EventKind::EgressDenied { .. }
                | EventKind::Retry { .. }
                | EventKind::Usage { .. }
                | EventKind::RunFinished { .. },
                _,
            ) => {}
        }
    }

    /// On a terminal the table tells it.
    fn started(&self, task: &TaskId) {
        if self.look.mode == Mode::Plain {
            let name = self.paint.task(self.place(task), task.as_str());
            let word = match self.attempts.get(task) {
                Some(number) => format!("RETRY {number}"),
                None => "START".into(),
            };
            self.print(&format!("{}           {name}", padded(&word)));
        }
    }

    fn slow(&self, task: &TaskId) {
        let Some(limits) = self.limits.get(task) else {
            return;
        };
        let word = self.paint.careful(&padded("SLOW"));
        let (time, name) = (&limits.slow_after, self.name(task));
        self.print(&format!("{word} [>{time:>6}] {name}"));
    }

    fn finished(&mut self, report: &TaskReport) {
        if let TaskOutcome::Skipped { reason, .. } = &report.outcome
            && (self.stopping || !self.skipped_for.insert(reason.clone()))
        {
            // They may be many, and the summary tells of them together.
            return;
        }
        self.ended(report, &verdict(self.paint, report), None);
    }

    fn ended(&mut self, report: &TaskReport, word: &str, next: Option<String>) {
        for line in self
            .tails
            .remove(&report.task)
            .into_iter()
            .flat_map(Tail::into_lines)
        {
            self.print_line(&report.task, &line);
        }
        // Only of the last attempt it matters whether it may fail.
        let ending = match next {
            Some(_) => cause(&report.outcome),
            None => ending(report, ""),
        };
        let gain = |branch| gain(branch) + &verified(report);
        let what = [ending, report.branch.as_ref().map(gain), next];
        let what: Vec<String> = what.into_iter().flatten().collect();
        let (name, time) = (self.name(&report.task), time(report.ran));
        self.print(&format!("{word} [{time}] {name} {}", what.join("; ")));
    }

    /// Shows a line of a task's output.
    pub fn line(&mut self, task: &TaskId, text: &str) {
        self.area.line(task, text);
        match self.look.output {
            Output::Prefixed => self.print_line(task, text),
            Output::Group => self.tails.entry(task.clone()).or_default().push(text),
            Output::None => {}
        }
    }

    fn print_line(&self, task: &TaskId, text: &str) {
        let text = self.paint.foreign(text);
        self.print(&format!("{} | {text}", self.name(task)));
    }

    /// Shows something also where little is shown.
    pub fn note(&self, text: &str) {
        self.area.print(text);
    }

    /// Takes away what stayed in place.
    pub fn finish(&self) {
        self.area.clear();
    }

    fn print(&self, text: &str) {
        if self.look.mode != Mode::Quiet {
            self.area.print(text);
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

/// What follows an attempt, and when.
fn again(report: &TaskReport, wait: Duration, goes_on: bool) -> String {
    if goes_on {
        return "goes on from there".into();
    }
    if wait.is_zero() {
        return "again".into();
    }
    let asked = report.agent.as_ref().and_then(|agent| agent.retry_after_ms);
    let is_asked = asked.map(Duration::from_millis) == Some(wait);
    let as_asked = if is_asked { ", as its agent asks" } else { "" };
    format!("again in {}{as_asked}", limit(wait))
}

fn stopping(reason: StopReason, forced: bool) -> String {
    let why = match reason {
        StopReason::Interrupted => "interrupted",
        StopReason::Terminated => "terminated",
        StopReason::TimedOut => "the time of the whole run is over",
        StopReason::JournalFailed => "its journal cannot be written",
    };
    if forced {
        format!("{why}: killing containers; work that is not collected stays on disk")
    } else {
        format!("{why}: containers get their grace, work is collected (again to kill them now)")
    }
}
