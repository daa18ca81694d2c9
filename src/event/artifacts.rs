//! What became of the artifacts of a task.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was copied out of a task's worktree because the spec asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactsReport {
    /// Where the copies lie; not made where there are none.
    pub directory: PathBuf,
    /// How many files were copied.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// The copied files, by name; of many the first that were found.
    pub copied: Vec<ArtifactFile>,
    /// How many files and directories were passed over that the spec asks for.
    pub skipped: u64,
    /// Those, each with why; of many the first that were found. Untrusted names, sanitised.
    pub skipped_paths: Vec<(String, String)>,
    /// Why not everything was looked at, as a clause; none where it was.
    pub incomplete: Option<String>,
}

/// A file that was copied out of a task's worktree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactFile {
    /// Its path below the worktree, and below the copies; untrusted, sanitised.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}
