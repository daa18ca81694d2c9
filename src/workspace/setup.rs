//! Where a setup runs, and what is kept of it: directories of its worktree, whole or not at all.
//!
//! What a setup writes is untrusted: it is moved by handle, without following links, and never read.
//! What is kept lies in a directory that only agent-run's own user may enter, and is never written
//! again.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType};
use serde::{Deserialize, Serialize};

use super::owner::give_all_away;
use super::private_git::{self, Files, Recipe};
use super::removal::open_directory;
use super::shared::LAST_USED;
use super::{
    BaseStore, ENTRY, PreparedPath, WorkspaceError, make_directory, make_private, remove,
    write_read_only,
};
use crate::engine::config::Mount;
use crate::git::Git;
use crate::id::{RepoKey, RunId, StateDir, WorktreePath};

/// Reads the container's variables before its wrapper starts, see `setup-entry.sh`.
const SETUP_ENTRY: &str = include_str!("setup-entry.sh");
/// What the wrapper runs at its end in place of a hand-off, see `setup-end.sh`.
const SETUP_END: &str = include_str!("setup-end.sh");
const RECORD: &str = "record.json";
const PATHS: &str = "paths";
/// In a place, what is kept of it.
const KEPT: &str = "kept";
/// The directories that the container can write in.
const WRITTEN: [&str; 4] = ["worktree", "git", "home", "out"];

/// What a place for a setup is made of.
#[derive(Debug, Clone, Copy)]
pub struct SetupRequest<'a> {
    /// Host git, see [`crate::git::Repository::git`].
    pub git: &'a Git,
    /// The state directory.
    pub state: &'a StateDir,
    /// The repository.
    pub repository: &'a RepoKey,
    /// The store with the base commit.
    pub store: &'a BaseStore,
    /// Tells setups of the repository apart.
    pub key: &'a str,
    /// The container's uid and gid, where the runner is root and gives its files away.
    pub owner: Option<(u32, u32)>,
    /// The script.
    pub script: &'a str,
    /// The container's /etc/passwd and /etc/group; none where they are the image's own.
    pub accounts: Option<(&'a str, &'a str)>,
}

/// A clean checkout of the base, for one setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupPlace {
    making: PathBuf,
    mounts: Vec<Mount>,
}

/// Why nothing is kept of a setup that ended well.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It did not make what it should.
    #[error("the setup left no directory `{path}`: {why}")]
    NotMade {
        /// The directory.
        path: WorktreePath,
        /// What is there instead.
        why: &'static str,
    },
    /// The host could not keep it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl SetupPlace {
    /// Makes the place. The caller holds the [`PreparedLock`] of the key: what is there is of a
    /// process that was killed.
    pub fn make(request: &SetupRequest<'_>) -> Result<Self, WorkspaceError> {
        let making = request.state.prepared(request.repository, request.key);
        let making = making.with_extension("making");
        remove(request.state, &making).map_err(WorkspaceError::Removal)?;
        make_private(&request.state.repo(request.repository))?;
        make_closed(&making)?;
        for name in WRITTEN {
            make_directory(&making.join(name))?;
        }
        let base = request.store.base();
        let worktree = making.join("worktree");
        let borrowed = (request.store.objects(), private_git::BORROWED.to_owned());
        let recipe = Recipe {
            git: request.git,
            commits: (base, base),
            objects: &[borrowed],
            store: request.store,
            submodules: request.store.submodules(),
            branch: None,
            refs: Vec::new(),
            exclude: b"",
            files: Files::FromObjects {
                worktree: &worktree,
                owner: request.owner,
            },
        };
        private_git::create(&recipe, &making.join("git"))?;
        if let Some(owner) = request.owner {
            let written = WRITTEN.map(|name| making.join(name));
            give_all_away(&written, &worktree, owner)?;
        }
        let mut place = Self {
            making,
            mounts: Vec::new(),
        };
        place.mount(request)?;
        Ok(place)
    }

    fn mount(&mut self, request: &SetupRequest<'_>) -> Result<(), WorkspaceError> {
        let nowhere = "gitdir: /nonexistent/agent-run/do-not-run-git-here\n";
        let gitfile = self.making.join("worktree/.git");
        write_read_only(&gitfile, nowhere.as_bytes())?;
        let (passwd, group) = request.accounts.unzip();
        let files = [
            ("dotgit", "/workspace/.git", Some("gitdir: /agent/git\n")),
            ("setup-entry", "/agent/setup-entry", Some(SETUP_ENTRY)),
            ("entry", "/agent/entry", Some(ENTRY)),
            ("handoff", "/agent/handoff", Some(SETUP_END)),
            ("script", "/agent/script", Some(request.script)),
            ("passwd", "/etc/passwd", passwd),
            ("group", "/etc/group", group),
        ];
        let directories = [
            ("worktree", "/workspace"),
            ("git", "/agent/git"),
            ("home", "/home/agent"),
            ("out", "/agent/out"),
        ];
        let mount = |source: PathBuf, target: &str, read_only| Mount {
            source,
            target: target.to_owned(),
            read_only,
        };
        for (name, target) in directories {
            let source = self.making.join(name);
            self.mounts.push(mount(source, target, false));
        }
        for (name, target, text) in files {
            let Some(text) = text else { continue };
            let source = self.making.join(name);
            write_read_only(&source, text.as_bytes())?;
            if name == "script" {
                super::make_executable(&source)?;
            }
            self.mounts.push(mount(source, target, true));
        }
        let stores = request.store.borrowed();
        let stores = stores.into_iter();
        self.mounts
            .extend(stores.map(|(source, target)| mount(source, &target, true)));
        Ok(())
    }

    /// What is mounted, outer before inner.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount of what reads a container's variables from its standard input, see `setup-entry.sh`.
    pub fn entry(&self) -> Option<&Mount> {
        self.mounts
            .iter()
            .find(|mount| mount.target == "/agent/setup-entry")
    }

    /// The directories that the container can write in.
    pub fn written(&self) -> Vec<PathBuf> {
        WRITTEN.map(|name| self.making.join(name)).into()
    }

    /// Keeps the directories that the setup made; nothing else of what it wrote in the worktree is.
    /// The container has ended. From here on, the prepared directory is whole, also after a crash; what
    /// is left of the place is still to be removed.
    pub fn keep(
        &self,
        request: &SetupRequest<'_>,
        paths: &[WorktreePath],
        image: Option<&str>,
    ) -> Result<Prepared, KeepError> {
        let whole = self.making.join(KEPT);
        make_closed(&whole)?;
        let kept = whole.join(PATHS);
        make_directory(&kept)?;
        let failed = |action| WorkspaceError::io(action, &self.making);
        let target = open_directory(CWD, &kept).map_err(|e| failed("open")(e.into()))?;
        for (index, path) in paths.iter().enumerate() {
            let (parent, name) = self.find(path)?;
            let index = index.to_string();
            let moved = rustix::fs::renameat(&parent, name, &target, index.as_str());
            moved.map_err(|e| failed("move a directory of")(e.into()))?;
        }
        let record = Record {
            image: image.map(str::to_owned),
            paths: paths.to_vec(),
        };
        let text = serde_json::to_vec(&record).unwrap_or_default();
        write_read_only(&whole.join(RECORD), &text)?;
        // A name that points at files which were never written would be believed.
        rustix::fs::syncfs(&target).map_err(|e| failed("write")(e.into()))?;
        let directory = request.state.prepared(request.repository, request.key);
        remove(request.state, &directory).map_err(WorkspaceError::Removal)?;
        fs::rename(&whole, &directory).map_err(failed("move"))?;
        Ok(Prepared { directory, record })
    }

    /// Finds a directory of the worktree, name by name and without links.
    fn find<'p>(&self, path: &'p WorktreePath) -> Result<(OwnedFd, &'p str), KeepError> {
        let not_made = |why| KeepError::NotMade {
            path: path.clone(),
            why,
        };
        let top = self.making.join("worktree");
        let mut at =
            open_directory(CWD, &top).map_err(|e| WorkspaceError::io("open", &top)(e.into()))?;
        let mut parts = path.parts().peekable();
        while let Some(name) = parts.next() {
            let facts = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW);
            let kind = facts.map(|facts| FileType::from_raw_mode(facts.st_mode));
            match kind {
                Ok(FileType::Directory) => {}
                Ok(FileType::Symlink) => return Err(not_made("a symbolic link is there")),
                Ok(_) => return Err(not_made("a file is there")),
                Err(_) => return Err(not_made("nothing is there")),
            }
            if parts.peek().is_none() {
                return Ok((at, name));
            }
            at = open_directory(at.as_fd(), name)
                .map_err(|e| WorkspaceError::io("open", &top)(e.into()))?;
        }
        Err(not_made("nothing is there"))
    }

    /// Removes the place with all that was written in it.
    pub fn remove(&self, state: &StateDir) -> Result<(), WorkspaceError> {
        remove(state, &self.making).map_err(WorkspaceError::Removal)
    }
}

/// What a setup prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    directory: PathBuf,
    record: Record,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The id of the image that was made, if one was.
    image: Option<String>,
    paths: Vec<WorktreePath>,
}

impl Prepared {
    /// Finds what was prepared; none where it was not made whole. The caller holds the
    /// [`PreparedLock`] of the key.
    pub fn find(state: &StateDir, repository: &RepoKey, key: &str) -> Option<Self> {
        let directory = state.prepared(repository, key);
        let record = fs::read(directory.join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let found = Self { directory, record };
        let all_there = found.paths().iter().all(|path| path.source.is_dir());
        all_there.then_some(found)
    }

    /// The id of the image that was made, if one was.
    pub fn image(&self) -> Option<&str> {
        self.record.image.as_deref()
    }

    /// The directories, and where tasks see them.
    pub fn paths(&self) -> Vec<PreparedPath> {
        prepared_paths(&self.directory, &self.record.paths)
    }

    /// The same of what is not prepared yet: nothing is there.
    pub fn expected(
        (state, repository, key): (&StateDir, &RepoKey, &str),
        paths: &[WorktreePath],
    ) -> Vec<PreparedPath> {
        prepared_paths(&state.prepared(repository, key), paths)
    }

    /// Notes that a run uses it, until the run's views are released, and when.
    pub fn use_in(&self, state: &StateDir, run: &RunId) -> Result<(), WorkspaceError> {
        make_private(&state.run(run))?;
        make_directory(&state.views(run))?;
        let name = self.directory.file_name().unwrap_or_default();
        let mark = state.views(run).join(name);
        File::create(&mark).map_err(WorkspaceError::io("write", mark))?;
        let stamp = self.directory.join(LAST_USED);
        File::create(&stamp)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(WorkspaceError::io("write", stamp))
    }
}

fn prepared_paths(directory: &Path, paths: &[WorktreePath]) -> Vec<PreparedPath> {
    let kept = directory.join(PATHS);
    let path = |(index, path): (usize, &WorktreePath)| PreparedPath {
        source: kept.join(index.to_string()),
        path: path.clone(),
    };
    paths.iter().enumerate().map(path).collect()
}

/// Held while something is prepared, or removed; flock(2) on a file beside it.
#[derive(Debug)]
pub struct PreparedLock {
    file: File,
    path: PathBuf,
}

impl PreparedLock {
    /// Takes the lock; nothing while another process has it.
    pub fn try_acquire(
        state: &StateDir,
        repository: &RepoKey,
        key: &str,
    ) -> Result<Option<Self>, WorkspaceError> {
        let path = state.prepared_lock(repository, key);
        make_private(&state.repo(repository))?;
        loop {
            let failed = || WorkspaceError::io("lock", &path);
            let file = File::create(&path).map_err(failed())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
            }
            // Whoever removed it meanwhile locked another file than the next one will.
            let own = file.metadata().map_err(failed())?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == own) {
                return Ok(Some(Self { file, path }));
            }
        }
    }

    /// Removes the lock's file: what it was for is gone.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
        drop(self.file);
    }
}

/// Makes a directory that nobody else may enter.
fn make_closed(directory: &Path) -> Result<(), WorkspaceError> {
    let made = DirBuilder::new().mode(0o700).create(directory);
    made.map_err(WorkspaceError::io("make", directory))
}

/// Whether `error` says that something is not there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The names in a directory of ours, as far as they are text; none where there is no directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, WorkspaceError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        other => other.map_err(WorkspaceError::io("read", directory))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}
