//! What an agent has kept of its conversation, put into the home of an attempt that goes on with it.
//!
//! The files are copies of agent-run's own, and the home is new: nobody else has written in either.

use std::fs;
use std::io;
use std::path::Path;

use super::{WorkspaceError, make_directory};

/// Copies all files of a directory.
pub(super) fn restore(from: &Path, to: &Path) -> Result<(), WorkspaceError> {
    let mut pending = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = pending.pop() {
        make_directory(&to)?;
        let entries = fs::read_dir(&from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(WorkspaceError::io("read", &from))? {
            let (path, target) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push((path, target));
            } else {
                let copied = fs::copy(&path, &target);
                copied.map_err(WorkspaceError::io("copy", path))?;
            }
        }
    }
    Ok(())
}
