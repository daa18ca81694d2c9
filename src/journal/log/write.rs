//! Writes a log file: records of whole lines, the first three quarters and the last quarter of a
//! limit, and what is missing said at the place where it is missing.
//!
//! What was written is readable at any moment, also after a crash: the file never holds half of
//! what was dropped, and the last quarter stands in parts beside it until the log ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use memchr::{memchr, memrchr};

use super::{LONGEST_TEXT, LogRecord, LogStream, PREFIX, part};

/// A last quarter holds some of the longest records, in bytes.
const LEAST_TAIL: u64 = 4 * (PREFIX + LONGEST_TEXT + 1) as u64;

/// What of a task's output is not in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Bytes of the task's own.
    pub bytes: u64,
    /// Lines of the task's own.
    pub lines: u64,
}

impl Dropped {
    fn count(&mut self, record: LogRecord<'_>) {
        self.bytes += record.text.len() as u64 + u64::from(record.ends_line);
        self.lines += u64::from(record.ends_line);
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lines += other.lines;
    }
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = |count| if count == 1 { "" } else { "s" };
        let Self { bytes, lines } = *self;
        write!(f, "{bytes} byte{} in {lines} line{}", s(bytes), s(lines))
    }
}

/// The log of one attempt while it is written. Errors of the disk stop nobody: they are counted.
pub struct LogWriter {
    path: PathBuf,
    /// The log itself, or the newest part of its last quarter.
    file: LogFile,
    /// The largest size of the log before its last quarter begins, in bytes.
    head: u64,
    /// The size of its last quarter, in bytes.
    tail: u64,
    tail_parts: Option<TailParts>,
    lines: [Vec<u8>; 2],
    records: Vec<u8>,
    /// What could not be written since the last success, and why.
    failed: Dropped,
    why: String,
    failed_in_all: Dropped,
}

/// The last quarter of a log: the newest part is being written, the one before it is whole.
struct TailParts {
    newest: u64,
    newest_holds: Dropped,
    before: Option<Dropped>,
    dropped: Dropped,
}

impl LogWriter {
    /// Begins the log at `path`, which takes `limit` bytes at most, or some records if that is less.
    pub fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let tail = (limit / 4).max(LEAST_TAIL);
        Ok(Self {
            file: LogFile::open(&path)?,
            path,
            head: limit.saturating_sub(tail),
            tail,
            tail_parts: None,
            lines: [Vec::new(), Vec::new()],
            records: Vec::new(),
            failed: Dropped::default(),
            why: String::new(),
            failed_in_all: Dropped::default(),
        })
    }

    /// Writes what a stream said, in any pieces; a line that has not ended is kept back.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        let prefix = prefix(stream);
        let line = &mut self.lines[stream as usize];
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (text, after) = (&rest[..end], &rest[end + 1..]);
            if line.is_empty() {
                push_line(&mut self.records, &prefix, text);
            } else {
                line.extend_from_slice(text);
                push_line(&mut self.records, &prefix, line);
                line.clear();
            }
            rest = after;
        }
        line.extend_from_slice(rest);
        while line.len() >= LONGEST_TEXT {
            push_record(&mut self.records, &prefix, b'P', &line[..LONGEST_TEXT]);
            line.drain(..LONGEST_TEXT);
        }
        self.store();
    }

    /// Whether a line has begun and not ended.
    pub fn has_open_line(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    /// Writes the beginnings of lines that have not ended, so that they can be read.
    pub fn write_open_lines(&mut self) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let line = std::mem::take(&mut self.lines[stream as usize]);
            if !line.is_empty() {
                push_record(&mut self.records, &prefix(stream), b'P', &line);
            }
        }
        self.store();
    }

    /// Writes a line of our own where the task's is now.
    pub fn note(&mut self, text: &str) {
        self.write_open_lines();
        // A disk that cannot be read does not take more either.
        if let Ok(records) = self.file.note(text) {
            self.records.extend_from_slice(&records);
            self.store();
        }
    }

    /// Ends the log: one file is left of it. Says what is missing from it for another reason than
    /// its limit.
    pub fn finish(mut self) -> Option<String> {
        self.write_open_lines();
        if self.failed.bytes > 0 {
            // The disk may still be full; the caller is told in any case.
            let _ = self.append(&[]);
        }
        let failed = (self.failed_in_all.bytes > 0)
            .then(|| format!("{} are missing in it: {}", self.failed_in_all, self.why));
        match self.join() {
            Ok(()) => failed,
            Err(error) => Some(format!("its end is in a file beside it: {error}")),
        }
    }

    /// Writes the collected records to where there is room for them.
    fn store(&mut self) {
        let records = std::mem::take(&mut self.records);
        let mut rest = &records[..];
        while !rest.is_empty() {
            let room = match self.tail_parts {
                None => self.head,
                Some(_) => self.tail,
            };
            let room = usize::try_from(room.saturating_sub(self.file.size)).unwrap_or(usize::MAX);
            let fitting = match rest.get(..room) {
                None => rest.len(),
                Some(start) => memrchr(b'\n', start).map_or(0, |end| end + 1),
            };
            let (fitting, after) = rest.split_at(fitting);
            let written = self.append(fitting);
            if !after.is_empty() && written.and_then(|()| self.next_part()).is_err() {
                self.fail(after);
                break;
            }
            rest = after;
        }
        self.records = records;
        self.records.clear();
    }

    /// Appends records, after word of those that are missing before them.
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let written = if self.failed.bytes > 0 {
            let text = format!("{} are missing here: {}", self.failed, self.why);
            let note = self.file.note(&text);
            note.and_then(|note| self.file.append(&[&note, records].concat()))
        } else {
            self.file.append(records)
        };
        if let Err(error) = written {
            self.why = error.to_string();
            self.fail(records);
            return Err(error);
        }
        self.failed = Dropped::default();
        if let Some(parts) = &mut self.tail_parts {
            for record in each(records) {
                parts.newest_holds.count(record);
            }
        }
        Ok(())
    }

    fn fail(&mut self, records: &[u8]) {
        for record in each(records) {
            self.failed.count(record);
            self.failed_in_all.count(record);
        }
    }

    /// Goes on in a new part; the one before the last is dropped.
    fn next_part(&mut self) -> io::Result<()> {
        let newest = self.tail_parts.as_ref().map_or(1, |parts| parts.newest + 1);
        let file = LogFile::open(&part(&self.path, newest)).inspect_err(|error| {
            self.why = error.to_string();
        })?;
        self.file = file;
        match &mut self.tail_parts {
            None => {
                self.tail_parts = Some(TailParts {
                    newest,
                    newest_holds: Dropped::default(),
                    before: None,
                    dropped: Dropped::default(),
                });
            }
            Some(parts) => {
                let before = parts
                    .before
                    .replace(std::mem::take(&mut parts.newest_holds));
                if let Some(dropped) = before {
                    parts.dropped.add(dropped);
                    fs::remove_file(part(&self.path, newest - 2))?;
                }
                parts.newest = newest;
            }
        }
        Ok(())
    }

    /// Puts the last quarter behind the first three.
    fn join(&mut self) -> io::Result<()> {
        let Some(parts) = self.tail_parts.take() else {
            return Ok(());
        };
        let newest = part(&self.path, parts.newest);
        let mut before = None;
        let mut dropped = parts.dropped;
        if parts.before.is_some() {
            let mut file = BufReader::new(File::open(part(&self.path, parts.newest - 1))?);
            let size = file.get_ref().metadata()?.len();
            let surplus = (size + self.file.size).saturating_sub(self.tail);
            dropped.add(skip(&mut file, surplus)?);
            before = Some(file);
        }
        self.file = LogFile::open(&self.path)?;
        let size = self.file.size;
        let joined = self.append_parts(before, &newest, dropped);
        if joined.is_err() {
            // Both parts are still there, and hold it all.
            self.file.file.set_len(size)?;
            return joined;
        }
        if parts.before.is_some() {
            fs::remove_file(part(&self.path, parts.newest - 1))?;
        }
        fs::remove_file(newest)
    }

    fn append_parts(
        &mut self,
        before: Option<BufReader<File>>,
        newest: &Path,
        dropped: Dropped,
    ) -> io::Result<()> {
        if dropped.bytes > 0 {
            let text = format!("log_limit: {dropped} are not kept here");
            let note = self.file.note(&text)?;
            self.file.append(&note)?;
        }
        if let Some(mut before) = before {
            io::copy(&mut before, &mut self.file.file)?;
        }
        io::copy(&mut File::open(newest)?, &mut self.file.file)?;
        Ok(())
    }
}

/// Reads past records until `surplus` bytes are behind, and counts what they hold.
fn skip(file: &mut impl io::BufRead, surplus: u64) -> io::Result<Dropped> {
    let mut dropped = Dropped::default();
    let mut skipped = 0;
    let mut line = Vec::new();
    while skipped < surplus && file.read_until(b'\n', &mut line)? > 0 {
        skipped += line.len() as u64;
        dropped.count(LogRecord::parse(&line));
        line.clear();
    }
    Ok(dropped)
}

/// A file that records are appended to, whole or not at all.
pub(super) struct LogFile {
    file: File,
    size: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o644)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            // A record that is there by half would swallow the next one.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += records.len() as u64;
        Ok(())
    }

    /// A record of our own for the end, after the ends of lines that have lost theirs.
    pub(super) fn note(&self, text: &str) -> io::Result<Vec<u8>> {
        let mut records = Vec::new();
        for stream in self.open_streams()? {
            push_record(&mut records, &prefix(stream), b'F', b"");
        }
        let text = format!("[agent-run: {text}]");
        push_record(
            &mut records,
            &prefix(LogStream::Stderr),
            b'F',
            text.as_bytes(),
        );
        Ok(records)
    }

    /// The streams whose last record does not end its line, as far as it is near the end.
    fn open_streams(&self) -> io::Result<Vec<LogStream>> {
        let from = self.size.saturating_sub(LEAST_TAIL);
        let mut end = vec![0; usize::try_from(self.size - from).unwrap_or(0)];
        self.file.read_exact_at(&mut end, from)?;
        let is_open = |stream: &LogStream| {
            let last = each(&end).filter(|record| record.stream == *stream).last();
            last.is_some_and(|record| !record.ends_line)
        };
        let streams = [LogStream::Stdout, LogStream::Stderr];
        Ok(streams.into_iter().filter(is_open).collect())
    }
}

fn each(records: &[u8]) -> impl Iterator<Item = LogRecord<'_>> {
    records
        .split_inclusive(|b| *b == b'\n')
        .map(LogRecord::parse)
}

/// What stands before the text of a record, but for its tag.
fn prefix(stream: LogStream) -> [u8; PREFIX - 2] {
    let mut prefix = [b' '; PREFIX - 2];
    let stream = match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let text = format!("{:.3} {stream} ", jiff::Timestamp::now());
    // The years of four digits are those that RFC 3339 knows.
    prefix.copy_from_slice(&text.as_bytes()[..PREFIX - 2]);
    prefix
}

/// A whole line, in several records if it is long.
fn push_line(records: &mut Vec<u8>, prefix: &[u8], mut text: &[u8]) {
    while text.len() > LONGEST_TEXT {
        push_record(records, prefix, b'P', &text[..LONGEST_TEXT]);
        text = &text[LONGEST_TEXT..];
    }
    push_record(records, prefix, b'F', text);
}

fn push_record(records: &mut Vec<u8>, prefix: &[u8], tag: u8, text: &[u8]) {
    records.extend_from_slice(prefix);
    records.extend_from_slice(&[tag, b' ']);
    records.extend_from_slice(text);
    records.push(b'\n');
}
