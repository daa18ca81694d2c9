//! Claims as refs of the user's repository.

use jiff::Timestamp;

use super::record::{FoundClaim, NO_FILES};
use super::{ClaimError, ClaimRecord, named};
use crate::git::{GitError, Repository};
use crate::id::{ClaimKey, CommitId};

const NOTHING: &str = "0000000000000000000000000000000000000000";
/// Longest record that is read, in bytes.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct Local<'a>(pub(super) &'a Repository);

impl Local<'_> {
    /// The commit that a ref stands for.
    pub(super) fn commit(self, name: &str) -> Result<Option<CommitId>, ClaimError> {
        Ok(named(self.0.refs(name)?, name))
    }

    pub(super) fn list(self) -> Result<Vec<(String, FoundClaim)>, ClaimError> {
        let found = self.0.refs(ClaimKey::PREFIX)?.into_iter().map(|(name, _)| {
            let found = self.find(&name)?;
            Ok(found.map(|found| (name, found)))
        });
        found.filter_map(Result::transpose).collect()
    }

    /// What a ref, or the name of a commit, stands for, by one process.
    pub(super) fn find(self, name: &str) -> Result<Option<FoundClaim>, ClaimError> {
        let call = self.0.call(["cat-file", "--batch"]).output_limit(LONGEST);
        match call.input(format!("{name}\n").into_bytes()).run() {
            Ok(answer) => Ok(read(&answer)?),
            Err(GitError::OutputTooLarge { .. }) => {
                let id = self
                    .0
                    .call(["rev-parse", "--verify", "-q", name])
                    .run_text()?;
                Ok(Some(FoundClaim {
                    commit: id.trim().parse().map_err(|_| misunderstood())?,
                    record: Err("it is too large".to_owned()),
                }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a record; no ref stands for it yet.
    pub(super) fn write(
        self,
        record: &ClaimRecord,
        now: Timestamp,
    ) -> Result<CommitId, ClaimError> {
        let store = |kind: &str, bytes| {
            let words = ["hash-object", "-w", "--stdin", "-t", kind];
            self.0.call(words).input(bytes).run_text()
        };
        let tree = store("tree", Vec::new())?;
        debug_assert_eq!(tree.trim(), NO_FILES);
        let commit = store("commit", record.to_commit(now)?)?;
        Ok(commit.trim().parse().map_err(|_| misunderstood())?)
    }

    /// Lets a ref that stands for `old` stand for `new`; says whether it did.
    pub(super) fn swap(
        self,
        name: &str,
        old: Option<&CommitId>,
        new: Option<&CommitId>,
    ) -> Result<bool, ClaimError> {
        let old_name = old.map_or(NOTHING, CommitId::as_str);
        let swapped = match new {
            Some(new) => self
                .0
                .call(["update-ref", name, new.as_str(), old_name])
                .run(),
            None => self.0.call(["update-ref", "-d", name, old_name]).run(),
        };
        match swapped {
            Ok(_) => Ok(true),
            // Either somebody was faster, or git cannot change refs here at all.
            Err(error @ GitError::Failed { .. }) => match self.commit(name)? {
                now if now.as_ref() == old => Err(error.into()),
                _ => Ok(false),
            },
            Err(error) => Err(error.into()),
        }
    }
}

fn misunderstood() -> GitError {
    GitError::Unexpected {
        command: "git cat-file".to_owned(),
    }
}

/// Reads an answer of `git cat-file --batch`: nothing where there is no such object.
fn read(answer: &[u8]) -> Result<Option<FoundClaim>, GitError> {
    let end = memchr::memchr(b'\n', answer).ok_or_else(misunderstood)?;
    let line = String::from_utf8_lossy(&answer[..end]);
    if line.ends_with(" missing") {
        return Ok(None);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [id, kind, _size] = words[..] else {
        return Err(misunderstood());
    };
    Ok(Some(FoundClaim {
        commit: id.parse().map_err(|_| misunderstood())?,
        record: match kind {
            "commit" => ClaimRecord::of_commit(&answer[end + 1..]),
            other => Err(format!("it is a {other}")),
        },
    }))
}
