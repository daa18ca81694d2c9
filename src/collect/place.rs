//! Where a result gets its place in the user's repository: a branch, else a ref of ours. No ref is
//! ever overwritten: one that is moved on stood where the result begins.

use super::error::CollectError;
use crate::event::BranchResult;
use crate::git::{GitError, Repository};
use crate::id::{AttemptId, BranchName, CommitId};
use crate::sanitize;

/// What is said of work that got no branch since its task no longer had its claim.
pub const CLAIM_LOST: &str =
    "the task's claim was taken over by somebody else, so that its work got no branch";

/// Whose result gets a place, and on what condition that is a branch.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The user's repository.
    pub repository: &'a Repository,
    /// The attempt that it is the result of.
    pub attempt: &'a AttemptId,
    /// A ref and what it must stand for in the moment in which the branch is made.
    pub guard: Option<&'a (String, CommitId)>,
    /// Where the branch stands, if it is there and is to be moved on; it must not be checked out.
    pub moves: Option<&'a CommitId>,
}

impl Place<'_> {
    /// Makes the branch; where there is none to make, its name is taken or the condition does not
    /// hold, keeps the result under a ref of ours.
    pub(super) fn put(
        &self,
        branch: Option<&BranchName>,
        tip: &CommitId,
        notes: &mut Vec<String>,
    ) -> Result<BranchResult, CollectError> {
        let (kept_ref, commit) = (self.attempt.kept_ref(0), tip.clone());
        let Some(branch) = branch.cloned() else {
            self.create(&kept_ref, tip)?;
            return Ok(BranchResult::SetAside { commit, kept_ref });
        };
        let failure = match self.make(&branch, tip) {
            Ok(()) => return Ok(BranchResult::Created { branch, commit }),
            Err(GitError::Failed { stderr, .. }) => stderr,
            Err(other) => return Err(other.into()),
        };
        self.create(&kept_ref, tip)?;
        let guarded = |(name, stands): &(String, CommitId)| self.is_at(name, stands);
        if !self.guard.is_none_or(guarded) {
            notes.push(CLAIM_LOST.to_owned());
            return Ok(BranchResult::SetAside { commit, kept_ref });
        }
        notes.push(format!("git did not make the branch: {failure}"));
        Ok(BranchResult::Taken {
            branch,
            commit,
            kept_ref,
        })
    }

    /// Makes a ref that is not there; one that stands at `commit` already is as good.
    pub(super) fn create(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        self.change(name, format!("create {name} {commit}\n"), commit)
    }

    /// Makes the branch, or moves it on, if the condition holds.
    fn make(&self, branch: &BranchName, commit: &CommitId) -> Result<(), GitError> {
        let name = &branch.full_ref();
        let condition = match self.guard {
            Some((guard, stands)) => format!("verify {guard} {stands}\n"),
            None => String::new(),
        };
        let change = match self.moves {
            Some(from) if !self.repository.is_checked_out(branch) => {
                format!("update {name} {commit} {from}\n")
            }
            // Refused where it is there: whoever has it checked out would see it change.
            _ => format!("create {name} {commit}\n"),
        };
        self.change(name, format!("{condition}{change}"), commit)
    }

    /// One transaction: all of it or nothing.
    fn change(&self, name: &str, lines: String, commit: &CommitId) -> Result<(), GitError> {
        let message = format!("agent-run: {}", self.attempt);
        let words = ["update-ref", "-m", &message, "--stdin"];
        let changed = self.repository.call(words).input(lines.into_bytes()).run();
        match changed {
            Err(error) if !self.is_at(name, commit) => Err(error),
            _ => Ok(()),
        }
    }

    fn is_at(&self, name: &str, commit: &CommitId) -> bool {
        let words = ["rev-parse", "-q", "--verify", name];
        let there = self.repository.call(words).run().unwrap_or_default();
        sanitize::line(there.trim_ascii(), false) == commit.as_str()
    }
}
