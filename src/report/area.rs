//! What stays in place at the end of a terminal: a line for each running task.
//!
//! Drawn anew as a whole at every change and every tick. Each line ends where the next begins, so
//! that what others print, such as the `^C` of a terminal, lies below it and goes with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::words::{padded, ticking};

const TICK: Duration = Duration::from_millis(250);

/// A running task.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) since: Instant,
    pub(super) phase: &'static str,
}

/// The lines at the end of the terminal on standard error.
#[derive(Default)]
pub(super) struct Area(Option<Arc<Mutex<Drawing>>>);

#[derive(Default)]
struct Drawing {
    rows: BTreeMap<usize, Row>,
    /// How many lines stand above the cursor.
    drawn: usize,
}

impl Area {
    /// Adds the row at a place, or changes its phase; the first begins the ticking.
    pub(super) fn set(&mut self, place: usize, row: Row) {
        let mut drawing = lock(self.0.get_or_insert_with(ticking_drawing));
        let phase = row.phase;
        drawing.rows.entry(place).or_insert(row).phase = phase;
        drawing.draw("");
    }

    /// Takes the row at a place away; it goes with what is printed next.
    pub(super) fn remove(&self, place: usize) {
        if let Some(drawing) = &self.0 {
            lock(drawing).rows.remove(&place);
        }
    }

    /// Prints a line above the area.
    pub(super) fn print(&self, line: &str) {
        match &self.0 {
            Some(drawing) => lock(drawing).draw(&format!("{line}\n")),
            None => to_stderr(&format!("{line}\n")),
        }
    }

    /// Takes everything away that stays in place.
    pub(super) fn clear(&mut self) {
        if let Some(drawing) = self.0.take() {
            let mut drawing = lock(&drawing);
            drawing.rows.clear();
            drawing.draw("");
        }
    }
}

impl Drawing {
    fn draw(&mut self, above: &str) {
        let (height, width) = console::Term::stderr().size();
        let rows = lines(&self.rows, usize::from(height) / 2, usize::from(width));
        let mut text = String::from("\r");
        if self.drawn > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        // Erases from here to the end of the screen (ECMA-48, ED).
        text.push_str("\x1b[J");
        text.push_str(above);
        for row in &rows {
            text.push_str(row);
            text.push('\n');
        }
        self.drawn = rows.len();
        to_stderr(&text);
    }
}

/// A drawing that is drawn anew at every tick for as long as somebody has it.
fn ticking_drawing() -> Arc<Mutex<Drawing>> {
    let drawing = Arc::<Mutex<Drawing>>::default();
    let weak = Arc::downgrade(&drawing);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            let Some(drawing) = weak.upgrade() else {
                return;
            };
            lock(&drawing).draw("");
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
