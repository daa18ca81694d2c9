//! What is taken at most from one attempt: the one place of these numbers and of their defaults.
//! Plain data, which the plan holds; what each limit stops is checked by the rest of `collect`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What git needs besides the objects that it has in memory: its program, its tables, its windows
/// on the packs.
const OVERHEAD: u64 = 1 << 30;

/// What is taken at most from one attempt. Each is a key of `collect.limits` in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectLimits {
    /// Size of the bundle that is handed off, in bytes.
    pub bundle: u64,
    /// All new objects together, unpacked, in bytes.
    pub total: u64,
    /// One file, in bytes.
    pub file: u64,
    /// Commits on top of the base.
    pub commits: u64,
    /// New objects: commits, directories and versions of files.
    pub objects: u64,
    /// Paths that a tree has more than the base.
    pub paths: u64,
    /// Nesting of directories.
    pub depth: u64,
    /// The listings of directories that are looked at, in bytes.
    pub trees: u64,
    /// Uncommitted files that are committed, in bytes.
    pub leftovers: u64,
    /// Time for any one step on the agent's objects.
    pub time: Duration,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self {
            bundle: 2 << 30,
            total: 8 << 30,
            file: 1 << 30,
            commits: 10_000,
            objects: 1_000_000,
            paths: 1_000_000,
            depth: 512,
            trees: 256 << 20,
            leftovers: 100 << 20,
            time: Duration::from_secs(300),
        }
    }
}

impl CollectLimits {
    /// Address space of git on the agent's objects, in bytes: a delta of the largest file that is
    /// taken, and what it is made from. A pack of 298 bytes can ask for 4.5 GB.
    pub(super) fn address_space(&self) -> u64 {
        OVERHEAD.saturating_add(self.file.saturating_mul(2))
    }

    /// Largest file that git writes from the agent's objects, in bytes.
    pub(super) fn file_size(&self) -> u64 {
        self.bundle.saturating_add(self.total)
    }
}
