//! One bare repository of ours that holds what one commit reaches, copied from a local repository.
//!
//! The base and every submodule have a store each. Read-only is not confidential: a store is never
//! written to again once it is whole, so that what a task can read does not grow with the stores of
//! later runs. A newer commit's store begins as hard links to the files of an older one's.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{WorkspaceError, remove};
use crate::git::{Git, GitError, init_bare};
use crate::id::{CommitId, RepoKey, StateDir, hex_hash};

/// The store's one ref: everything in it is reachable from there.
const TIP: &str = "refs/agent-run/base";
const LAST_USED: &str = "agent-run-last-used";
/// Part of a store's key, to be changed with what a store holds.
const FORMAT: u32 = 2;
/// How many stores are asked whether their commit is an older one, the latest used first.
const ASKED: usize = 16;
/// Every fetch adds a pack; from so many on, the small ones become one.
const PACKS: usize = 8;
/// What a submodule's configuration says of its files may be out of date, and the sending side does
/// not start without them; it needs none. Git runs this through the shell.
const SENDER: &str = "--upload-pack=GIT_WORK_TREE=. git-upload-pack";
const FETCH_DEADLINE: Duration = Duration::from_secs(3600);

/// A store that holds its commit.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) path: PathBuf,
    /// Tells the stores of one repository apart.
    pub(super) key: String,
    /// What bringing it up to its commit took; none where it was there already.
    pub(super) cold_cost: Option<ColdCost>,
}

/// What it took to bring a store up to a new commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdCost {
    /// Time.
    pub took: Duration,
    /// Growth of the store, in bytes.
    pub bytes: u64,
}

/// Where a store's objects come from.
pub(super) struct Source<'a> {
    /// Host git, which trusts `git_dir`.
    pub(super) git: &'a Git,
    /// The git directory that has them.
    pub(super) git_dir: &'a Path,
    /// The commit that is wanted.
    pub(super) commit: &'a CommitId,
    /// The number of newest commits, all of them if none.
    pub(super) depth: Option<u32>,
}

impl Store {
    /// Finds the store of the source's commit, or makes it. The caller holds the repository's lock.
    pub(super) fn ensure(
        source: &Source<'_>,
        state: &StateDir,
        repository: &RepoKey,
    ) -> Result<Self, WorkspaceError> {
        let key = source.key(source.commit);
        let mut store = Self {
            path: state.base_store(repository, &key),
            key,
            cold_cost: None,
        };
        if tip_of(&store.path).as_ref() != Some(source.commit) {
            store.cold_cost = Some(store.make(source, state, repository)?);
        }
        store.stamp()?;
        Ok(store)
    }

    /// Its objects: what is mounted.
    pub(super) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Where its history is cut off, as git's `shallow` file says it; none where it is whole.
    pub(super) fn shallow(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join("shallow")).ok()
    }

    /// When a run last used the store in this directory.
    pub(super) fn last_used(path: &Path) -> io::Result<SystemTime> {
        let stamp = fs::metadata(path.join(LAST_USED));
        stamp.or_else(|_| fs::metadata(path))?.modified()
    }

    /// Makes the store beside its place and moves it there when it is whole.
    fn make(
        &self,
        source: &Source<'_>,
        state: &StateDir,
        repository: &RepoKey,
    ) -> Result<ColdCost, WorkspaceError> {
        let started = Instant::now();
        let making = self.path.with_extension("making");
        remove(state, &self.path).map_err(WorkspaceError::Removal)?;
        begin(state, &making)?;
        if let Some(older) = source.older_store(&state.repo(repository))?
            && link(&older, &making).is_err()
        {
            // The file system has no hard links: everything is fetched.
            begin(state, &making)?;
        }
        let before = open_to_readers(&making)?;
        source.fetch_into(&making)?;
        if packs(&making)? > PACKS {
            let repack = ["repack", "-q", "-d", "-n", "--geometric=2"];
            let repack = source.git.call(repack).git_dir(&making);
            let repacked = repack.deadline(FETCH_DEADLINE).run();
            repacked.map_err(WorkspaceError::git("repack the base store"))?;
        }
        let after = open_to_readers(&making)?;
        fs::rename(&making, &self.path).map_err(WorkspaceError::io("move", making))?;
        Ok(ColdCost {
            took: started.elapsed(),
            bytes: after.saturating_sub(before),
        })
    }

    /// Notes that the store is in use: unused ones are removed after a time.
    fn stamp(&self) -> Result<(), WorkspaceError> {
        let path = self.path.join(LAST_USED);
        let stamp = File::create(&path).and_then(|file| file.set_modified(SystemTime::now()));
        stamp.map_err(WorkspaceError::io("write", path))
    }
}

impl Source<'_> {
    /// Tells the stores of commits apart: the same commit reaches less where history is cut off.
    fn key(&self, commit: &CommitId) -> String {
        let shallow = fs::read(self.git_dir.join("shallow")).unwrap_or_default();
        let cut = hex_hash(&shallow, 12);
        let text = format!("{FORMAT} {:?} {cut} {commit}", self.depth);
        hex_hash(text.as_bytes(), 12)
    }

    /// A store of a commit that the source's commit builds on: what it holds, ours holds too. None
    /// where only the newest commits are wanted, since an older one's are not among them.
    fn older_store(&self, directory: &Path) -> Result<Option<PathBuf>, WorkspaceError> {
        if self.depth.is_some() {
            return Ok(None);
        }
        let failed = || WorkspaceError::io("read", directory);
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let Some(tip) = tip_of(&path) else { continue };
            let is_whole = path.file_name().and_then(|name| name.to_str())
                == Some(&StateDir::base_store_name(&self.key(&tip)));
            if is_whole {
                found.push((Store::last_used(&path).map_err(failed())?, path, tip));
            }
        }
        found.sort();
        for (_, path, tip) in found.into_iter().rev().take(ASKED) {
            if self.builds_on(&tip)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether all that `tip` reaches is reached by the commit too.
    fn builds_on(&self, tip: &CommitId) -> Result<bool, WorkspaceError> {
        let commit = self.commit.as_str();
        let arguments = ["merge-base", "--is-ancestor", tip.as_str(), commit];
        match self.git.on_objects(self.git_dir, arguments).run_bool() {
            Err(GitError::Failed { .. }) => Ok(false),
            other => other.map_err(WorkspaceError::git("compare the base with a base store")),
        }
    }

    /// Fetches what the repository at `store` has not of the commit's history, as one pack.
    fn fetch_into(&self, store: &Path) -> Result<(), WorkspaceError> {
        let flags = [
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--update-shallow",
            SENDER,
        ];
        let mut arguments: Vec<OsString> = vec!["fetch".into()];
        arguments.extend(flags.map(OsString::from));
        arguments.extend(self.depth.map(|depth| format!("--depth={depth}").into()));
        arguments.push(self.git_dir.into());
        arguments.push(format!("+{}:{TIP}", self.commit).into());
        let call = self.git.call(arguments).git_dir(store);
        call.config("protocol.file.allow=always")
            .config("fetch.unpackLimit=1")
            .deadline(FETCH_DEADLINE)
            .run()
            .map_err(WorkspaceError::git("copy history into the base store"))?;
        Ok(())
    }
}

/// The commit that the store at `path` is of; none where there is no usable store.
fn tip_of(path: &Path) -> Option<CommitId> {
    // Git writes a ref as a file, and packs none here.
    fs::read_to_string(path.join(TIP)).ok()?.trim().parse().ok()
}

/// Makes an empty repository at `path`, in place of what a process left that was killed.
fn begin(state: &StateDir, path: &Path) -> Result<(), WorkspaceError> {
    remove(state, path).map_err(WorkspaceError::Removal)?;
    init_bare(path).map_err(WorkspaceError::git("make the base store"))
}

/// Gives the repository at `to` what the store at `from` holds.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from.join("objects/pack"))? {
        let entry = entry?;
        let target = to.join("objects/pack").join(entry.file_name());
        fs::hard_link(entry.path(), target)?;
    }
    match fs::copy(from.join("shallow"), to.join("shallow")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let tip = to.join(TIP);
    fs::create_dir_all(tip.parent().unwrap_or(to))?;
    fs::copy(from.join(TIP), tip).map(drop)
}

/// How many packs the repository at `git_dir` has.
fn packs(git_dir: &Path) -> Result<usize, WorkspaceError> {
    let directory = git_dir.join("objects/pack");
    let listed = fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let listed = listed.map_err(WorkspaceError::io("read", directory))?;
    let is_pack = |entry: &&fs::DirEntry| entry.path().extension().is_some_and(|e| e == "pack");
    Ok(listed.iter().filter(is_pack).count())
}

/// Lets every uid read the objects of the repository at `git_dir`, and gives their size in bytes.
fn open_to_readers(git_dir: &Path) -> Result<u64, WorkspaceError> {
    let mut size = 0;
    let mut pending = vec![git_dir.join("objects")];
    while let Some(directory) = pending.pop() {
        let failed = || WorkspaceError::io("open to readers", &directory);
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).map_err(failed())?;
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let metadata = entry.metadata().map_err(failed())?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                size += metadata.len();
                let readable = Permissions::from_mode(0o444);
                fs::set_permissions(entry.path(), readable).map_err(failed())?;
            }
        }
    }
    Ok(size)
}
