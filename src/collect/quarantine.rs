//! The quarantine: a throw-away repository in which an agent's objects are checked by git, under
//! resource limits and a deadline. It goes away with the value.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::error::{CollectError, fail_closed, io};
use super::limits::CollectLimits;
use crate::git::{Git, GitCall, ResourceLimits, init_bare};
use crate::id::CommitId;
use crate::workspace::{BaseStore, Workspace};

/// A repository that holds what one bundle brought, and borrows the base.
pub(super) struct Quarantine<'a> {
    git: &'a Git,
    directory: TempDir,
    limits: CollectLimits,
    /// What lies between the run's base and the attempt's start, packed, in bytes.
    start_bytes: u64,
}

impl<'a> Quarantine<'a> {
    /// Makes it in the attempt's directory: with that it goes where this process dies.
    pub(super) fn new(
        git: &'a Git,
        workspace: &Workspace,
        store: &BaseStore,
        limits: CollectLimits,
    ) -> Result<Self, CollectError> {
        let parent = workspace.directory();
        let directory = tempfile::Builder::new()
            .prefix("quarantine-")
            .tempdir_in(parent)
            .map_err(io("make a directory in", parent))?;
        let path = directory.path();
        init_bare(path)?;
        super::borrow(path, store)?;
        let mut start_bytes = 0;
        if let Some(objects) = workspace.start_objects() {
            super::borrow_objects(path, objects)?;
            start_bytes = size_of(&objects.join("pack")).map_err(io("look at", objects))?;
        }
        Ok(Self {
            git,
            directory,
            limits,
            start_bytes,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A call of git on the agent's objects, limited.
    pub(super) fn call<I>(&self, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let deadline = self.limits.time;
        self.git
            .call(arguments)
            .git_dir(self.path())
            // Windows on the base's packs must fit into the address space.
            .config("core.packedGitLimit=256m")
            .config("core.packedGitWindowSize=32m")
            // What is of worth here leaves it before the task's own directory goes.
            .config("core.fsync=none")
            .deadline(deadline)
            .limits(ResourceLimits {
                address_space: self.limits.address_space(),
                // It works with two threads: what ends it is the deadline, which has a name.
                cpu_seconds: deadline.as_secs().saturating_add(1).saturating_mul(2),
                file_size: self.limits.file_size().saturating_add(self.start_bytes),
            })
    }

    /// Unpacks a bundle's pack, every object of it checked.
    pub(super) fn unpack(&self, pack: File) -> Result<(), CollectError> {
        let cap = format!("--max-input-size={}", self.limits.bundle);
        self.call([
            "index-pack",
            "--stdin",
            "--fix-thin",
            "--strict=badFilemode=error",
            &cap,
        ])
        .input_file(pack)
        .run()
        .map_err(fail_closed("objects"))?;
        Ok(())
    }

    /// Writes all that `tips` have and `base` has not into one pack that needs nothing else, and
    /// its index.
    pub(super) fn repack(&self, tips: &[&CommitId], base: &CommitId) -> Result<Pack, CollectError> {
        let call = self.call(
            ["pack-objects", "--revs", "-q"]
                .map(OsStr::new)
                .into_iter()
                .chain([self.path().join("result").as_os_str()]),
        );
        let hash = call
            .input(revisions(tips, base))
            .deadline(self.limits.time.max(Duration::from_secs(60)))
            .run_text()
            .map_err(fail_closed("objects"))?;
        let hash = hash.trim().to_owned();
        let file = |kind| self.path().join(format!("result-{hash}.{kind}"));
        Ok(Pack {
            data: file("pack"),
            index: file("idx"),
            hash,
        })
    }
}

/// The size of the files in a directory, in bytes.
fn size_of(directory: &Path) -> std::io::Result<u64> {
    fs::read_dir(directory)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

/// A pack that git wrote, and its index.
pub(super) struct Pack {
    pub(super) data: PathBuf,
    pub(super) index: PathBuf,
    pub(super) hash: String,
}

/// Standard input of a revision walk from `tips` to `base`.
pub(super) fn revisions(tips: &[&CommitId], base: &CommitId) -> Vec<u8> {
    let mut text: String = tips.iter().flat_map(|tip| [tip.as_str(), "\n"]).collect();
    text.extend(["^", base.as_str(), "\n"]);
    text.into_bytes()
}
