//! Standard error while a run lasts: lines that are printed, and on a terminal a table below them
//! that stays in place.
//!
//! One indicatif bar holds the table as its message, so that it is drawn and taken away whole. On a
//! terminal, lines wait for the next drawing: however many come, it is drawn a few times a second.

use std::io::{Result, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use rustix::process::getpgrp;
use rustix::stdio::stderr;
use rustix::termios::tcgetpgrp;

use super::Mode;
use super::github::inert;
use super::table::Table;
use crate::event::Event;
use crate::id::TaskId;

/// How often a terminal is drawn.
const TICK: Duration = Duration::from_millis(200);
/// How many lines may wait for that.
const LINES_WAITING: usize = 1000;
/// What a tab in a line counts as: how far it reaches is the terminal's to say.
const TAB: &str = "    ";

/// Standard error, and the tasks that run. Clones are the same one.
#[derive(Clone)]
pub struct Area(Arc<Mutex<Drawing>>);

struct Drawing {
    mode: Mode,
    /// Whether lines must not be taken for commands by GitHub's runner.
    inert: bool,
    table: Table,
    bar: Option<ProgressBar>,
    drawn: String,
    waiting: Vec<String>,
}

impl Area {
    pub(super) fn new(mode: Mode, inert: bool, table: Table) -> Self {
        Self(Arc::new(Mutex::new(Drawing {
            mode,
            inert,
            table,
            bar: None,
            drawn: String::new(),
            waiting: Vec::new(),
        })))
    }

    /// Takes in what happened; the first task that runs begins the drawing.
    pub(super) fn event(&self, event: &Event) {
        self.lock().table.event(event, Instant::now());
        self.show();
    }

    /// Draws the table from now on, on a terminal and if a task runs.
    pub fn show(&self) {
        let mut drawing = self.lock();
        let has_table = drawing.mode == Mode::Terminal && !drawing.table.is_empty();
        if has_table && drawing.bar.is_none() && in_foreground() {
            drawing.bar = Some(bar());
            let drawing = Arc::downgrade(&self.0);
            std::thread::spawn(move || keep_drawing(&drawing));
        }
    }

    /// Takes in a line of a task's output.
    pub(super) fn line(&self, task: &TaskId, text: &str) {
        self.lock().table.line(task, text);
    }

    /// Prints a line, above the table if there is one.
    pub(super) fn print(&self, line: &str) {
        self.lock().print(line);
    }

    /// Takes the table away, until a task's event or [`Self::show`] brings it back.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Prints what runs now, with the last lines of each task.
    pub fn print_running(&self) {
        let mut drawing = self.lock();
        for line in drawing.table.listing(Instant::now()) {
            drawing.print(&line);
        }
        drawing.draw();
    }

    fn lock(&self) -> MutexGuard<'_, Drawing> {
        lock(&self.0)
    }
}

impl Drawing {
    fn print(&mut self, line: &str) {
        let line = if self.inert { inert(line) } else { line.into() };
        if self.bar.is_none() {
            to_stderr(&format!("{line}\n"));
            return;
        }
        self.waiting.push(line.replace('\t', TAB));
        if self.waiting.len() >= LINES_WAITING {
            self.print_waiting();
        }
    }

    fn print_waiting(&mut self) {
        if let Some(bar) = &self.bar
            && !self.waiting.is_empty()
        {
            bar.println(self.waiting.join("\n"));
            self.waiting.clear();
        }
    }

    fn clear(&mut self) {
        self.print_waiting();
        self.drawn.clear();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draw(&mut self) {
        self.print_waiting();
        let Some(bar) = &self.bar else {
            return;
        };
        let (height, width) = Term::stderr().size();
        let (height, width) = (usize::from(height) / 2, usize::from(width));
        let lines = self.table.lines(Instant::now(), height, width).join("\n");
        if lines != self.drawn {
            bar.set_message(lines.clone());
            self.drawn = lines;
        }
    }
}

/// Draws a table until it is taken away.
fn keep_drawing(drawing: &Weak<Mutex<Drawing>>) {
    loop {
        std::thread::sleep(TICK);
        let Some(drawing) = drawing.upgrade() else {
            return;
        };
        let mut drawing = lock(&drawing);
        if !in_foreground() {
            drawing.clear();
        }
        if drawing.bar.is_none() {
            return;
        }
        drawing.draw();
    }
}

/// Whether the terminal is this process's to draw on: in the background it is a shell's.
fn in_foreground() -> bool {
    // Fails where it is not the terminal of this session: then no shell has it either.
    tcgetpgrp(stderr()).map_or(true, |foreground| foreground == getpgrp())
}

fn bar() -> ProgressBar {
    let target = ProgressDrawTarget::term_like(Box::new(Screen(Term::buffered_stderr())));
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Standard error as indicatif draws on it, but for where the cursor is left: behind the last
/// column, the echo of a key would begin a line that indicatif does not know of.
#[derive(Debug)]
struct Screen(Term);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0.width()
    }

    fn height(&self) -> u16 {
        self.0.height()
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> Result<()> {
        self.0.write_str("\r")?;
        self.0.flush()
    }
}

fn lock(drawing: &Mutex<Drawing>) -> MutexGuard<'_, Drawing> {
    drawing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody may be reading any more; that must not end the run.
pub(super) fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
