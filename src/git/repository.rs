//! The user's repository: facts, pins and refs. It is read and changed by the git command only,
//! since libgit2 opens neither reftable nor partial clones.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{Git, GitCall, GitError};
use crate::id::{BranchName, CommitId, RepoKey, RunId};
use crate::sanitize;

/// Longest `info/exclude` that is copied, in bytes.
const EXCLUDE_LIMIT: u64 = 1024 * 1024;

/// A repository that the user may use.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Git,
    directory: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
    work_tree: Option<PathBuf>,
    key: RepoKey,
    shallow: bool,
    partial: bool,
    user_email: Option<String>,
}

impl Repository {
    /// Opens the repository that `directory` is in.
    ///
    /// Whether the user may use it is git's decision, made in the user's own environment
    /// (`safe.directory`); after that the hardened calls trust it whoever owns it.
    pub fn open(git: &Git, directory: &Path) -> Result<Self, GitError> {
        let directory = fs::canonicalize(directory).map_err(|_| GitError::NotARepository {
            path: directory.to_owned(),
        })?;
        // Beside it: nothing of that is needed until it has answered.
        let (answer, settings) = thread::scope(|scope| {
            let settings = scope.spawn(|| settings(git, &directory));
            let answer = ask(git, &directory);
            (answer, settings.join().unwrap_or_else(|p| resume_unwind(p)))
        });
        let answer = answer?;
        let mut lines = answer.lines();
        let mut next = || lines.next().unwrap_or_default();
        let git_dir = canonical(Path::new(next()))?;
        let common_dir = canonical(Path::new(next()))?;
        let (format, shallow) = (next(), next() == "true");
        if format != "sha1" {
            let format = sanitize::line(format.as_bytes(), false);
            return Err(GitError::ObjectFormat {
                path: directory,
                format,
            });
        }
        // The way from here to the top of its files; in a git directory there is none.
        let way = lines.next().map(|way| canonical(&directory.join(way)));
        let work_tree = way.transpose()?;
        let mut trusted = vec![directory.as_path(), &git_dir, &common_dir];
        trusted.extend(work_tree.as_deref());
        let (partial, user_email) = settings?;
        let repository = Self {
            git: git.trusting(&trusted)?,
            key: RepoKey::of(&common_dir),
            directory,
            git_dir,
            common_dir,
            work_tree,
            shallow,
            partial,
            user_email,
        };
        repository.refuse_empty()?;
        Ok(repository)
    }

    /// A hardened call on this repository.
    pub fn call<I>(&self, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<std::ffi::OsStr>,
    {
        self.git.call(arguments).git_dir(&self.git_dir)
    }

    /// Git that trusts this repository, for calls on other repositories that read from it.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Its directory as the user named it, absolute and without symbolic links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The git directory of the worktree that the user named, canonical.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The git directory that all its worktrees share, canonical.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The top of its files; none where it is bare.
    pub fn work_tree(&self) -> Option<&Path> {
        self.work_tree.as_deref()
    }

    /// Its key in the state directory.
    pub fn key(&self) -> &RepoKey {
        &self.key
    }

    /// Whether its history is cut off.
    pub fn is_shallow(&self) -> bool {
        self.shallow
    }

    /// Whether it was cloned with a filter, so that objects may be absent.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// The commit that `name` stands for. All files of it are there.
    pub fn resolve_base(&self, name: &str) -> Result<CommitId, GitError> {
        let unknown = || GitError::NoSuchCommit {
            name: sanitize::line(name.as_bytes(), false),
            path: self.directory.clone(),
        };
        if name.is_empty() || name.starts_with('-') || name.contains(char::is_control) {
            return Err(unknown());
        }
        let peeled = format!("{name}^{{commit}}");
        let answer = self
            .call(["rev-parse", "-q", "--verify", &peeled])
            .run_text();
        let commit: CommitId = match answer {
            Ok(text) => text.trim().parse().map_err(|_| unknown())?,
            Err(GitError::Failed { .. }) => return Err(unknown()),
            Err(other) => return Err(other),
        };
        if self.partial {
            self.refuse_absent_files(&commit)?;
        }
        Ok(commit)
    }

    /// The full name of the ref that `name` stands for; none for a commit id or an expression.
    pub fn full_ref_name(&self, name: &str) -> Result<Option<String>, GitError> {
        if name.is_empty() || name.starts_with('-') {
            return Ok(None);
        }
        let arguments = ["rev-parse", "-q", "--verify", "--symbolic-full-name", name];
        match self.call(arguments).run_text() {
            Ok(text) if text.starts_with("refs/") => Ok(Some(text.trim().to_owned())),
            Ok(_) | Err(GitError::Failed { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The newest commits of `tip` that `base` does not have, at most `limit` of them: each with its
    /// subject, which is untrusted and sanitised.
    pub fn commits(
        &self,
        base: &CommitId,
        tip: &CommitId,
        limit: usize,
    ) -> Result<Vec<(CommitId, String)>, GitError> {
        let (limit, range) = (format!("--max-count={limit}"), format!("{base}..{tip}"));
        let format = "--format=%H %s";
        let arguments = ["rev-list", "--no-commit-header", format, &limit, &range];
        let text = self.call(arguments).run()?;
        let commits = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let (id, subject) = line.split_at_checked(40)?;
            let id = std::str::from_utf8(id).ok()?.parse().ok()?;
            let subject = sanitize::line(subject, false).trim().to_owned();
            Some((id, subject))
        });
        Ok(commits.collect())
    }

    /// Its local branches, without `refs/heads/`.
    pub fn branches(&self) -> Result<Vec<String>, GitError> {
        let format = "--format=%(refname:strip=2)";
        let text = self.call(["for-each-ref", format, "refs/heads"]).run()?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Whether a branch is checked out in a worktree; also where that cannot be told.
    pub fn is_checked_out(&self, branch: &BranchName) -> bool {
        let words = [
            "for-each-ref",
            "--format=%(worktreepath)",
            &branch.full_ref(),
        ];
        let places = self.call(words).run();
        !places.is_ok_and(|places| places.trim_ascii().is_empty())
    }

    /// What is uncommitted in the user's own files, in words; none where nothing is.
    pub fn uncommitted(&self) -> Result<Option<String>, GitError> {
        let Some(work_tree) = &self.work_tree else {
            return Ok(None);
        };
        let arguments = [
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
        ];
        let output = self.call(arguments).work_tree(work_tree).run()?;
        let entries = || output.split(|b| *b == 0).filter(|e| !e.is_empty());
        let untracked = entries().filter(|e| e.starts_with(b"??")).count();
        let changed = entries().count() - untracked;
        Ok(match (changed, untracked) {
            (0, 0) => None,
            (changed, 0) => Some(format!("{changed} changed")),
            (0, untracked) => Some(format!("{untracked} untracked")),
            (changed, untracked) => Some(format!("{changed} changed, {untracked} untracked")),
        })
    }

    /// The e-mail address that the user's own configuration gives for this repository.
    pub fn user_email(&self) -> Option<&str> {
        self.user_email.as_deref()
    }

    /// The repository's own ignore rules, `info/exclude`; empty where there are none.
    pub fn info_exclude(&self) -> Vec<u8> {
        let path = self.common_dir.join("info/exclude");
        let small = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= EXCLUDE_LIMIT);
        if small {
            fs::read(path).unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    /// Keeps a run's base commit from being pruned, whatever the user deletes meanwhile.
    pub fn pin(&self, run: &RunId, base: &CommitId) -> Result<(), GitError> {
        self.call(["update-ref", &run.pin_ref(), base.as_str()])
            .run()
            .map(drop)
    }

    /// Removes what [`Self::pin`] made; succeeds where it is gone already.
    pub fn unpin(&self, run: &RunId) -> Result<(), GitError> {
        self.call(["update-ref", "-d", &run.pin_ref()])
            .run()
            .map(drop)
    }

    fn refuse_empty(&self) -> Result<(), GitError> {
        let head = ["rev-parse", "-q", "--verify", "HEAD^{commit}"];
        if self.call(head).run().is_ok() {
            return Ok(());
        }
        let refs = self.call(["for-each-ref", "--count=1"]).run()?;
        if !refs.is_empty() {
            return Ok(());
        }
        Err(GitError::Empty {
            path: self.directory.clone(),
        })
    }

    fn refuse_absent_files(&self, commit: &CommitId) -> Result<(), GitError> {
        let arguments = [
            "rev-list",
            "--objects",
            "--no-walk",
            "--missing=print",
            "--no-object-names",
        ];
        let call = self.call(arguments.into_iter().chain([commit.as_str()]));
        let objects = call.deadline(Duration::from_secs(120)).run()?;
        let missing = objects
            .split(|b| *b == b'\n')
            .filter(|l| l.starts_with(b"?"))
            .count();
        if missing == 0 {
            return Ok(());
        }
        Err(GitError::PartialClone {
            path: self.directory.clone(),
            base: commit.short().to_owned(),
            missing,
        })
    }
}

fn ask(git: &Git, directory: &Path) -> Result<String, GitError> {
    let questions = [
        "rev-parse",
        "--path-format=absolute",
        "--git-dir",
        "--git-common-dir",
        "--show-object-format",
        "--is-shallow-repository",
        "--show-cdup",
    ];
    let path = directory.to_owned();
    match git.as_user(directory, questions).run_text() {
        Err(GitError::Failed { stderr, .. }) if stderr.contains("dubious ownership") => {
            Err(GitError::NotTrusted { path })
        }
        Err(GitError::Failed { stderr, .. }) if stderr.contains("not a git repository") => {
            Err(GitError::NotARepository { path })
        }
        Err(GitError::Failed { stderr, .. }) => Err(GitError::Unreadable {
            path,
            detail: stderr,
        }),
        other => other,
    }
}

/// What the user's own configuration says here: whether the repository was cloned with a filter, and
/// his e-mail address.
fn settings(git: &Git, directory: &Path) -> Result<(bool, Option<String>), GitError> {
    let names = r"^(extensions\.partialclone|remote\..*\.promisor|user\.email)$";
    let asked = git.as_user(directory, ["config", "-z", "--get-regexp", names]);
    let text = match asked.run() {
        // Exit code 1: there is none of them.
        Err(GitError::Failed { .. }) => Vec::new(),
        answered => answered?,
    };
    let text = String::from_utf8_lossy(&text);
    let (mut partial, mut email) = (false, None);
    for setting in text.split_terminator('\0') {
        match setting.split_once('\n') {
            // The last word counts; an empty one takes it back.
            Some(("user.email", address)) => email = Some(address.trim().to_owned()),
            Some(_) | None => partial |= !setting.starts_with("user.email"),
        }
    }
    Ok((partial, email.filter(|address| !address.is_empty())))
}

fn canonical(path: &Path) -> Result<PathBuf, GitError> {
    fs::canonicalize(path).map_err(GitError::io(format!("find {}", path.display())))
}
