//! The tasks that run, as a table: what each does, for how long, how much memory, its last line.
//!
//! The clock and the size of the terminal come from outside; nothing is printed here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use super::words::{Totals, count, padded, size, ticking};
use super::{Limits, Paint};
use crate::event::{Event, EventKind, TaskPhase};
use crate::id::TaskId;

/// How many of a task's last lines are kept.
const LAST_LINES: usize = 3;
/// How much of each, in characters.
const LAST_LENGTH: usize = 400;
/// The least that a table is worth: a task, how many more there are, and the totals.
const LEAST_HEIGHT: usize = 3;

/// The tasks of a run that run now, in the order of the spec, which is that of their beginning.
#[derive(Debug)]
pub struct Table {
    paint: Paint,
    tasks: Vec<(TaskId, Option<Limits>)>,
    places: HashMap<TaskId, usize>,
    rows: BTreeMap<usize, Row>,
    ended: Totals,
    began: Instant,
    /// The longest limits.
    timeout_width: usize,
    memory_width: usize,
}

#[derive(Debug)]
struct Row {
    since: Instant,
    phase: TaskPhase,
    slow: bool,
    memory: Option<u64>,
    last: VecDeque<String>,
}

impl Table {
    /// The table of a run that begins now, with nothing running yet.
    pub fn new(
        tasks: &[TaskId],
        limits: &HashMap<TaskId, Limits>,
        paint: Paint,
        now: Instant,
    ) -> Self {
        let timeouts = limits.values().map(|l| l.timeout.value.len());
        let memories = limits.values().map(|l| l.mem_limit.value.len());
        Self {
            paint,
            timeout_width: timeouts.max().unwrap_or(0),
            memory_width: memories.max().unwrap_or(0),
            places: tasks.iter().cloned().zip(0..).collect(),
            tasks: tasks
                .iter()
                .map(|task| (task.clone(), limits.get(task).cloned()))
                .collect(),
            rows: BTreeMap::new(),
            ended: Totals::default(),
            began: now,
        }
    }

    /// Takes in what happened.
    pub fn event(&mut self, event: &Event, now: Instant) {
        let Some(&place) = event.task.as_ref().and_then(|task| self.places.get(task)) else {
            return;
        };
        match &event.kind {
            EventKind::Phase { phase } => self.phase(place, *phase, now),
            EventKind::TaskFinished { report } => {
                self.rows.remove(&place);
                self.ended.add(report);
            }
            EventKind::Retry { .. } => {
                self.rows.remove(&place);
            }
            EventKind::Slow => {
                if let Some(row) = self.rows.get_mut(&place) {
                    row.slow = true;
                }
            }
            EventKind::Usage { usage } => {
                if let Some(row) = self.rows.get_mut(&place) {
                    row.memory = Some(usage.memory);
                }
            }
            _ => {}
        }
    }

    fn phase(&mut self, place: usize, phase: TaskPhase, now: Instant) {
        if matches!(phase, TaskPhase::Waiting | TaskPhase::Finished) {
            return;
        }
        let row = self.rows.entry(place).or_insert_with(|| Row {
            since: now,
            phase,
            slow: false,
            memory: None,
            last: VecDeque::with_capacity(LAST_LINES),
        });
        (row.phase, row.since) = (phase, now);
    }

    /// Takes in a line of a task's output, masked and sanitised; blank ones say nothing.
    pub fn line(&mut self, task: &TaskId, text: &str) {
        let row = self.places.get(task);
        let Some(row) = row.and_then(|place| self.rows.get_mut(place)) else {
            return;
        };
        if text.trim().is_empty() {
            return;
        }
        // The oldest gives its memory.
        let mut last = if row.last.len() < LAST_LINES {
            String::new()
        } else {
            row.last.pop_front().unwrap_or_default()
        };
        last.clear();
        let plain = console::strip_ansi_codes(text);
        last.extend(plain.chars().take(LAST_LENGTH));
        row.last.push_back(last);
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// At most `height` lines, none as wide as `width` columns, so that none wraps: the oldest
    /// tasks, how many more there are, and, if the run has several tasks, how far it is.
    pub fn lines(&self, now: Instant, height: usize, width: usize) -> Vec<String> {
        let height = height.max(LEAST_HEIGHT) - usize::from(self.tasks.len() > 1);
        let shown = if self.rows.len() > height {
            height - 1
        } else {
            self.rows.len()
        };
        let names = self.name_width(width / 4);
        let rows = self.rows.iter().take(shown);
        let mut lines: Vec<String> = rows
            .map(|(place, row)| self.with_last_line(*place, row, now, names))
            .collect();
        if shown < self.rows.len() {
            let more = self.rows.len() - shown;
            lines.push(format!("{} and {more} more", padded("")));
        }
        if self.tasks.len() > 1 {
            lines.push(self.totals(now));
        }
        let cut = |line: String| {
            let line = line.replace('\t', " ");
            console::truncate_str(&line, width.saturating_sub(1), "…").into_owned()
        };
        lines.into_iter().map(cut).collect()
    }

    /// Everything that is known of what runs now, for whoever asks.
    pub fn listing(&self, now: Instant) -> Vec<String> {
        let names = self.name_width(usize::MAX);
        let mut lines = Vec::new();
        for (place, row) in &self.rows {
            lines.push(self.row(*place, row, now, names).trim_end().to_owned());
            let bar = self.paint.faint("|");
            let last = row.last.iter();
            lines.extend(last.map(|line| format!("{} {bar} {line}", padded(""))));
        }
        lines.push(self.totals(now));
        lines
    }

    fn with_last_line(&self, place: usize, row: &Row, now: Instant, names: usize) -> String {
        let text = self.row(place, row, now, names);
        match row.last.back() {
            Some(last) => format!("{text} {}", self.paint.faint(&format!("| {last}"))),
            None => text,
        }
    }

    fn row(&self, place: usize, row: &Row, now: Instant, names: usize) -> String {
        let (task, limits) = &self.tasks[place];
        let time = ticking(now.saturating_duration_since(row.since));
        let timeout = match (row.phase, limits) {
            (TaskPhase::Running, Some(limits)) => format!("/{}", limits.timeout.value),
            _ => String::new(),
        };
        let name = format!("{:<names$}", shortened(task.as_str(), names));
        let name = self.paint.task(place, &name);
        let memory = match (row.memory, limits) {
            (Some(memory), Some(limits)) => {
                format!("{:>5}/{}", size(memory), limits.mem_limit.value)
            }
            _ => String::new(),
        };
        let word = self.phase_word(row);
        let (timeouts, memories) = (self.timeout_width + 1, self.memory_width + 6);
        format!("{word} [{time}{timeout:<timeouts$}] {name} {memory:<memories$}")
    }

    fn phase_word(&self, row: &Row) -> String {
        match row.phase {
            TaskPhase::Running if row.slow => self.paint.careful(&padded("slow")),
            TaskPhase::Running => padded("running"),
            TaskPhase::Preparing => padded("preparing"),
            TaskPhase::Stopping => padded("stopping"),
            TaskPhase::Collecting => padded("collecting"),
            TaskPhase::Verifying => padded("verifying"),
            TaskPhase::Waiting | TaskPhase::Finished => padded(""),
        }
    }

    fn name_width(&self, most: usize) -> usize {
        let longest = self.tasks.iter().map(|(task, _)| task.as_str().len()).max();
        longest.unwrap_or(0).min(most)
    }

    fn totals(&self, now: Instant) -> String {
        let word = self.paint.strong(&padded("Running"));
        let time = ticking(now.saturating_duration_since(self.began));
        let (running, ended) = (self.rows.len(), self.ended.number());
        let waiting = self.tasks.len().saturating_sub(running + ended);
        let tasks = count(self.tasks.len() as u64, "task");
        let mut text = format!("{word} [{time}] {tasks}: {}", self.ended);
        for (number, word) in [(running, "running"), (waiting, "waiting")] {
            if number > 0 {
                text.push_str(&format!(", {number} {word}"));
            }
        }
        text
    }
}

/// Tasks of many often differ in the ends of their names only, so the middle goes. Names are ASCII.
fn shortened(name: &str, width: usize) -> Cow<'_, str> {
    if name.len() <= width {
        return name.into();
    }
    let end = width / 2;
    let begin = width.saturating_sub(end + 1);
    format!("{}…{}", &name[..begin], &name[name.len() - end..]).into()
}
