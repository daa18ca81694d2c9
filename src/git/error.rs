//! What can go wrong with host git and with the user's repository.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::CommitId;

/// A failure of host git, or a repository that agent-run cannot work on.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// No git program was found.
    #[error("git was not found on PATH: install git 2.39 or newer")]
    Missing,
    /// The program is older than what agent-run needs.
    #[error("git {found} is too old: install git 2.39 or newer")]
    TooOld {
        /// The version it gave.
        found: String,
    },
    /// A call ended with a failure.
    #[error("`{command}` failed ({exit}): {stderr}")]
    Failed {
        /// The call, without its hardening flags.
        command: String,
        /// `exit code N` or `signal N`.
        exit: String,
        /// The end of what it said, sanitised.
        stderr: String,
    },
    /// A call did not end in time and was killed.
    #[error("`{command}` did not end within {} s and was killed", after.as_secs())]
    TimedOut {
        /// The call, without its hardening flags.
        command: String,
        /// Its deadline.
        after: Duration,
    },
    /// A call printed more than it was allowed to.
    #[error("`{command}` printed more than {limit} bytes")]
    OutputTooLarge {
        /// The call, without its hardening flags.
        command: String,
        /// The cap, in bytes.
        limit: usize,
    },
    /// A call printed what git does not print.
    #[error("`{command}` gave an answer that agent-run does not understand")]
    Unexpected {
        /// The call, without its hardening flags.
        command: String,
    },
    /// The operating system refused something.
    #[error("could not {action}")]
    Io {
        /// What was tried, as a clause.
        action: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is no repository.
    #[error("{} is not in a git repository: go into one, or run `git init` and commit first", path.display())]
    NotARepository {
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// git does not let this user use the repository.
    #[error("git refuses to use the repository at {}, since it belongs to another user: run `git config --global --add safe.directory {}` if you trust it", path.display(), path.display())]
    NotTrusted {
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// git cannot read the repository, for instance since a newer git made it.
    #[error("git cannot read the repository at {}: {detail}", path.display())]
    Unreadable {
        /// The directory that was looked at.
        path: PathBuf,
        /// git's words, sanitised.
        detail: String,
    },
    /// The repository has no commit.
    #[error("the repository at {} has no commit yet: make one first, worktrees start from it", path.display())]
    Empty {
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// The repository's object ids are not SHA-1.
    #[error("the repository at {} uses {format} object ids, which agent-run does not support yet: use a SHA-1 repository", path.display())]
    ObjectFormat {
        /// The directory that was looked at.
        path: PathBuf,
        /// The format's name.
        format: String,
    },
    /// The base does not name a commit.
    #[error("`{name}` is no commit of the repository at {}: name a branch, a tag or a commit that `git rev-parse` knows there", path.display())]
    NoSuchCommit {
        /// The name, sanitised.
        name: String,
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// A branch is not what it was seen to be.
    #[error(
        "the branch {branch} was moved or checked out elsewhere meanwhile, or its files were changed"
    )]
    BranchChanged {
        /// The branch, without `refs/heads/`.
        branch: String,
    },
    /// There are merges where commits are to follow one another.
    #[error("merge {} cannot be told as a change of one commit", merge.short())]
    NotLinear {
        /// The first of them.
        merge: CommitId,
    },
    /// A partial clone lacks files of the base.
    #[error("the repository at {} is a partial clone and lacks {missing} objects of {base}: run `git checkout {base}` there once, or clone without --filter", path.display())]
    PartialClone {
        /// The directory that was looked at.
        path: PathBuf,
        /// The base commit.
        base: String,
        /// How many objects are not there.
        missing: usize,
    },
}

impl GitError {
    /// Wraps an operating system's error; `action` completes "could not …".
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
