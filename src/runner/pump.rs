//! Reads a container's output until it ends: masks it, keeps all of it in a file, shows lines.
//!
//! Never waits for a reporter: measured, an attach reader that stalls blocks the container and even
//! its `stop`. Lines that nobody could take are counted where they are missing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::dispatcher::LogLine;
use crate::engine::{OutputSource, OutputStream};
use crate::id::TaskId;
use crate::sanitize;
use crate::secrets::{Needles, Redactor};

/// A longer line is shown in pieces of this size, in bytes; the file has it whole.
const LONGEST_LINE: usize = 16 * 1024;
/// How much of each, in characters.
const LAST_LENGTH: usize = 400;
/// How long the last word on missing lines waits for a reporter.
const LAST_LINE: std::time::Duration = std::time::Duration::from_secs(1);
/// How many of the last lines are kept for the report.
const LAST_LINES: usize = 20;

/// What is left of a container's output besides the file.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    /// The last lines, masked and sanitised.
    pub(super) last_lines: Vec<String>,
    /// Why the file is not the whole log, if it is not.
    pub(super) gap: Option<String>,
}

pub(super) struct Pump {
    task: TaskId,
    file: File,
    lines: mpsc::Sender<LogLine>,
    stdout: Assembler,
    stderr: Assembler,
    last: VecDeque<String>,
    not_shown: u64,
    gap: Option<String>,
}

/// One stream on its way from frames to lines.
struct Assembler {
    redactor: Redactor,
    line: Vec<u8>,
    after_cr: bool,
}

impl Assembler {
    fn new(needles: &Needles) -> Self {
        Self {
            redactor: Redactor::new(needles),
            line: Vec::new(),
            after_cr: false,
        }
    }

    /// Takes masked bytes and gives the lines that are complete now; a lone CR ends a line too.
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            let ends = matches!(byte, b'\n' | b'\r');
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            if !ends {
                self.line.push(byte);
            }
            if (ends && !second_half) || self.line.len() >= LONGEST_LINE {
                lines.push(sanitize::line(&std::mem::take(&mut self.line), true));
            }
        }
        lines
    }
}

impl Pump {
    pub(super) fn new(
        task: TaskId,
        file: File,
        needles: &Needles,
        lines: mpsc::Sender<LogLine>,
    ) -> Self {
        Self {
            task,
            file,
            lines,
            stdout: Assembler::new(needles),
            stderr: Assembler::new(needles),
            last: VecDeque::new(),
            not_shown: 0,
            gap: None,
        }
    }

    /// Reads until the stream ends.
    pub(super) async fn run(mut self, mut output: OutputStream) -> Pumped {
        while let Some(frame) = output.next().await {
            match frame {
                Ok(frame) => {
                    let redactor = &mut self.stream(frame.source).redactor;
                    let masked = redactor.push(&frame.bytes);
                    self.take(frame.source, &masked);
                }
                Err(error) => {
                    self.gap = Some(error.to_string());
                    break;
                }
            }
        }
        for source in [OutputSource::Stdout, OutputSource::Stderr] {
            let masked = self.stream(source).redactor.finish();
            self.take(source, &masked);
            let rest = std::mem::take(&mut self.stream(source).line);
            if !rest.is_empty() {
                self.show(sanitize::line(&rest, true));
            }
        }
        self.tell_the_rest().await;
        Pumped {
            last_lines: self.last.into(),
            gap: self.gap,
        }
    }

    fn stream(&mut self, source: OutputSource) -> &mut Assembler {
        match source {
            OutputSource::Stdout => &mut self.stdout,
            OutputSource::Stderr => &mut self.stderr,
        }
    }

    fn take(&mut self, source: OutputSource, masked: &[u8]) {
        // A full disk must not stall the container: go on reading, and say that the file has a gap.
        if let Err(error) = self.file.write_all(masked) {
            self.gap.get_or_insert_with(|| error.to_string());
        }
        for line in self.stream(source).lines(masked) {
            self.show(line);
        }
    }

    fn show(&mut self, line: String) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last
            .push_back(line.chars().take(LAST_LENGTH).collect());
        self.tell_not_shown();
        if self.not_shown > 0 || self.lines.try_send(self.line(line)).is_err() {
            self.not_shown += 1;
        }
    }

    /// Says how many lines are missing as soon as somebody takes lines again.
    fn tell_not_shown(&mut self) {
        if self.not_shown > 0 && self.lines.try_send(self.gap_line()).is_ok() {
            self.not_shown = 0;
        }
    }

    /// The same once the stream has ended: now nothing is blocked by waiting a little.
    async fn tell_the_rest(&mut self) {
        if self.not_shown > 0 {
            let told = self.lines.send(self.gap_line());
            // A reporter that takes nothing at all does not take this either.
            let _ = tokio::time::timeout(LAST_LINE, told).await;
        }
    }

    fn gap_line(&self) -> LogLine {
        self.line(format!("… {} lines not shown, see the log", self.not_shown))
    }

    fn line(&self, text: String) -> LogLine {
        LogLine {
            task: self.task.clone(),
            text,
        }
    }
}
