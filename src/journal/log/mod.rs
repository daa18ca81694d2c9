//! The log of an attempt: the format of its file, how it is written, how it is read.
//!
//! The format is that of container logs in Kubernetes (CRI), one record a line:
//! `2026-11-20T15:58:01.123Z stdout F text`. `F` ends a line of the task's; after `P` the line goes
//! on in the next record of the same stream. `docs/logs.md` is the reference for users.

mod join;
mod overlap;
mod read;
mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use join::{rejoin, set_aside};
pub use overlap::{Place, Search, Taken};
pub use read::LogReader;
pub use write::{Dropped, LogWriter};

use crate::id::{RunId, ServiceName, StateDir, TaskId};

/// The stream that a task wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One record of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// When it arrived, RFC 3339 in UTC; empty where the record is torn.
    pub time: &'a str,
    /// Which stream it is of.
    pub stream: LogStream,
    /// Whether the line ends with it.
    pub ends_line: bool,
    /// What was written, masked, without the end of the line; untrusted.
    pub text: &'a [u8],
}

/// How long a time is, in bytes: `2026-11-20T15:58:01.123Z`.
const TIME: usize = 24;
/// What stands before the text of every record, in bytes: time, stream, tag, a blank after each.
const PREFIX: usize = TIME + 1 + 6 + 1 + 1 + 1;
/// The longest text of a record, in bytes; a longer line has several.
const LONGEST_TEXT: usize = 16 * 1024;

impl<'a> LogRecord<'a> {
    /// Reads a record from its line, with or without its end. What is no record, such as one that a
    /// full disk cut off, is a line of text.
    pub fn parse(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Self::parse_whole(line).unwrap_or(Self {
            time: "",
            stream: LogStream::Stdout,
            ends_line: true,
            text: line,
        })
    }

    fn parse_whole(line: &'a [u8]) -> Option<Self> {
        let (prefix, text) = line.split_at_checked(PREFIX)?;
        let prefix = std::str::from_utf8(prefix).ok()?;
        let (time, rest) = prefix.split_at_checked(TIME)?;
        if !time.ends_with('Z') {
            return None;
        }
        let (stream, ends_line) = match rest {
            " stdout F " => (LogStream::Stdout, true),
            " stdout P " => (LogStream::Stdout, false),
            " stderr F " => (LogStream::Stderr, true),
            " stderr P " => (LogStream::Stderr, false),
            _ => return None,
        };
        Some(Self {
            time,
            stream,
            ends_line,
            text,
        })
    }
}

/// The numbers of the attempts of a task that have a log, or a log of a service, in order.
pub fn logged_attempts(
    state: &StateDir,
    run: &RunId,
    (task, service): (&TaskId, Option<&ServiceName>),
) -> io::Result<Vec<u32>> {
    let number = |name: &str| match service {
        None => StateDir::logged_attempt(task, name),
        Some(service) => StateDir::attempt_of_service(task, service, name),
    };
    let entries = match fs::read_dir(state.logs(run)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the n-th part of a log's last quarter is while it is written.
fn part(log: &Path, number: u64) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".part-{number}"));
    name.into()
}

/// The numbers of the parts that are there, in order.
fn parts(log: &Path) -> io::Result<Vec<u64>> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(Vec::new());
    };
    let name = name.to_string_lossy();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| -> Option<u64> {
            let rest = entry.strip_prefix(&*name)?.strip_prefix(".part-")?;
            rest.parse().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
