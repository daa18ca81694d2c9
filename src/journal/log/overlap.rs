//! Where in what the engine has kept of a stream a log goes on, after what came before: by counting,
//! and by the last lines that did come.
//!
//! The engine keeps whole lines, so that all comparing is done up to the end of a line.

use memchr::{memmem, memrchr};

/// How much of the end of a stream is compared, in bytes.
const COMPARED: usize = 4096;
/// How much is looked through at once, in bytes.
const WINDOW: usize = 64 * 1024;

/// What has come of one stream so far.
#[derive(Debug, Default)]
pub struct Taken {
    /// In bytes.
    count: u64,
    /// How many of them are behind the last end of a line.
    open: u64,
    /// The last of them.
    recent: Vec<u8>,
}

impl Taken {
    /// Counts what has come now.
    pub fn push(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        match memrchr(b'\n', bytes) {
            Some(end) => self.open = (bytes.len() - end - 1) as u64,
            None => self.open += bytes.len() as u64,
        }
        let last = &bytes[bytes.len().saturating_sub(2 * COMPARED)..];
        if self.recent.len() + last.len() > 4 * COMPARED {
            let surplus = self.recent.len().saturating_sub(2 * COMPARED);
            self.recent.drain(..surplus);
        }
        self.recent.extend_from_slice(last);
    }

    /// The last whole lines, or the last part of them.
    fn lines(&self) -> &[u8] {
        let open = usize::try_from(self.open).unwrap_or(usize::MAX);
        let lines = &self.recent[..self.recent.len().saturating_sub(open)];
        &lines[lines.len().saturating_sub(COMPARED)..]
    }
}

/// How a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All that has come is at the beginning of what is kept: so many bytes.
    Beginning(u64),
    /// The end of what has come is followed by what is kept after so many of its bytes.
    After(u64),
    /// What is kept begins after the end of what has come.
    Lost {
        /// What has come, in bytes.
        taken: u64,
        /// What is kept, in bytes.
        kept: u64,
    },
}

impl Place {
    /// How many of the bytes that are kept have come before.
    pub fn known(self) -> u64 {
        match self {
            Self::Beginning(bytes) | Self::After(bytes) => bytes,
            Self::Lost { .. } => 0,
        }
    }

    /// What is missing of a stream of that name, as a clause; nothing where nothing is.
    pub fn lost(self, stream: &str) -> Option<String> {
        let Self::Lost { taken, kept } = self else {
            return None;
        };
        Some(format!(
            "what was written to standard {stream} after its first {taken} bytes is missing, up to \
             the last {kept} bytes, which the engine has kept"
        ))
    }
}

/// Looks for the place in what is kept.
pub struct Search<'a> {
    taken: &'a Taken,
    lines: &'a [u8],
    /// How much was read, in bytes, and the last of it.
    read: u64,
    window: Vec<u8>,
    /// Whether the lines end where they do if nothing was dropped.
    is_counted: bool,
    /// Where they end first.
    found: Option<u64>,
}

impl<'a> Search<'a> {
    /// Nothing was read yet.
    pub fn new(taken: &'a Taken) -> Self {
        Self {
            taken,
            lines: taken.lines(),
            read: 0,
            window: Vec::new(),
            is_counted: false,
            found: None,
        }
    }

    /// Reads what is kept, from its beginning.
    pub fn push(&mut self, bytes: &[u8]) {
        self.window.extend_from_slice(bytes);
        self.read += bytes.len() as u64;
        if self.window.len() >= WINDOW {
            self.look();
        }
    }

    fn look(&mut self) {
        let from = self.read - self.window.len() as u64;
        let wanted = (self.taken.count - self.taken.open).checked_sub(from);
        let wanted = wanted.and_then(|end| self.window.get(..usize::try_from(end).ok()?));
        self.is_counted |= wanted.is_some_and(|before| before.ends_with(self.lines));
        if self.found.is_none() && !self.lines.is_empty() {
            let found = memmem::find(&self.window, self.lines);
            self.found = found.map(|start| from + (start + self.lines.len()) as u64);
        }
        let surplus = self.window.len().saturating_sub(self.lines.len());
        self.window.drain(..surplus);
    }

    /// The place, after all was read.
    pub fn place(mut self) -> Place {
        self.look();
        let Taken { count, open, .. } = *self.taken;
        match self.found {
            // A line that has begun is not kept before it ends.
            _ if self.is_counted || count == open => Place::Beginning(count),
            Some(end) => Place::After(end + open),
            None => Place::Lost {
                taken: count,
                kept: self.read,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(numbers: std::ops::Range<u32>) -> Vec<u8> {
        let lines = numbers.map(|n| format!("line {n}\n"));
        lines.flat_map(String::into_bytes).collect()
    }

    fn place(came: &[u8], kept: &[u8], piece: usize) -> Place {
        let mut taken = Taken::default();
        came.chunks(piece).for_each(|bytes| taken.push(bytes));
        let mut search = Search::new(&taken);
        kept.chunks(piece).for_each(|bytes| search.push(bytes));
        search.place()
    }

    #[test]
    fn where_all_is_kept_it_is_counted() {
        let kept = numbered(0..20_000);
        for piece in [1, 7, 4096, 1 << 20] {
            for cut in [0, 1, 6, 7, 5000, WINDOW, 100_000, kept.len()] {
                let found = place(&kept[..cut], &kept, piece);
                assert_eq!(found, Place::Beginning(cut as u64), "{cut} {piece}");
            }
            // The same lines all over say nothing of a place; their number does.
            let same = b"y\n".repeat(90_000);
            assert_eq!(
                place(&same[..70_001], &same, piece),
                Place::Beginning(70_001)
            );
        }
    }

    #[test]
    fn a_line_that_has_begun_is_not_kept_yet() {
        let came = [&numbered(0..2000)[..], b"begun"].concat();
        let found = place(&came, &numbered(0..2000), 100);
        assert_eq!(found, Place::Beginning(came.len() as u64));
    }

    #[test]
    fn where_the_beginning_was_dropped_the_last_lines_are_found() {
        let came = [&numbered(0..2000)[..], b"lin"].concat();
        let end = numbered(1500..2000).len() as u64 + 3;
        for piece in [1, 100, 1 << 20] {
            let found = place(&came, &numbered(1500..2500), piece);
            assert_eq!(found, Place::After(end), "{piece}");
        }
    }

    #[test]
    fn what_is_missing_has_a_place() {
        let (came, kept) = (numbered(0..1000), numbered(2000..2500));
        let lost = Place::Lost {
            taken: came.len() as u64,
            kept: kept.len() as u64,
        };
        assert_eq!(place(&came, &kept, 100), lost);
        let told = lost.lost("output").unwrap();
        assert!(told.contains("after its first 8890 bytes"), "{told}");
    }
}
