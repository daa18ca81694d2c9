//! The journal of a run: what happened in it, one record a line, each with its length and checksum.
//!
//! `<length> <crc32> <event>\n`: the event is JSON, the length its bytes in decimal digits, the
//! checksum CRC-32 in eight hexadecimal ones. Whatever a crash leaves, the records before it are
//! read, and nothing from the first bad one on is believed. One process writes: the lock's holder.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr;

use super::{JournalError, io_error};
use crate::event::{Event, Versioned};

/// Its name in a run's directory.
pub(super) const NAME: &str = "journal";
/// How much room on the disk is kept ahead of what is written, in bytes: it is nobody else's. Half
/// of it is always left when the disk turns out to be full.
const RESERVE: u64 = 1 << 20;

/// A journal that this process writes.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// What is written, in bytes.
    length: u64,
    /// How far the disk has room for it, in bytes.
    room: u64,
    is_short: bool,
}

impl Journal {
    /// Opens a journal for writing, or begins it: cuts off what is torn, and takes its reserve. Gives
    /// what is in it.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<Event>), JournalError> {
        let mut reader = JournalReader::new(&path);
        let events = reader.read()?;
        let open = || -> io::Result<File> {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)?;
            file.set_len(reader.whole)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(|e| io_error("open", &path, e))?;
        let mut journal = Self {
            file: Arc::new(file),
            length: reader.whole,
            room: 0,
            is_short: false,
            path,
        };
        let reserved = journal.reserve();
        reserved.map_err(|e| io_error("reserve room for", &journal.path, e))?;
        Ok((journal, events))
    }

    /// Writes a record. It is on the disk for sure once [`Self::syncing`] says so.
    ///
    /// # Errors
    /// [`JournalError::Io`]; nothing of the record is left then, unless the disk itself fails.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        // Into memory, and an event has nothing that JSON cannot hold.
        let json = serde_json::to_vec(&Versioned::new(event)).unwrap_or_default();
        let record = [prefix(&json).as_bytes(), &json, b"\n"].concat();
        let length = self.length + record.len() as u64;
        if length + RESERVE / 2 > self.room && !self.is_short {
            self.is_short = self.reserve().is_err();
        }
        if let Err(error) = (&*self.file).write_all(&record) {
            // What follows half a record would not be believed.
            let _ = self.file.set_len(self.length);
            return Err(io_error("write", &self.path, error));
        }
        self.length = length;
        Ok(())
    }

    /// Waits until what is written now is on the disk. An error is final: what was not on the disk
    /// then may never be, whatever a second try says.
    pub fn syncing(&self) -> impl FnOnce() -> Result<(), JournalError> + Send + use<> {
        let (file, path) = (self.file.clone(), self.path.clone());
        move || file.sync_data().map_err(|e| io_error("sync", &path, e))
    }

    /// Whether the disk is full: what is written now is written into the reserve.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Gives the reserve back: at the end it is room for what else is written then.
    pub fn release(&mut self) {
        if self.room != self.length {
            let _ = self.file.set_len(self.length);
            self.room = self.length;
        }
    }

    /// Keeps room on the disk ahead of what is written.
    #[cfg(target_os = "linux")]
    fn reserve(&mut self) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let kept = fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.length, RESERVE);
        self.room = match kept {
            Ok(()) => self.length + RESERVE,
            // The file system has no such thing.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => u64::MAX,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&mut self) -> io::Result<()> {
        self.room = u64::MAX;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.release();
    }
}

/// Reads a journal to where it makes sense, also while it is written.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    file: Option<File>,
    /// What was read and is no whole record yet.
    rest: Vec<u8>,
    /// How far it is whole, in bytes.
    whole: u64,
    is_torn: bool,
}

impl JournalReader {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            rest: Vec::new(),
            whole: 0,
            is_torn: false,
        }
    }

    /// The events that are new; none where there is no journal yet. Whole records that mean nothing
    /// to this version are passed over.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn read(&mut self) -> Result<Vec<Event>, JournalError> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(io_error("open", &self.path, e)),
            };
        }
        if let Some(file) = &mut self.file {
            let read = file.read_to_end(&mut self.rest);
            read.map_err(|e| io_error("read", &self.path, e))?;
        }
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(end) = memchr(b'\n', &self.rest[at..])
            && !self.is_torn
        {
            match checked(&self.rest[at..at + end]) {
                Some(json) => {
                    events.extend(serde_json::from_slice::<Event>(json));
                    at += end + 1;
                }
                None => self.is_torn = true,
            }
        }
        self.whole += at as u64;
        self.rest.drain(..at);
        Ok(events)
    }
}

fn prefix(json: &[u8]) -> String {
    format!("{} {:08x} ", json.len(), crc32fast::hash(json))
}

/// The JSON of a record without its end; none where a bit of it is not as it was written.
fn checked(record: &[u8]) -> Option<&[u8]> {
    let length = memchr(b' ', record)?;
    let sum = memchr(b' ', &record[length + 1..])?;
    let (head, json) = record.split_at(length + sum + 2);
    // Compared as text: a number has other spellings.
    (head == prefix(json).as_bytes()).then_some(json)
}
