//! Reads a container's output until it ends: masks it, keeps it in the log, shows lines.
//!
//! Never waits for a reporter: measured, an attach reader that stalls blocks the container and even
//! its `stop`. Lines that nobody could take are counted where they are missing.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use memchr::memchr2;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::blocking;
use super::dispatcher::LogLine;
use crate::engine::{OutputSource, OutputStream};
use crate::id::TaskId;
use crate::journal::log::{LogStream, LogWriter};
use crate::sanitize::{self, LOOKED_AT};
use crate::secrets::{Needles, Redactor};

/// How long the output of a container that has ended may stand still before it counts as whole.
const STALL: Duration = Duration::from_secs(5);
/// After this, the beginning of a line that does not go on is written to the log.
const QUIET: Duration = Duration::from_millis(100);
/// How long the last word on missing lines waits for a reporter.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How many of the last lines are kept for the report.
const LAST_LINES: usize = 20;
/// How much of each, in characters.
const LAST_LENGTH: usize = 400;

/// What a pump is told once its container need not be waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The container has ended: all that is still on its way is read.
    Ended,
    /// Nobody knows whether it ends: what comes soon is read.
    Unknown,
}

/// What is left of a container's output besides the log.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    /// The last lines, masked and sanitised.
    pub(super) last_lines: Vec<String>,
    /// What people are to know of the log and of the lines that were shown, each a sentence.
    pub(super) gaps: Vec<String>,
}

pub(super) struct Pump {
    task: TaskId,
    log: LogWriter,
    lines: mpsc::Sender<LogLine>,
    stdout: Assembler,
    stderr: Assembler,
    shown: Shown,
}

/// One stream on its way from frames to lines.
struct Assembler {
    redactor: Redactor,
    line: Vec<u8>,
    after_cr: bool,
}

/// What became of the lines.
#[derive(Default)]
struct Shown {
    last: VecDeque<Vec<u8>>,
    missing: u64,
}

impl Assembler {
    fn new(needles: &Needles) -> Self {
        Self {
            redactor: Redactor::new(needles),
            line: Vec::new(),
            after_cr: false,
        }
    }

    /// Takes masked bytes and hands on the lines that are complete now; a lone CR ends one too.
    fn lines(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let second_half =
                self.after_cr && end == 0 && bytes[0] == b'\n' && self.line.is_empty();
            if self.line.is_empty() && !second_half {
                each(&bytes[..end]);
            } else if !second_half {
                self.keep(&bytes[..end]);
                each(&self.line);
                self.line.clear();
            }
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// No more is kept of a line than can be shown of it; the log has it whole.
    fn keep(&mut self, bytes: &[u8]) {
        let room = (LOOKED_AT + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Pump {
    pub(super) fn new(
        task: TaskId,
        log: LogWriter,
        needles: &Needles,
        lines: mpsc::Sender<LogLine>,
    ) -> Self {
        Self {
            task,
            log,
            lines,
            stdout: Assembler::new(needles),
            stderr: Assembler::new(needles),
            shown: Shown::default(),
        }
    }

    /// Reads until the stream ends, or stands still after `told` has come.
    pub(super) async fn run(
        mut self,
        mut output: OutputStream,
        told: oneshot::Receiver<Ending>,
    ) -> Pumped {
        let mut told = std::pin::pin!(told);
        let mut ending = None;
        let mut until = Instant::now();
        let mut gaps = Vec::new();
        loop {
            tokio::select! {
                biased;
                what = &mut told, if ending.is_none() => {
                    // Where nobody is left to tell, the container is being removed.
                    ending = Some(what.unwrap_or(Ending::Ended));
                    until = Instant::now() + STALL;
                }
                () = sleep_until(until), if ending == Some(Ending::Unknown) => {
                    gaps.push("the log may lack its end: its container may still run".into());
                    break;
                }
                frame = output.next() => match frame {
                    Some(Ok(frame)) => {
                        let redactor = &mut self.stream(frame.source).redactor;
                        let masked = redactor.push(&frame.bytes);
                        self.take(frame.source, &masked);
                        if ending == Some(Ending::Ended) {
                            until = Instant::now() + STALL;
                        }
                    }
                    Some(Err(error)) => {
                        gaps.push(format!("the log may lack its end: {error}"));
                        break;
                    }
                    None => break,
                },
                () = sleep_until(until), if ending == Some(Ending::Ended) => {
                    gaps.push("the log may lack its end: the engine did not end the output".into());
                    break;
                }
                () = sleep(QUIET), if self.log.has_open_line() => self.log.write_open_lines(),
            }
        }
        self.finish(gaps).await
    }

    async fn finish(mut self, mut gaps: Vec<String>) -> Pumped {
        for source in [OutputSource::Stdout, OutputSource::Stderr] {
            let masked = self.stream(source).redactor.finish();
            self.take(source, &masked);
            let rest = std::mem::take(&mut self.stream(source).line);
            if !rest.is_empty() {
                self.shown.show(&self.task, &self.lines, &rest);
            }
        }
        gaps.extend(self.shown.tell_the_rest(&self.task, &self.lines).await);
        let log = self.log;
        if let Some(gap) = blocking(move || log.finish()).await {
            gaps.push(format!("the log is not whole: {gap}"));
        }
        Pumped {
            last_lines: self.shown.last_lines(),
            gaps,
        }
    }

    fn stream(&mut self, source: OutputSource) -> &mut Assembler {
        match source {
            OutputSource::Stdout => &mut self.stdout,
            OutputSource::Stderr => &mut self.stderr,
        }
    }

    fn take(&mut self, source: OutputSource, masked: &[u8]) {
        let (stream, assembler) = match source {
            OutputSource::Stdout => (LogStream::Stdout, &mut self.stdout),
            OutputSource::Stderr => (LogStream::Stderr, &mut self.stderr),
        };
        self.log.write(stream, masked);
        assembler.lines(masked, |line| {
            self.shown.show(&self.task, &self.lines, line);
        });
    }
}

impl Shown {
    fn show(&mut self, task: &TaskId, lines: &mpsc::Sender<LogLine>, line: &[u8]) {
        self.remember(line);
        // Once lines are missing, it goes on when half of the room is free: lines that belong
        // together are of more use than single ones with counts between them.
        let needed = match self.missing {
            0 => 1,
            _ => lines.max_capacity() / 2,
        };
        if lines.capacity() < needed.max(1) {
            self.missing += 1;
            return;
        }
        if self.missing > 0 && lines.try_send(self.gap(task)).is_ok() {
            self.missing = 0;
        }
        let text = sanitize::line(line, true);
        let task = task.clone();
        if self.missing > 0 || lines.try_send(LogLine { task, text }).is_err() {
            self.missing += 1;
        }
    }

    /// Keeps the last lines as they are; most are never looked at.
    fn remember(&mut self, line: &[u8]) {
        let mut kept = match self.last.len() {
            LAST_LINES => self.last.pop_front().unwrap_or_default(),
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(&line[..line.len().min(LOOKED_AT)]);
        self.last.push_back(kept);
    }

    fn last_lines(&self) -> Vec<String> {
        let short = |bytes: &Vec<u8>| {
            let line = sanitize::line(bytes, true);
            if line.chars().count() <= LAST_LENGTH {
                return line;
            }
            // A colour must not be cut in two.
            let line = sanitize::line(bytes, false);
            line.chars().take(LAST_LENGTH).collect()
        };
        self.last.iter().map(short).collect()
    }

    /// Says how many lines are missing at the end: now nothing is blocked by waiting a little. What
    /// a reporter does not take in that time is to be told as an event, which waits for it.
    async fn tell_the_rest(&self, task: &TaskId, lines: &mpsc::Sender<LogLine>) -> Option<String> {
        if self.missing == 0 {
            return None;
        }
        let told = timeout(LAST_WORD, lines.send(self.gap(task))).await;
        told.is_err().then(|| self.not_shown())
    }

    fn gap(&self, task: &TaskId) -> LogLine {
        LogLine {
            task: task.clone(),
            text: format!("… {}", self.not_shown()),
        }
    }

    fn not_shown(&self) -> String {
        format!("{} lines not shown, see the log", self.missing)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::engine::OutputFrame;

    #[tokio::test(start_paused = true)]
    async fn what_a_reporter_never_takes_is_counted_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let log = LogWriter::create(directory.path().join("a.1.log"), 1 << 20).unwrap();
        let (lines, taken) = mpsc::channel(2);
        let pump = Pump::new("a".parse().unwrap(), log, &Needles::default(), lines);
        let frame = OutputFrame {
            source: OutputSource::Stdout,
            bytes: "x\n".repeat(10).into(),
        };
        let (_tell, told) = oneshot::channel();
        let pumped = pump.run(Box::pin(stream::iter([Ok(frame)])), told).await;
        assert_eq!(taken.len(), 2);
        assert_eq!(pumped.gaps, ["8 lines not shown, see the log"]);
    }
}
