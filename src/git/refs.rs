//! Refs of the user's repository that agent-run may remove: its own, and merged branches.

use super::{GitError, Repository};
use crate::id::{CommitId, RunId};

impl Repository {
    /// The refs whose names begin with the parts of `prefix`, each with what it stands for.
    pub fn refs(&self, prefix: &str) -> Result<Vec<(String, CommitId)>, GitError> {
        let format = "--format=%(objectname) %(refname)";
        let text = self.call(["for-each-ref", format, prefix]).run()?;
        let text = String::from_utf8_lossy(&text);
        let refs = text.lines().filter_map(|line| {
            let (id, name) = line.split_once(' ')?;
            Some((name.to_owned(), id.parse().ok()?))
        });
        Ok(refs.collect())
    }

    /// The runs whose bases are kept from being pruned.
    pub fn pinned(&self) -> Result<Vec<RunId>, GitError> {
        let refs = self.refs(RunId::PINS)?.into_iter();
        let runs = refs.filter_map(|(name, _)| name.strip_prefix(RunId::PINS)?.parse().ok());
        Ok(runs.collect())
    }

    /// The local branches that are merged into HEAD and checked out nowhere, without `refs/heads/`,
    /// each with its tip.
    pub fn merged_branches(&self) -> Result<Vec<(String, CommitId)>, GitError> {
        let format = "--format=%(HEAD)%(objectname)%00%(worktreepath)%00%(refname:strip=2)";
        let arguments = ["for-each-ref", "--merged=HEAD", format, "refs/heads"];
        let text = self.call(arguments).run()?;
        let text = String::from_utf8_lossy(&text);
        let branches = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, '\0');
            let (id, place, name) = (fields.next()?, fields.next()?, fields.next()?);
            let id = id.strip_prefix(' ').filter(|_| place.is_empty())?;
            Some((name.to_owned(), id.parse().ok()?))
        });
        Ok(branches.collect())
    }

    /// Removes refs that still stand for what they are said to; none if one does not.
    pub fn delete_refs(&self, refs: &[(String, CommitId)]) -> Result<(), GitError> {
        if refs.is_empty() {
            return Ok(());
        }
        let lines = refs
            .iter()
            .map(|(name, id)| format!("delete {name} {id}\n"));
        let lines: String = lines.collect();
        let call = self.call(["update-ref", "--stdin"]);
        call.input(lines.into_bytes()).run().map(drop)
    }
}
