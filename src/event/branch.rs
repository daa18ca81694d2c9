//! What became of a task's work.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{BranchName, CommitId};

/// What became of a task's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum BranchResult {
    /// It is on a branch of the user's repository.
    Created {
        /// The branch.
        branch: BranchName,
        /// Its tip.
        commit: CommitId,
    },
    /// There was none.
    NoChange,
    /// It failed a check; the attempt's directory is kept.
    Rejected {
        /// The check's name.
        check: String,
        /// What it found.
        detail: String,
        /// Where the work is.
        path: PathBuf,
    },
    /// The branch's name was taken meanwhile; the work is under another ref.
    Taken {
        /// The name.
        branch: BranchName,
        /// The tip of the work.
        commit: CommitId,
        /// The ref it was kept under.
        kept_ref: String,
    },
    /// It is of an attempt that another one followed, and is under a ref of agent-run's.
    SetAside {
        /// The tip of the work.
        commit: CommitId,
        /// The ref.
        kept_ref: String,
    },
    /// It could not be collected; the attempt's directory is kept.
    Kept {
        /// Where the work is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What a task's work consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BranchReport {
    /// What became of it.
    #[serde(flatten)]
    pub result: BranchResult,
    /// Commits on top of the base.
    pub commits: u64,
    /// Files that differ from the base.
    pub files: u64,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Files with the most changed lines, for a diffstat; untrusted names, sanitised.
    pub diffstat: Vec<FileStat>,
    /// Whether uncommitted work was put into a commit of its own.
    pub leftovers_committed: bool,
    /// Further tips that the task left, as (ref in the user's repository, what it was).
    pub side_refs: Vec<(String, String)>,
    /// Paths that deserve a look before merging, each with why; sanitised.
    pub risky_paths: Vec<(String, String)>,
    /// Commits whose message or author holds the value of a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_commits: Vec<CommitId>,
    /// What else is to be known, each a sentence.
    pub notes: Vec<String>,
    /// Whether the attempt's directory holds work that is on no ref, so that it must be kept.
    #[serde(default)]
    pub content_left_behind: bool,
}

impl BranchReport {
    /// A report that says no more than `result`.
    pub fn bare(result: BranchResult) -> Self {
        Self {
            result,
            commits: 0,
            files: 0,
            insertions: 0,
            deletions: 0,
            diffstat: Vec::new(),
            leftovers_committed: false,
            side_refs: Vec::new(),
            risky_paths: Vec::new(),
            secret_commits: Vec::new(),
            notes: Vec::new(),
            content_left_behind: false,
        }
    }
}

/// One file of a diffstat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileStat {
    /// Its path; untrusted, sanitised.
    pub path: String,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}
