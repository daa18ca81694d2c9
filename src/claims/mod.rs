//! Claims: that nobody else works on something, as refs that change by compare-and-swap.
//!
//! A claim is a ref of the user's repository, `refs/agent-run/claims/<key>`, and, where a remote is
//! named, the same ref there, so that machines which share only a remote see each other. What it
//! stands for is a [`ClaimRecord`]. Every change names what was there before: of two who try, git
//! lets one through.

mod local;
mod record;
mod remote;

use jiff::Timestamp;

use crate::git::{GitError, Repository};
use crate::id::{ClaimKey, CommitId, RunId, TaskId};

use local::Local;
pub use record::{ClaimRecord, FoundClaim, HOLDS};
use remote::Remote;

/// How often somebody else may be in between before it is given up.
const TRIES: usize = 20;

/// What can go wrong with claims; that somebody else has one is none of it.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The ref does not stand for a claim.
    #[error(
        "{name} stands for something else than a claim ({why}): `agent-run claims release --force` removes it"
    )]
    Unreadable {
        /// The ref.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The remote did not take the claim, and nobody else has it.
    #[error("{remote} does not take claims: {detail}")]
    Refused {
        /// The remote.
        remote: String,
        /// What was said.
        detail: String,
    },
    /// It changed hands whenever it was looked at.
    #[error("{name} changes too often")]
    Contended {
        /// The ref.
        name: String,
    },
    /// A record could not be put into words.
    #[error("a claim could not be written")]
    Record(#[source] serde_json::Error),
}

/// What a task wants to have for itself.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What.
    pub key: &'a ClaimKey,
    /// Who its commits are by.
    pub holder: &'a str,
    /// The name of this machine.
    pub host: &'a str,
    /// This process, as [`crate::journal::owner`] names it.
    pub owner: &'a str,
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a TaskId,
}

/// What came of wanting a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the task's now.
    Ours(Claim),
    /// Somebody else has it.
    Theirs(ClaimRecord),
}

/// A claim that a task of this process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    record: ClaimRecord,
    commit: CommitId,
}

impl Claim {
    /// The ref and the commit that it must stand for as long as the claim is held.
    pub fn guard(&self) -> (String, CommitId) {
        (self.record.key.ref_name(), self.commit.clone())
    }
}

/// Where claims are: a repository and, if one is named, a remote of it.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    local: Local<'a>,
    remote: Option<Remote<'a>>,
}

impl<'a> Claims<'a> {
    /// Those of a repository and of its remote of that name or address.
    pub fn of(repository: &'a Repository, remote: Option<&'a str>) -> Self {
        Self {
            local: Local(repository),
            remote: remote.map(|name| Remote { repository, name }),
        }
    }

    /// Takes a claim that nobody has, or whose holder is gone. A task takes its own up again, so that
    /// a run which is resumed goes on with it.
    ///
    /// # Errors
    /// [`ClaimError`], where nothing is known of who has it: the task must not start then.
    pub fn take(&self, wanted: &Wanted<'_>, now: Timestamp) -> Result<Taken, ClaimError> {
        let name = wanted.key.ref_name();
        for _ in 0..TRIES {
            let here = self.local.find(&name)?;
            let mut before = match holder(&name, here.as_ref(), wanted, now)? {
                Ok(fence) => fence,
                Err(other) => return Ok(Taken::Theirs(*other)),
            };
            let there = self.remote.map(|remote| remote.find(&name)).transpose()?;
            let there = there.flatten();
            match holder(&name, there.as_ref(), wanted, now)? {
                Ok(fence) => before = before.max(fence),
                Err(other) => return Ok(Taken::Theirs(*other)),
            }
            let record = ClaimRecord::new(wanted, before, now);
            let commit = self.local.write(&record, now)?;
            let old = here.map(|found| found.commit);
            if !self.local.swap(&name, old.as_ref(), Some(&commit))? {
                continue;
            }
            let claim = Claim { record, commit };
            let Some(remote) = self.remote else {
                return Ok(Taken::Ours(claim));
            };
            let old = there.map(|found| found.commit);
            let leased = remote.swap(&name, old.as_ref(), Some(&claim.commit));
            if matches!(leased, Ok(true)) {
                return Ok(Taken::Ours(claim));
            }
            self.local.swap(&name, Some(&claim.commit), None)?;
            leased?;
        }
        Err(ClaimError::Contended { name })
    }

    /// Makes a claim last for longer; says whether it is still held.
    pub fn renew(&self, claim: &mut Claim, now: Timestamp) -> Result<bool, ClaimError> {
        let (name, old) = claim.guard();
        let record = claim.record.renewed(now);
        let commit = self.local.write(&record, now)?;
        if let Some(remote) = self.remote {
            let Some(there) = remote.holding(claim)? else {
                return Ok(false);
            };
            if !remote.swap(&name, Some(&there), Some(&commit))? {
                return Ok(false);
            }
        }
        if !self.local.swap(&name, Some(&old), Some(&commit))? {
            return Ok(false);
        }
        *claim = Claim { record, commit };
        Ok(true)
    }

    /// Whether a claim is still held. Its ref here is what [`Claim::guard`] has checked again.
    pub fn is_held(&self, claim: &Claim) -> Result<bool, ClaimError> {
        let (name, commit) = claim.guard();
        let is_there = match self.remote {
            Some(remote) => remote.holding(claim)?.is_some(),
            None => true,
        };
        Ok(is_there && self.local.commit(&name)? == Some(commit))
    }

    /// Gives a claim back; what somebody else has taken over meanwhile stays his.
    pub fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        let (name, commit) = claim.guard();
        self.remove(&name, &commit)
    }

    /// All claims: those on the remote, if one is named, else those here.
    pub fn list(&self) -> Result<Vec<(String, FoundClaim)>, ClaimError> {
        match self.remote {
            Some(remote) => remote.list(),
            None => self.local.list(),
        }
    }

    /// What a ref of a claim stands for: on the remote, if one is named, else here.
    pub fn find(&self, name: &str) -> Result<Option<FoundClaim>, ClaimError> {
        match self.remote {
            Some(remote) => remote.find(name),
            None => self.local.find(name),
        }
    }

    /// Removes the ref of a claim where it still stands for that commit.
    pub fn remove(&self, name: &str, commit: &CommitId) -> Result<(), ClaimError> {
        let there = match self.remote {
            Some(remote) => remote.swap(name, Some(commit), None).map(drop),
            None => Ok(()),
        };
        self.local.swap(name, Some(commit), None)?;
        there
    }
}

/// What the ref of that name stands for.
fn named(refs: Vec<(String, CommitId)>, name: &str) -> Option<CommitId> {
    let of_it = refs.into_iter().find(|(found, _)| found == name);
    of_it.map(|(_, commit)| commit)
}

/// The fencing number of who had a claim until now, 0 for nobody; else who has it.
fn holder(
    name: &str,
    found: Option<&FoundClaim>,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<Result<u64, Box<ClaimRecord>>, ClaimError> {
    let unreadable = |why: &str| ClaimError::Unreadable {
        name: name.to_owned(),
        why: why.to_owned(),
    };
    match found.map(|found| &found.record) {
        None => Ok(Ok(0)),
        Some(Err(why)) => Err(unreadable(why)),
        Some(Ok(record)) if record.key != *wanted.key => Err(unreadable("it has another key")),
        Some(Ok(record)) if record.is_of(wanted) || record.is_over(now) => Ok(Ok(record.fence)),
        Some(Ok(record)) => Ok(Err(Box::new(record.clone()))),
    }
}
