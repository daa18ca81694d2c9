//! The journal: torn at every byte, with every bit flipped, on a disk that is full.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use agent_run::event::{Event, EventKind, TaskPhase};
use agent_run::id::{RunId, StateDir};
use agent_run::journal::{FoundRun, JournalError, RunDirectory};
use tempfile::TempDir;

/// A record of the journal that holds this JSON, made by hand.
pub fn record(json: &str) -> String {
    let sum = crc32fast::hash(json.as_bytes());
    format!("{} {sum:08x} {json}\n", json.len())
}

fn run() -> RunId {
    "261120-101500-aaaa".parse().unwrap()
}

fn event(seq: u64) -> Event {
    Event {
        seq,
        at: "2026-11-20T10:15:01.000Z".into(),
        elapsed_ms: 7,
        task: Some("fix-login".parse().unwrap()),
        kind: EventKind::Phase {
            phase: TaskPhase::Running,
        },
    }
}

/// A run with a journal of so many events; its lock is free.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new(events: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let place = Self { directory };
        let made = RunDirectory::create(&place.state(), &run()).unwrap();
        let (mut journal, earlier) = made.journal().unwrap();
        assert_eq!(earlier, []);
        for seq in 0..events {
            journal.append(&event(seq)).unwrap();
        }
        journal.syncing()().unwrap();
        place
    }

    fn state(&self) -> StateDir {
        StateDir::new(self.directory.path().to_owned())
    }

    fn file(&self) -> PathBuf {
        self.state().run(&run()).join("journal")
    }

    fn read(&self) -> Vec<Event> {
        let found = FoundRun::of(&self.state(), &run()).unwrap();
        found.journal().read().unwrap()
    }

    /// Opens it for writing, adds an event, and gives what is read then.
    fn go_on(&self, with: &Event) -> Vec<Event> {
        let taken = RunDirectory::take_over(&self.state(), &run()).unwrap();
        let (mut journal, earlier) = taken.journal().unwrap();
        assert_eq!(earlier, self.read());
        journal.append(with).unwrap();
        self.read()
    }
}

fn events(numbers: impl Iterator<Item = u64>) -> Vec<Event> {
    numbers.map(event).collect()
}

#[test]
fn what_is_written_is_read_and_holds_nothing_else() {
    let place = Place::new(3);
    assert_eq!(place.read(), events(0..3));
    let text = fs::read_to_string(place.file()).unwrap();
    let first = r#"{"version":1,"seq":0,"at":"2026-11-20T10:15:01.000Z","elapsed_ms":7,"task":"fix-login","kind":{"type":"phase","phase":"running"}}"#;
    assert!(text.starts_with(&record(first)), "{text}");
    assert_eq!(text.lines().count(), 3, "no reserve is left in it");
    assert_eq!(place.go_on(&event(3)), events(0..4));
}

#[test]
fn cut_at_every_byte_of_its_last_record_it_keeps_the_others_and_goes_on() {
    let place = Place::new(3);
    let whole = fs::read(place.file()).unwrap();
    let last = whole.len() / 3 * 2;
    assert_eq!(whole[last - 1], b'\n');
    for length in last..whole.len() {
        fs::write(place.file(), &whole[..length]).unwrap();
        assert_eq!(place.read(), events(0..2), "cut at {length}");
        let after = place.go_on(&event(9));
        let expected = [events(0..2), vec![event(9)]].concat();
        assert_eq!(after, expected, "cut at {length}");
    }
}

#[test]
fn with_any_bit_flipped_nothing_from_that_record_on_is_believed() {
    let place = Place::new(3);
    let bytes = fs::read(place.file()).unwrap();
    let record = bytes.len() / 3;
    let file = OpenOptions::new().write(true).open(place.file()).unwrap();
    let found = FoundRun::of(&place.state(), &run()).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            file.write_all_at(&[bytes[at] ^ 1 << bit], at as u64)
                .unwrap();
            let read = found.journal().read().unwrap();
            let sound = (at / record) as u64;
            assert_eq!(read, events(0..sound), "bit {bit} of byte {at}");
        }
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
}

#[test]
fn a_live_journal_is_read_on_from_where_it_ended() {
    let place = Place::new(1);
    let bytes = fs::read(place.file()).unwrap();
    let found = FoundRun::of(&place.state(), &run()).unwrap();
    let mut reader = found.journal();
    assert_eq!(reader.read().unwrap(), events(0..1));
    let second = [&bytes[..], b""].concat();
    let (half, rest) = second.split_at(40);
    let mut file = OpenOptions::new().append(true).open(place.file()).unwrap();
    file.write_all(half).unwrap();
    assert_eq!(reader.read().unwrap(), [], "half a record is none yet");
    file.write_all(rest).unwrap();
    assert_eq!(reader.read().unwrap(), events(0..1));
    assert_eq!(reader.read().unwrap(), []);
}

/// A file system of its own, in memory, of so many bytes. Needs root.
pub struct Small(PathBuf);

#[expect(
    clippy::disallowed_methods,
    reason = "a test mounts what it needs itself"
)]
fn mount(arguments: &[&std::ffi::OsStr]) {
    let done = std::process::Command::new(arguments[0])
        .args(&arguments[1..])
        .output()
        .expect("mount");
    assert!(done.status.success(), "{done:?}");
}

impl Small {
    pub fn new(place: &Path, size: &str) -> Self {
        let size = format!("size={size}");
        let words = ["mount", "-t", "tmpfs", "-o", &size, "agent-run-test"].map(AsRef::as_ref);
        mount(&[&words[..], &[place.as_os_str()]].concat());
        Self(place.to_owned())
    }

    /// One with a file system of its own in a file.
    pub fn in_a_file(file: &Path, place: &Path, size: &str) -> Self {
        let words = ["mkfs.ext4", "-q", "-m", "0"].map(AsRef::as_ref);
        mount(&[&words[..], &[file.as_os_str(), size.as_ref()]].concat());
        let words = ["mount", "-o", "loop"].map(AsRef::as_ref);
        mount(&[&words[..], &[file.as_os_str(), place.as_os_str()]].concat());
        Self(place.to_owned())
    }

    /// Takes all the room that is left; gives the file that has it.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 16, 1 << 12] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        mount(&["umount".as_ref(), "-l".as_ref(), self.0.as_os_str()]);
    }
}

#[test]
fn on_a_full_disk_the_reserve_takes_the_last_records() {
    let directory = TempDir::new().unwrap();
    let disk = Small::new(directory.path(), "4m");
    let state = StateDir::new(directory.path().to_owned());
    let made = RunDirectory::create(&state, &run()).unwrap();
    let (mut journal, _) = made.journal().unwrap();
    disk.fill();
    let mut written = 0;
    while !journal.is_short() {
        journal.append(&event(written)).unwrap();
        written += 1;
    }
    // Nobody else has room, and half of the reserve is there still.
    assert!(fs::write(directory.path().join("other"), [1; 9000]).is_err());
    for _ in 0..1000 {
        journal.append(&event(written)).unwrap();
        written += 1;
    }
    journal.syncing()().unwrap();
    // The last words of a run need room beside the journal.
    made.write_json("result.json", &vec![1; 9000]).unwrap_err();
    journal.release();
    made.write_json("result.json", &vec![1; 9000]).unwrap();
    drop(made);
    let found = FoundRun::of(&state, &run()).unwrap();
    assert_eq!(found.journal().read().unwrap(), events(0..written));
}

#[test]
fn a_record_that_does_not_fit_leaves_nothing_of_itself() {
    let directory = TempDir::new().unwrap();
    let disk = Small::new(directory.path(), "4m");
    let state = StateDir::new(directory.path().to_owned());
    let made = RunDirectory::create(&state, &run()).unwrap();
    let (mut journal, _) = made.journal().unwrap();
    let filler = disk.fill();
    let mut written = 0;
    let error = loop {
        match journal.append(&event(written)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    fs::remove_file(filler).unwrap();
    journal.append(&event(written)).unwrap();
    let found = FoundRun::of(&state, &run()).unwrap();
    assert_eq!(found.journal().read().unwrap(), events(0..=written));
    let mut end = [0];
    let mut file = fs::File::open(made.path().join("journal")).unwrap();
    file.seek(SeekFrom::End(-1)).unwrap();
    file.read_exact(&mut end).unwrap();
    assert_eq!(end, *b"\n");
}

#[test]
fn where_there_is_no_room_for_a_reserve_no_run_begins() {
    let directory = TempDir::new().unwrap();
    let disk = Small::new(directory.path(), "2m");
    let state = StateDir::new(directory.path().to_owned());
    let made = RunDirectory::create(&state, &run()).unwrap();
    disk.fill();
    let error = made.journal().unwrap_err();
    assert!(error.to_string().contains("reserve room"), "{error}");
}
