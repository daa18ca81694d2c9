//! A task's worktree: its files, modes and mounts, the base store behind it, the two scripts that
//! run inside, and removal. The scripts run here in every shell there is, with their paths moved.

mod disk;
mod hand_off;
mod layout;
mod removal;
mod store;
mod submodules;
mod wrapper;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use agent_run::git::Repository;
use agent_run::id::{AttemptId, CommitId, Role, RunId};
use agent_run::workspace::{
    BaseStore, PreparedPaths, RemovalError, Start, Timing, Workspace, WorkspaceError,
    WorkspaceRequest, empty_trash, remove,
};

use crate::git::fixture::{Scratch, attempt, commit, git, program, search_path, try_git};

/// A repository, its base store, and what else attempts are made of.
pub struct Site {
    pub scratch: Scratch,
    pub dir: PathBuf,
    pub repository: Repository,
    pub store: BaseStore,
}

impl Site {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let dir = scratch.repository("repo");
        Self::of(scratch, dir, None)
    }

    /// A site below a path with characters that are special somewhere.
    pub fn odd() -> Self {
        let scratch = Scratch::odd();
        let dir = scratch.repository("repo");
        Self::of(scratch, dir, None)
    }

    /// A site whose tasks see only the newest commits.
    pub fn cut(depth: u32) -> Self {
        let scratch = Scratch::new();
        let dir = scratch.repository("repo");
        Self::of(scratch, dir, Some(depth))
    }

    /// A site whose repository has a submodule `libs/one` with a submodule `inner`, both there.
    pub fn with_submodules() -> Self {
        let scratch = Scratch::odd();
        let dir = superproject(&scratch);
        git(
            &dir,
            &["submodule", "update", "-q", "--init", "--recursive"],
        );
        Self::of(scratch, dir, None)
    }

    /// The same site at the repository's present HEAD.
    pub fn again(self) -> Self {
        Self::of(self.scratch, self.dir, None)
    }

    fn of(scratch: Scratch, dir: PathBuf, depth: Option<u32>) -> Self {
        let repository = scratch.open(&dir);
        let base = repository.resolve_base("HEAD").unwrap();
        let store = BaseStore::ensure(&repository, &scratch.state(), &base, depth).unwrap();
        Self {
            scratch,
            dir,
            repository,
            store,
        }
    }

    pub fn base(&self) -> &CommitId {
        self.store.base()
    }

    pub fn try_workspace(
        &self,
        attempt: &AttemptId,
        owner: Option<(u32, u32)>,
    ) -> Result<Workspace, WorkspaceError> {
        self.request(attempt, owner, None, Workspace::create)
    }

    fn request<T>(
        &self,
        attempt: &AttemptId,
        owner: Option<(u32, u32)>,
        start: Option<&Start>,
        then: impl FnOnce(&WorkspaceRequest<'_>) -> T,
    ) -> T {
        then(&WorkspaceRequest {
            git: self.repository.git(),
            state: &self.scratch.state(),
            attempt,
            branch: &"agent/x".parse().unwrap(),
            store: &self.store,
            start,
            shared: None,
            feedback: None,
            role: Role::Task,
            prepared: PreparedPaths::default(),
            mount_points: &[],
            owner,
            author: ("agent-run", "u@example.org"),
            exclude: b"*.ignored\n",
            script: Some("#!/bin/sh\n"),
            session: None,
            prompt: Some("do it"),
            passwd: "root:x:0:0::/root:/bin/sh\n",
            group: "root:x:0:\n",
            hosts: Some("127.0.0.1 localhost\n"),
            working_dir: "/workspace",
            timing: Timing {
                deadline: Duration::from_secs(60),
                grace: Duration::from_secs(2),
                handoff: Duration::from_secs(30),
            },
        })
    }

    /// A workspace that starts at `head` and is measured against `base`.
    pub fn workspace_from(&self, task: &str, head: &CommitId, base: &CommitId) -> Inside {
        let start = Start {
            results: self
                .scratch
                .state()
                .results(self.repository.key(), self.store.key()),
            head: head.clone(),
            base: base.clone(),
            needs: Vec::new(),
        };
        let create = Workspace::create;
        let workspace = self.request(&attempt(task, 1), None, Some(&start), create);
        Inside::new(self, workspace.unwrap())
    }

    /// The workspace of a task that was made before, as another process finds it.
    pub fn found(&self, task: &str) -> Workspace {
        let find =
            |request: &WorkspaceRequest<'_>| Workspace::existing(request, self.repository.key());
        let found = self.request(&attempt(task, 1), None, None, find);
        found.unwrap().unwrap()
    }

    pub fn workspace(&self, task: &str) -> Inside {
        let workspace = self.try_workspace(&attempt(task, 1), None).unwrap();
        Inside::new(self, workspace)
    }
}

/// A repository with a submodule that has one itself; the clones of both are not there yet.
pub fn superproject(scratch: &Scratch) -> PathBuf {
    let (inner, library) = (scratch.repository("inner"), scratch.repository("library"));
    let add = |to: &Path, from: &Path, name: &str, path: &str| {
        let from = from.to_str().unwrap();
        git(to, &["submodule", "add", "-q", "--name", name, from, path]);
        git(to, &["commit", "-qm", "add a submodule"]);
    };
    add(&library, &inner, "in/ner", "inner");
    commit(&library, "a.txt", "four\n");
    let dir = scratch.repository("made");
    add(&dir, &library, "vendor/#one \"1\"", "libs/one");
    let clone = scratch.path("repo");
    git(
        &scratch.path(""),
        &[
            "clone",
            "-q",
            dir.to_str().unwrap(),
            clone.to_str().unwrap(),
        ],
    );
    clone
}

/// A workspace seen from inside, by links instead of mounts.
pub struct Inside {
    pub workspace: Workspace,
    pub root: PathBuf,
}

impl Inside {
    fn new(site: &Site, workspace: Workspace) -> Self {
        let name = workspace.directory().parent().unwrap().file_name().unwrap();
        let root = site.scratch.path("inside").join(name);
        for name in ["agent/base", "run/secrets"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for (name, target) in [
            ("agent/git", workspace.git_dir()),
            ("agent/out", workspace.out()),
            ("agent/handoff", workspace.directory().join("handoff")),
            ("workspace", workspace.worktree()),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let mounts = workspace.mounts();
        let only_inside =
            |target: &str| target.starts_with("/agent/base/") || target == "/agent/submodules";
        for mount in mounts.iter().filter(|m| only_inside(&m.target)) {
            let link = root.join(&mount.target[1..]);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&mount.source, link).unwrap();
        }
        let gitfile = workspace.worktree().join(".git");
        fs::remove_file(&gitfile).unwrap();
        fs::write(
            &gitfile,
            format!("gitdir: {}\n", root.join("agent/git").display()),
        )
        .unwrap();
        let alternates = workspace.git_dir().join("objects/info/alternates");
        let text = fs::read_to_string(&alternates).unwrap();
        let start = workspace.start_objects();
        let mut expected = String::from("/agent/base/objects\n");
        expected += start.map_or("", |_| "/agent/base/start/objects\n");
        assert_eq!(text, expected);
        let borrowed = [site.store.objects()];
        let borrowed = borrowed.iter().map(PathBuf::as_path).chain(start);
        let borrowed = borrowed.map(|path| format!("{}\n", path.display()));
        fs::write(alternates, borrowed.collect::<String>()).unwrap();
        move_submodules(&workspace, &root);
        Self { workspace, root }
    }

    pub fn tree(&self) -> PathBuf {
        self.workspace.worktree()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.tree(), arguments)
    }

    /// Runs the hand-off with `shell` and returns the status it wrote.
    pub fn hand_off_with(&self, shell: &[&str], extra: &[(&str, &str)]) -> String {
        let output = self.shell(shell, &["handoff"], extra, "");
        let status = fs::read(self.workspace.out().join("status"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        status.map_or_else(|e| panic!("{e}: {}", text(output.stderr)), text)
    }

    pub fn hand_off(&self) -> String {
        self.hand_off_with(&["dash"], &[])
    }

    fn shell(
        &self,
        shell: &[&str],
        arguments: &[&str],
        extra: &[(&str, &str)],
        input: &str,
    ) -> Output {
        use std::io::Write;
        let mut command = program(shell[0]);
        command
            .args(&shell[1..])
            .arg(self.workspace.directory().join(arguments[0]))
            .args(&arguments[1..])
            .env_clear()
            .env("PATH", search_path())
            .envs(self.workspace.environment().iter().cloned())
            .env("HOME", self.workspace.directory().join("home"))
            .env("AGENT_ROOT", &self.root)
            .env("AGENT_LEFTOVERS_LIMIT", "1000000")
            .envs(extra.iter().copied())
            .current_dir(self.tree())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    /// The commits in the bundle by ref.
    pub fn bundle(&self) -> Vec<(String, String)> {
        let path = self.workspace.out().join("result.bundle");
        let text = git(
            Path::new("/"),
            &["bundle", "list-heads", path.to_str().unwrap()],
        );
        text.lines()
            .map(|l| l.split_once(' ').unwrap())
            .map(|(id, name)| (name.into(), id.into()))
            .collect()
    }

    fn files_of(&self, commit: &str) -> String {
        self.git(&["ls-tree", "-r", "--name-only", commit])
    }
}

/// Moves the paths in the files of submodules to where `root` has them.
fn move_submodules(workspace: &Workspace, root: &Path) {
    let mut pending = vec![workspace.git_dir().join("modules"), workspace.worktree()];
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else if path.ends_with("objects/info/alternates") || path.ends_with(".git") {
            let text = fs::read_to_string(&path).unwrap();
            let moved = text.replacen("/agent/", &format!("{}/agent/", root.display()), 1);
            if !text.contains(root.to_str().unwrap()) {
                fs::remove_file(&path).unwrap();
                fs::write(&path, moved).unwrap();
            }
        }
    }
}

const SHELLS: [&[&str]; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"]];
