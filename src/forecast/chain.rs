//! Tips merged one after the other onto a commit, in memory.

use super::merges::{Merge, merge_pairs};
use super::scratch::{Scratch, unexpected};
use crate::git::GitError;
use crate::id::CommitId;

/// What a step gave.
pub(super) enum Step {
    /// A commit, which is the tip now.
    Merged,
    /// Nothing: all of it is there already.
    Nothing,
    /// No commit.
    Conflict(Merge),
}

/// Who commits what was merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author<'a> {
    pub(super) name: &'a str,
    pub(super) email: &'a str,
}

/// A commit on which others are merged.
pub(super) struct Chain<'a> {
    pub(super) scratch: &'a Scratch,
    pub(super) author: Author<'a>,
    /// The last commit.
    pub(super) tip: CommitId,
    /// Its tree, once that is known.
    pub(super) tree: Option<String>,
    /// Whether the commits have only the last one as parent.
    pub(super) squash: bool,
}

impl Chain<'_> {
    /// Merges one that has history in common with what is there. A conflict leaves the chain as it was.
    pub(super) fn add(&mut self, tip: &CommitId, message: &str) -> Result<Step, GitError> {
        let pair = (self.tip.clone(), tip.clone());
        let merges = merge_pairs(self.scratch, &[pair])?;
        let merge = merges.into_iter().next();
        let merge = merge.ok_or_else(|| unexpected("merge-tree"))?;
        if !merge.is_clean {
            return Ok(Step::Conflict(merge));
        }
        if self.tree.is_none() {
            self.tree = self.scratch.trees(std::slice::from_ref(&self.tip))?.pop();
        }
        if self.tree.as_ref() == Some(&merge.tree) {
            return Ok(Step::Nothing);
        }
        let parents = [&self.tip, tip];
        let parents = &parents[..if self.squash { 1 } else { 2 }];
        self.tip = commit(self.scratch, self.author, &merge.tree, parents, message)?;
        self.tree = Some(merge.tree);
        Ok(Step::Merged)
    }
}

/// Makes a commit of a tree.
pub(super) fn commit(
    scratch: &Scratch,
    author: Author<'_>,
    tree: &str,
    parents: &[&CommitId],
    message: &str,
) -> Result<CommitId, GitError> {
    let parents = parents.iter().flat_map(|parent| ["-p", parent.as_str()]);
    let words = ["commit-tree", tree].into_iter().chain(parents);
    let call = scratch.call(words).input(message.as_bytes().to_vec());
    let made = call
        .config(&format!("user.name={}", author.name))
        .config(&format!("user.email={}", author.email))
        .run_text()?;
    made.trim().parse().map_err(|_| unexpected("commit-tree"))
}
