//! The last lines of a task, kept until they are shown together.

use std::collections::VecDeque;

/// How much is kept of one task, in bytes of memory: empty lines take some too.
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
        self.bytes += size(line);
        self.lines.push_back(line.to_owned());
        while self.bytes > KEPT
            && let Some(first) = self.lines.pop_front()
        {
            self.bytes -= size(&first);
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

/// What a line takes while it is kept, in bytes.
fn size(line: &str) -> usize {
    size_of::<String>() + line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_empty_lines_is_not_kept() {
        let mut tail = Tail::default();
        for _ in 0..1_000_000 {
            tail.push("");
        }
        assert!(tail.lines.len() * size_of::<String>() <= KEPT);
        let told = tail.into_lines().next();
        let told = told.expect("how many are missing");
        assert!(told.ends_with("lines not shown, see the log"), "{told}");
    }
}
