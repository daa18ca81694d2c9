//! Artifacts: files of a worktree that are copied, by the open rules, before it is removed.
//!
//! Called when the task's container is gone. The copies are plain files with rights of agent-run's
//! choosing, below a directory of its own in which no git repository can be. What is not copied is
//! named; how many files, bytes, names and seconds it takes is bounded whatever the worktree holds.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::limits::CollectLimits;
use super::open::{self, Refused};
use super::wanted::{Patterns, Wanted};
use crate::event::{ArtifactFile, ArtifactsReport};
use crate::id::PathPattern;
use crate::sanitize;

/// The most files, and the most paths that were passed over, that a report names.
const COPIED_NAMED: usize = 100;
const SKIPPED_NAMED: usize = 20;
/// Longest path below the worktree, in bytes: what a program can open below the run's directory.
const LONGEST_PATH: usize = 2048;
/// The most directories that wait to be looked into: what an agent can make of them is memory.
const MOST_WAITING: usize = 20_000;
/// How much of a file is copied between two looks at the clock.
const CHUNK: usize = 256 * 1024;

/// What is copied, and to where.
pub struct ArtifactsRequest<'a> {
    /// The worktree.
    pub worktree: &'a Path,
    /// Where the copies go: a directory that is not there yet.
    pub to: PathBuf,
    /// Which files.
    pub paths: &'a [PathPattern],
    /// How much at most.
    pub limits: CollectLimits,
    /// Whether there is no time for more.
    pub hurry: &'a dyn Fn() -> bool,
}

/// Copies what the patterns name. Whatever goes wrong is told by the report.
pub fn copy_artifacts(request: &ArtifactsRequest<'_>) -> ArtifactsReport {
    let mut report = ArtifactsReport {
        directory: request.to.clone(),
        ..ArtifactsReport::default()
    };
    if let Err(Stop(why)) = Copier::begin(request, &mut report).and_then(|mut copier| copier.run())
    {
        report.incomplete = Some(why);
    }
    report.copied.sort();
    report.skipped_paths.sort();
    report
}

/// Why nothing more is looked at, as a clause.
struct Stop(String);

/// A directory that waits to be looked into.
struct Waiting {
    path: Vec<u8>,
    wanted: Wanted,
}

struct Copier<'a> {
    request: &'a ArtifactsRequest<'a>,
    report: &'a mut ArtifactsReport,
    patterns: Patterns,
    source: OwnedFd,
    /// What the worktree is: its file system, and whose it is.
    top: Stat,
    waiting: Vec<Waiting>,
    began: Instant,
    names: u64,
}

/// A directory that is being looked into.
struct Place {
    path: Vec<u8>,
    wanted: Wanted,
    source: OwnedFd,
    /// Its copy, once there is something in it.
    copy: Option<OwnedFd>,
}

impl<'a> Copier<'a> {
    fn begin(
        request: &'a ArtifactsRequest<'a>,
        report: &'a mut ArtifactsReport,
    ) -> Result<Self, Stop> {
        let cannot = |e: io::Error| Stop(format!("the worktree cannot be read: {e}"));
        let source = open::top(request.worktree).map_err(cannot)?;
        let top = rustix::fs::fstat(&source).map_err(|e| cannot(e.into()))?;
        let patterns = Patterns::new(request.paths);
        let wanted = patterns.top();
        Ok(Self {
            request,
            report,
            source,
            top,
            waiting: vec![Waiting {
                path: Vec::new(),
                wanted,
            }],
            patterns,
            began: Instant::now(),
            names: 0,
        })
    }

    fn run(&mut self) -> Result<(), Stop> {
        while let Some(Waiting { path, wanted }) = self.waiting.pop() {
            match self.open(&path) {
                Ok(source) => self.look_into(Place {
                    path,
                    wanted,
                    source,
                    copy: None,
                })?,
                Err(why) if wanted.named => self.skip(&path, &why),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Opens a directory below the top, name by name; says why where it may not be looked into.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, String> {
        let told = |error: Errno| Refused::from(error).to_string();
        let directory = below(&self.source, path, false).map_err(told)?;
        let stat = rustix::fs::fstat(&directory).map_err(told)?;
        if stat.st_dev != self.top.st_dev {
            return Err("is on another file system".into());
        }
        let has =
            |name: &str| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        // Git, which a prompt may start, would take its configuration from there (gitrepository-layout).
        if has("HEAD") && (has("objects") || has("commondir")) {
            return Err("is a git repository".into());
        }
        Ok(directory)
    }

    fn look_into(&mut self, mut place: Place) -> Result<(), Stop> {
        let told = |e: Errno| Refused::from(e).to_string();
        let entries = match Dir::read_from(&place.source) {
            Ok(entries) => entries,
            Err(error) => {
                self.skip(&place.path, &told(error));
                return Ok(());
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.skip(&place.path, &told(error));
                    return Ok(());
                }
            };
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                self.names += 1;
                self.go_on()?;
                self.look_at(&mut place, name, entry.file_type())?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, place: &mut Place, name: &CStr, kind: FileType) -> Result<(), Stop> {
        let wanted = self.patterns.step(&place.wanted, name.to_bytes());
        if !wanted.any() {
            return Ok(());
        }
        let path = join(&place.path, name.to_bytes());
        let depth = self.request.limits.depth;
        let refused = if name.to_bytes().eq_ignore_ascii_case(b".git") {
            // The worktree's own is agent-run's.
            (!place.path.is_empty()).then(|| "belongs to git".to_owned())
        } else if path.len() > LONGEST_PATH {
            Some(format!("has a path of more than {LONGEST_PATH} bytes"))
        } else if path.split(|b| *b == b'/').count() as u64 > depth {
            Some(above("lies deeper than", "depth", depth))
        } else {
            match kind_of(&place.source, name, kind) {
                FileType::Directory if self.waiting.len() < MOST_WAITING => {
                    self.waiting.push(Waiting { path, wanted });
                    return Ok(());
                }
                FileType::Directory => {
                    let why = format!("more than {MOST_WAITING} directories were found at once");
                    return Err(Stop(why));
                }
                FileType::RegularFile if wanted.all => return self.file(place, name, &path),
                FileType::RegularFile => None,
                FileType::Symlink => Some(Refused::SymbolicLink.to_string()),
                _ => Some(Refused::NotRegular.to_string()),
            }
        };
        if let Some(why) = refused.filter(|_| wanted.named) {
            self.skip(&path, &why);
        }
        Ok(())
    }

    /// Copies a file, or says why not.
    fn file(&mut self, place: &mut Place, name: &CStr, path: &[u8]) -> Result<(), Stop> {
        let limits = &self.request.limits;
        let (file, stat) = match open::regular(&place.source, name) {
            Ok(opened) => opened,
            Err(refused) => {
                self.skip(path, &refused.to_string());
                return Ok(());
            }
        };
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        let refused = if stat.st_dev != self.top.st_dev {
            Some("is on another file system".to_owned())
        } else if stat.st_nlink > 1 && stat.st_uid != self.top.st_uid {
            Some("has more than one name and is another user's".to_owned())
        } else if size > limits.file {
            Some(above("is larger than", "file", limits.file))
        } else if size > limits.total.saturating_sub(self.report.bytes) {
            Some(above("makes all larger than", "total", limits.total))
        } else {
            None
        };
        if let Some(why) = refused {
            self.skip(path, &why);
            return Ok(());
        }
        let copy = match place.copy.take() {
            Some(copy) => copy,
            None => self.make_directory(&place.path)?,
        };
        let copied = self.copy(file, size, &copy, name);
        place.copy = Some(copy);
        match copied? {
            Ok(()) => self.count(path, size),
            Err(why) => self.skip(path, &why),
        }
        Ok(())
    }

    /// Makes the copy of a directory, with those above it.
    fn make_directory(&self, path: &[u8]) -> Result<OwnedFd, Stop> {
        let make = || -> io::Result<OwnedFd> {
            fs::create_dir_all(&self.request.to)?;
            Ok(below(&open::top(&self.request.to)?, path, true)?)
        };
        make().map_err(|error| cannot_write(&error))
    }

    /// Copies `size` bytes into a new file; leaves nothing where the file has another size by then.
    fn copy(
        &self,
        mut from: File,
        size: u64,
        directory: &OwnedFd,
        name: &CStr,
    ) -> Result<Result<(), String>, Stop> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let mut to = match rustix::fs::openat(directory, name, flags, mode) {
            Ok(to) => File::from(to),
            // Where case means nothing, two names of the worktree are one here.
            Err(Errno::EXIST) => return Ok(Err("has the name of another file here".into())),
            Err(Errno::ILSEQ | Errno::INVAL) => {
                return Ok(Err("has a name that cannot be here".into()));
            }
            Err(error) => return Err(cannot_write(&error.into())),
        };
        let copied = self.pour(&mut from, &mut to, size);
        if !matches!(copied, Ok(Ok(()))) {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
        copied
    }

    fn pour(&self, from: &mut File, to: &mut File, size: u64) -> Result<Result<(), String>, Stop> {
        let mut chunk = vec![0; CHUNK];
        let mut copied = 0;
        loop {
            self.go_on()?;
            let read = match from.read(&mut chunk) {
                Ok(0) if copied == size => return Ok(Ok(())),
                Ok(0) => return Ok(Err("changed while it was read".into())),
                Ok(read) => read,
                Err(error) => return Ok(Err(format!("cannot be read: {error}"))),
            };
            copied += read as u64;
            if copied > size {
                return Ok(Err("changed while it was read".into()));
            }
            to.write_all(&chunk[..read]).map_err(|e| cannot_write(&e))?;
        }
    }

    fn go_on(&self) -> Result<(), Stop> {
        let limits = &self.request.limits;
        if self.names > limits.paths {
            let why = above("there are more names than", "paths", limits.paths);
            return Err(Stop(why));
        }
        if self.began.elapsed() > limits.time {
            let time = format!("{:?}", limits.time);
            return Err(Stop(above("it took longer than", "time", time)));
        }
        if (self.request.hurry)() {
            return Err(Stop("the run had no time for more".into()));
        }
        Ok(())
    }

    fn count(&mut self, path: &[u8], bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
        if self.report.copied.len() < COPIED_NAMED {
            let path = sanitize::line(path, false);
            self.report.copied.push(ArtifactFile { path, bytes });
        }
    }

    fn skip(&mut self, path: &[u8], why: &str) {
        self.report.skipped += 1;
        if self.report.skipped_paths.len() < SKIPPED_NAMED {
            let path = if path.is_empty() { b"." } else { path };
            let path = sanitize::line(path, false);
            self.report.skipped_paths.push((path, why.to_owned()));
        }
    }
}

/// Why something is too much, and which key of the spec says so.
fn above(what: &str, key: &str, limit: impl Display) -> String {
    format!("{what} `collect.limits.{key}` in the spec allows ({limit})")
}

fn cannot_write(error: &io::Error) -> Stop {
    Stop(format!("the copies cannot be written: {error}"))
}

/// Opens the directory at `path` below `top`, name by name, making what is missing if `make`.
fn below(top: &OwnedFd, path: &[u8], make: bool) -> rustix::io::Result<OwnedFd> {
    let mut at = open::directory(top, c".")?;
    for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if make {
            match rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        at = open::directory(&at, &name)?;
    }
    Ok(at)
}

/// What an entry is; not every file system tells it in the listing.
fn kind_of(directory: &OwnedFd, name: &CStr, told: FileType) -> FileType {
    if told != FileType::Unknown {
        return told;
    }
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(FileType::Unknown, |stat| {
        FileType::from_raw_mode(stat.st_mode)
    })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, name].join(&b'/')
}
