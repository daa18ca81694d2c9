//! A checkout of the base that many worktrees are views of: made once, seen as the lower layer of an
//! overlay, and never written to again.
//!
//! It holds what every task of the base gets anyway. It is removed when no run has used it for a day
//! and none that is not cleaned up may still have it mounted.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::owner::{Given, give_away};
use super::private_git::{self, Files, Recipe};
use super::setup::names;
use super::{BaseStore, WorkspaceError, make_directory, make_private, remove};
use crate::git::{Git, RepositoryLock};
use crate::id::{RepoKey, RunId, StateDir, hex_hash};

/// How long one may lie unused: it is as large as the base, and every commit has another.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Part of its key, to be changed with what is made here.
const FORMAT: u32 = 1;
pub(super) const LAST_USED: &str = "last-used";
/// Where the number of entries of an index is, in bytes from its start (gitformat-index(5)).
const ENTRIES_AT: usize = 8;

/// What a shared checkout is made of.
#[derive(Debug, Clone, Copy)]
pub struct SharedRequest<'a> {
    /// Host git, see [`crate::git::Repository::git`].
    pub git: &'a Git,
    /// The state directory that holds the run.
    pub state: &'a StateDir,
    /// The repository.
    pub repository: &'a RepoKey,
    /// The store with the base commit.
    pub store: &'a BaseStore,
    /// The container's uid and gid, where the runner is root and gives its files away.
    pub owner: Option<(u32, u32)>,
    /// The run that uses it.
    pub run: &'a RunId,
}

/// A shared checkout that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCheckout {
    path: PathBuf,
}

impl SharedCheckout {
    /// Finds the checkout or makes it, and notes that the run uses it, until [`release`]. One process
    /// at a time per repository; others wait.
    pub fn ensure(request: &SharedRequest<'_>) -> Result<Self, WorkspaceError> {
        let SharedRequest {
            state, repository, ..
        } = *request;
        let _lock = RepositoryLock::acquire(state, repository)
            .map_err(WorkspaceError::git("lock the shared checkout"))?;
        let key = request.key();
        let path = state.shared_checkout(repository, &key);
        make_private(&state.run(request.run))?;
        let mark = state.views(request.run).join(&key);
        make_directory(&state.views(request.run))?;
        File::create(&mark).map_err(WorkspaceError::io("write", &mark))?;
        let shared = Self { path };
        if !shared.path.is_dir() {
            request.make(&shared.path)?;
            sweep(state, repository, None)?;
        }
        let stamp = shared.path.join(LAST_USED);
        File::create(&stamp)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(WorkspaceError::io("write", stamp))?;
        Ok(shared)
    }

    /// How many files the checkout of a request has; none where there is none yet.
    pub fn entries(request: &SharedRequest<'_>) -> Option<u32> {
        let path = request
            .state
            .shared_checkout(request.repository, &request.key());
        let mut header = [0; ENTRIES_AT + 4];
        let mut index = File::open(path.join("git/index")).ok()?;
        index.read_exact(&mut header).ok()?;
        Some(u32::from_be_bytes(header[ENTRIES_AT..].try_into().ok()?))
    }

    /// What the views show where nothing was written.
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// The git directory whose indexes describe the files.
    pub(super) fn git_dir(&self) -> PathBuf {
        self.path.join("git")
    }

    /// Removes those of a repository that no run has used for a day; gives their paths. Where
    /// runs `would_release` theirs, it only says which these would be then.
    pub fn remove_unused(
        state: &StateDir,
        repository: &RepoKey,
        would_release: Option<&[RunId]>,
    ) -> Result<Vec<PathBuf>, WorkspaceError> {
        let _lock = RepositoryLock::acquire(state, repository)
            .map_err(WorkspaceError::git("lock the shared checkouts"))?;
        sweep(state, repository, would_release)
    }
}

impl SharedRequest<'_> {
    /// Tells checkouts of a repository apart. What was made before the machine started last may be
    /// empty where a power failure came before the kernel wrote it.
    fn key(&self) -> String {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (base, owner) = (self.store.base(), self.owner);
        let submodules = self.store.listing();
        let text = format!("{FORMAT} {base} {owner:?} {boot} {submodules}");
        hex_hash(text.as_bytes(), 16)
    }

    /// Makes the checkout beside its place and moves it there when it is whole.
    fn make(&self, path: &Path) -> Result<(), WorkspaceError> {
        let making = path.with_extension("making");
        // Of a process that was killed: the lock is ours.
        remove(self.state, &making).map_err(WorkspaceError::Removal)?;
        // Its files belong to a uid that other processes of the host may have.
        let made = DirBuilder::new().mode(0o700).create(&making);
        made.map_err(WorkspaceError::io("make", &making))?;
        let (git_dir, files) = (making.join("git"), making.join("files"));
        make_directory(&git_dir)?;
        make_directory(&files)?;
        let base = self.store.base();
        let borrowed = (self.store.objects(), private_git::BORROWED.to_owned());
        let recipe = Recipe {
            git: self.git,
            commits: (base, base),
            refs: Vec::new(),
            objects: &[borrowed],
            store: self.store,
            submodules: self.store.submodules(),
            branch: None,
            exclude: b"",
            files: Files::FromObjects {
                worktree: &files,
                owner: self.owner,
            },
        };
        private_git::create(&recipe, &git_dir)?;
        if let Some(owner) = self.owner {
            give_away(&files, owner, Given::Directories)?;
        }
        fs::rename(&making, path).map_err(WorkspaceError::io("move", making))
    }
}

/// Removes the checkouts that are unused. The caller holds the repository's lock.
fn sweep(
    state: &StateDir,
    repository: &RepoKey,
    would_release: Option<&[RunId]>,
) -> Result<Vec<PathBuf>, WorkspaceError> {
    let directory = state.repo(repository);
    let failed = || WorkspaceError::io("read", &directory);
    let mut removed = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let key = name.to_str().and_then(StateDir::shared_checkout_key);
        if let Some(key) = key
            && is_unused(
                state,
                key,
                &entry.path(),
                UNUSED_FOR,
                would_release.unwrap_or(&[]),
            )?
        {
            if would_release.is_none() {
                remove(state, &entry.path()).map_err(WorkspaceError::Removal)?;
            }
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

/// Whether nobody has used something for so long, or what a killed process left of it, and no run but
/// those has a mark with this name among its views.
pub(super) fn is_unused(
    state: &StateDir,
    mark: &str,
    path: &Path,
    unused_for: Duration,
    but: &[RunId],
) -> Result<bool, WorkspaceError> {
    Ok(is_old(path, unused_for)? && !is_marked(state, mark, but)?)
}

/// Whether nobody has used something for so long, by its stamp.
pub(super) fn is_old(path: &Path, unused_for: Duration) -> Result<bool, WorkspaceError> {
    let failed = || WorkspaceError::io("look at", path);
    let stamp = fs::metadata(path.join(LAST_USED));
    let used = stamp.or_else(|_| fs::metadata(path)).map_err(failed())?;
    let used = used.modified().map_err(failed())?;
    Ok(SystemTime::now().duration_since(used).unwrap_or_default() >= unused_for)
}

/// Whether any run but those has a mark with this name among its views.
pub(super) fn is_marked(
    state: &StateDir,
    mark: &str,
    but: &[RunId],
) -> Result<bool, WorkspaceError> {
    let runs = names(&state.runs())?.into_iter();
    let mut runs = runs.filter_map(|name| name.parse::<RunId>().ok());
    Ok(runs.any(|run| !but.contains(&run) && state.views(&run).join(mark).exists()))
}

/// Forgets that a run has views: called when nothing of it is mounted any more.
pub fn release(state: &StateDir, run: &RunId) -> Result<(), super::RemovalError> {
    remove(state, &state.views(run))
}
