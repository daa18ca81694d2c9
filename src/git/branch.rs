//! Branches of the user's repository that he asks agent-run to move: by compare-and-swap, and with
//! their files only where they are clean.

use std::path::{Path, PathBuf};

use super::{GitError, Repository};
use crate::id::CommitId;

/// A branch as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchPlace {
    /// Its tip.
    pub commit: CommitId,
    /// The worktree in which it is checked out, if it is in one.
    pub worktree: Option<PathBuf>,
}

impl Repository {
    /// The local branch with this name, given without `refs/heads/`; none if there is none.
    pub fn branch(&self, name: &str) -> Result<Option<BranchPlace>, GitError> {
        let full = format!("refs/heads/{name}");
        let format = "--format=%(objectname)%00%(worktreepath)%00%(refname)";
        let text = self.call(["for-each-ref", format, &full]).run()?;
        let text = String::from_utf8_lossy(&text);
        // Those below it have its name as a directory.
        let mut places = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, '\0');
            let (id, place, name) = (fields.next()?, fields.next()?, fields.next()?);
            (name == full).then(|| {
                Some(BranchPlace {
                    commit: id.parse().ok()?,
                    worktree: (!place.is_empty()).then(|| place.into()),
                })
            })?
        });
        Ok(places.next())
    }

    /// Moves a branch that is checked out nowhere from one commit to another, or makes it.
    ///
    /// # Errors
    /// Where it stands for another commit meanwhile: it is as it was then.
    pub fn move_branch(
        &self,
        name: &str,
        from: Option<&CommitId>,
        to: &CommitId,
    ) -> Result<(), GitError> {
        let full = format!("refs/heads/{name}");
        let nothing = "0".repeat(40);
        let from = from.map_or(nothing.as_str(), CommitId::as_str);
        let words = ["update-ref", &full, to.as_str(), from];
        self.call(words).run().map(drop)
    }

    /// Whether files that git knows are changed in a worktree of the repository and not committed.
    pub fn has_changes(&self, worktree: &Path) -> Result<bool, GitError> {
        let words = ["status", "--porcelain=v1", "-z", "--untracked-files=no"];
        Ok(!self.git().as_user(worktree, words).run()?.is_empty())
    }

    /// Moves a branch forward to a commit that builds on it, with its files where it is checked out. No
    /// hook runs; attributes and filters are the user's, as with his own `git merge`.
    ///
    /// # Errors
    /// Where it does not stand as it is said to, the commit does not build on it, or files are changed or
    /// in the way: all is as it was then.
    pub fn fast_forward(
        &self,
        name: &str,
        from: &BranchPlace,
        to: &CommitId,
    ) -> Result<(), GitError> {
        let Some(worktree) = &from.worktree else {
            return self.move_branch(name, Some(&from.commit), to);
        };
        // The merge below moves whatever is checked out there, from wherever it stands.
        if self.branch(name)?.as_ref() != Some(from) || self.has_changes(worktree)? {
            let branch = name.to_owned();
            return Err(GitError::BranchChanged { branch });
        }
        let hooks = ["-c", "core.hooksPath=/dev/null"].into_iter();
        // The last two in case the user's configuration has their contrary.
        let merge = ["merge", "-q", "--ff-only", "--no-squash", "--no-autostash"];
        let words = hooks.chain(merge).chain([to.as_str()]);
        self.git().as_user(worktree, words).run().map(drop)
    }
}
