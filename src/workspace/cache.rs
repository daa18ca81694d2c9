//! Caches: directories that stay from task to task. Shared ones are seen by all tasks that name them,
//! of private ones each task has one to itself.
//!
//! What is in them is untrusted: the host makes and removes them, and reads nothing.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::PathBuf;
use std::time::SystemTime;

use super::shared::{LAST_USED, is_marked};
use super::{WorkspaceError, make_directory, make_private};
use crate::git::RepositoryLock;
use crate::id::{AttemptId, RepoKey, StateDir};

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub struct CacheRequest<'a> {
    /// The state directory.
    pub state: &'a StateDir,
    /// The repository.
    pub repository: &'a RepoKey,
    /// The attempt that has it.
    pub attempt: &'a AttemptId,
    /// Tells caches of the repository apart.
    pub key: &'a str,
    /// Whether other tasks have it at the same time.
    pub is_shared: bool,
    /// The container's uid and gid, where the runner is root.
    pub owner: Option<(u32, u32)>,
}

/// A cache that an attempt has; given back once: its mark may be another's after that.
#[derive(Debug, PartialEq, Eq)]
pub struct TakenCache {
    /// The directory to mount.
    pub directory: PathBuf,
    /// Says that it is in use; removed when the attempt's container has gone.
    mark: PathBuf,
}

impl TakenCache {
    /// Takes the shared one, or the first private one that no attempt has. One of a run that died is
    /// free once that run is cleaned.
    pub fn take(request: &CacheRequest<'_>) -> Result<Self, WorkspaceError> {
        let CacheRequest {
            state,
            repository,
            attempt,
            ..
        } = *request;
        let _lock = RepositoryLock::acquire(state, repository)
            .map_err(WorkspaceError::git("lock the caches"))?;
        make_private(&state.run(&attempt.run))?;
        make_directory(&state.views(&attempt.run))?;
        let of_user = request
            .owner
            .map_or_else(String::new, |(uid, gid)| format!("-{uid}-{gid}"));
        for number in 0_u32.. {
            let name = if request.is_shared {
                format!("shared{of_user}")
            } else {
                format!("private{of_user}-{number}")
            };
            let mark = format!("cache-{}-{name}", request.key);
            let mark = match request.is_shared {
                // Several attempts have it, each with a mark of its own.
                true => format!("{mark}.{}.{}", attempt.task.slug(), attempt.number),
                false if is_marked(state, &mark, &[])? => continue,
                false => mark,
            };
            let mark = state.views(&attempt.run).join(mark);
            let directory = request.make(&name)?;
            File::create(&mark).map_err(WorkspaceError::io("write", &mark))?;
            return Ok(Self { directory, mark });
        }
        unreachable!("there are as many as there are numbers")
    }

    /// Gives it back.
    pub fn release(self) {
        // What stays keeps others from it until the run is cleaned.
        let _ = fs::remove_file(&self.mark);
    }
}

impl CacheRequest<'_> {
    fn make(&self, name: &str) -> Result<PathBuf, WorkspaceError> {
        let top = self.state.cache(self.repository, self.key);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&top);
        made.map_err(WorkspaceError::io("make", &top))?;
        let stamp = top.join(LAST_USED);
        File::create(&stamp)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(WorkspaceError::io("write", stamp))?;
        let directory = top.join(name);
        if !directory.is_dir() {
            make_directory(&directory)?;
            if let Some((uid, gid)) = self.owner {
                let given = lchown(&directory, Some(uid), Some(gid));
                given.map_err(WorkspaceError::io("give away", &directory))?;
            }
        }
        Ok(directory)
    }
}
