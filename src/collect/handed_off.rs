//! The hand-off folder: a status file and a bundle, both written by an agent's uid.
//!
//! Files are opened beneath a handle of the directory, never through a link, never blocking, and
//! what is in them is parsed within fixed bounds. Nothing here is believed; it is only well-formed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use super::error::{CollectError, io, rejected, too_much};
use super::open::{self, Refused};
use crate::id::CommitId;
use crate::sanitize;

const STATUS_LIMIT: u64 = 64 * 1024;
const HEADER_LINES: usize = 2048;
const HEADER_LINE_LIMIT: u64 = 8 * 1024;
/// The hand-off makes at most this many further refs.
pub(super) const SIDES: usize = 17;
/// The hand-off tells of at most 40 submodules.
pub(super) const SUBMODULES: usize = 40;

/// The hand-off folder, open.
pub(super) struct HandedOff {
    directory: OwnedFd,
}

/// What the status file says.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of the file")]
pub(super) struct Status {
    pub(super) head: Option<CommitId>,
    pub(super) changed: bool,
    pub(super) bundle: bool,
    /// What git said where it could not make a bundle; sanitised.
    pub(super) bundle_failed: Option<String>,
    pub(super) rebuilt: bool,
    pub(super) leftovers: Leftovers,
    pub(super) leftovers_incomplete: bool,
    pub(super) branches_incomplete: bool,
    /// What the further refs are, by number; sanitised.
    pub(super) sides: Vec<(usize, String)>,
    /// Submodules with changes or commits of the task's; sanitised.
    pub(super) submodules: BTreeSet<String>,
    /// Whether it could not be found out which submodules were changed.
    pub(super) submodules_unknown: bool,
}

/// What became of uncommitted work.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    #[default]
    None,
    Committed,
    TooLarge,
    Failed,
}

/// A bundle whose header is well-formed; the file stands at its pack.
pub(super) struct Bundle {
    pub(super) head: Option<CommitId>,
    pub(super) sides: Vec<(usize, CommitId)>,
    pub(super) pack: File,
}

/// The header of a bundle.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) head: Option<CommitId>,
    pub(super) sides: Vec<(usize, CommitId)>,
    /// Its length, in bytes: where the pack begins.
    pub(super) length: u64,
}

impl HandedOff {
    pub(super) fn open(out: &Path) -> Result<Self, CollectError> {
        let directory = open::top(out).map_err(io("open", out))?;
        Ok(Self { directory })
    }

    /// The status; an error where there is none or it is not of the form that the script writes.
    pub(super) fn status(&self) -> Result<Status, CollectError> {
        let Some((file, size)) = self.file("status")? else {
            return Err(CollectError::NotHandedOff(
                "the task's work was not handed off".into(),
            ));
        };
        if size > STATUS_LIMIT {
            return malformed_status();
        }
        let mut bytes = Vec::new();
        let read = file.take(STATUS_LIMIT).read_to_end(&mut bytes);
        read.map_err(io("read", Path::new("the hand-off's status")))?;
        match parse_status(&bytes) {
            Some(status) => Ok(status),
            None => malformed_status(),
        }
    }

    /// The bundle, if there is one of at most `limit` bytes.
    pub(super) fn bundle(&self, limit: u64) -> Result<Option<Bundle>, CollectError> {
        let Some((file, size)) = self.file("result.bundle")? else {
            return Ok(None);
        };
        if size > limit {
            let found = format!("a bundle of {size} bytes");
            return Err(too_much("bundle-size", found, "bundle", limit));
        }
        let mut reader = BufReader::new(file);
        let header = parse_header(&mut reader)?;
        let mut pack = reader.into_inner();
        pack.seek(SeekFrom::Start(header.length))
            .map_err(io("read", Path::new("the bundle")))?;
        Ok(Some(Bundle {
            head: header.head,
            sides: header.sides,
            pack,
        }))
    }

    /// A regular file with one name, and its size.
    fn file(&self, name: &str) -> Result<Option<(File, u64)>, CollectError> {
        let refuse =
            |detail: &str| rejected("handoff-file", format!("the hand-off's `{name}` {detail}"));
        let (file, stat) = match open::regular(&self.directory, name) {
            Ok(opened) => opened,
            Err(Refused::Missing) => return Ok(None),
            Err(Refused::Io(Errno::NXIO | Errno::ACCESS)) => return refuse("cannot be opened"),
            Err(Refused::Io(error)) => {
                return Err(io("open the hand-off's", Path::new(name))(error.into()));
            }
            Err(refused) => return refuse(&refused.to_string()),
        };
        if stat.st_nlink != 1 {
            return refuse("has more than one name");
        }
        match u64::try_from(stat.st_size) {
            Ok(size) => Ok(Some((file, size))),
            Err(_) => refuse("has no size"),
        }
    }
}

fn malformed_status<T>() -> Result<T, CollectError> {
    rejected("handoff-status", "the hand-off's status file is malformed")
}

/// Reads a status file; none where it is not of the form that the script writes.
pub(super) fn parse_status(bytes: &[u8]) -> Option<Status> {
    // A branch may have any bytes in its name.
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != "format=1" {
        return None;
    }
    let mut status = Status::default();
    for line in lines {
        let (key, value) = line.split_once('=')?;
        match (key, value) {
            ("head", id) => status.head = Some(id.parse().ok()?),
            ("changed", "0" | "1") => status.changed = value == "1",
            ("bundle", "1") => status.bundle = true,
            ("bundle_failed", said) => {
                status.bundle_failed = Some(sanitize::line(said.trim().as_bytes(), false));
            }
            ("rebuilt", "1") => status.rebuilt = true,
            ("leftovers", "committed") => status.leftovers = Leftovers::Committed,
            ("leftovers", "too-large") => status.leftovers = Leftovers::TooLarge,
            ("leftovers", "failed") => status.leftovers = Leftovers::Failed,
            ("leftovers_incomplete", "1") => status.leftovers_incomplete = true,
            ("branches_incomplete", "1") => status.branches_incomplete = true,
            ("submodules_unknown", "1") => status.submodules_unknown = true,
            ("submodule", path) => {
                let path = sanitize::line(path.as_bytes(), false);
                status.submodules.insert(path);
            }
            ("leftover_bytes", count) => drop(count.parse::<u64>().ok()?),
            _ => {
                let number = side_number(key.strip_prefix("side.")?)?;
                let what: String = sanitize::line(value.as_bytes(), false)
                    .chars()
                    .take(200)
                    .collect();
                status.sides.push((number, what));
            }
        }
    }
    status.head.as_ref()?;
    let bounded = status.sides.len() <= SIDES && status.submodules.len() <= SUBMODULES;
    bounded.then_some(status)
}

fn side_number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number < SIDES && number.to_string() == text).then_some(number)
}

/// Reads the header as gitformat-bundle(5) has it, version 2, or 3 with SHA-1.
pub(super) fn parse_header(reader: &mut impl BufRead) -> Result<Header, CollectError> {
    let refuse = |detail: &str| rejected("bundle-header", format!("the bundle's header {detail}"));
    let mut header = Header::default();
    for number in 0..HEADER_LINES {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(HEADER_LINE_LIMIT)
            .read_until(b'\n', &mut line);
        header.length += read.map_err(io("read", Path::new("the bundle")))? as u64;
        if line.pop() != Some(b'\n') {
            return refuse("ends early or has a line that is too long");
        }
        if number == 0 {
            match &line[..] {
                b"# v2 git bundle" | b"# v3 git bundle" => continue,
                _ => return refuse("is not that of a bundle"),
            }
        }
        if line.is_empty() {
            return Ok(header);
        }
        // What the pack builds on is checked by git: every object must be there.
        if line == b"@object-format=sha1" || line.starts_with(b"-") {
            continue;
        }
        let Some((id, name)) = parse_ref(&line) else {
            return refuse("names refs other than those of the hand-off");
        };
        match name {
            RefName::Head if header.head.is_none() => header.head = Some(id),
            RefName::Side(number) if header.sides.iter().all(|(n, _)| *n != number) => {
                header.sides.push((number, id));
            }
            _ => return refuse("names a ref twice"),
        }
    }
    refuse("has too many lines")
}

enum RefName {
    Head,
    Side(usize),
}

fn parse_ref(line: &[u8]) -> Option<(CommitId, RefName)> {
    let (id, name) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let name = match name.strip_prefix("refs/agent-run/out/")? {
        "head" => RefName::Head,
        side => RefName::Side(side_number(side.strip_prefix("side/")?)?),
    };
    Some((id.parse().ok()?, name))
}
