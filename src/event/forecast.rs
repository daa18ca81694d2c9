//! Which results fit together: what merging them would give.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{CommitId, TaskId};

/// Which branches could be merged with each other, and into the tip that the base has now.
///
/// Names and paths are untrusted, and sanitised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// The base, as it was named.
    pub base: String,
    /// Its tip when this was made.
    pub base_commit: CommitId,
    /// The branches.
    pub branches: Vec<BranchForecast>,
    /// The pairs of them of which there is more to say than that they merge cleanly.
    pub pairs: Vec<PairForecast>,
    /// The branches that merge cleanly into the base and are not in it yet, in the order to merge
    /// them in: each behind those that it builds on, those with the fewest conflicts first.
    pub order: Vec<String>,
    /// The most of them that merge cleanly one after the other, in that order.
    pub together: Vec<String>,
    /// Whether no larger set exists; else it is the best that was found in time.
    pub is_largest: bool,
}

/// How a branch stands to the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BranchForecast {
    /// Its name.
    pub branch: String,
    /// The task that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Its tip.
    pub commit: CommitId,
    /// What merging it into the base would give.
    #[serde(flatten)]
    pub fit: Fit,
}

/// How two branches stand to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PairForecast {
    /// One, by name.
    pub one: String,
    /// The other.
    pub other: String,
    /// What merging them would give.
    #[serde(flatten)]
    pub fit: Fit,
}

/// What a merge would give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "fit", rename_all = "snake_case")]
pub enum Fit {
    /// It is clean.
    Clean,
    /// One side has all that the other changes: merging adds nothing. A branch that is merged or
    /// squashed into its base is so.
    Same,
    /// The histories have no commit in common, and git refuses.
    Unrelated,
    /// Somebody has to decide.
    Conflict {
        /// How many files conflict.
        files: u64,
        /// The first of them.
        conflicts: Vec<FileConflict>,
    },
}

/// A file that conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileConflict {
    /// Its path.
    pub path: String,
    /// What conflicts, as git calls it: `contents`, `binary`, `modify/delete`, `rename/delete`,
    /// `file/directory`, `distinct modes`, `directory rename suggested` and others.
    pub kind: String,
    /// Where the texts conflict; none where that is no text, or too much of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<ConflictLines>,
}

/// Lines that both sides have changed. For the base and a branch, the base is the first side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConflictLines {
    /// Where they begin in the first side's merged file, from 1.
    pub one: u64,
    /// How many they are there; 0 where it has removed them.
    pub one_count: u64,
    /// Where they begin in the other's.
    pub other: u64,
    /// How many they are there.
    pub other_count: u64,
}

impl Forecast {
    /// Whether all branches merge cleanly into the base, and with each other.
    pub fn is_clean(&self) -> bool {
        let mut fits = self.branches.iter().map(|branch| &branch.fit);
        let mut pairs = self.pairs.iter().map(|pair| &pair.fit);
        !fits.any(Fit::is_conflict) && !pairs.any(Fit::is_conflict) && self.is_all_together()
    }

    /// The paths of all files that conflict.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let fits = self.branches.iter_mut().map(|branch| &mut branch.fit);
        let fits = fits.chain(self.pairs.iter_mut().map(|pair| &mut pair.fit));
        let conflicts = fits.flat_map(|fit| match fit {
            Fit::Conflict { conflicts, .. } => conflicts.iter_mut(),
            Fit::Clean | Fit::Same | Fit::Unrelated => [].iter_mut(),
        });
        conflicts.map(|conflict| &mut conflict.path)
    }

    fn is_all_together(&self) -> bool {
        self.together.len() == self.order.len()
    }
}

impl Fit {
    /// Whether it keeps two from being merged.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Unrelated)
    }
}
