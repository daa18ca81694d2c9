//! The text of a spec: reading it within bounds, and turning byte offsets into lines.
//!
//! Nothing here knows YAML.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// Longest spec, and longest file that a spec names, in bytes.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// Why the text of a spec could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is a directory, a FIFO, a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It is longer than [`SIZE_LIMIT`].
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not UTF-8.
    #[error("{} is not UTF-8 text: byte {offset} does not fit", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that does not fit, from 0.
        offset: usize,
    },
}

/// A range of bytes of the spec's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and where the spec gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is.
    pub span: Span,
}

/// The text of a spec and the name that messages give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    name: String,
    text: String,
}

impl SourceFile {
    /// Reads a regular file of at most 1 MiB. Never blocks: a FIFO is refused unread.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = read_text(path)?;
        Ok(Self::new(&path.display().to_string(), text))
    }

    /// Reads a stream to its end, under the same cap; `name` is what messages call it.
    pub fn from_reader(name: &str, reader: impl Read) -> Result<Self, SpecError> {
        Ok(Self::new(name, bounded_text(Path::new(name), reader)?))
    }

    /// A text that is already here.
    pub fn new(name: &str, mut text: String) -> Self {
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of an offset, both from 1, the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.floor(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The line of a span, without its end, and the part of the span on it, relative to it.
    pub(crate) fn line_of(&self, span: Span) -> (&str, Range<usize>) {
        let start = self.floor(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let rest = &self.text[line_start..];
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let from = (start - line_start).min(line.len());
        let to = self.floor(span.end).saturating_sub(line_start);
        (line, from..to.clamp(from, line.len()))
    }

    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// Reads a regular UTF-8 file of at most [`SIZE_LIMIT`] bytes.
pub fn read_text(path: &Path) -> Result<String, SpecError> {
    let unreadable = |source: std::io::Error| SpecError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Without NONBLOCK, opening a FIFO waits for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let facts = rustix::fs::fstat(&file).map_err(|e| unreadable(e.into()))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(SpecError::NotAFile {
            path: path.to_owned(),
        });
    }
    bounded_text(path, File::from(file))
}

fn bounded_text(path: &Path, reader: impl Read) -> Result<String, SpecError> {
    let path = path.to_owned();
    let mut bytes = Vec::new();
    match reader.take(SIZE_LIMIT + 1).read_to_end(&mut bytes) {
        Err(source) => return Err(SpecError::Unreadable { path, source }),
        Ok(_) if bytes.len() as u64 > SIZE_LIMIT => return Err(SpecError::TooLarge { path }),
        Ok(_) => {}
    }
    String::from_utf8(bytes).map_err(|error| SpecError::NotText {
        path,
        offset: error.utf8_error().valid_up_to(),
    })
}
