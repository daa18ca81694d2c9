//! The last lines of a task, kept until they are shown together.

use std::collections::VecDeque;

/// How much is kept of one task, in bytes.
const KEPT: usize = 512 * 1024;

/// The last lines of a task that runs.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.bytes > KEPT
            && let Some(first) = self.lines.pop_front()
        {
            self.bytes -= first.len();
            self.dropped += 1;
        }
    }

    /// The lines, the first of which may tell how many are missing before them.
    pub(super) fn into_lines(self) -> impl Iterator<Item = String> {
        let dropped = self.dropped;
        let gap = (dropped > 0).then(|| format!("… {dropped} lines not shown, see the log"));
        gap.into_iter().chain(self.lines)
    }
}
