//! What can go wrong while a workspace is made or removed.

use std::io;
use std::path::PathBuf;

use super::RemovalError;
use crate::git::GitError;
use crate::id::WorktreePath;

/// A workspace or base store that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Host git failed.
    #[error("could not {action}")]
    Git {
        /// What was tried, as a clause.
        action: &'static str,
        /// What git said.
        #[source]
        source: GitError,
    },
    /// The operating system refused something.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What was there before could not be removed.
    #[error(transparent)]
    Removal(RemovalError),
    /// The attempt has a directory already: no attempt is made twice.
    #[error("{} exists already: every attempt gets a new directory", path.display())]
    Exists {
        /// The attempt's directory.
        path: PathBuf,
    },
    /// The commit that the attempt starts from has something where prepared files are to be seen.
    #[error("a setup prepares {path}, and the commit that it starts from has files there")]
    Occupied {
        /// The prepared directory.
        path: WorktreePath,
    },
}

impl WorkspaceError {
    /// Wraps a failure of git; `action` completes "could not …".
    pub(super) fn git(action: &'static str) -> impl FnOnce(GitError) -> Self {
        move |source| Self::Git { action, source }
    }

    /// Wraps an operating system's error; `action` and `path` complete "could not …".
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
