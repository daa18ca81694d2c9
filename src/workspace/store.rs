//! One bare repository of ours that holds what one commit reaches, copied from a local repository.
//!
//! The base and every submodule have a store each. Read-only is not confidential: a commit that
//! does not contain what the store held before gets another store.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::WorkspaceError;
use crate::git::{Git, GitError, init_bare};
use crate::id::{CommitId, RepoKey, StateDir, hex_hash};

/// The store's one ref: everything in it is reachable from there.
const TIP: &str = "refs/agent-run/base";
const LAST_USED: &str = "agent-run-last-used";
/// Names the commit that is being fetched. A fetch that was cut short may have brought objects that
/// the tip does not reach.
const FETCHING: &str = "agent-run-fetching";
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
    /// Sources of different names never share a store.
    pub(super) name: &'a str,
    /// The commit that is wanted.
    pub(super) commit: &'a CommitId,
    /// The number of newest commits, all of them if none.
    pub(super) depth: Option<u32>,
}

impl Store {
    /// Brings the objects of the source's commit into a store, fetching what is not there yet.
    /// The caller holds the repository's lock.
    pub(super) fn ensure(
        source: &Source<'_>,
        state: &StateDir,
        repository: &RepoKey,
    ) -> Result<Self, WorkspaceError> {
        let Source {
            name,
            commit,
            depth,
            ..
        } = *source;
        let mut generation = 0_u32;
        let (key, path, tip) = loop {
            let text = format!("{depth:?} {generation} {name}");
            let key = hex_hash(text.as_bytes(), 12);
            let path = state.base_store(repository, &key);
            let tip = tip_of(source.git, &path);
            if source.contains_all(tip.iter().chain(&cut_short(&path)))? {
                break (key, path, tip);
            }
            generation += 1;
        };
        let mut store = Self {
            path,
            key,
            cold_cost: None,
        };
        if tip.as_ref() != Some(commit) {
            store.cold_cost = Some(store.fetch(source)?);
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

    fn fetch(&self, source: &Source<'_>) -> Result<ColdCost, WorkspaceError> {
        let started = Instant::now();
        let git = source.git;
        if tip_of(git, &self.path).is_none() {
            init_bare(&self.path).map_err(WorkspaceError::git("make the base store"))?;
        }
        let before = self.tidy()?;
        let fetching = self.path.join(FETCHING);
        let written = fs::write(&fetching, source.commit.as_str());
        written.map_err(WorkspaceError::io("write", &fetching))?;
        let refspec = format!("+{}:{TIP}", source.commit);
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
        arguments.extend(source.depth.map(|depth| format!("--depth={depth}").into()));
        arguments.push(source.git_dir.into());
        arguments.push(refspec.into());
        git.call(arguments)
            .git_dir(&self.path)
            .config("protocol.file.allow=always")
            .deadline(FETCH_DEADLINE)
            .run()
            .map_err(WorkspaceError::git("copy history into the base store"))?;
        fs::remove_file(&fetching).map_err(WorkspaceError::io("remove", &fetching))?;
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

impl Source<'_> {
    /// Whether all that these reach is reached by the commit too.
    fn contains_all<'c>(
        &self,
        mut commits: impl Iterator<Item = &'c CommitId>,
    ) -> Result<bool, WorkspaceError> {
        commits.try_fold(true, |all, commit| Ok(all && self.contains(commit)?))
    }

    /// Whether all that `tip` reaches is reached by the commit too.
    fn contains(&self, tip: &CommitId) -> Result<bool, WorkspaceError> {
        if tip == self.commit {
            return Ok(true);
        }
        let arguments = [
            "merge-base",
            "--is-ancestor",
            tip.as_str(),
            self.commit.as_str(),
        ];
        match self.git.on_objects(self.git_dir, arguments).run_bool() {
            Err(GitError::Failed { .. }) => Ok(false),
            other => other.map_err(WorkspaceError::git("compare the base with the base store")),
        }
    }
}

/// What the store at `path` holds; none where there is no usable store.
fn tip_of(git: &Git, path: &Path) -> Option<CommitId> {
    if !path.join("HEAD").is_file() {
        return None;
    }
    let call = git.call(["rev-parse", "-q", "--verify", TIP]);
    call.git_dir(path).run_text().ok()?.trim().parse().ok()
}

/// What was being fetched into the store at `path` when that was cut short.
fn cut_short(path: &Path) -> Option<CommitId> {
    fs::read_to_string(path.join(FETCHING)).ok()?.parse().ok()
}
