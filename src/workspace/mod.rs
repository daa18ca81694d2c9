//! A task's private worktree: the directories of one attempt, what is mounted where, and the
//! scripts that run inside.
//!
//! The git directory is the attempt's own and borrows the base's objects read-only. After the
//! container has started, nothing here or elsewhere on the host runs git in these directories.

mod base_store;
mod cache;
mod disk;
mod error;
mod index;
mod kept;
mod owner;
mod prepared;
mod private_git;
mod removal;
mod session;
mod setup;
mod shared;
mod start;
mod store;
mod submodules;
mod view;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::config::{Mount, VolumeConfig, VolumeMount};
use crate::git::Git;
use crate::id::{AttemptId, BranchName, CommitId, RepoKey, Role, StateDir};
use owner::give_all_away;
use private_git::{Files, Recipe};
use start::Placed;
use view::View;

pub use base_store::BaseStore;
pub use cache::{CacheRequest, TakenCache};
pub use disk::{DiskUse, DiskWalk, disk_use};
pub use error::WorkspaceError;
pub use kept::{Kept, KeptKind};
pub use prepared::{PreparedCopy, PreparedPath, PreparedPaths};
pub use removal::{RemovalError, empty_trash, remove};
pub use setup::{KeepError, Prepared, PreparedLock, SetupPlace, SetupRequest};
pub use shared::{SharedCheckout, SharedRequest, release};
pub use start::Start;
pub use store::ColdCost;

/// The container's main process, see `entry.sh`.
pub const ENTRY: &str = include_str!("entry.sh");
/// Makes the bundle and the status file, see `handoff.sh`. The collector runs it too.
pub const HANDOFF: &str = include_str!("handoff.sh");

/// Where a task has its worktree.
const WORKSPACE: &str = "/workspace";
/// Where it is told of the result that it goes on from.
const FEEDBACK: &str = "/agent/feedback.txt";

/// What a workspace is made of.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceRequest<'a> {
    /// Host git, see [`crate::git::Repository::git`].
    pub git: &'a Git,
    /// The state directory that holds the run.
    pub state: &'a StateDir,
    /// The attempt; it must not have a directory yet.
    pub attempt: &'a AttemptId,
    /// The branch that HEAD is on at first.
    pub branch: &'a BranchName,
    /// The store with the run's base.
    pub store: &'a BaseStore,
    /// Where the attempt starts; at the run's base where there is none. [`Workspace::existing`] reads
    /// what [`Workspace::create`] was told.
    pub start: Option<&'a Start>,
    /// What the worktree is a view of; none where it is a checkout of its own. It is one, too, where
    /// it starts elsewhere than at the run's base.
    pub shared: Option<&'a SharedCheckout>,
    /// What the task is told of the result that it goes on from, at `/agent/feedback.txt`.
    pub feedback: Option<&'a str>,
    /// What its container is for: where that is not the task itself, its directory is in the attempt's,
    /// and nothing is handed off.
    pub role: Role,
    /// What of it was prepared.
    pub prepared: PreparedPaths<'a>,
    /// The container's uid and gid, where the runner is root and gives its files away.
    pub owner: Option<(u32, u32)>,
    /// Name and e-mail address of the commits.
    pub author: (&'a str, &'a str),
    /// The repository's own ignore rules.
    pub exclude: &'a [u8],
    /// The task's script, if it runs one.
    pub script: Option<&'a str>,
    /// Files of agent-run's own that its home is to have from the beginning.
    pub session: Option<&'a Path>,
    /// What the task is told, if anything.
    pub prompt: Option<&'a str>,
    /// The container's /etc/passwd.
    pub passwd: &'a str,
    /// The container's /etc/group.
    pub group: &'a str,
    /// The container's /etc/hosts, where the engine makes none.
    pub hosts: Option<&'a str>,
    /// Where the task starts; made where it lies in a directory of the attempt's and is missing.
    pub working_dir: &'a str,
    /// Further directories that are mounted, as paths inside: those in the home get their places there.
    pub mount_points: &'a [String],
    /// The limits that the wrapper itself holds.
    pub timing: Timing,
}

impl WorkspaceRequest<'_> {
    /// Whether what is written in it comes back.
    fn is_handed_off(&self) -> bool {
        self.role == Role::Task
    }
}

/// The time limits that the wrapper holds even where nobody is left to stop the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the command's start to TERM.
    pub deadline: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// For the hand-off.
    pub handoff: Duration,
}

/// The directories of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    directory: PathBuf,
    base: CommitId,
    start: Option<Placed>,
    /// The worktree where it is one, then what was prepared of it.
    views: Vec<View>,
    copies: Vec<PreparedCopy>,
    /// Borrowed objects, and where they are inside.
    objects: Vec<(PathBuf, String)>,
    mounted_files: Vec<(&'static str, &'static str)>,
    environment: Vec<(String, String)>,
}

/// In the attempt's directory, says that its worktree is a view.
const VIEW_MARK: &str = "view";

impl Workspace {
    /// Makes the attempt's directories and checks the base out. On failure what was made stays,
    /// to be removed with [`remove`] like any other attempt.
    pub fn create(request: &WorkspaceRequest<'_>) -> Result<Self, WorkspaceError> {
        let directory = if request.is_handed_off() {
            request.state.attempt(request.attempt)
        } else {
            request.state.check(request.attempt)
        };
        make_private(&request.state.run(&request.attempt.run))?;
        make_new(&directory)?;
        let place = |start: &Start| start.place(request.git, request.store, &directory);
        let start = request.start.map(place).transpose()?;
        let submodules = match request.start {
            Some(start) => start.submodules(request.git, request.store)?,
            None => request.store.submodules().to_vec(),
        };
        let shared = request.shared.filter(|_| start.is_none());
        let mut workspace = Self::of(request, directory, start);
        for name in ["worktree", "git", "home", "out"] {
            make_directory(&workspace.directory.join(name))?;
        }
        if let Some(shared) = shared {
            write_read_only(&workspace.directory.join(VIEW_MARK), b"")?;
            let view = workspace.view_of(request, shared);
            make_directory(&view.work)?;
            workspace.views.push(view);
        }
        workspace.write_files(request, &submodules::listing(&submodules))?;
        let worktree = workspace.worktree();
        let recipe = Recipe {
            git: request.git,
            commits: (
                request.start.map_or(&workspace.base, |start| &start.head),
                &workspace.base,
            ),
            refs: request.start.map(Start::refs).unwrap_or_default(),
            objects: &workspace.own_objects(request.store),
            store: request.store,
            submodules: &submodules,
            branch: Some(request.branch),
            exclude: &prepared::exclude(request.exclude, request.prepared),
            files: match shared {
                Some(shared) => Files::Shared(shared),
                None => Files::FromObjects {
                    worktree: &worktree,
                    owner: request.owner,
                },
            },
        };
        private_git::create(&recipe, &workspace.git_dir())?;
        workspace.prepare(request)?;
        workspace.make_inside(request.working_dir)?;
        for mount_point in request.mount_points {
            workspace.make_inside(mount_point)?;
        }
        if let Some(session) = request.session {
            session::restore(session, &workspace.home())?;
        }
        if let Some(owner) = request.owner {
            give_all_away(&workspace.written(), &worktree, owner)?;
        }
        // Last: it says that all is made. In a container it is mounted over and cannot be removed.
        let nowhere = "gitdir: /nonexistent/agent-run/do-not-run-git-here\n";
        write_read_only(&workspace.worktree().join(".git"), nowhere.as_bytes())?;
        Ok(workspace)
    }

    /// The parts that the request and the start say all of.
    fn of(request: &WorkspaceRequest<'_>, directory: PathBuf, start: Option<Placed>) -> Self {
        let base = start.as_ref().map(|start| start.base.clone());
        let base = base.unwrap_or_else(|| request.store.base().clone());
        let mut workspace = Self {
            views: Vec::new(),
            copies: Vec::new(),
            objects: Vec::new(),
            mounted_files: Vec::new(),
            environment: environment(request, &base),
            directory,
            base,
            start,
        };
        let submodules = request.store.submodules().iter();
        let submodules = submodules.map(|s| (s.store.objects(), s.objects_inside()));
        workspace.objects = workspace.own_objects(request.store);
        workspace.objects.extend(submodules);
        workspace
    }

    /// The objects that the attempt's own git directory borrows, and where they are inside.
    fn own_objects(&self, store: &BaseStore) -> Vec<(PathBuf, String)> {
        let base = (store.objects(), private_git::BORROWED.to_owned());
        let start = self.start.iter();
        let start = start.map(|start| (start.objects.clone(), start::BORROWED.to_owned()));
        [base].into_iter().chain(start).collect()
    }

    /// Makes a directory that the container needs: the engine would make it for root. What is
    /// behind a symbolic link of the repository is left alone, and so is what was prepared.
    fn make_inside(&self, inside: &str) -> Result<(), WorkspaceError> {
        let tops = [("/workspace/", "worktree"), ("/home/agent/", "home")];
        let below =
            |(top, name): (&str, &'static str)| Some((inside.strip_prefix(top)?.to_owned(), name));
        let Some((path, name)) = tops.into_iter().find_map(below) else {
            return Ok(());
        };
        let mut directory = self.directory.join(name);
        let view = self.view().filter(|_| name == "worktree");
        let mut below = view.map(|view| view.lower.clone());
        for part in path.split('/').filter(|part| !part.is_empty()) {
            directory.push(part);
            let shown = below.as_mut().and_then(|below| {
                below.push(part);
                fs::symlink_metadata(below).ok()
            });
            if shown.is_some_and(|metadata| !metadata.is_dir()) {
                return Ok(());
            }
            match fs::symlink_metadata(&directory) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Ok(()),
                Err(_) => make_directory(&directory)?,
            }
        }
        Ok(())
    }

    /// Finds the directories of an attempt that an earlier process made; none if it was not made
    /// whole. Of a view the shared checkout is made again, where that is gone.
    pub fn existing(
        request: &WorkspaceRequest<'_>,
        repository: &RepoKey,
    ) -> Result<Option<Self>, WorkspaceError> {
        let directory = request.state.attempt(request.attempt);
        // The last file that `create` writes.
        let whole = fs::symlink_metadata(directory.join("worktree/.git")).is_ok();
        let mounted_files = mounted_files(request, "").into_iter();
        let mounted_files = mounted_files
            .filter(|(name, ..)| directory.join(name).is_file())
            .map(|(name, target, _)| (name, target))
            .collect();
        if !whole {
            return Ok(None);
        }
        let start = start::placed(&directory);
        let mut workspace = Self {
            mounted_files,
            ..Self::of(request, directory, start)
        };
        if fs::symlink_metadata(workspace.directory.join(VIEW_MARK)).is_ok() {
            let shared = SharedCheckout::ensure(&SharedRequest {
                git: request.git,
                state: request.state,
                repository,
                store: request.store,
                owner: request.owner,
                run: &request.attempt.run,
            })?;
            workspace.views.push(workspace.view_of(request, &shared));
        }
        workspace.find_prepared(request);
        for view in &workspace.views {
            make_directory(&view.work)?;
        }
        Ok(Some(workspace))
    }

    /// The commit that the attempt's work is measured against: the run's base, or what its start says.
    pub fn base(&self) -> &CommitId {
        &self.base
    }

    /// The objects that lie between the run's base and the attempt's start; none where it starts from
    /// the run's base. Nobody but agent-run has written to them.
    pub fn start_objects(&self) -> Option<&Path> {
        let start = self.start.as_ref()?;
        Some(&start.objects)
    }

    /// The attempt's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The task's files; of a view only those that it has written. No host git runs here.
    pub fn worktree(&self) -> PathBuf {
        self.directory.join("worktree")
    }

    /// The task's home.
    pub fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// The task's own git directory. No host git runs here once the container has started.
    pub fn git_dir(&self) -> PathBuf {
        self.directory.join("git")
    }

    /// Where the bundle and the status come from. Everything in it is untrusted.
    pub fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    /// Whether unchanged files are seen through the worktree and not in it.
    pub fn is_view(&self) -> bool {
        self.view().is_some()
    }

    fn view(&self) -> Option<&View> {
        self.views.iter().find(|view| view.target == WORKSPACE)
    }

    /// All directories in which the container can write.
    pub fn written(&self) -> Vec<PathBuf> {
        let written = ["worktree", "git", "home", "out"];
        let written = written.map(|name| self.directory.join(name));
        written
            .into_iter()
            .chain(self.prepared_directory())
            .collect()
    }

    /// The volumes that the worktree, or parts of it, are, to be made before a container is.
    pub fn volumes(&self, labels: &[(String, String)]) -> Vec<VolumeConfig> {
        let volume = |view: &View| view.volume(labels.to_vec());
        self.views.iter().map(volume).collect()
    }

    /// Where containers have those volumes.
    pub fn volume_mounts(&self) -> Vec<VolumeMount> {
        self.views.iter().map(View::mount).collect()
    }

    /// What is mounted, outer before inner.
    pub fn mounts(&self) -> Vec<Mount> {
        let mount = |name: &str, target: &str, read_only| Mount {
            source: self.directory.join(name),
            target: target.to_owned(),
            read_only,
        };
        let worktree = mount("worktree", WORKSPACE, false);
        let worktree = Some(worktree).filter(|_| !self.is_view());
        let mut mounts: Vec<Mount> = worktree.into_iter().collect();
        mounts.extend(self.copy_mounts());
        mounts.extend([
            mount("dotgit", "/workspace/.git", true),
            mount("git", "/agent/git", false),
            mount("home", "/home/agent", false),
            mount("out", "/agent/out", false),
        ]);
        mounts.extend(self.objects.iter().map(|(source, target)| Mount {
            source: source.clone(),
            target: target.clone(),
            read_only: true,
        }));
        mounts.extend(
            self.mounted_files
                .iter()
                .map(|(name, target)| mount(name, target, true)),
        );
        mounts
    }

    /// The variables that the wrapper, the hand-off and git inside need.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The worktree as a view.
    fn view_of(&self, request: &WorkspaceRequest<'_>, shared: &SharedCheckout) -> View {
        View {
            volume: request.attempt.volume_name(),
            target: WORKSPACE.to_owned(),
            lower: shared.files(),
            upper: self.worktree(),
            work: request.state.view(request.attempt),
        }
    }

    fn write_files(
        &mut self,
        request: &WorkspaceRequest<'_>,
        submodules: &str,
    ) -> Result<(), WorkspaceError> {
        let dotgit = self.directory.join("dotgit");
        write_read_only(&dotgit, b"gitdir: /agent/git\n")?;
        for (name, target, text) in mounted_files(request, submodules) {
            let Some(text) = text else { continue };
            let path = self.directory.join(name);
            write_read_only(&path, text.as_bytes())?;
            if matches!(name, "entry" | "script") {
                make_executable(&path)?;
            }
            self.mounted_files.push((name, target));
        }
        Ok(())
    }
}

/// The runner's own files: name in the attempt's directory, path inside, text if there is one.
fn mounted_files<'a>(
    request: &WorkspaceRequest<'a>,
    submodules: &'a str,
) -> [(&'static str, &'static str, Option<&'a str>); 9] {
    [
        ("entry", "/agent/entry", Some(ENTRY)),
        (
            "handoff",
            "/agent/handoff",
            request.is_handed_off().then_some(HANDOFF),
        ),
        ("script", "/agent/script", request.script),
        ("prompt.md", "/agent/prompt.md", request.prompt),
        ("feedback.txt", FEEDBACK, request.feedback),
        (
            "submodules",
            "/agent/submodules",
            (!submodules.is_empty()).then_some(submodules),
        ),
        ("passwd", "/etc/passwd", Some(request.passwd)),
        ("group", "/etc/group", Some(request.group)),
        ("hosts", "/etc/hosts", request.hosts),
    ]
}

fn environment(request: &WorkspaceRequest<'_>, base: &CommitId) -> Vec<(String, String)> {
    let seconds = |time: Duration| time.as_secs().max(1).to_string();
    let (name, email) = (request.author.0.to_owned(), request.author.1.to_owned());
    let variables = [
        ("HOME", "/home/agent".to_owned()),
        ("AGENT_RUN_ID", request.attempt.run.to_string()),
        ("AGENT_TASK", request.attempt.task.to_string()),
        ("AGENT_ATTEMPT", request.attempt.number.to_string()),
        ("AGENT_BASE", base.to_string()),
        ("AGENT_BRANCH", request.branch.to_string()),
        ("AGENT_DEADLINE", seconds(request.timing.deadline)),
        ("AGENT_GRACE", seconds(request.timing.grace)),
        ("AGENT_HANDOFF", seconds(request.timing.handoff)),
        ("GIT_AUTHOR_NAME", name.clone()),
        ("GIT_AUTHOR_EMAIL", email.clone()),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_COMMITTER_EMAIL", email),
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        ("GIT_CONFIG_KEY_0", "safe.directory".to_owned()),
        ("GIT_CONFIG_VALUE_0", "*".to_owned()),
    ];
    let feedback = request
        .feedback
        .map(|_| ("AGENT_FEEDBACK", FEEDBACK.to_owned()));
    let session = request
        .session
        .map(|_| ("AGENT_SESSION", "kept".to_owned()));
    variables
        .into_iter()
        .chain(feedback)
        .chain(session)
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Makes the run's directory, closed to everybody else.
fn make_private(directory: &Path) -> Result<(), WorkspaceError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(WorkspaceError::io("make", directory))
}

/// Makes the attempt's directory, which must not be there.
fn make_new(directory: &Path) -> Result<(), WorkspaceError> {
    let mut tries = 10;
    loop {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(WorkspaceError::io("make", parent))?;
        }
        tries -= 1;
        return match fs::create_dir(directory) {
            // The removal of an earlier attempt took the task's directory with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let path = directory.to_owned();
                Err(WorkspaceError::Exists { path })
            }
            other => other.map_err(WorkspaceError::io("make", directory)),
        };
    }
}

/// Makes a directory that every uid may read, whatever the umask.
fn make_directory(path: &Path) -> Result<(), WorkspaceError> {
    let readable = Permissions::from_mode(0o755);
    let made = fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, readable));
    made.map_err(WorkspaceError::io("make", path))
}

/// Writes a file that every uid may read and none write, whatever the umask.
fn write_read_only(path: &Path, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let readable = Permissions::from_mode(0o444);
    let written = fs::write(path, bytes).and_then(|()| fs::set_permissions(path, readable));
    written.map_err(WorkspaceError::io("write", path))
}

/// Lets every uid run a file that none may write.
fn make_executable(path: &Path) -> Result<(), WorkspaceError> {
    let executable = Permissions::from_mode(0o555);
    fs::set_permissions(path, executable).map_err(WorkspaceError::io("open", path))
}
