//! Repositories for the tests, made by the git on `PATH` with an environment of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use agent_run::git::{Git, Repository};
use agent_run::id::{AttemptId, CommitId, StateDir};

/// A temporary directory with a state directory and room for repositories.
pub struct Scratch {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

pub fn search_path() -> OsString {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests run with the git on PATH"
    )]
    std::env::var_os("PATH").unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests start programs")]
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// Runs git as a user with an empty configuration would.
pub fn try_git(dir: &Path, arguments: &[&str]) -> Output {
    program("git")
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
        .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        .args(["-c", "user.name=U", "-c", "user.email=u@example.org"])
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(["-c", "safe.directory=*", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = try_git(dir, arguments);
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

pub fn commit(dir: &Path, file: &str, text: &str) -> CommitId {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", &format!("change {file}")]);
    git(dir, &["rev-parse", "HEAD"]).parse().unwrap()
}

pub fn attempt(task: &str, number: u32) -> AttemptId {
    AttemptId {
        run: "260101-000000-abcd".parse().unwrap(),
        task: task.parse().unwrap(),
        number,
    }
}

impl Scratch {
    pub fn new() -> Self {
        Self::below("root")
    }

    /// One whose paths hold what scripts and git's file formats could trip over.
    pub fn odd() -> Self {
        Self::below("#o d'd:\"\u{fc}$x")
    }

    fn below(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(root.join("state")).unwrap();
        Self { _dir: dir, root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn state(&self) -> StateDir {
        StateDir::new(self.path("state"))
    }

    pub fn git(&self) -> Git {
        Git::new(&search_path(), &self.path("state/git")).unwrap()
    }

    /// A repository with three commits on `main`.
    pub fn repository(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        commit(&dir, "a.txt", "one\n");
        commit(&dir, "src/b.txt", "two\n");
        commit(&dir, "a.txt", "three\n");
        dir
    }

    pub fn open(&self, dir: &Path) -> Repository {
        Repository::open(&self.git(), dir).unwrap()
    }
}
