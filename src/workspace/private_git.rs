//! The private git directory of an attempt: written by hand, so that it holds nothing of the
//! user's configuration, and filled by one `read-tree` that runs no hook and no filter.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::{WorkspaceError, WorkspaceRequest, make_directory};

/// Without `core.worktree`: the worktree's `.git` file is enough, and libgit2 refuses the former.
/// `trustctime` and `checkStat` keep the index clean when the files change their owner.
const CONFIG: &str = "\
[core]
\trepositoryformatversion = 0
\tbare = false
\tfilemode = true
\tsymlinks = true
\tlogallrefupdates = true
\ttrustctime = false
\tcheckStat = minimal
\tuntrackedCache = false
\tfsmonitor = false
[index]
\tversion = 2
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
[advice]
\tdetachedHead = false
";

/// Where the base store's objects are inside the container.
const BORROWED: &str = "/agent/base/objects\n";
const CHECKOUT_DEADLINE: Duration = Duration::from_secs(1800);

/// Writes the git directory, but for the index.
pub(super) fn create(request: &WorkspaceRequest<'_>, git_dir: &Path) -> Result<(), WorkspaceError> {
    for name in [
        "objects/info",
        "objects/pack",
        "refs/heads",
        "refs/tags",
        "info",
        "hooks",
        "logs",
    ] {
        let mut path = git_dir.to_owned();
        for part in Path::new(name) {
            path.push(part);
            make_directory(&path)?;
        }
    }
    let (base, branch) = (request.store.base(), request.branch.full_ref());
    let head = format!("ref: {branch}\n");
    // The blank at the end of the first line is part of the format.
    let mut refs = [("refs/agent-run/base", base), (branch.as_str(), base)];
    refs.sort_unstable();
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for (name, commit) in refs {
        for piece in [commit.as_str(), " ", name, "\n"] {
            packed.push_str(piece);
        }
    }
    let borrowed = [request.store.objects().as_os_str().as_bytes(), b"\n"].concat();
    write(git_dir, "HEAD", head.as_bytes())?;
    write(git_dir, "packed-refs", packed.as_bytes())?;
    write(git_dir, "config", CONFIG.as_bytes())?;
    write(git_dir, "info/exclude", request.exclude)?;
    write(git_dir, "objects/info/alternates", &borrowed)?;
    if let Some(shallow) = request.store.shallow() {
        write(git_dir, "shallow", &shallow)?;
    }
    Ok(())
}

/// Fills the worktree and the index from the base, then points the alternates to where the
/// container sees them.
pub(super) fn check_out(
    request: &WorkspaceRequest<'_>,
    git_dir: &Path,
    worktree: &Path,
) -> Result<(), WorkspaceError> {
    request
        .git
        .call(["read-tree", "--reset", "-u", request.store.base().as_str()])
        .git_dir(git_dir)
        .work_tree(worktree)
        .deadline(CHECKOUT_DEADLINE)
        .run()
        .map_err(WorkspaceError::git("check the base out"))?;
    write(git_dir, "objects/info/alternates", BORROWED.as_bytes())?;
    for name in ["index", "HEAD"] {
        let path = git_dir.join(name);
        let readable = Permissions::from_mode(0o644);
        fs::set_permissions(&path, readable).map_err(WorkspaceError::io("open", path))?;
    }
    Ok(())
}

fn write(git_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let path = git_dir.join(name);
    let readable = Permissions::from_mode(0o644);
    let written = fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, readable));
    written.map_err(WorkspaceError::io("write", path))
}
