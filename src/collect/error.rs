//! Why work was not collected. Never leaves this module: it ends in a report.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::git::GitError;
use crate::sanitize;

/// A reason not to collect.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    /// What the agent handed off fails a check.
    #[error("{detail}")]
    Rejected {
        /// The check's name.
        check: &'static str,
        /// What it found, sanitised.
        detail: String,
    },
    /// There is nothing to collect from.
    #[error("{0}")]
    NotHandedOff(String),
    /// Host git failed on our own files.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The operating system refused something.
    #[error("could not {action}: {source}")]
    Io {
        /// What was tried, as a clause.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// libgit2 failed on our own repository of results.
    #[error("could not read the results: {0}")]
    Results(#[from] git2::Error),
}

/// A failed check.
pub(super) fn rejected<T>(check: &'static str, detail: impl AsRef<str>) -> Result<T, CollectError> {
    let detail = sanitize::line(detail.as_ref().as_bytes(), false);
    Err(CollectError::Rejected { check, detail })
}

/// More than a limit of [`super::limits::CollectLimits`] lets through.
pub(super) fn too_much(
    check: &'static str,
    found: impl Display,
    key: &str,
    limit: impl Display,
) -> CollectError {
    let detail = format!("{found}, more than `collect.limits.{key}` in the spec allows ({limit})");
    CollectError::Rejected { check, detail }
}

/// Makes a failure of git on an agent's objects a failed check: checks fail closed.
pub(super) fn fail_closed(check: &'static str) -> impl FnOnce(GitError) -> CollectError {
    move |error| match error {
        GitError::TimedOut { command, after } => {
            let found = format!("`{command}` did not end in time");
            too_much("time", found, "time", format!("{after:?}"))
        }
        GitError::Failed { .. } | GitError::OutputTooLarge { .. } | GitError::Unexpected { .. } => {
            let detail = error.to_string();
            CollectError::Rejected { check, detail }
        }
        other => CollectError::Git(other),
    }
}

/// Wraps an operating system's error.
pub(super) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> CollectError {
    let action = format!("{action} {}", path.display());
    move |source| CollectError::Io { action, source }
}
