//! What commits change, for people and as files. None of the user's configuration or attributes has a part
//! in it: a patch is the same for everybody, and no program that they name runs.

use std::path::Path;
use std::time::Duration;

use super::mails;
use super::{GitError, Objects, Repository, ScratchRepository};
use crate::id::{BranchName, CommitId};

/// How long writing one file may take.
const TIME: Duration = Duration::from_secs(1800);
/// What makes a patch of which nothing is left out.
const PATCH: [&str; 6] = [
    "--no-ext-diff",
    "--no-textconv",
    "--binary",
    "--full-index",
    "--no-color",
    "--ignore-submodules=none",
];

/// A commit, and what it says and changes; all of it is untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedCommit {
    /// Its id.
    pub id: CommitId,
    /// Who made it, with the e-mail address.
    pub author: Vec<u8>,
    /// When, with the time zone.
    pub date: Vec<u8>,
    /// What it says.
    pub message: Vec<u8>,
    /// The files that it changes, and how much, in lines; none for a merge.
    pub files: Vec<u8>,
}

impl Repository {
    /// What `tip` changes of `base`, as a patch; untrusted bytes.
    pub fn diff(&self, base: &CommitId, tip: &CommitId, color: bool) -> Result<Vec<u8>, GitError> {
        let scratch = ScratchRepository::new(self, Objects::Dropped)?;
        let color = color.then_some("--color=always");
        let words = ["diff"].into_iter().chain(PATCH).chain(color);
        let call = scratch.call(words.chain([base.as_str(), tip.as_str(), "--"]));
        call.run()
    }

    /// The commits of `tip` that `base` does not have, the newest first.
    pub fn log(&self, base: &CommitId, tip: &CommitId) -> Result<Vec<LoggedCommit>, GitError> {
        let scratch = ScratchRepository::new(self, Objects::Dropped)?;
        let range = format!("{base}..{tip}");
        let words = [
            "log",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
            "--stat-width=100",
            "--stat-count=100",
            "--format=%x00%H%x00%an <%ae>%x00%ad%x00%B%x00",
            &range,
            "--",
        ];
        let text = scratch.call(words).run()?;
        let logged = parse(&text);
        logged.ok_or_else(|| unexpected("log"))
    }

    /// Writes what `tip` changes of `base` to a file, for git-apply(1).
    pub fn write_patch(
        &self,
        (base, tip): (&CommitId, &CommitId),
        file: &Path,
    ) -> Result<(), GitError> {
        let scratch = ScratchRepository::new(self, Objects::Dropped)?;
        let output = format!("--output={}", file.display());
        let words = ["diff"].into_iter().chain(PATCH);
        let call = scratch.call(words.chain([&*output, base.as_str(), tip.as_str(), "--"]));
        call.deadline(TIME).run().map(drop)
    }

    /// Writes the commits of `tip` that `base` does not have to a file, as mails for git-am(1). What git
    /// would take for another mail or for a patch in what they say is indented.
    ///
    /// # Errors
    /// Where there are merges among them.
    pub fn write_mails(
        &self,
        (base, tip): (&CommitId, &CommitId),
        file: &Path,
    ) -> Result<(), GitError> {
        let scratch = ScratchRepository::new(self, Objects::Dropped)?;
        let tip = mails::inert(&scratch, base, tip)?;
        let (output, range) = (
            format!("--output={}", file.display()),
            format!("{base}..{tip}"),
        );
        let words = ["format-patch", "--no-signature"].into_iter();
        let call = scratch.call(words.chain(PATCH).chain([&*output, &range]));
        call.deadline(TIME).run().map(drop)
    }

    /// Writes branches, each at its tip, to a file for git-fetch(1): whoever gets it must have the commits
    /// `without`.
    pub fn write_bundle(
        &self,
        branches: &[(BranchName, CommitId)],
        without: &[CommitId],
        file: &Path,
    ) -> Result<(), GitError> {
        let scratch = ScratchRepository::new(self, Objects::Dropped)?;
        let refs = branches.iter().map(|(branch, _)| branch.full_ref());
        let refs: Vec<String> = refs.collect();
        let creating = refs.iter().zip(branches);
        let lines = creating.map(|(name, (_, tip))| format!("create {name} {tip}\n"));
        let input: String = lines.collect();
        let update = scratch.call(["update-ref", "--stdin"]);
        update.input(input.into_bytes()).run()?;
        let without = without.iter().map(|commit| format!("^{commit}"));
        let words = ["bundle", "create", "-q"].map(str::to_owned).into_iter();
        let words = words.chain([file.display().to_string()]);
        let call = scratch.call(words.chain(refs).chain(without));
        call.deadline(TIME).run().map(drop)
    }
}

/// Reads what the format of [`Repository::log`] says.
fn parse(text: &[u8]) -> Option<Vec<LoggedCommit>> {
    let mut fields = text.split(|byte| *byte == 0).skip(1);
    let mut logged = Vec::new();
    while let Some(id) = fields.next() {
        let mut field = || Some(fields.next()?.to_vec());
        logged.push(LoggedCommit {
            id: std::str::from_utf8(id).ok()?.parse().ok()?,
            author: field()?,
            date: field()?,
            message: field()?,
            files: field()?,
        });
    }
    Some(logged)
}

pub(super) fn unexpected(command: &str) -> GitError {
    let command = format!("git {command}");
    GitError::Unexpected { command }
}
