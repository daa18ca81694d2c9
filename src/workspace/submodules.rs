//! The submodules of a base: which there are, where the user's repository has their objects, and
//! the stores that tasks borrow those from.
//!
//! The base is trusted, but what its `.gitmodules` says becomes paths of ours, so every name and
//! path is checked. What cannot be had is a note, never a failure: that directory stays empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::store::{Source, Store};
use crate::git::{Git, GitError, Repository};
use crate::id::{CommitId, StateDir};
use crate::sanitize;

/// Longest name or path of a submodule, in bytes.
const NAME_LIMIT: usize = 500;
/// Largest `.gitmodules`, as git lists it, in bytes.
const LIST_LIMIT: usize = 1 << 20;
/// Where git does not need an address but wants to find one.
const NO_URL: &str = "/nonexistent";

/// A submodule whose objects are in a store.
#[derive(Debug, Clone)]
pub(super) struct Submodule {
    /// From the top of the worktree.
    pub(super) path: String,
    /// Its git directory from the attempt's git directory: `modules/<name>`, and so on inside it.
    pub(super) git_dir: String,
    /// The git directory that declares it, likewise; empty for the attempt's own.
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) commit: CommitId,
    pub(super) store: Store,
}

impl Submodule {
    /// Where the container sees the store's objects; named by key, as a name may hold anything.
    pub(super) fn objects_inside(&self) -> String {
        format!("/agent/base/modules/{}/objects", self.store.key)
    }
}

/// What `.gitmodules` says of one submodule.
#[derive(Default)]
struct Declared {
    path: Option<String>,
    url: Option<String>,
}

/// A commit that may have submodules, and where their objects may be.
struct Super {
    /// Git directories that may have them under `modules`; the first has the commit itself.
    git_dirs: Vec<PathBuf>,
    commit: CommitId,
    path: String,
    git_dir: String,
}

/// The walk through a base and its submodules.
struct Finder<'a> {
    repository: &'a Repository,
    state: &'a StateDir,
    depth: Option<u32>,
    found: Vec<Submodule>,
    notes: Vec<String>,
    pending: Vec<Super>,
}

/// Fills a store for every submodule of `base` whose commit the repository has, also for those in
/// submodules. Gives them outer before inner, and notes about the others. The caller holds the
/// repository's lock.
pub(super) fn ensure(
    repository: &Repository,
    state: &StateDir,
    base: &CommitId,
    depth: Option<u32>,
) -> Result<(Vec<Submodule>, Vec<String>), WorkspaceError> {
    let (own, common) = (repository.git_dir(), repository.common_dir());
    let mut finder = Finder {
        repository,
        state,
        depth,
        found: Vec::new(),
        notes: Vec::new(),
        pending: vec![Super {
            git_dirs: vec![own.to_owned(), common.to_owned()],
            commit: base.clone(),
            path: String::new(),
            git_dir: String::new(),
        }],
    };
    while let Some(parent) = finder.pending.pop() {
        finder.look_into(&parent)?;
    }
    Ok((finder.found, finder.notes))
}

impl Finder<'_> {
    fn look_into(&mut self, parent: &Super) -> Result<(), WorkspaceError> {
        let git = trusting(self.repository, &parent.git_dirs[0])?;
        let Some(declared) = declared(&git, parent)? else {
            let whose = join(&parent.path, ".gitmodules");
            let whose = sanitize::line(whose.as_bytes(), false);
            let note = format!("submodules are empty: git cannot read {whose} at the base");
            self.notes.push(note);
            return Ok(());
        };
        for (name, Declared { path, url }) in &declared {
            let Some(path) = path else { continue };
            // Its clone would lie in the other's.
            let within = |other: &String| name.starts_with(&format!("{other}/"));
            let whole = join(&parent.path, path);
            if !is_safe(name) || !is_safe(&whole) || declared.keys().any(within) {
                self.stays_empty(name, "its name or path in .gitmodules is refused");
                continue;
            }
            let of = (&parent.git_dirs[0], &parent.commit);
            let Some(commit) = gitlink(&git, of, path)? else {
                continue;
            };
            if self.found.iter().any(|other| other.path == whole) {
                continue;
            }
            let Some(clone) = clone_of(self.repository, &parent.git_dirs, name, &commit)? else {
                self.stays_empty(
                    &whole,
                    "its commit is not in this repository's clone; \
                     run `git submodule update --init --recursive` first",
                );
                continue;
            };
            let below = Super {
                path: whole,
                commit,
                git_dir: join(&parent.git_dir, &format!("modules/{name}")),
                git_dirs: vec![clone],
            };
            let url = url.clone().filter(|u| !u.contains(char::is_control));
            self.take(parent, below, (name, url))?;
        }
        Ok(())
    }

    /// Fills the store of one submodule, and remembers to look into it.
    fn take(
        &mut self,
        parent: &Super,
        below: Super,
        (name, url): (&str, Option<String>),
    ) -> Result<(), WorkspaceError> {
        let git_dir = &below.git_dirs[0];
        let source = Source {
            git: &trusting(self.repository, git_dir)?,
            git_dir,
            commit: &below.commit,
            depth: self.depth,
        };
        let store = match Store::ensure(&source, self.state, self.repository.key()) {
            Err(WorkspaceError::Git {
                source: GitError::Failed { stderr, .. },
                ..
            }) => {
                self.stays_empty(&below.path, &stderr);
                return Ok(());
            }
            other => other?,
        };
        self.found.push(Submodule {
            path: below.path.clone(),
            git_dir: below.git_dir.clone(),
            parent: parent.git_dir.clone(),
            name: name.to_owned(),
            url: url.unwrap_or_else(|| NO_URL.to_owned()),
            commit: below.commit.clone(),
            store,
        });
        self.pending.push(below);
        Ok(())
    }

    fn stays_empty(&mut self, which: &str, why: &str) {
        let which: String = sanitize::line(which.as_bytes(), false)
            .chars()
            .take(200)
            .collect();
        self.notes
            .push(format!("submodule {which} is empty: {why}"));
    }
}

/// What the hand-off needs to know: commit, git directory and path of each, a line each.
pub(super) fn listing(submodules: &[Submodule]) -> String {
    let lines = submodules
        .iter()
        .flat_map(|s| [s.commit.as_str(), "\n", &s.git_dir, "\n", &s.path, "\n"]);
    lines.collect()
}

/// The configuration of the git directory `parent` about the submodules that it declares.
pub(super) fn config(submodules: &[Submodule], parent: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = String::new();
    for submodule in submodules.iter().filter(|s| s.parent == parent) {
        let (name, url) = (quoted(&submodule.name), quoted(&submodule.url));
        let section = format!("[submodule \"{name}\"]\n\tactive = true\n\turl = \"{url}\"\n");
        text.push_str(&section);
    }
    text
}

/// What the commit's `.gitmodules` declares, by name; none where git cannot read it.
fn declared(
    git: &Git,
    parent: &Super,
) -> Result<Option<BTreeMap<String, Declared>>, WorkspaceError> {
    let mut found = BTreeMap::<String, Declared>::new();
    let file = entry(git, (&parent.git_dirs[0], &parent.commit), ".gitmodules")?;
    if file.is_none_or(|(mode, _)| !mode.starts_with("100")) {
        return Ok(Some(found));
    }
    let blob = format!("{}:.gitmodules", parent.commit);
    let arguments = ["config", "--blob", &blob, "--list", "-z"];
    let call = git.on_objects(&parent.git_dirs[0], arguments);
    let listed = match call.output_limit(LIST_LIMIT).run() {
        Err(GitError::Failed { .. } | GitError::OutputTooLarge { .. }) => return Ok(None),
        other => other.map_err(WorkspaceError::git("read .gitmodules"))?,
    };
    for setting in listed.split(|b| *b == 0) {
        // A name that is not UTF-8 becomes one that is refused.
        let setting = String::from_utf8_lossy(setting);
        let Some((key, value)) = setting.split_once('\n') else {
            continue;
        };
        let key = key.strip_prefix("submodule.");
        let Some((name, variable)) = key.and_then(|key| key.rsplit_once('.')) else {
            continue;
        };
        let declared = found.entry(name.to_owned()).or_default();
        match variable {
            "path" => declared.path = Some(value.to_owned()),
            "url" => declared.url = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(Some(found))
}

/// The commit that a commit in a git directory has at `path`; none where something else is there.
pub(super) fn gitlink(
    git: &Git,
    of: (&PathBuf, &CommitId),
    path: &str,
) -> Result<Option<CommitId>, WorkspaceError> {
    let entry = entry(git, of, path)?;
    let gitlink = entry.filter(|(mode, _)| mode == "160000");
    Ok(gitlink.and_then(|(_, id)| id.parse().ok()))
}

/// Mode and id of what is at `path` in the commit.
fn entry(
    git: &Git,
    (git_dir, commit): (&PathBuf, &CommitId),
    path: &str,
) -> Result<Option<(String, String)>, WorkspaceError> {
    let arguments = [
        "--literal-pathspecs",
        "ls-tree",
        "--full-tree",
        "-z",
        commit.as_str(),
        "--",
        path,
    ];
    let output = git
        .on_objects(git_dir, arguments)
        .run_text()
        .map_err(WorkspaceError::git("look for submodules"))?;
    let Some((entry, at)) = output.trim_end_matches('\0').split_once('\t') else {
        return Ok(None);
    };
    let mut words = entry.split(' ').map(str::to_owned);
    let (mode, _, id) = (words.next(), words.next(), words.next());
    Ok(mode.zip(id).filter(|_| at == path))
}

/// The user's own clone of a submodule, if it has the commit. A linked worktree has clones of its
/// own; those of the main one serve as well.
fn clone_of(
    repository: &Repository,
    git_dirs: &[PathBuf],
    name: &str,
    commit: &CommitId,
) -> Result<Option<PathBuf>, WorkspaceError> {
    for git_dir in git_dirs {
        let Ok(path) = fs::canonicalize(git_dir.join("modules").join(name)) else {
            continue;
        };
        if !path.starts_with(repository.common_dir()) || !path.join("HEAD").is_file() {
            continue;
        }
        let object = format!("{commit}^{{commit}}");
        let git = trusting(repository, &path)?;
        match git.on_objects(&path, ["cat-file", "-e", &object]).run() {
            Ok(_) => return Ok(Some(path)),
            Err(GitError::Failed { .. }) => {}
            Err(other) => return Err(WorkspaceError::git("look into a submodule's clone")(other)),
        }
    }
    Ok(None)
}

/// Git that takes a git directory below the user's repository as the user's own.
fn trusting(repository: &Repository, git_dir: &Path) -> Result<Git, WorkspaceError> {
    let git = repository.git().trusting(&[git_dir]);
    git.map_err(WorkspaceError::git("prepare git"))
}

/// Whether a name or path stays below where it is put and out of git's own directories.
fn is_safe(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    name.len() <= NAME_LIMIT
        && !name.starts_with('-')
        && !name.contains(char::is_control)
        && !name.contains(char::REPLACEMENT_CHARACTER)
        && name.split('/').all(part)
}

fn join(parent: &str, below: &str) -> String {
    if parent.is_empty() {
        below.to_owned()
    } else {
        format!("{parent}/{below}")
    }
}
