//! Single entries of a commit's tree.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Git, GitError};
use crate::id::CommitId;

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its mode, as git has it: a file, a link, a directory or a submodule.
    pub mode: u32,
    /// The id of its object.
    pub id: String,
}

/// The entries of a commit's tree with these paths, by path; those that it has.
pub fn entries(
    git: &Git,
    git_dir: &Path,
    commit: &CommitId,
    paths: &[String],
) -> Result<BTreeMap<String, TreeEntry>, GitError> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let words = [
        "--literal-pathspecs",
        "ls-tree",
        "-z",
        commit.as_str(),
        "--",
    ];
    let words = words.into_iter().chain(paths.iter().map(String::as_str));
    let listed = git.on_objects(git_dir, words).run_text()?;
    let found = listed.split_terminator('\0').filter_map(parse);
    Ok(found.filter(|(path, _)| paths.contains(path)).collect())
}

/// All files of a commit's tree, by path; links and submodules too, and no directories.
pub fn files(
    git: &Git,
    git_dir: &Path,
    commit: &CommitId,
) -> Result<BTreeMap<String, TreeEntry>, GitError> {
    let words = ["ls-tree", "-r", "-z", commit.as_str()];
    let listed = git.on_objects(git_dir, words).run_text()?;
    Ok(listed.split_terminator('\0').filter_map(parse).collect())
}

/// `mode type id<TAB>path`, git-ls-tree(1).
fn parse(entry: &str) -> Option<(String, TreeEntry)> {
    let (facts, path) = entry.split_once('\t')?;
    let mut facts = facts.split(' ');
    let mode = u32::from_str_radix(facts.next()?, 8).ok()?;
    let id = facts.nth(1)?.to_owned();
    Some((path.to_owned(), TreeEntry { mode, id }))
}
