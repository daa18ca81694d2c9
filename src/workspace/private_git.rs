//! The private git directory of an attempt: written by hand, so that it holds nothing of the
//! user's configuration, and filled by one `read-tree` that runs no hook and no filter. Those of
//! submodules are made alike, inside it, where git looks for them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index;
use super::submodules::{self, Submodule};
use super::{WorkspaceError, WorkspaceRequest, make_directory};
use crate::git::Git;
use crate::id::CommitId;

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
pub(super) const BORROWED: &str = "/agent/base/objects";
/// The commit that an attempt starts from: all that it borrows is reachable from here.
const BASE_REF: &str = "refs/agent-run/base";
/// From so many files on a checkout is worth a second process: the owner of each file changes
/// afterwards, which alone would make it slower than `git worktree add`.
const WORTH_A_WORKER: u32 = 5000;
const CHECKOUT_DEADLINE: Duration = Duration::from_secs(1800);

/// One git directory and its worktree.
struct Private<'a> {
    git: &'a Git,
    git_dir: PathBuf,
    worktree: PathBuf,
    commit: &'a CommitId,
    /// Where the borrowed objects are here, and where they are inside the container.
    objects: (PathBuf, String),
}

/// Makes the attempt's git directory and checks the base out.
pub(super) fn create(
    request: &WorkspaceRequest<'_>,
    git_dir: &Path,
    worktree: &Path,
) -> Result<(), WorkspaceError> {
    let store = request.store;
    let private = Private {
        git: request.git,
        git_dir: git_dir.to_owned(),
        worktree: worktree.to_owned(),
        commit: store.base(),
        objects: (store.objects(), BORROWED.to_owned()),
    };
    let branch = request.branch.full_ref();
    private.lay_out(&format!("ref: {branch}\n"), &[BASE_REF, &branch])?;
    let config = CONFIG.to_owned() + &submodules::config(store.submodules(), "");
    write(git_dir, "config", config.as_bytes())?;
    write(git_dir, "info/exclude", request.exclude)?;
    private.check_out(store.shallow())
}

/// Makes the git directory of a submodule inside the attempt's and checks its commit out, in the
/// directory that the superproject's checkout has made.
pub(super) fn create_submodule(
    request: &WorkspaceRequest<'_>,
    submodule: &Submodule,
    (git_dir, worktree): (&Path, &Path),
) -> Result<(), WorkspaceError> {
    let private = Private {
        git: request.git,
        git_dir: git_dir.join(&submodule.git_dir),
        worktree: worktree.join(&submodule.path),
        commit: &submodule.commit,
        objects: (submodule.store.objects(), submodule.objects_inside()),
    };
    let mut path = git_dir.to_owned();
    for part in Path::new(&submodule.git_dir) {
        path.push(part);
        make_directory(&path)?;
    }
    private.lay_out(&format!("{}\n", submodule.commit), &[BASE_REF])?;
    let inner = submodules::config(request.store.submodules(), &submodule.git_dir);
    let config = CONFIG.to_owned() + &inner;
    write(&private.git_dir, "config", config.as_bytes())?;
    private.check_out(submodule.store.shallow())?;
    // Inside only: on the host there is nothing at that path.
    let gitfile = format!("gitdir: /agent/git/{}\n", submodule.git_dir);
    write(&private.worktree, ".git", gitfile.as_bytes())
}

impl Private<'_> {
    /// Writes all but the configuration and the index.
    fn lay_out(&self, head: &str, refs: &[&str]) -> Result<(), WorkspaceError> {
        for name in [
            "objects/info",
            "objects/pack",
            "refs/heads",
            "refs/tags",
            "info",
            "hooks",
            "logs",
        ] {
            let mut path = self.git_dir.clone();
            for part in Path::new(name) {
                path.push(part);
                make_directory(&path)?;
            }
        }
        let mut refs = refs.to_vec();
        refs.sort_unstable();
        // The blank at the end of the first line is part of the format.
        let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
        for name in refs {
            for piece in [self.commit.as_str(), " ", name, "\n"] {
                packed.push_str(piece);
            }
        }
        write(&self.git_dir, "HEAD", head.as_bytes())?;
        write(&self.git_dir, "packed-refs", packed.as_bytes())
    }

    /// Fills the worktree and the index from the commit, then points the alternates to where the
    /// container sees them.
    fn check_out(&self, shallow: Option<Vec<u8>>) -> Result<(), WorkspaceError> {
        let (here, inside) = &self.objects;
        let here = [here.as_os_str().as_bytes(), b"\n"].concat();
        write(&self.git_dir, "objects/info/alternates", &here)?;
        if let Some(shallow) = shallow {
            write(&self.git_dir, "shallow", &shallow)?;
        }
        self.git
            .call(["read-tree", "--reset", "-u", self.commit.as_str()])
            .git_dir(&self.git_dir)
            .work_tree(&self.worktree)
            .config("checkout.workers=2")
            .config(&format!(
                "checkout.thresholdForParallelism={WORTH_A_WORKER}"
            ))
            .deadline(CHECKOUT_DEADLINE)
            .run()
            .map_err(WorkspaceError::git("check the base out"))?;
        let index = self.git_dir.join("index");
        index::date_back(&index, &self.worktree).map_err(WorkspaceError::io(
            "date the files back that are in",
            &index,
        ))?;
        let inside = format!("{inside}\n");
        write(&self.git_dir, "objects/info/alternates", inside.as_bytes())?;
        for name in ["index", "HEAD"] {
            let path = self.git_dir.join(name);
            let readable = Permissions::from_mode(0o644);
            fs::set_permissions(&path, readable).map_err(WorkspaceError::io("open", path))?;
        }
        Ok(())
    }
}

fn write(git_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let path = git_dir.join(name);
    let readable = Permissions::from_mode(0o644);
    let written = fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, readable));
    written.map_err(WorkspaceError::io("write", path))
}
