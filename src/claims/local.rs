//! Claims as refs of the user's repository.

use jiff::Timestamp;

use super::record::{FoundClaim, NO_FILES};
use super::{ClaimError, ClaimRecord};
use crate::git::{GitError, Repository};
use crate::id::{ClaimKey, CommitId};

const NOTHING: &str = "0000000000000000000000000000000000000000";
/// Longest record that is read, in bytes.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct Local<'a>(pub(super) &'a Repository);

impl Local<'_> {
    /// What a ref stands for, by one process.
    pub(super) fn find(self, name: &str) -> Result<Option<FoundClaim>, ClaimError> {
        Ok(self.read(&[name])?.pop().flatten())
    }

    /// The commit that a ref stands for.
    pub(super) fn commit(self, name: &str) -> Result<Option<CommitId>, ClaimError> {
        let refs = self.0.refs(name)?;
        let of_it = refs.into_iter().find(|(found, _)| found == name);
        Ok(of_it.map(|(_, commit)| commit))
    }

    pub(super) fn list(self) -> Result<Vec<(String, FoundClaim)>, ClaimError> {
        let refs = self.0.refs(ClaimKey::PREFIX)?;
        let names: Vec<&str> = refs.iter().map(|(name, _)| name.as_str()).collect();
        let found = self.read(&names)?;
        let all = names.iter().map(|name| (*name).to_owned()).zip(found);
        Ok(all
            .filter_map(|(name, found)| Some((name, found?)))
            .collect())
    }

    /// What several names of commits stand for, in their order.
    pub(super) fn read(self, names: &[&str]) -> Result<Vec<Option<FoundClaim>>, ClaimError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let input = names
            .iter()
            .map(|name| format!("{name}\n"))
            .collect::<String>();
        let call = self
            .0
            .call(["cat-file", "--batch"])
            .input(input.into_bytes());
        let answer = call
            .output_limit(names.len().saturating_mul(LONGEST))
            .run()?;
        let mut rest = answer.as_slice();
        let found = names.iter().map(|_| take_object(&mut rest));
        Ok(found.collect::<Result<_, _>>()?)
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

/// Takes one answer of `git cat-file --batch`: nothing where there is no such object.
fn take_object(answer: &mut &[u8]) -> Result<Option<FoundClaim>, GitError> {
    let end = memchr::memchr(b'\n', answer).ok_or_else(misunderstood)?;
    let line = String::from_utf8_lossy(&answer[..end]).into_owned();
    *answer = &answer[end + 1..];
    if line.ends_with(" missing") {
        return Ok(None);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [id, kind, size] = words[..] else {
        return Err(misunderstood());
    };
    let content = size.parse().ok().and_then(|size| {
        let (content, rest) = answer.split_at_checked(size)?;
        *answer = rest.strip_prefix(b"\n")?;
        Some(content)
    });
    let content = content.ok_or_else(misunderstood)?;
    Ok(Some(FoundClaim {
        commit: id.parse().map_err(|_| misunderstood())?,
        record: match kind {
            "commit" => ClaimRecord::of_commit(content),
            other => Err(format!("it is a {other}")),
        },
    }))
}
