//! What stays in place at the end of a terminal: a line for each running task.
//!
//! One indicatif bar holds all of them as its message, so that it is drawn and taken away whole.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::words::{padded, ticking};

const TICK: Duration = Duration::from_millis(250);
/// What a tab in a line counts as: how far it reaches is the terminal's to say.
const TAB: &str = "    ";

/// A running task.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) since: Instant,
    pub(super) phase: &'static str,
}

/// The lines at the end of the terminal on standard error.
#[derive(Default)]
pub(super) struct Area(Option<Arc<Mutex<Drawing>>>);

struct Drawing {
    rows: BTreeMap<usize, Row>,
    bar: ProgressBar,
}

impl Area {
    /// Adds the row at a place, or changes its phase; the first begins the ticking.
    pub(super) fn set(&mut self, place: usize, row: Row) {
        let mut drawing = lock(self.0.get_or_insert_with(ticking_drawing));
        let phase = row.phase;
        drawing.rows.entry(place).or_insert(row).phase = phase;
        drawing.draw();
    }

    /// Takes the row at a place away; it goes with what is printed next.
    pub(super) fn remove(&self, place: usize) {
        if let Some(drawing) = &self.0 {
            lock(drawing).rows.remove(&place);
        }
    }

    /// Prints a line above the area.
    pub(super) fn print(&self, line: &str) {
        let Some(drawing) = &self.0 else {
            to_stderr(&format!("{line}\n"));
            return;
        };
        let drawing = lock(drawing);
        drawing.bar.println(line.replace('\t', TAB));
        drawing.draw();
    }

    /// Takes everything away that stays in place.
    pub(super) fn clear(&mut self) {
        if let Some(drawing) = self.0.take() {
            lock(&drawing).bar.finish_and_clear();
        }
    }
}

impl Drawing {
    fn draw(&self) {
        if self.bar.is_finished() {
            return;
        }
        let (height, width) = console::Term::stderr().size();
        let rows = lines(&self.rows, usize::from(height) / 2, usize::from(width));
        self.bar.set_message(rows.join("\n"));
        self.bar.tick();
    }
}

/// A drawing that is drawn anew at every tick for as long as somebody has it.
fn ticking_drawing() -> Arc<Mutex<Drawing>> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let drawing = Arc::new(Mutex::new(Drawing {
        rows: BTreeMap::new(),
        bar,
    }));
    let weak = Arc::downgrade(&drawing);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            let Some(drawing) = weak.upgrade() else {
                return;
            };
            lock(&drawing).draw();
        }
    });
    drawing
}

fn lock(drawing: &Mutex<Drawing>) -> MutexGuard<'_, Drawing> {
    drawing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many rows as fit; none is as wide as the terminal, so that none wraps.
fn lines(rows: &BTreeMap<usize, Row>, height: usize, width: usize) -> Vec<String> {
    let shown = if rows.len() > height {
        height.saturating_sub(1)
    } else {
        rows.len()
    };
    let line = |row: &Row| {
        let (time, phase) = (ticking(row.since.elapsed()), padded(row.phase));
        let text = format!("{phase} [{time}] {}", row.name);
        console::truncate_str(&text, width.saturating_sub(1), "…").into_owned()
    };
    let mut lines: Vec<String> = rows.values().take(shown).map(line).collect();
    if shown < rows.len() {
        lines.push(format!("{} and {} more", padded(""), rows.len() - shown));
    }
    lines
}

/// Nobody may be reading any more; that must not end the run.
pub(super) fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
