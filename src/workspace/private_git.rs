//! The private git directory of an attempt: written by hand, so that it holds nothing of the
//! user's configuration, and filled by one `read-tree` that runs no hook and no filter. Those of
//! submodules are made alike, inside it, where git looks for them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::base_store::BaseStore;
use super::index::Settling;
use super::submodules::{self, Submodule};
use super::{SharedCheckout, WorkspaceError, make_directory};
use crate::git::Git;
use crate::id::{BranchName, CommitId};

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
/// From so many files on a second thread is worth a listing of them.
const MANY_FILES: u64 = 5000;
const CHECKOUT_DEADLINE: Duration = Duration::from_secs(1800);

/// What git directories are made of.
pub(super) struct Recipe<'a> {
    pub(super) git: &'a Git,
    /// What is checked out, and the commit that `refs/agent-run/base` stands for.
    pub(super) commits: (&'a CommitId, &'a CommitId),
    /// Further refs.
    pub(super) refs: Vec<(String, &'a CommitId)>,
    /// What is borrowed: where it is here, and where it is inside the container.
    pub(super) objects: &'a [(PathBuf, String)],
    /// The base's: where the borrowed history is cut off, and how many files there are.
    pub(super) store: &'a BaseStore,
    /// Outer before inner.
    pub(super) submodules: &'a [Submodule],
    /// The branch that HEAD is on; detached where there is none.
    pub(super) branch: Option<&'a BranchName>,
    pub(super) exclude: &'a [u8],
    pub(super) files: Files<'a>,
}

/// Where the files are that the indexes describe.
#[derive(Clone, Copy)]
pub(super) enum Files<'a> {
    /// Nowhere yet: they are checked out into this directory.
    FromObjects {
        worktree: &'a Path,
        /// Whom the files are given to; the directories stay ours.
        owner: Option<(u32, u32)>,
    },
    /// In a checkout that others have too: its indexes are copied.
    Shared(&'a SharedCheckout),
}

/// One git directory and its files.
struct Private<'a> {
    git: &'a Git,
    git_dir: PathBuf,
    /// What is checked out, and what `refs/agent-run/base` stands for.
    commits: (&'a CommitId, &'a CommitId),
    /// Where the borrowed objects are here, and where they are inside the container.
    objects: &'a [(PathBuf, String)],
    shallow: Option<Vec<u8>>,
    /// The base's store, which knows how many files there are; none for a submodule's.
    store: Option<&'a BaseStore>,
}

/// Makes a git directory, with those of submodules in it, and checks the base out unless that was
/// done before.
pub(super) fn create(recipe: &Recipe<'_>, git_dir: &Path) -> Result<(), WorkspaceError> {
    let private = Private {
        git: recipe.git,
        git_dir: git_dir.to_owned(),
        commits: recipe.commits,
        objects: recipe.objects,
        shallow: recipe.store.shallow(),
        store: Some(recipe.store),
    };
    let branch = recipe.branch.map(BranchName::full_ref);
    let head = match &branch {
        Some(branch) => format!("ref: {branch}\n"),
        None => format!("{}\n", recipe.commits.0),
    };
    let mut refs = recipe.refs.clone();
    refs.extend(branch.map(|branch| (branch, recipe.commits.0)));
    private.lay_out(&head, refs)?;
    let config = CONFIG.to_owned() + &submodules::config(recipe.submodules, "");
    write(git_dir, "config", config.as_bytes())?;
    write(git_dir, "info/exclude", recipe.exclude)?;
    private.fill(recipe.files, "", "")?;
    for submodule in recipe.submodules {
        create_submodule(recipe, submodule, git_dir)?;
    }
    Ok(())
}

/// Makes the git directory of a submodule inside the attempt's. The directory for its files was made
/// with the superproject's.
fn create_submodule(
    recipe: &Recipe<'_>,
    submodule: &Submodule,
    git_dir: &Path,
) -> Result<(), WorkspaceError> {
    let private = Private {
        git: recipe.git,
        git_dir: git_dir.join(&submodule.git_dir),
        commits: (&submodule.commit, &submodule.commit),
        objects: &[(submodule.store.objects(), submodule.objects_inside())],
        shallow: submodule.store.shallow(),
        store: None,
    };
    let mut path = git_dir.to_owned();
    for part in Path::new(&submodule.git_dir) {
        path.push(part);
        make_directory(&path)?;
    }
    private.lay_out(&format!("{}\n", submodule.commit), Vec::new())?;
    let inner = submodules::config(recipe.submodules, &submodule.git_dir);
    let config = CONFIG.to_owned() + &inner;
    write(&private.git_dir, "config", config.as_bytes())?;
    private.fill(recipe.files, &submodule.git_dir, &submodule.path)?;
    if let Files::FromObjects { worktree, owner } = recipe.files {
        // Inside only: on the host there is nothing at that path.
        let gitfile = format!("gitdir: /agent/git/{}\n", submodule.git_dir);
        let worktree = worktree.join(&submodule.path);
        write(&worktree, ".git", gitfile.as_bytes())?;
        if let Some((uid, gid)) = owner {
            let given = lchown(worktree.join(".git"), Some(uid), Some(gid));
            given.map_err(WorkspaceError::io("give away", worktree))?;
        }
    }
    Ok(())
}

impl Private<'_> {
    /// Writes all but the configuration and the index.
    fn lay_out<'r>(
        &'r self,
        head: &str,
        mut refs: Vec<(String, &'r CommitId)>,
    ) -> Result<(), WorkspaceError> {
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
        refs.push((BASE_REF.to_owned(), self.commits.1));
        refs.sort_unstable();
        // The blank at the end of the first line is part of the format.
        let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
        for (name, commit) in refs {
            for piece in [commit.as_str(), " ", &name, "\n"] {
                packed.push_str(piece);
            }
        }
        write(&self.git_dir, "HEAD", head.as_bytes())?;
        write(&self.git_dir, "packed-refs", packed.as_bytes())
    }

    /// Gets the index and, where they are not there yet, the files; then points the alternates to
    /// where the container sees them. `git_dir` and `path` are a submodule's own.
    fn fill(&self, files: Files<'_>, git_dir: &str, path: &str) -> Result<(), WorkspaceError> {
        if let Some(shallow) = &self.shallow {
            write(&self.git_dir, "shallow", shallow)?;
        }
        match files {
            Files::FromObjects { worktree, owner } => {
                self.check_out(&worktree.join(path), owner)?;
            }
            Files::Shared(shared) => {
                let theirs = shared.git_dir().join(git_dir).join("index");
                let copied = fs::copy(&theirs, self.git_dir.join("index"));
                copied.map_err(WorkspaceError::io("copy", theirs))?;
            }
        }
        let inside = self.objects.iter().flat_map(|(_, inside)| [inside, "\n"]);
        let inside: String = inside.collect();
        write(&self.git_dir, "objects/info/alternates", inside.as_bytes())?;
        for name in ["index", "HEAD"] {
            let path = self.git_dir.join(name);
            let readable = Permissions::from_mode(0o644);
            fs::set_permissions(&path, readable).map_err(WorkspaceError::io("open", path))?;
        }
        Ok(())
    }

    /// Fills a worktree and the index from the commit.
    fn check_out(&self, worktree: &Path, owner: Option<(u32, u32)>) -> Result<(), WorkspaceError> {
        let here = self.objects.iter();
        let here = here.flat_map(|(here, _)| [here.as_os_str().as_bytes(), &b"\n"[..]]);
        let here: Vec<u8> = here.flatten().copied().collect();
        write(&self.git_dir, "objects/info/alternates", &here)?;
        let failed = |worktree: &Path| {
            WorkspaceError::io("date and give the files that are in", worktree.to_owned())
        };
        let settling = Settling::begin(worktree, owner).map_err(failed(worktree))?;
        let commit = self.commits.0.as_str();
        let call = |arguments: &[&str]| {
            let call = self.git.call(arguments).git_dir(&self.git_dir);
            call.work_tree(worktree).deadline(CHECKOUT_DEADLINE).run()
        };
        let (checked_out, settled) = settling.while_git(
            || call(&["read-tree", "--reset", "-u", commit]),
            || {
                // What tasks make of the base has about as many files.
                let known = self.store.and_then(BaseStore::known_files);
                if known.is_some_and(|files| files < MANY_FILES) {
                    return None;
                }
                let list = call(&["ls-tree", "-r", "-z", "--full-tree", commit]).ok()?;
                if let Some(store) = self.store.filter(|store| store.base() == self.commits.0) {
                    store.note_files(&list);
                }
                Some(list)
            },
        );
        checked_out.map_err(WorkspaceError::git("check the base out"))?;
        let finished = settling.finish(&self.git_dir.join("index"), &settled);
        finished.map_err(failed(worktree))
    }
}

fn write(git_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let path = git_dir.join(name);
    let readable = Permissions::from_mode(0o644);
    let written = fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, readable));
    written.map_err(WorkspaceError::io("write", path))
}
