//! Directories of a worktree that a setup prepared: each attempt sees copy-on-write views of them, or
//! has copies.
//!
//! The workspace keeps a list of them, so that an attempt which an earlier process made is mounted as
//! it was. What tasks write in them is in the attempt's directory, and git inside passes them over.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::view::View;
use super::{Workspace, WorkspaceError, WorkspaceRequest, make_directory, write_read_only};
use crate::engine::config::Mount;
use crate::id::WorktreePath;

/// In the attempt's directory: the list, and what the task has of each.
const LIST: &str = "prepared.json";
const OWN: &str = "prepared";

/// A directory that a setup made, and where it is in worktrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedPath {
    /// The directory; nothing on the host reads what is in it.
    pub source: PathBuf,
    /// Where tasks see it.
    pub path: WorktreePath,
}

/// What of a worktree was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PreparedPaths<'a> {
    /// The directories; none of them lies in another.
    pub paths: &'a [PreparedPath],
    /// Whether the attempt has copies, which somebody else fills ([`Workspace::copies`]), and no views.
    pub as_copies: bool,
}

/// The same, as it is read back.
#[derive(Deserialize)]
struct Listed {
    paths: Vec<PreparedPath>,
    as_copies: bool,
}

/// A directory of an attempt that starts as a copy of a prepared one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedCopy {
    /// What it is a copy of.
    pub source: PathBuf,
    /// The attempt's own directory; empty until it is filled.
    pub copy: PathBuf,
    /// Where the container sees it.
    pub target: String,
}

impl Workspace {
    /// What must be filled before a container starts; none where the engine mounts views.
    pub fn copies(&self) -> &[PreparedCopy] {
        &self.copies
    }

    /// Makes the attempt's own directories of what was prepared, and the places for them in the
    /// worktree.
    pub(super) fn prepare(&mut self, request: &WorkspaceRequest<'_>) -> Result<(), WorkspaceError> {
        let prepared = request.prepared;
        if prepared.paths.is_empty() {
            return Ok(());
        }
        let list = serde_json::to_vec(&prepared).unwrap_or_default();
        write_read_only(&self.directory.join(LIST), &list)?;
        self.take(request, prepared);
        make_directory(&self.directory.join(OWN))?;
        for index in 0..prepared.paths.len() {
            make_directory(&own(&self.directory, index))?;
        }
        for view in &self.views {
            make_directory(&view.work)?;
        }
        for PreparedPath { path, .. } in prepared.paths {
            // The base has nothing there; an agent's commit may have, and a mount would hide it.
            if self.has_in_worktree(path) {
                return Err(WorkspaceError::Occupied { path: path.clone() });
            }
            self.make_inside(&path.inside())?;
        }
        Ok(())
    }

    /// Whether the checkout has something there, or no directory on the way to it.
    fn has_in_worktree(&self, path: &WorktreePath) -> bool {
        let mut at = self.worktree();
        let mut parts = path.parts().peekable();
        while let Some(part) = parts.next() {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Err(_) => return false,
                Ok(found) if found.is_dir() && parts.peek().is_some() => {}
                Ok(_) => return true,
            }
        }
        false
    }

    /// Adds what an earlier process prepared, as far as it is still there.
    pub(super) fn find_prepared(&mut self, request: &WorkspaceRequest<'_>) {
        let list = fs::read(self.directory.join(LIST)).ok();
        let list = list.and_then(|list| serde_json::from_slice::<Listed>(&list).ok());
        let Some(Listed { paths, as_copies }) = list else {
            return;
        };
        let paths = &paths[..];
        self.take(request, PreparedPaths { paths, as_copies });
        self.views.retain(|view| view.lower.is_dir());
    }

    fn take(&mut self, request: &WorkspaceRequest<'_>, prepared: PreparedPaths<'_>) {
        let (state, attempt, role) = (request.state, request.attempt, request.role);
        for (index, PreparedPath { source, path }) in prepared.paths.iter().enumerate() {
            let own = own(&self.directory, index);
            if prepared.as_copies {
                self.copies.push(PreparedCopy {
                    source: source.clone(),
                    copy: own,
                    target: path.inside(),
                });
            } else {
                self.views.push(View {
                    volume: attempt.prepared_volume_name(role, index),
                    target: path.inside(),
                    lower: source.clone(),
                    upper: own,
                    work: state.prepared_view(attempt, role, index),
                });
            }
        }
    }

    pub(super) fn copy_mounts(&self) -> impl Iterator<Item = Mount> {
        self.copies.iter().map(|copy| Mount {
            source: copy.copy.clone(),
            target: copy.target.clone(),
            read_only: false,
        })
    }

    /// The directory that what the task writes in prepared ones is in, if there are any.
    pub(super) fn prepared_directory(&self) -> Option<PathBuf> {
        let directory = self.directory.join(OWN);
        directory.is_dir().then_some(directory)
    }
}

fn own(directory: &Path, index: usize) -> PathBuf {
    directory.join(OWN).join(index.to_string())
}

/// The repository's ignore rules and one for each prepared directory (gitignore(5)): it is no work of
/// the task's, also where the repository does not ignore it.
pub(super) fn exclude(rules: &[u8], prepared: PreparedPaths<'_>) -> Vec<u8> {
    let mut rules = rules.to_vec();
    if !prepared.paths.is_empty() && !rules.is_empty() && !rules.ends_with(b"\n") {
        rules.push(b'\n');
    }
    for PreparedPath { path, .. } in prepared.paths {
        rules.push(b'/');
        for byte in path.as_str().bytes() {
            if b"\\*?[ ".contains(&byte) {
                rules.push(b'\\');
            }
            rules.push(byte);
        }
        rules.push(b'\n');
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_directory_is_ignored_by_its_very_name() {
        let path = |path: &str| PreparedPath {
            source: "/x".into(),
            path: path.parse().expect("a path"),
        };
        let paths = [path("web/node_modules"), path("a *[b] ")];
        let prepared = PreparedPaths {
            paths: &paths,
            as_copies: false,
        };
        let rules = exclude(b"*.log", prepared);
        assert_eq!(
            rules,
            b"*.log\n/web/node_modules\n/a\\ \\*\\[b]\\ \n",
            "{}",
            String::from_utf8_lossy(&rules)
        );
        assert_eq!(exclude(b"*.log", PreparedPaths::default()), b"*.log");
    }
}
