//! How a preview ended, where somebody should know: what it showed while it went on is seen by then.

use std::fmt::Write as _;

use super::Paint;
use super::words::{ending, quoted, time, verdict};
use crate::event::RunSummary;

/// Why nobody can look at it any more, unless that was asked for, and what could not be removed.
pub fn preview(run: &RunSummary, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, run, paint);
    text
}

fn render(text: &mut String, run: &RunSummary, paint: Paint) -> std::fmt::Result {
    for task in run.tasks.iter().filter(|task| !task.is_good()) {
        if run.stopped.is_some() {
            break;
        }
        let (word, time) = (verdict(paint, task), time(task.ran));
        let why = ending(task, "").unwrap_or_default();
        writeln!(text, "{word} [{time}] preview of {}: {why}", task.task)?;
        for line in &task.last_lines {
            let (bar, line) = (paint.faint("|"), paint.foreign(line));
            writeln!(text, "             {bar} {line}")?;
        }
        let id = quoted(&task.task);
        writeln!(
            text,
            "             next  agent-run logs {id} --run {}",
            run.run
        )?;
    }
    let of_tasks = run.tasks.iter().flat_map(|task| &task.teardown_errors);
    for error in of_tasks.chain(&run.teardown_errors) {
        writeln!(text, "{} not removed: {error}", paint.careful("warning:"))?;
    }
    Ok(())
}
