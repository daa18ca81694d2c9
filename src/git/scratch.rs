//! A repository of agent-run's own on the user's objects: none of his configuration, attributes, refs or
//! hooks has a part in what git does there.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Git, GitCall, GitError, Repository, init_bare};

/// Where the objects go that are made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// Away with the repository.
    Dropped,
    /// To the user's objects.
    Kept,
}

/// The repository; removed when it is dropped.
#[derive(Debug)]
pub struct ScratchRepository {
    git: Git,
    objects: Objects,
    directory: TempDir,
    git_dir: PathBuf,
}

impl ScratchRepository {
    /// Makes one on the objects of `repository`.
    pub fn new(repository: &Repository, objects: Objects) -> Result<Self, GitError> {
        let directory = tempfile::Builder::new().prefix("agent-run-").tempdir();
        let directory = directory.map_err(GitError::io("make a directory"))?;
        let git_dir = directory.path().join("git");
        init_bare(&git_dir)?;
        let of_user = repository.common_dir();
        let lay = || -> io::Result<()> {
            let (theirs, ours) = (of_user.join("objects"), git_dir.join("objects"));
            if objects == Objects::Kept {
                fs::remove_dir_all(&ours)?;
                std::os::unix::fs::symlink(&theirs, &ours)?;
            } else {
                fs::write(ours.join("info/alternates"), alternate(&theirs))?;
            }
            copy(&of_user.join("shallow"), &git_dir.join("shallow"))
        };
        lay().map_err(GitError::io("make a repository"))?;
        Ok(Self {
            git: repository.git().clone(),
            objects,
            directory,
            git_dir,
        })
    }

    /// The directory that it is in, and that goes with it: there is room beside `git`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its git directory.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// A hardened call on it.
    pub fn call<I>(&self, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let call = self.git.call(arguments).git_dir(&self.git_dir);
        match self.objects {
            // To compress the root of a large tree takes as long as to merge it.
            Objects::Dropped => call.config("core.looseCompression=0"),
            Objects::Kept => call,
        }
    }
}

/// Copies a file, if there is one.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A line of `info/alternates`: quoted, whatever is in the path.
fn alternate(path: &Path) -> Vec<u8> {
    let mut line = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', *byte]),
            b'\n' => line.extend(b"\\n"),
            _ => line.push(*byte),
        }
    }
    line.extend(b"\"\n");
    line
}
