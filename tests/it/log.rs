//! The log file: what is written is there, in order, within its limit, and can be read.

use std::fs;
use std::path::{Path, PathBuf};

use agent_run::journal::log::{LogReader, LogRecord, LogStream, LogWriter, rejoin, set_aside};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.1.log");
    (directory, path)
}

/// What a stream's records say, put together again.
fn text(path: &Path, stream: LogStream) -> String {
    let mut text = Vec::new();
    let mut reader = LogReader::open(path).unwrap();
    let mut each = |record: LogRecord<'_>| {
        if record.stream == stream {
            text.extend_from_slice(record.text);
            if record.ends_line {
                text.push(b'\n');
            }
        }
        Ok(())
    };
    reader.read(&mut each).unwrap();
    reader.finish(&mut each).unwrap();
    String::from_utf8(text).unwrap()
}

/// The lines from where the last `lines` begin.
fn tail(path: &Path, lines: u64) -> Vec<String> {
    let mut reader = LogReader::open(path).unwrap();
    reader.seek_last(lines).unwrap();
    let mut texts = Vec::new();
    let mut each = |record: LogRecord<'_>| {
        texts.push(String::from_utf8_lossy(record.text).into_owned());
        Ok(())
    };
    reader.read(&mut each).unwrap();
    texts
}

/// The files of a log.
fn files(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_record_is_a_line_of_a_kubernetes_log() {
    let (_directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    log.write(LogStream::Stdout, b"one\n\nwithout ");
    log.write(LogStream::Stderr, b"apart\n");
    log.write(LogStream::Stdout, b"end");
    assert_eq!(log.finish(), None);
    let file = fs::read_to_string(&path).unwrap();
    let lines: Vec<(&str, &str)> = file.lines().map(|line| line.split_at(24)).collect();
    let words: Vec<&str> = lines.iter().map(|(_, words)| *words).collect();
    assert_eq!(
        words,
        [
            " stdout F one",
            " stdout F ",
            " stderr F apart",
            " stdout P without end"
        ]
    );
    for (time, _) in lines {
        let time: jiff::Timestamp = time.parse().unwrap();
        let age = jiff::Timestamp::now().duration_since(time);
        assert!((0..600).contains(&age.as_secs()), "{age}");
    }
}

#[test]
fn a_line_that_stands_still_can_be_read_and_goes_on_later() {
    let (_directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    log.write(LogStream::Stdout, b"Password: ");
    assert!(log.has_open_line());
    assert_eq!(text(&path, LogStream::Stdout), "");
    log.write_open_lines();
    assert!(!log.has_open_line());
    assert_eq!(text(&path, LogStream::Stdout), "Password: ");
    log.write(LogStream::Stdout, b"none\n");
    assert_eq!(log.finish(), None);
    assert_eq!(text(&path, LogStream::Stdout), "Password: none\n");
}

#[test]
fn no_record_is_longer_than_it_may_be() {
    let (_directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    let line = "0123456789".repeat(10_000);
    for piece in line.as_bytes().chunks(7000) {
        log.write(LogStream::Stdout, piece);
    }
    log.write(LogStream::Stderr, format!("{line}\n").as_bytes());
    log.write(LogStream::Stdout, b"\n");
    assert_eq!(log.finish(), None);
    assert_eq!(text(&path, LogStream::Stdout), format!("{line}\n"));
    assert_eq!(text(&path, LogStream::Stderr), format!("{line}\n"));
    let file = fs::read_to_string(&path).unwrap();
    let longest = file.lines().map(str::len).max().unwrap();
    assert_eq!(
        longest,
        16 * 1024 + "2026-11-20T15:58:01.123Z stdout P ".len()
    );
}

/// The number in a line that was written here.
fn number(line: &str) -> Option<u64> {
    line.strip_prefix("line ")?
        .trim_end_matches('.')
        .parse()
        .ok()
}

#[test]
fn of_a_long_log_the_first_three_quarters_and_the_last_quarter_are_kept() {
    for (limit, count) in [(MIB, 100_000), (4 * MIB, 70_000), (4 * MIB, 90_000)] {
        let (directory, path) = place();
        let mut log = LogWriter::create(path.clone(), limit).unwrap();
        let mut bytes = 0;
        let mut written = String::new();
        for n in 0..count {
            let line = format!("line {n}{}\n", ".".repeat(n % 40));
            bytes += line.len();
            written += &line;
            if n % 500 == 499 {
                log.write(LogStream::Stdout, written.as_bytes());
                written.clear();
            }
        }
        assert_eq!(log.finish(), None);
        assert_eq!(files(&directory), ["a.1.log"]);
        let size = fs::metadata(&path).unwrap().len();
        assert!(size <= limit + 200, "{size} of {limit}");
        assert!(size > limit - 1000, "{size} of {limit}");
        let out = text(&path, LogStream::Stdout);
        let kept: Vec<u64> = out.lines().map(|line| number(line).unwrap()).collect();
        let gap = kept
            .windows(2)
            .position(|two| two[1] != two[0] + 1)
            .unwrap();
        let (head, end) = kept.split_at(gap + 1);
        assert_eq!(head[0], 0);
        assert_eq!(end.last(), Some(&(count as u64 - 1)));
        assert!(end.windows(2).all(|two| two[1] == two[0] + 1));
        let size_of = |numbers: &[u64]| -> u64 {
            numbers
                .iter()
                .map(|n| 35 + format!("line {n}").len() as u64 + n % 40)
                .sum()
        };
        assert!(limit * 3 / 4 - size_of(head) < 100, "{}", size_of(head));
        assert!(limit / 4 - size_of(end) < 100, "{}", size_of(end));
        let missing = end[0] - head[head.len() - 1] - 1;
        let missing_bytes = bytes - out.len();
        assert_eq!(
            text(&path, LogStream::Stderr),
            format!(
                "[agent-run: log_limit: {missing_bytes} bytes in {missing} lines are not kept here]\n"
            )
        );
        let file = fs::read_to_string(&path).unwrap();
        let place = file
            .lines()
            .position(|line| line.contains(" stderr F "))
            .unwrap();
        assert_eq!(place, head.len());
        let last = tail(&path, 3);
        let last: Vec<Option<u64>> = last.iter().map(|line| number(line)).collect();
        let end = count as u64;
        assert_eq!(last, [Some(end - 3), Some(end - 2), Some(end - 1)]);
    }
}

#[test]
fn a_log_just_over_three_quarters_lacks_nothing() {
    let (directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    let line = format!("{}\n", "x".repeat(100));
    let count = 900 * 1024 / 135;
    for _ in 0..count {
        log.write(LogStream::Stdout, line.as_bytes());
    }
    assert_eq!(files(&directory), ["a.1.log", "a.1.log.part-1"]);
    assert_eq!(text(&path, LogStream::Stdout), line.repeat(count));
    assert_eq!(log.finish(), None);
    assert_eq!(files(&directory), ["a.1.log"]);
    assert_eq!(text(&path, LogStream::Stdout), line.repeat(count));
    assert_eq!(text(&path, LogStream::Stderr), "");
}

#[test]
fn what_was_written_is_readable_though_nobody_ended_the_log() {
    let (directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    for n in 0..60_000 {
        log.write(LogStream::Stdout, format!("line {n}\n").as_bytes());
    }
    log.write(LogStream::Stdout, &vec![b'y'; 20_000]);
    // As after a crash.
    std::mem::forget(log);
    assert_eq!(files(&directory).len(), 3, "{:?}", files(&directory));
    let out = text(&path, LogStream::Stdout);
    assert!(out.starts_with("line 0\nline 1\n"), "{}", &out[..100]);
    let note = "[agent-run: log_limit: what came here is not kept]\n";
    let (head, end) = out.split_once(note).unwrap();
    let first = number(end.lines().next().unwrap()).unwrap();
    assert!(first > number(head.lines().last().unwrap()).unwrap() + 1);
    assert!(
        end.contains("\nline 59999\nyyyy"),
        "{}",
        &end[end.len() - 100..]
    );
    assert_eq!(tail(&path, 2)[0], "line 59999");
    let all = tail(&path, 1_000_000);
    assert_eq!(all[0], "line 0");
}

#[test]
fn a_line_that_loses_its_end_does_not_swallow_the_note() {
    let (_directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    log.write(LogStream::Stderr, &vec![b'x'; 3 << 20]);
    assert_eq!(log.finish(), None);
    let err = text(&path, LogStream::Stderr);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].chars().all(|c| c == 'x'));
    assert!(
        lines[1].starts_with("[agent-run: log_limit: "),
        "{}",
        lines[1]
    );
    assert!(lines[2].chars().all(|c| c == 'x'));
}

#[test]
fn a_reader_sees_what_comes_later_and_each_line_once() {
    let (_directory, path) = place();
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    let mut reader = LogReader::open(&path).unwrap();
    let mut seen = Vec::new();
    for n in 0..40_000_u64 {
        log.write(LogStream::Stdout, format!("line {n}\n").as_bytes());
        if n % 100 == 0 {
            let each = |record: LogRecord<'_>| {
                seen.push(number(std::str::from_utf8(record.text).unwrap()).unwrap());
                Ok(())
            };
            reader.read(each).unwrap();
        }
    }
    assert_eq!(log.finish(), None);
    let each = |record: LogRecord<'_>| {
        seen.push(number(std::str::from_utf8(record.text).unwrap()).unwrap());
        Ok(())
    };
    reader.read(each).unwrap();
    // It kept up, so it saw what the log has not kept.
    assert_eq!(seen, (0..40_000).collect::<Vec<u64>>());
}

#[test]
fn a_file_that_is_no_log_is_read_as_text() {
    let (_directory, path) = place();
    fs::write(
        &path,
        "2026-11-20T15:58:01.123Z stdout F fine\n2026-11-20T15:58:01.1\nnot é one\nend",
    )
    .unwrap();
    let expected = "fine\n2026-11-20T15:58:01.1\nnot é one\nend\n";
    assert_eq!(text(&path, LogStream::Stdout), expected);
    fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(
        text(&path, LogStream::Stdout).replace('\n', "").len(),
        1 << 20
    );
    assert_eq!(tail(&path, 1).concat().len(), 1 << 20);
}

/// A file system of its own, taken away again. Needs root.
struct SmallDisk(TempDir);

impl SmallDisk {
    #[expect(clippy::disallowed_methods, reason = "only mount(8) can mount")]
    fn new(size: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mounted.unwrap().success(), "this test must run as root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::disallowed_methods, reason = "only umount(8) can unmount")]
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _ = umount.arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_nothing_and_is_told_at_the_place() {
    let disk = SmallDisk::new("512k");
    let path = disk.0.path().join("a.1.log");
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; 256 * 1024]).unwrap();
    let mut log = LogWriter::create(path.clone(), 64 * MIB).unwrap();
    let lines =
        |from: u64, to: u64| -> String { (from..to).map(|n| format!("line {n}\n")).collect() };
    for n in 0..100 {
        log.write(LogStream::Stdout, lines(n * 100, n * 100 + 100).as_bytes());
    }
    fs::remove_file(&filler).unwrap();
    log.write(LogStream::Stdout, lines(10_000, 10_010).as_bytes());
    let gap = log.finish().unwrap();
    let out = text(&path, LogStream::Stdout);
    let note = text(&path, LogStream::Stderr);
    let kept: Vec<u64> = out.lines().map(|line| number(line).unwrap()).collect();
    let first_lost = kept.windows(2).find(|two| two[1] != two[0] + 1).unwrap()[0] + 1;
    assert_eq!(
        kept[kept.len() - 10..],
        (10_000..10_010).collect::<Vec<u64>>()[..]
    );
    let lost: u64 = 10_010 - kept.len() as u64;
    let bytes = lines(0, 10_010).len() - out.len();
    let why = "No space left on device (os error 28)";
    assert_eq!(first_lost + lost, 10_000);
    assert_eq!(
        note,
        format!("[agent-run: {bytes} bytes in {lost} lines are missing here: {why}]\n")
    );
    assert_eq!(
        gap,
        format!("{bytes} bytes in {lost} lines are missing in it: {why}")
    );
}

#[test]
fn where_the_disk_is_too_full_to_join_them_the_parts_stay() {
    let disk = SmallDisk::new("1200k");
    let path = disk.0.path().join("a.1.log");
    let mut log = LogWriter::create(path.clone(), MIB).unwrap();
    for n in 0..25_000 {
        log.write(LogStream::Stdout, format!("line {n}\n").as_bytes());
    }
    let filler = fs::write(disk.0.path().join("filler"), vec![0; 1 << 20]);
    assert!(filler.is_err(), "the disk is full now");
    let gap = log.finish().unwrap();
    assert!(gap.contains("No space left on device"), "{gap}");
    let out = text(&path, LogStream::Stdout);
    let kept: Vec<u64> = out.lines().filter_map(number).collect();
    assert_eq!(kept, (0..25_000).collect::<Vec<u64>>());
}

proptest! {
    #[test]
    fn the_last_lines_begin_where_they_should(
        lines in prop::collection::vec((any::<bool>(), "[a-z]{0,5}", 0_usize..40_000), 0..12),
        wanted in 0_u64..14,
    ) {
        let (_directory, path) = place();
        let mut log = LogWriter::create(path.clone(), 64 * MIB).unwrap();
        for (to_stderr, word, length) in &lines {
            let stream = if *to_stderr { LogStream::Stderr } else { LogStream::Stdout };
            log.write(stream, format!("{word}{}\n", "x".repeat(*length)).as_bytes());
        }
        prop_assert_eq!(log.finish(), None);
        let shown = tail(&path, wanted).concat();
        let from = lines.len().saturating_sub(usize::try_from(wanted).unwrap());
        let expected: String = lines[from..]
            .iter()
            .map(|(_, word, length)| format!("{word}{}", "x".repeat(*length)))
            .collect();
        prop_assert!(shown == expected, "{} and {} bytes", shown.len(), expected.len());
    }
}

#[test]
fn a_log_that_is_written_again_goes_on_from_the_old_one_and_the_gap_has_a_size() {
    let numbered = |numbers: std::ops::Range<u32>| -> String {
        numbers.map(|n| format!("line {n}\n")).collect()
    };
    let write = |path: &Path, text: &str| {
        let mut log = LogWriter::create(path.to_owned(), MIB).unwrap();
        log.write(LogStream::Stdout, text.as_bytes());
        log.write(LogStream::Stderr, b"err\n");
        assert_eq!(log.finish(), None);
    };
    let old = numbered(0..2000) + "lin";
    for (again, whole) in [
        (numbered(0..2500), Some(numbered(0..2500))),
        (numbered(1000..2500), Some(numbered(0..2500))),
        (numbered(2100..2500), None),
    ] {
        let (directory, path) = place();
        assert_eq!(set_aside(&path).unwrap(), None);
        write(&path, &old);
        let before = set_aside(&path).unwrap();
        assert!(!path.exists() && before.clone().unwrap().exists());
        write(&path, "cut off");
        assert_eq!(set_aside(&path).unwrap(), before, "the oldest stays");
        write(&path, &again);
        let gap = rejoin(&path, before);
        assert_eq!(gap.is_none(), whole.is_some(), "{gap:?}");
        assert_eq!(files(&directory), ["a.1.log"]);
        let expected = whole.unwrap_or_else(|| format!("{old}\n{again}"));
        assert!(text(&path, LogStream::Stdout) == expected);
        let note = text(&path, LogStream::Stderr);
        if let Some(gap) = gap {
            let size = format!("after its first {} bytes is missing", old.len());
            assert!(gap.contains(&size), "{gap}");
            assert!(note.contains(&size), "{note}");
        } else {
            assert_eq!(note, "err\n");
        }
    }
}
