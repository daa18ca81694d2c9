//! Linked worktrees of the user's repository: agent-run makes them of results, and removes those that it
//! made. Each is known by a note in its part of the git directory, which goes with it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{GitCall, GitError, Repository, RepositoryLock};
use crate::id::{BranchName, CommitId, RunId, TaskId};

/// How long git may take for the files of one.
const TIME: Duration = Duration::from_secs(1800);
/// The note's name.
const NOTE: &str = "agent-run";
/// Why one is locked until its files are there.
const UNFINISHED: &str = "agent-run has not finished it";
/// What a worktree has while somebody is in the middle of something there.
const IN_PROGRESS: [&str; 7] = [
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
];

/// A linked worktree that agent-run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedWorktree {
    /// Where its files are, or were.
    pub path: PathBuf,
    /// What is checked out there.
    pub commit: CommitId,
    /// The branch that is checked out there, without `refs/heads/`, if one is.
    pub branch: Option<String>,
    /// The run and the task of the result that it was made of.
    pub of: (RunId, TaskId),
    /// Why it is locked, if it is.
    pub locked: Option<String>,
    git_dir: PathBuf,
}

/// Whether a worktree can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorktreeState {
    /// Nothing is there that is not in a commit of a ref; ignored files do not count.
    Clean,
    /// Files are changed or new and not committed, or a merge or the like is not finished.
    Changed,
    /// Commits are there that no ref has.
    OnNoRef,
    /// Its directory is gone.
    Gone,
    /// It is locked.
    Locked,
    /// Its files are not all there: it is being made, or that was cut off.
    Unfinished,
}

impl Repository {
    /// Registers a worktree at `directory`, which is not there or empty, of a branch that is checked out
    /// nowhere, or else of a commit. It has no files before [`Self::fill_worktree`], and is locked.
    pub fn add_worktree(
        &self,
        _lock: &RepositoryLock,
        directory: &Path,
        (branch, commit): (Option<&BranchName>, &CommitId),
        (run, task): (&RunId, &TaskId),
    ) -> Result<(), GitError> {
        let mut words = words(&["worktree", "add", "-q", "--no-checkout", "--lock"]);
        words.extend(self::words(&["--reason", UNFINISHED]));
        words.extend(branch.is_none().then(|| "--detach".into()));
        words.push(directory.into());
        words.push(branch.map_or(commit.as_str(), BranchName::as_str).into());
        self.call(words).run()?;
        let git_dir = git_dir_of(directory)?;
        let write = || {
            let mut note = File::create_new(git_dir.join(NOTE))?;
            writeln!(note, "{run} {task}")
        };
        write().map_err(GitError::io(format!("write in {}", git_dir.display())))
    }

    /// Makes the files of a worktree that was registered. No hook runs, and no submodule is fetched;
    /// attributes and filters are the user's, as with his own `git checkout`.
    pub fn fill_worktree(&self, directory: &Path) -> Result<(), GitError> {
        let checkout = self.in_worktree(directory, &["reset", "-q", "--hard"]);
        checkout.deadline(TIME).run().map(drop)
    }

    /// Ends the making of a worktree that was filled. Git looks at all of them for it, and fails where
    /// another one is being registered.
    pub fn finish_worktree(
        &self,
        _lock: &RepositoryLock,
        directory: &Path,
    ) -> Result<(), GitError> {
        let mut words = words(&["worktree", "unlock"]);
        words.push(directory.into());
        self.call(words).run().map(drop)
    }

    /// Takes back a worktree that could not be filled.
    pub fn abandon_worktree(
        &self,
        _lock: &RepositoryLock,
        directory: &Path,
    ) -> Result<(), GitError> {
        let mut words = words(&["worktree", "remove", "--force", "--force"]);
        words.push(directory.into());
        self.call(words).deadline(TIME).run().map(drop)
    }

    /// The worktrees that agent-run made.
    pub fn made_worktrees(&self, _lock: &RepositoryLock) -> Result<Vec<LinkedWorktree>, GitError> {
        let mut all = Vec::new();
        let entries = fs::read_dir(self.common_dir().join("worktrees"));
        for entry in entries.into_iter().flatten().flatten() {
            all.extend(note(&entry.path()));
        }
        let output = self.call(["worktree", "list", "--porcelain", "-z"]).run()?;
        let mut found = Vec::new();
        for record in records(&output) {
            let value = |wanted: &str| {
                let mut fields = record.iter();
                fields.find_map(|(name, value)| (*name == wanted).then_some(*value))
            };
            let place = value("worktree");
            let its_note = all.iter().find(|note| Some(&*note.path) == place);
            let commit = value("HEAD").and_then(|id| id.parse().ok());
            if let (Some(note), Some(commit)) = (its_note, commit) {
                let branch = value("branch").and_then(|name| name.strip_prefix("refs/heads/"));
                found.push(LinkedWorktree {
                    path: PathBuf::from(&note.path),
                    commit,
                    branch: branch.map(str::to_owned),
                    of: note.of.clone(),
                    locked: value("locked").map(str::to_owned),
                    git_dir: note.git_dir.clone(),
                });
            }
        }
        Ok(found)
    }

    /// Whether a worktree can be done without.
    pub fn worktree_state(&self, worktree: &LinkedWorktree) -> Result<WorktreeState, GitError> {
        match worktree.locked.as_deref() {
            Some(UNFINISHED) => return Ok(WorktreeState::Unfinished),
            Some(_) => return Ok(WorktreeState::Locked),
            None => {}
        }
        let is_there = fs::symlink_metadata(&worktree.path).is_ok();
        if is_there && self.is_in_use(worktree)? {
            return Ok(WorktreeState::Changed);
        }
        if worktree.branch.is_none() {
            let commit = worktree.commit.as_str();
            let refs = ["for-each-ref", "--count=1", "--contains", commit];
            if self.call(refs).run()?.is_empty() {
                return Ok(WorktreeState::OnNoRef);
            }
        }
        Ok(if is_there {
            WorktreeState::Clean
        } else {
            WorktreeState::Gone
        })
    }

    /// Removes a worktree with its files, or what tells of one whose files are gone, and nothing else.
    ///
    /// # Errors
    /// Where something is not committed there, or it is locked: it is as it was then.
    pub fn remove_worktree(
        &self,
        _lock: &RepositoryLock,
        worktree: &LinkedWorktree,
    ) -> Result<(), GitError> {
        let mut words = words(&["-c", "core.hooksPath=/dev/null", "worktree", "remove"]);
        words.push(worktree.path.clone().into());
        let call = self.git().as_user(self.directory(), words);
        call.deadline(TIME).run().map(drop)
    }

    /// The commit that the user's own worktree is at, not one that is linked to it.
    pub fn main_head(&self) -> Result<CommitId, GitError> {
        let words = ["rev-parse", "-q", "--verify", "HEAD^{commit}"];
        let call = self.git().call(words).git_dir(self.common_dir());
        let text = call.run_text()?;
        let command = "git rev-parse".to_owned();
        text.trim()
            .parse()
            .map_err(|_| GitError::Unexpected { command })
    }

    fn is_in_use(&self, worktree: &LinkedWorktree) -> Result<bool, GitError> {
        let mut marks = IN_PROGRESS.iter();
        if marks.any(|name| worktree.git_dir.join(name).exists()) {
            return Ok(true);
        }
        let words = ["status", "--porcelain=v1", "-z", "--ignore-submodules=none"];
        let words = [&words[..], &["--untracked-files=normal"]].concat();
        let status = self.in_worktree(&worktree.path, &words);
        Ok(!status.deadline(TIME).run()?.is_empty())
    }

    /// A call as the user would make it there, without hooks and the like.
    fn in_worktree(&self, directory: &Path, words: &[&str]) -> GitCall<'_> {
        let settings = [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "submodule.recurse=false",
        ];
        let settings = settings.into_iter().flat_map(|setting| ["-c", setting]);
        let words = settings.chain(words.iter().copied());
        self.git().as_user(directory, words)
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// The git directory of a worktree: what the file `.git` in it names.
fn git_dir_of(directory: &Path) -> Result<PathBuf, GitError> {
    let file = directory.join(".git");
    let failed = || GitError::io(format!("read {}", file.display()));
    let text = fs::read_to_string(&file).map_err(failed())?;
    let place = text.trim_end_matches('\n').strip_prefix("gitdir: ");
    let command = "git worktree add".to_owned();
    let place = place.ok_or(GitError::Unexpected { command })?;
    Ok(directory.join(place))
}

/// What tells of a worktree that agent-run made.
struct Note {
    /// Where git says that its files are.
    path: String,
    of: (RunId, TaskId),
    git_dir: PathBuf,
}

fn note(git_dir: &Path) -> Option<Note> {
    let text = fs::read_to_string(git_dir.join(NOTE)).ok()?;
    let (run, task) = text.trim_end().split_once(' ')?;
    let file = fs::read_to_string(git_dir.join("gitdir")).ok()?;
    let path = file.trim_end_matches('\n').strip_suffix("/.git")?;
    // Since 2.48 it may be told from here.
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        let path = fs::canonicalize(git_dir.join(path)).ok()?;
        path.to_str()?.to_owned()
    };
    Some(Note {
        path,
        of: (run.parse().ok()?, task.parse().ok()?),
        git_dir: git_dir.to_owned(),
    })
}

/// Reads what git-worktree(1) lists: names and values of each.
fn records(output: &[u8]) -> Vec<Vec<(&str, &str)>> {
    let mut records = vec![Vec::new()];
    for field in output.split(|byte| *byte == 0) {
        let Ok(field) = std::str::from_utf8(field) else {
            continue;
        };
        if field.is_empty() {
            records.push(Vec::new());
        } else if let Some(last) = records.last_mut() {
            last.push(field.split_once(' ').unwrap_or((field, "")));
        }
    }
    records
}
