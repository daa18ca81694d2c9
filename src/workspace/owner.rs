//! Gives what a root runner has made to the uid that a container runs as.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use super::WorkspaceError;

/// What of a fresh tree is not the container's yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    All,
    /// The files were given as they were checked out.
    Directories,
}

/// Gives a fresh tree to the container's uid; symbolic links themselves, not what they point at.
pub(super) fn give_away(
    top: &Path,
    (uid, gid): (u32, u32),
    what: Given,
) -> Result<(), WorkspaceError> {
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = || WorkspaceError::io("give away", &directory);
        lchown(&directory, Some(uid), Some(gid)).map_err(failed())?;
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_type().map_err(failed())?.is_dir() {
                directories.push(entry.path());
            } else if what == Given::All {
                lchown(entry.path(), Some(uid), Some(gid)).map_err(failed())?;
            }
        }
    }
    Ok(())
}

/// Gives these fresh trees to the container's uid; of the checkout, the files are its already.
pub(super) fn give_all_away(
    trees: &[PathBuf],
    checkout: &Path,
    owner: (u32, u32),
) -> Result<(), WorkspaceError> {
    for tree in trees {
        let what = if tree == checkout {
            Given::Directories
        } else {
            Given::All
        };
        give_away(tree, owner, what)?;
    }
    Ok(())
}
