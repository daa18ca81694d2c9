//! A log that is written again by a later process, from what the engine has kept: what an earlier one
//! wrote of it is set aside until the new one is whole, and put before it where it begins later.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::overlap::{Place, Search, Taken};
use super::write::LogFile;
use super::{LogReader, LogRecord, LogStream, part, parts};

/// The names of both streams, in the order of [`LogStream`].
const NAMES: [&str; 2] = ["output", "error"];

/// Sets what there is of a log aside; gives its place, if there was any.
pub fn set_aside(log: &Path) -> io::Result<Option<PathBuf>> {
    let before = beside(log, "before");
    if before.exists() {
        // A process that wrote it again did not come to its end.
        for number in parts(log)? {
            fs::remove_file(part(log, number))?;
        }
        return match fs::remove_file(log) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(Some(before)),
        };
    }
    for number in parts(log)? {
        fs::rename(part(log, number), part(&before, number))?;
    }
    match fs::rename(log, &before) {
        Ok(()) => Ok(Some(before)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts what was set aside of a log before the new one, as far as it is not in it. Says what is
/// missing between them.
pub fn rejoin(log: &Path, before: Option<PathBuf>) -> Option<String> {
    let before = before?;
    match join(log, &before) {
        Ok(lost) if lost.is_empty() => None,
        Ok(lost) => Some(format!("the log is not whole: {}", lost.join("; "))),
        Err(error) => Some(format!(
            "the log may not be whole, and its beginning is in {}: {error}",
            before.display()
        )),
    }
}

fn join(log: &Path, before: &Path) -> io::Result<Vec<String>> {
    let places = places(log, before)?;
    let named = places.iter().zip(NAMES);
    let lost: Vec<String> = named.filter_map(|(place, name)| place.lost(name)).collect();
    if places
        .iter()
        .any(|place| !matches!(place, Place::Beginning(_)))
    {
        let joined = beside(log, "joined");
        append(&joined, (before, log), places, &lost)?;
        fs::rename(joined, log)?;
    }
    for number in parts(before)? {
        fs::remove_file(part(before, number))?;
    }
    fs::remove_file(before)?;
    Ok(lost)
}

fn places(log: &Path, before: &Path) -> io::Result<[Place; 2]> {
    let mut taken = <[Taken; 2]>::default();
    each(before, |record| {
        let taken = &mut taken[record.stream as usize];
        taken.push(record.text);
        if record.ends_line {
            taken.push(b"\n");
        }
        Ok(())
    })?;
    let mut searches = taken.each_ref().map(Search::new);
    each(log, |record| {
        let search = &mut searches[record.stream as usize];
        search.push(record.text);
        if record.ends_line {
            search.push(b"\n");
        }
        Ok(())
    })?;
    Ok(searches.map(Search::place))
}

/// Writes the old log, what is lost, and of the new one what is not in the old.
fn append(
    joined: &Path,
    (before, log): (&Path, &Path),
    places: [Place; 2],
    lost: &[String],
) -> io::Result<()> {
    let mut file = OpenOptions::new();
    let file = file.create(true).write(true).truncate(true).mode(0o644);
    let mut file = BufWriter::new(file.open(joined)?);
    each(before, |record| write(&mut file, record, record.text))?;
    if !lost.is_empty() {
        file.flush()?;
        let note = LogFile::open(joined)?.note(&lost.join("; "))?;
        file.write_all(&note)?;
    }
    let mut known = places.map(Place::known);
    each(log, |record| {
        let known = &mut known[record.stream as usize];
        let size = record.text.len() as u64 + u64::from(record.ends_line);
        let skipped = size.min(*known);
        *known -= skipped;
        match usize::try_from(skipped)
            .ok()
            .and_then(|at| record.text.get(at..))
        {
            Some(text) if skipped < size => write(&mut file, record, text),
            _ => Ok(()),
        }
    })?;
    file.into_inner()?.sync_data()
}

fn write(file: &mut BufWriter<File>, record: LogRecord<'_>, text: &[u8]) -> io::Result<()> {
    let stream = match record.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let tag = if record.ends_line { 'F' } else { 'P' };
    write!(file, "{} {stream} {tag} ", record.time)?;
    file.write_all(text)?;
    file.write_all(b"\n")
}

/// Every record of a log, if there is one.
fn each(log: &Path, each: impl FnMut(LogRecord<'_>) -> io::Result<()>) -> io::Result<()> {
    match LogReader::open(log) {
        Ok(mut reader) => reader.read(each),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn beside(log: &Path, what: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}
