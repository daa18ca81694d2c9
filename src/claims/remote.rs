//! Claims as refs of a remote, by the user's own git: his addresses, his credentials.

use std::time::Duration;

use super::local::Local;
use super::record::FoundClaim;
use super::{Claim, ClaimError, TRIES, named};
use crate::git::{GitError, Repository};
use crate::id::{ClaimKey, CommitId};
use crate::sanitize;

/// How long one question to a remote may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Remote<'a> {
    pub(super) repository: &'a Repository,
    /// Its name in the user's configuration, or its address.
    pub(super) name: &'a str,
}

impl Remote<'_> {
    /// What a ref there stands for; its record is fetched, and no ref of ours changes for that.
    pub(super) fn find(self, name: &str) -> Result<Option<FoundClaim>, ClaimError> {
        for _ in 0..TRIES {
            let Some(commit) = self.commit(name)? else {
                return Ok(None);
            };
            self.fetch(&[name])?;
            let found = Local(self.repository).find(commit.as_str())?;
            // Else it has moved on between the two questions.
            if found.is_some() {
                return Ok(found);
            }
        }
        Err(ClaimError::Contended {
            name: name.to_owned(),
        })
    }

    /// The commit that a ref there stands for.
    pub(super) fn commit(self, name: &str) -> Result<Option<CommitId>, ClaimError> {
        Ok(named(self.refs(name)?, name))
    }

    /// What stands for a claim there, if it is still held. That may be a renewal whose answer was lost.
    pub(super) fn holding(self, claim: &Claim) -> Result<Option<CommitId>, ClaimError> {
        let (name, commit) = claim.guard();
        if self.commit(&name)?.as_ref() == Some(&commit) {
            return Ok(Some(commit));
        }
        let found = self.find(&name)?.filter(|found| {
            let record = found.record.as_ref();
            record.is_ok_and(|record| record.is_same_as(&claim.record))
        });
        Ok(found.map(|found| found.commit))
    }

    pub(super) fn list(self) -> Result<Vec<(String, FoundClaim)>, ClaimError> {
        let refs = self.refs(&format!("{}*", ClaimKey::PREFIX))?;
        let names: Vec<&str> = refs.iter().map(|(name, _)| name.as_str()).collect();
        self.fetch(&names)?;
        let found = refs.into_iter().map(|(name, commit)| {
            let found = Local(self.repository).find(commit.as_str())?;
            Ok(found.map(|found| (name, found)))
        });
        found.filter_map(Result::transpose).collect()
    }

    /// Lets a ref there that stands for `old` stand for `new`; says whether it did.
    pub(super) fn swap(
        self,
        name: &str,
        old: Option<&CommitId>,
        new: Option<&CommitId>,
    ) -> Result<bool, ClaimError> {
        let lease = format!(
            "--force-with-lease={name}:{}",
            old.map_or("", CommitId::as_str)
        );
        let change = format!("{}:{name}", new.map_or("", CommitId::as_str));
        let words = ["--quiet", "--no-verify", "--no-signed", "--no-follow-tags"];
        let last = ["--recurse-submodules=no", &lease, "--", self.name, &change];
        let pushed = self.call("push", words.into_iter().chain(last));
        let Err(error) = pushed else {
            return Ok(true);
        };
        // What git said is no interface, and an answer may have been lost: the ref itself tells.
        match self.commit(name)? {
            now if now.as_ref() == new => Ok(true),
            now if now.as_ref() == old => Err(self.refused(error)),
            _ => Ok(false),
        }
    }

    fn refs(self, pattern: &str) -> Result<Vec<(String, CommitId)>, ClaimError> {
        let words = ["--quiet", "--refs", "--", self.name, pattern];
        let answer = self.call("ls-remote", words);
        let answer = answer.map_err(|error| self.refused(error))?;
        let text = String::from_utf8_lossy(&answer);
        let refs = text.lines().filter_map(|line| {
            let (id, name) = line.split_once('\t')?;
            let is_claim = name.starts_with(ClaimKey::PREFIX);
            Some((name.to_owned(), id.parse().ok().filter(|_| is_claim)?))
        });
        Ok(refs.collect())
    }

    fn fetch(self, names: &[&str]) -> Result<(), ClaimError> {
        if names.is_empty() {
            return Ok(());
        }
        let words = [
            "--quiet",
            "--no-tags",
            "--no-prune",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--recurse-submodules=no",
            "--refmap=",
            "--",
            self.name,
        ];
        let fetched = self.call("fetch", words.into_iter().chain(names.iter().copied()));
        match fetched {
            // One that is gone by now; what is missing is seen where it is read.
            Err(GitError::Failed { stderr, .. }) if stderr.contains("find remote ref") => Ok(()),
            Err(error) => Err(self.refused(error)),
            Ok(_) => Ok(()),
        }
    }

    fn call<'w>(
        self,
        command: &'w str,
        words: impl IntoIterator<Item = &'w str>,
    ) -> Result<Vec<u8>, GitError> {
        let git = self.repository.git();
        let words = [command].into_iter().chain(words);
        let call = git.as_user(self.repository.directory(), words);
        call.deadline(PATIENCE).run()
    }

    fn refused(self, error: GitError) -> ClaimError {
        let detail = match error {
            GitError::Failed { stderr, .. } => stderr,
            GitError::TimedOut { after, .. } => {
                format!("no answer within {} s", after.as_secs())
            }
            other => other.to_string(),
        };
        ClaimError::Refused {
            remote: sanitize::line(self.name.as_bytes(), false),
            detail,
        }
    }
}
