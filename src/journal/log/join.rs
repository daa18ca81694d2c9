//! A log that is written again from its beginning by a later process: what an earlier one wrote of
//! it stays until that is all in the new one.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{LogReader, LogRecord, LogStream};

/// How much of each stream's beginning is compared, in bytes.
const COMPARED: usize = 64 * 1024;

/// Sets what there is of a log aside; gives its place, if there was any.
pub fn set_aside(log: &Path) -> io::Result<Option<PathBuf>> {
    let mut name = log.as_os_str().to_owned();
    name.push(".before");
    let before = PathBuf::from(name);
    if before.exists() {
        // A process that wrote it again did not come to its end.
        fs::remove_file(log)?;
        return Ok(Some(before));
    }
    match fs::rename(log, &before) {
        Ok(()) => Ok(Some(before)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes what was set aside of a log, if the new one begins like it; else says where it is.
pub fn rejoin(log: &Path, before: Option<PathBuf>) -> Option<String> {
    let before = before?;
    let is_in_it = || -> io::Result<bool> {
        let (old, new) = (beginnings(&before)?, beginnings(log)?);
        Ok(old
            .iter()
            .zip(&new)
            .all(|(old, new)| new.starts_with(&old[..])))
    };
    let size = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let problem = match is_in_it() {
        Ok(true) => match fs::remove_file(&before) {
            Ok(()) => return None,
            Err(error) => error.to_string(),
        },
        Ok(false) => format!(
            "the engine has only the last {} bytes of what the task wrote; its first {} bytes are \
             in {}, and what was between them is lost",
            size(log),
            size(&before),
            before.display()
        ),
        Err(error) => error.to_string(),
    };
    Some(format!("the log may not be whole: {problem}"))
}

/// What each stream said first.
fn beginnings(log: &Path) -> io::Result<[Vec<u8>; 2]> {
    let mut said = [Vec::new(), Vec::new()];
    let each = |record: LogRecord<'_>| {
        let said = &mut said[match record.stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
        }];
        if said.len() < COMPARED {
            said.extend_from_slice(record.text);
            said.extend(record.ends_line.then_some(b'\n'));
        }
        Ok(())
    };
    match LogReader::open(log) {
        Ok(mut reader) => reader.read(each)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    for said in &mut said {
        said.truncate(COMPARED);
    }
    Ok(said)
}
