//! The base store: bare repositories of ours with the objects that tasks borrow, and no others.
//!
//! What is in a store, every task that borrows from it can read. So the base and each of its
//! submodules have one of their own, which holds only what is reachable from one commit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::store::{ColdCost, Source, Store};
use super::submodules::{self, Submodule};
use super::{WorkspaceError, private_git};
use crate::git::{Git, Repository, RepositoryLock};
use crate::id::{CommitId, StateDir};

/// A base store that holds a base commit, with those of the base's submodules.
#[derive(Debug, Clone)]
pub struct BaseStore {
    store: Store,
    base: CommitId,
    submodules: Vec<Submodule>,
    notes: Vec<String>,
    /// How many files the base has, once that was asked.
    files: Arc<OnceLock<u64>>,
}

impl BaseStore {
    /// Finds the store of `base` or makes it, fetching what no older store has; likewise those of
    /// its submodules, as far as the repository's own clones of them have their commits.
    ///
    /// `depth` is the number of newest commits, all of them if none. A partial clone gives one.
    /// One process at a time per repository; others wait.
    pub fn ensure(
        repository: &Repository,
        state: &StateDir,
        base: &CommitId,
        depth: Option<u32>,
    ) -> Result<Self, WorkspaceError> {
        let own_depth = if repository.is_partial() {
            Some(1)
        } else {
            depth
        };
        let _lock = RepositoryLock::acquire(state, repository.key())
            .map_err(WorkspaceError::git("lock the base store"))?;
        let source = Source {
            git: repository.git(),
            git_dir: repository.common_dir(),
            commit: base,
            depth: own_depth,
        };
        let store = Store::ensure(&source, state, repository.key())?;
        let (submodules, notes) = submodules::ensure(repository, state, base, depth)?;
        Ok(Self {
            store,
            base: base.clone(),
            submodules,
            notes,
            files: Arc::default(),
        })
    }

    /// The store's git directory.
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// Its objects: what is mounted.
    pub fn objects(&self) -> PathBuf {
        self.store.objects()
    }

    /// Tells the stores of one repository apart.
    pub fn key(&self) -> &str {
        &self.store.key
    }

    /// The commit it is of.
    pub fn base(&self) -> &CommitId {
        &self.base
    }

    /// The git directories of the submodules' stores.
    pub fn submodule_stores(&self) -> impl Iterator<Item = &Path> {
        self.submodules.iter().map(|s| s.store.path.as_path())
    }

    /// What is to be known of submodules that stay empty, each a sentence; sanitised.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What making the stores took; none where all were there already.
    pub fn cold_cost(&self) -> Option<ColdCost> {
        let stores = self.submodules.iter().map(|s| &s.store);
        let costs = [&self.store].into_iter().chain(stores);
        costs.filter_map(|s| s.cold_cost).reduce(|a, b| ColdCost {
            took: a.took + b.took,
            bytes: a.bytes + b.bytes,
        })
    }

    /// Where its history is cut off, as git's `shallow` file says it; none where it is whole.
    pub fn shallow(&self) -> Option<Vec<u8>> {
        self.store.shallow()
    }

    /// How many files the base has, if that is known already.
    pub(super) fn known_files(&self) -> Option<u64> {
        self.files.get().copied()
    }

    /// Takes in what `ls-tree -r -z` says of the base.
    pub(super) fn note_files(&self, list: &[u8]) {
        let files = list.split(|byte| *byte == 0).count() as u64 - 1;
        let _ = self.files.set(files);
    }

    /// How many files the base has, submodules counted as one. Git lists them the first time.
    pub fn count_files(&self, git: &Git) -> Result<u64, WorkspaceError> {
        if let Some(files) = self.files.get() {
            return Ok(*files);
        }
        // A byte and a line's end for each.
        let call = git.call(["ls-tree", "-r", "--format=x", self.base.as_str()]);
        let listed = call.git_dir(self.path()).run();
        let listed = listed.map_err(WorkspaceError::git("count the files of the base"))?;
        let files = listed.len() as u64 / 2;
        Ok(*self.files.get_or_init(|| files))
    }

    /// When a run last used the store in this directory.
    pub fn last_used(path: &Path) -> io::Result<SystemTime> {
        Store::last_used(path)
    }

    /// The objects that are borrowed of it and of the submodules' stores, and where they are inside.
    pub(super) fn borrowed(&self) -> Vec<(PathBuf, String)> {
        let base = (self.objects(), private_git::BORROWED.to_owned());
        let submodules = self.submodules.iter();
        let submodules = submodules.map(|s| (s.store.objects(), s.objects_inside()));
        [base].into_iter().chain(submodules).collect()
    }

    /// What the hand-off needs to know of the submodules.
    pub(super) fn listing(&self) -> String {
        submodules::listing(&self.submodules)
    }

    /// The submodules that have a store, outer before inner.
    pub(super) fn submodules(&self) -> &[Submodule] {
        &self.submodules
    }
}
