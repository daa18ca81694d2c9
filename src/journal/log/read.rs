//! Reads a log file, also while it is written, and with the parts of its last quarter beside it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use memchr::{memchr, memchr_iter, memrchr};

use super::{LogRecord, part, parts};

/// How much is read at once, in bytes; more than the longest record.
const BLOCK: usize = 256 * 1024;
/// Stands where a part was dropped while the log was read.
const NOT_KEPT: &[u8] = b"[agent-run: log_limit: what came here is not kept]";

/// A log that is being read.
pub struct LogReader {
    path: PathBuf,
    file: File,
    /// The part that `file` is; 0 is the log itself.
    part: u64,
    /// The beginning of a record whose end has not been read.
    rest: Vec<u8>,
}

impl LogReader {
    /// Opens a log at its beginning.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: File::open(path)?,
            part: 0,
            rest: Vec::new(),
        })
    }

    /// Goes to where the last `lines` lines begin, or to the beginning if there are no more.
    pub fn seek_last(&mut self, lines: u64) -> io::Result<()> {
        let mut last = LastLines {
            wanted: lines,
            has_end: [false; 2],
        };
        let numbers = parts(&self.path)?;
        for number in numbers.into_iter().rev().chain([0]) {
            let file = match number {
                0 => File::open(&self.path)?,
                number => File::open(part(&self.path, number))?,
            };
            let start = last.start_in(&file)?;
            (self.file, self.part) = (file, number);
            if let Some(start) = start {
                io::Seek::seek(&mut self.file, io::SeekFrom::Start(start))?;
                break;
            }
        }
        Ok(())
    }

    /// Hands on every record that is whole by now.
    ///
    /// # Errors
    /// Those of the disk, and those of `each`.
    pub fn read(
        &mut self,
        mut each: impl FnMut(LogRecord<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            self.read_file(&mut each)?;
            let next = parts(&self.path)?.into_iter().find(|n| *n > self.part);
            let Some(next) = next else { return Ok(()) };
            let file = match File::open(part(&self.path, next)) {
                Ok(file) => file,
                // It has become a piece of the log itself, or was dropped for later ones.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            // What was written before the next part was begun.
            self.read_file(&mut each)?;
            if next > self.part + 1 {
                each(LogRecord::parse(NOT_KEPT))?;
            }
            (self.file, self.part) = (file, next);
        }
    }

    /// Hands on what is left of a record that was never ended.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn finish(&mut self, each: impl FnOnce(LogRecord<'_>) -> io::Result<()>) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return Ok(());
        }
        each(LogRecord::parse(&rest))
    }

    fn read_file(
        &mut self,
        each: &mut impl FnMut(LogRecord<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let had = self.rest.len();
            self.rest.resize(had + BLOCK, 0);
            let read = self.file.read(&mut self.rest[had..]);
            self.rest.truncate(had + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(());
            }
            let end = match memrchr(b'\n', &self.rest) {
                Some(end) => end + 1,
                // No record is that long: a file that is no log.
                None if self.rest.len() > BLOCK => self.rest.len(),
                None => continue,
            };
            let mut start = 0;
            let ends = memchr_iter(b'\n', &self.rest[..end]).map(|at| at + 1);
            for end in ends.chain([end]) {
                if start < end {
                    each(LogRecord::parse(&self.rest[start..end]))?;
                }
                start = end;
            }
            self.rest.drain(..end);
        }
    }
}

/// Counts lines from the end.
struct LastLines {
    wanted: u64,
    /// By stream, whether the end of its last line has been seen.
    has_end: [bool; 2],
}

impl LastLines {
    /// Where in a file the lines begin that are still wanted; none if that is before the file.
    fn start_in(&mut self, file: &File) -> io::Result<Option<u64>> {
        let mut position = file.metadata()?.len();
        let mut block = Vec::new();
        while position > 0 {
            let size = position.min(BLOCK as u64);
            position -= size;
            let mut before = vec![0; usize::try_from(size).unwrap_or(BLOCK)];
            file.read_exact_at(&mut before, position)?;
            before.append(&mut block);
            block = before;
            // The first line may have begun before the block.
            let first = match memchr(b'\n', &block) {
                _ if position == 0 => 0,
                Some(end) => end + 1,
                None => continue,
            };
            let mut end = block.len();
            while end > first {
                let start =
                    memrchr(b'\n', &block[first..end - 1]).map_or(first, |at| first + at + 1);
                if self.is_behind(LogRecord::parse(&block[start..end])) {
                    return Ok(Some(position + end as u64));
                }
                end = start;
            }
            block.truncate(first);
        }
        Ok(None)
    }

    /// Takes the record before; says whether it is no longer wanted.
    fn is_behind(&mut self, record: LogRecord<'_>) -> bool {
        let has_end = &mut self.has_end[record.stream as usize];
        let ends_line = record.ends_line || !*has_end;
        *has_end = true;
        if ends_line {
            if self.wanted == 0 {
                return true;
            }
            self.wanted -= 1;
        }
        false
    }
}
