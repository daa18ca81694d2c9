//! The repository in which merges are made: of the user's only the objects and the attributes have a part
//! in them, so that no merge driver runs, and nothing of his is written.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use super::ForecastRequest;
use crate::git::{self, GitCall, GitError, Objects, ResourceLimits, ScratchRepository};
use crate::id::CommitId;

/// How long one call may take.
const TIME: Duration = Duration::from_secs(300);
const LIMITS: ResourceLimits = ResourceLimits {
    address_space: 6 << 30,
    cpu_seconds: TIME.as_secs() + 1,
    file_size: 10 << 30,
};
/// Blobs that are read at once, in bytes.
const READ: usize = 64 << 20;
/// What `git cat-file` may say beside them.
const HEADERS: usize = 64 << 20;

/// The repository; removed when it is dropped.
pub(super) struct Scratch {
    repository: ScratchRepository,
    /// Files that git takes for the worktree: attributes.
    files: PathBuf,
    /// When nothing is begun any more.
    until: Option<Instant>,
}

impl Scratch {
    pub(super) fn new(request: &ForecastRequest<'_>, objects: Objects) -> Result<Self, GitError> {
        let repository = ScratchRepository::new(request.repository, objects)?;
        let files = repository.directory().join("files");
        let lay = || {
            fs::create_dir(&files)?;
            let attributes = "info/attributes";
            fs::create_dir_all(repository.git_dir().join("info"))?;
            let theirs = request.repository.common_dir().join(attributes);
            git::copy(&theirs, &repository.git_dir().join(attributes))
        };
        lay().map_err(GitError::io("make a repository"))?;
        Ok(Self {
            repository,
            files,
            until: request.patience.map(|patience| Instant::now() + patience),
        })
    }

    /// A call in it.
    pub(super) fn call<I>(&self, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        // Attributes are looked for where git is, not where it is told that the files are.
        let there = ["-C".into(), self.files.clone().into_os_string()];
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        self.repository
            .call(there.into_iter().chain(arguments))
            .work_tree(&self.files)
            .config("core.packedGitLimit=256m")
            .config("core.packedGitWindowSize=32m")
            .deadline(left.map_or(TIME, |left| left.min(TIME)))
            .limits(LIMITS)
    }

    /// A file to be read by git once: where it is, and what git calls it.
    pub(super) fn file(&self, number: usize) -> (PathBuf, String) {
        let file = self.repository.directory().join(number.to_string());
        (file, format!("../{number}"))
    }

    /// The trees of commits.
    pub(super) fn trees(&self, commits: &[CommitId]) -> Result<Vec<String>, GitError> {
        let input: String = commits
            .iter()
            .map(|commit| format!("{commit}^{{tree}}\n"))
            .collect();
        let call = self.call(["cat-file", "--batch-check=%(objectname)"]);
        let text = call.input(input.into_bytes()).run_text()?;
        let trees: Vec<String> = text.lines().map(str::to_owned).collect();
        if trees.len() == commits.len() && trees.iter().all(|tree| tree.len() == 40) {
            Ok(trees)
        } else {
            Err(unexpected("cat-file"))
        }
    }

    /// Lays the files out that give the files of `directories` attributes, as `commit` has them.
    pub(super) fn lay_attributes(
        &self,
        commit: &CommitId,
        directories: &BTreeSet<Vec<u8>>,
    ) -> Result<(), GitError> {
        let path = |directory: &Vec<u8>| match directory.as_slice() {
            b"" => b".gitattributes".to_vec(),
            directory => [directory, b"/.gitattributes"].concat(),
        };
        let paths: Vec<Vec<u8>> = directories.iter().map(path).collect();
        let names = paths.iter().map(|path| name(commit.as_str(), path));
        let found = self.blobs(&names.collect::<Vec<_>>())?;
        for (path, content) in paths.iter().zip(found) {
            let path = Path::new(OsStr::from_bytes(path));
            // A tree that git would not check out may say anything.
            let stays = path
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            let Some(content) = content.filter(|_| stays) else {
                continue;
            };
            let path = self.files.join(path);
            let parent = path.parent().unwrap_or(&self.files);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, content))
                .map_err(GitError::io(format!("write {}", path.display())))?;
        }
        Ok(())
    }

    /// The contents of blobs with these names, `commit:path` or the like; none for one that is not
    /// there, is no blob, has a name that cannot be asked for, or is more than is read at once.
    pub(super) fn blobs(&self, names: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let mut found = vec![None; names.len()];
        // What is not there is told by its name, in which lines would be taken for others.
        let is_askable =
            |name: &&usize| !names[**name].iter().any(|byte| matches!(byte, 0 | b'\n'));
        let all: Vec<usize> = (0..names.len()).collect();
        let asked: Vec<usize> = all.iter().filter(is_askable).copied().collect();
        if asked.is_empty() {
            return Ok(found);
        }
        let input = |asked: &[usize]| {
            let names = asked.iter().flat_map(|at| [&names[*at][..], b"\0"]);
            names.collect::<Vec<_>>().concat()
        };
        let format = "--batch-check=%(objecttype) %(objectsize)";
        let sizes = self.call(["cat-file", "-z", format]).input(input(&asked));
        let sizes = sizes.output_limit(HEADERS).run()?;
        let sizes = sizes.split(|byte| *byte == b'\n');
        let mut left = READ;
        let fits = asked.iter().zip(sizes).filter_map(|(at, line)| {
            let size = line.strip_prefix(b"blob ")?;
            let size: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
            left = left.checked_sub(size)?;
            Some((*at, size))
        });
        let fits: Vec<(usize, usize)> = fits.collect();
        let asked: Vec<usize> = fits.iter().map(|(at, _)| *at).collect();
        if asked.is_empty() {
            return Ok(found);
        }
        let contents = self.call(["cat-file", "-z", "--batch=%(objecttype)"]);
        let contents = contents.input(input(&asked)).output_limit(READ + HEADERS);
        let contents = contents.run()?;
        let mut rest = &contents[..];
        for (at, size) in fits {
            let body = rest
                .strip_prefix(b"blob\n")
                .ok_or_else(|| unexpected("cat-file"))?;
            let (content, after) = body
                .split_at_checked(size)
                .ok_or_else(|| unexpected("cat-file"))?;
            found[at] = Some(content.to_vec());
            rest = after.strip_prefix(b"\n").unwrap_or(after);
        }
        Ok(found)
    }
}

/// `treeish:path`, as git names what is there.
pub(super) fn name(treeish: &str, path: &[u8]) -> Vec<u8> {
    [treeish.as_bytes(), b":", path].concat()
}

/// An answer that cannot be read.
pub(super) fn unexpected(command: &str) -> GitError {
    let command = format!("git {command}");
    GitError::Unexpected { command }
}
