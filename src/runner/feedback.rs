//! What an attempt is told of the result that it goes on from: how its check ended, and the end of
//! what that wrote.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::course::From;
use crate::event::TaskOutcome;
use crate::journal::log::{LogReader, LogRecord};
use crate::sanitize;

/// How many of the last lines are looked at.
const LINES: u64 = 10_000;
/// How much of them is told, in bytes.
const MOST: usize = 64 * 1024;

/// The text for the file that `AGENT_FEEDBACK` names. The log is masked already.
pub(super) fn feedback(from: &From, log: &Path) -> String {
    let ending = ending(&from.outcome);
    let number = from.attempt;
    let head =
        format!("agent-run: the result of attempt {number} did not pass verify: {ending}.\n");
    match last_lines(log) {
        Ok((lines, true)) => format!("{head}The end of its output:\n\n{lines}"),
        Ok((lines, false)) if lines.is_empty() => format!("{head}It wrote nothing.\n"),
        Ok((lines, false)) => format!("{head}Its output:\n\n{lines}"),
        Err(error) => format!("{head}Its output cannot be read: {error}\n"),
    }
}

fn ending(outcome: &TaskOutcome) -> String {
    let TaskOutcome::VerifyFailed { cause } = outcome else {
        return "it did not end well".into();
    };
    match &**cause {
        TaskOutcome::Failed { exit_code } => format!("exit code {exit_code}"),
        TaskOutcome::Killed { signal } => format!("killed by signal {signal}"),
        TaskOutcome::OutOfMemory => "it ran out of memory".into(),
        TaskOutcome::OutOfDisk { .. } => "it used more disk than it may".into(),
        TaskOutcome::TimedOut => "it ran past its time".into(),
        _ => "it did not end well".into(),
    }
}

/// The last lines that have room, sanitised; and whether there were more.
fn last_lines(log: &Path) -> io::Result<(String, bool)> {
    let mut kept = Kept::default();
    let mut reader = LogReader::open(log)?;
    reader.seek_last(LINES)?;
    reader.read(|record| {
        kept.take(record);
        Ok(())
    })?;
    reader.finish(|record| {
        kept.take(record);
        Ok(())
    })?;
    for open in std::mem::take(&mut kept.open) {
        if !open.is_empty() {
            kept.push(&open);
        }
    }
    let is_cut = kept.dropped || kept.seen >= LINES;
    Ok((kept.lines.into_iter().collect(), is_cut))
}

/// The newest lines, no more than have room.
#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    seen: u64,
    dropped: bool,
    /// By stream, the line that has not ended.
    open: [Vec<u8>; 2],
}

impl Kept {
    fn take(&mut self, record: LogRecord<'_>) {
        let open = &mut self.open[record.stream as usize];
        let room = sanitize::LONG_LOOKED_AT.saturating_sub(open.len());
        open.extend_from_slice(&record.text[..record.text.len().min(room)]);
        if record.ends_line {
            let line = std::mem::take(open);
            self.push(&line);
        }
    }

    fn push(&mut self, line: &[u8]) {
        let line = sanitize::long_line(line, false) + "\n";
        self.seen += 1;
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MOST && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
            self.dropped = true;
        }
    }
}
