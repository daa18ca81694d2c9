//! The base store: a bare repository of ours with the objects that tasks borrow, and no others.
//!
//! Read-only is not confidential: what is in the store, every task that borrows from it can read.
//! So it holds only what is reachable from one base, and a base that does not contain what an
//! older one contained gets a store of its own.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::WorkspaceError;
use crate::git::{Repository, RepositoryLock};
use crate::id::{CommitId, StateDir, hex_hash};

/// The store's one ref: everything in it is reachable from there.
const TIP: &str = "refs/agent-run/base";
const LAST_USED: &str = "agent-run-last-used";
const FETCH_DEADLINE: Duration = Duration::from_secs(3600);

/// A base store that holds a base commit.
#[derive(Debug, Clone)]
pub struct BaseStore {
    path: PathBuf,
    key: String,
    base: CommitId,
    cold_cost: Option<ColdCost>,
}

/// What it took to bring a store up to a new base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdCost {
    /// Time.
    pub took: Duration,
    /// Growth of the store, in bytes.
    pub bytes: u64,
}

impl BaseStore {
    /// Brings the objects of `base` into a store, fetching what is not there yet.
    ///
    /// `base_name` is the base as the spec names it: bases of different names never share a store,
    /// nor does a base that has lost history since (an amended secret must stay unreadable).
    /// `depth` is the number of newest commits, all of them if none. A partial clone gives one.
    /// One process at a time per repository; others wait.
    pub fn ensure(
        repository: &Repository,
        state: &StateDir,
        base_name: &str,
        base: &CommitId,
        depth: Option<u32>,
    ) -> Result<Self, WorkspaceError> {
        let depth = if repository.is_partial() {
            Some(1)
        } else {
            depth
        };
        let _lock = RepositoryLock::acquire(state, repository.key())
            .map_err(WorkspaceError::git("lock the base store"))?;
        let name = repository
            .full_ref_name(base_name)
            .map_err(WorkspaceError::git("look up the base"))?
            .unwrap_or_else(|| base.to_string());
        let mut generation = 0_u32;
        let (key, path, tip) = loop {
            let text = format!("{depth:?} {generation} {name}");
            let key = hex_hash(text.as_bytes(), 12);
            let path = state.base_store(repository.key(), &key);
            let tip = tip_of(repository, &path);
            match &tip {
                Some(tip) if !is_within(repository, tip, base)? => generation += 1,
                _ => break (key, path, tip),
            }
        };
        let mut store = Self {
            path,
            key,
            base: base.clone(),
            cold_cost: None,
        };
        if tip.as_ref() != Some(base) {
            store.cold_cost = Some(store.fetch(repository, depth)?);
        }
        store.stamp()?;
        Ok(store)
    }

    /// The store's git directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its objects: what is mounted.
    pub fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Tells the stores of one repository apart.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The commit it was brought up to.
    pub fn base(&self) -> &CommitId {
        &self.base
    }

    /// What bringing it up to the base took; none where it was there already.
    pub fn cold_cost(&self) -> Option<ColdCost> {
        self.cold_cost
    }

    /// Where its history is cut off, as git's `shallow` file says it; none where it is whole.
    pub fn shallow(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join("shallow")).ok()
    }

    /// When a run last used the store in this directory.
    pub fn last_used(path: &Path) -> io::Result<SystemTime> {
        let stamp = fs::metadata(path.join(LAST_USED));
        stamp.or_else(|_| fs::metadata(path))?.modified()
    }

    fn fetch(
        &self,
        repository: &Repository,
        depth: Option<u32>,
    ) -> Result<ColdCost, WorkspaceError> {
        let started = Instant::now();
        let git = repository.git();
        if tip_of(repository, &self.path).is_none() {
            git.call(["init", "-q", "--bare", "--template="])
                .git_dir(&self.path)
                .run()
                .map_err(WorkspaceError::git("make the base store"))?;
        }
        let before = self.tidy()?;
        let refspec = format!("+{}:{TIP}", self.base);
        let flags = [
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--update-shallow",
        ];
        let mut arguments: Vec<OsString> = vec!["fetch".into()];
        arguments.extend(flags.map(OsString::from));
        arguments.extend(depth.map(|depth| format!("--depth={depth}").into()));
        arguments.push(repository.common_dir().into());
        arguments.push(refspec.into());
        git.call(arguments)
            .git_dir(&self.path)
            .config("protocol.file.allow=always")
            .deadline(FETCH_DEADLINE)
            .run()
            .map_err(WorkspaceError::git(
                "copy the base's history into the base store",
            ))?;
        let after = self.tidy()?;
        let bytes = after.saturating_sub(before);
        Ok(ColdCost {
            took: started.elapsed(),
            bytes,
        })
    }

    /// Removes what killed fetches left, lets every uid read the objects, and returns their size.
    fn tidy(&self) -> Result<u64, WorkspaceError> {
        let mut size = 0;
        let mut pending = vec![self.objects()];
        while let Some(directory) = pending.pop() {
            let failed = || WorkspaceError::io("open to readers", &directory);
            fs::set_permissions(&directory, Permissions::from_mode(0o755)).map_err(failed())?;
            for entry in fs::read_dir(&directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let metadata = entry.metadata().map_err(failed())?;
                let name = entry.file_name();
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if name.as_encoded_bytes().starts_with(b"tmp_") {
                    fs::remove_file(entry.path()).map_err(failed())?;
                } else {
                    size += metadata.len();
                    let readable = Permissions::from_mode(0o444);
                    fs::set_permissions(entry.path(), readable).map_err(failed())?;
                }
            }
        }
        Ok(size)
    }

    /// Notes that the store is in use: unused ones are removed after a time.
    fn stamp(&self) -> Result<(), WorkspaceError> {
        let path = self.path.join(LAST_USED);
        let stamp = File::create(&path).and_then(|file| file.set_modified(SystemTime::now()));
        stamp.map_err(WorkspaceError::io("write", path))
    }
}

/// What the store at `path` holds; none where there is no usable store.
fn tip_of(repository: &Repository, path: &Path) -> Option<CommitId> {
    if !path.join("HEAD").is_file() {
        return None;
    }
    let call = repository.git().call(["rev-parse", "-q", "--verify", TIP]);
    call.git_dir(path).run_text().ok()?.trim().parse().ok()
}

fn is_within(
    repository: &Repository,
    tip: &CommitId,
    base: &CommitId,
) -> Result<bool, WorkspaceError> {
    let answer = repository.is_ancestor(tip, base);
    answer.map_err(WorkspaceError::git("compare the base with the base store"))
}
