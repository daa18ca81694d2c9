//! Writing the files that a run leaves for others: whole or not at all, through links, into pipes and
//! devices, and where there is no room.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use agent_run::event::{Event, EventKind};
use agent_run::report::{EventLog, prepare_whole, write_whole};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn fifo(path: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn directories_are_made_and_what_was_there_is_replaced() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a/b/report.md");
    prepare_whole(&file).unwrap();
    assert!(names(file.parent().unwrap()).is_empty(), "only looked at");
    for text in ["a long first text", "short"] {
        write_whole(&file, text).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    assert_eq!(names(file.parent().unwrap()), ["report.md"]);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "{mode:o}: others may read a report");
}

#[test]
fn a_link_stays_a_link() {
    let directory = TempDir::new().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "old").unwrap();
    symlink("file", &link).unwrap();
    write_whole(&link, "new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_nothing_changes() {
    let directory = TempDir::new().unwrap();
    let (file, folder) = (
        directory.path().join("file"),
        directory.path().join("folder"),
    );
    fs::write(&file, "old").unwrap();
    fs::create_dir(&folder).unwrap();
    for path in [file.join("below"), folder, "/proc/nothing/here".into()] {
        let error = write_whole(&path, "new").unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        prepare_whole(&path).unwrap_err();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(names(directory.path()), ["file", "folder"]);
}

#[test]
fn a_full_device_is_an_error() {
    let error = write_whole(Path::new("/dev/full"), "text").unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_holds_nobody_up() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("pipe");
    fifo(&pipe);
    write_whole(&pipe, "text").unwrap_err();
}

#[test]
fn a_pipe_takes_more_than_it_holds_at_once() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("pipe");
    fifo(&pipe);
    let text = "line\n".repeat(100_000);
    let mut read = vec![0; text.len()];
    // Open for both, it neither waits for a writer nor finds an end before there is one.
    let mut reader = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let reading = std::thread::spawn(move || {
        reader.read_exact(&mut read).unwrap();
        read
    });
    write_whole(&pipe, &text).unwrap();
    assert!(reading.join().unwrap() == text.as_bytes());
}

fn event(seq: u64) -> Event {
    Event {
        seq,
        at: "2026-11-20T10:15:00.123Z".into(),
        elapsed_ms: 0,
        task: None,
        kind: EventKind::Warning {
            message: "line\nbreak".into(),
        },
    }
}

#[test]
fn an_events_file_that_is_full_is_told_of_once_and_others_go_on() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("new/events.ndjson");
    let mut log = EventLog::default();
    log.open(Path::new("/dev/full")).unwrap();
    log.open(&file).unwrap();
    let failed: Vec<usize> = (0..3).map(|seq| log.write(&event(seq)).len()).collect();
    assert_eq!(failed, [1, 0, 0]);
    let text = fs::read_to_string(&file).unwrap();
    let seqs = text.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["seq"].as_u64().unwrap()
    });
    assert_eq!(seqs.collect::<Vec<_>>(), [0, 1, 2]);
    let failed = log.failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].path, Path::new("/dev/full"));
}

#[test]
fn a_reader_of_events_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut log = EventLog::default();
    log.add(Path::new("pipe"), std::os::fd::OwnedFd::from(writer).into());
    assert_eq!(log.write(&event(0)).len(), 0);
    drop(reader);
    assert_eq!(log.write(&event(1)).len(), 0);
    assert_eq!(log.failed().len(), 0);
}
