//! A start other than the run's base: an accepted result, its objects beside the base store's.
//!
//! Results never enter the base store, where every task could read them. So an attempt that starts
//! from one gets its objects as a pack in a directory of its own, which it borrows read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::submodules::{self, Submodule};
use super::{BaseStore, WorkspaceError, make_directory, write_read_only};
use crate::git::Git;
use crate::id::{CommitId, TaskId};

/// The objects, in the attempt's directory.
const OBJECTS: &str = "start/objects";
/// Where the attempt's base stands, in the attempt's directory. It is written last.
const BASE: &str = "start/base";
/// Where those objects are inside the container; `handoff.sh` knows it too.
pub(super) const BORROWED: &str = "/agent/base/start/objects";
const DEADLINE: Duration = Duration::from_secs(600);

/// Where an attempt starts that does not start from its run's base.
///
/// Both commits build on the run's base and are in `results`, or are it. Nothing else of the user's
/// repository is needed, so that a branch which he deletes meanwhile is not missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The repository of accepted results, see [`crate::id::StateDir::results`].
    pub results: PathBuf,
    /// What is checked out, and what the branch stands on at first.
    pub head: CommitId,
    /// What the work is measured against: `refs/agent-run/base` inside, where the branch, the counts
    /// and the diffstat begin. The head, or an ancestor of it: further work on a branch of one's own.
    pub base: CommitId,
    /// Further results that are there to be merged or read, as `refs/agent-run/needs/<task>` inside.
    pub needs: Vec<(TaskId, CommitId)>,
}

/// A start whose objects lie in an attempt's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) base: CommitId,
    pub(super) objects: PathBuf,
}

impl Start {
    /// Puts the objects into an attempt's directory.
    pub(super) fn place(
        &self,
        git: &Git,
        store: &BaseStore,
        attempt: &Path,
    ) -> Result<Placed, WorkspaceError> {
        let objects = attempt.join(OBJECTS);
        for directory in ["start", OBJECTS, "start/objects/pack"] {
            make_directory(&attempt.join(directory))?;
        }
        let mut revisions = format!("{}\n{}\n^{}\n", self.head, self.base, store.base());
        for (_, need) in &self.needs {
            revisions.extend([need.as_str(), "\n"]);
        }
        let pack = objects.join("pack/pack");
        let words = ["pack-objects", "--revs", "-q"].map(std::ffi::OsStr::new);
        git.call(words.into_iter().chain([pack.as_os_str()]))
            .git_dir(&self.results)
            .input(revisions.into_bytes())
            .deadline(DEADLINE)
            .run()
            .map_err(WorkspaceError::git("pack the result that is started from"))?;
        write_read_only(&attempt.join(BASE), self.base.as_str().as_bytes())?;
        let base = self.base.clone();
        Ok(Placed { base, objects })
    }

    /// What further refs the attempt's git directory has.
    pub(super) fn refs(&self) -> Vec<(String, &CommitId)> {
        let name = |task: &TaskId| format!("refs/agent-run/needs/{task}");
        let needs = self.needs.iter();
        needs.map(|(task, commit)| (name(task), commit)).collect()
    }

    /// The submodules of the run's base that the start has at the same commits, outer before inner.
    /// Of others nobody has the objects: they stay empty.
    pub(super) fn submodules(
        &self,
        git: &Git,
        store: &BaseStore,
    ) -> Result<Vec<Submodule>, WorkspaceError> {
        let mut kept: Vec<Submodule> = Vec::new();
        for submodule in store.submodules() {
            let is_kept = if submodule.parent.is_empty() {
                let (results, head) = (&self.results, &self.head);
                let at = submodules::gitlink(git, (results, head), &submodule.path)?;
                at.as_ref() == Some(&submodule.commit)
            } else {
                kept.iter().any(|outer| outer.git_dir == submodule.parent)
            };
            if is_kept {
                kept.push(submodule.clone());
            }
        }
        Ok(kept)
    }
}

/// The start that an earlier process placed; none where the attempt starts from the run's base.
pub(super) fn placed(attempt: &Path) -> Option<Placed> {
    let base = fs::read_to_string(attempt.join(BASE)).ok()?.parse().ok()?;
    let objects = attempt.join(OBJECTS);
    Some(Placed { base, objects })
}
