//! Merges that git makes in memory, many in one process.

use std::collections::HashMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use super::scratch::{Scratch, unexpected};
use crate::git::GitError;
use crate::id::CommitId;

/// How many merges one process makes.
const AT_ONCE: usize = 64;
/// How many processes there are at a time, at most.
const WORKERS: usize = 4;
/// What it may say of them, in bytes; where that is not enough, fewer are made.
const OUTPUT: usize = 256 << 20;

/// What a merge gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merge {
    /// The merged tree; with marks in its files where they conflict.
    pub(super) tree: String,
    /// The files that conflict, or else the directories, and what does, in git's words; sorted.
    pub(super) conflicts: Vec<(Vec<u8>, String)>,
    /// Whether there is no conflict.
    pub(super) is_clean: bool,
}

/// Merges pairs of commits that have history in common.
pub(super) fn merge_pairs(
    scratch: &Scratch,
    pairs: &[(CommitId, CommitId)],
) -> Result<Vec<Merge>, GitError> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = workers.min(WORKERS);
    let size = pairs.len().div_ceil(workers).clamp(1, AT_ONCE);
    let mut merges = Vec::with_capacity(pairs.len());
    for wave in pairs.chunks(size * workers) {
        let made: Vec<_> = thread::scope(|scope| {
            let start = |some| scope.spawn(move || merge_some(scratch, some));
            let running: Vec<_> = wave.chunks(size).map(start).collect();
            let ended = running.into_iter().map(ScopedJoinHandle::join);
            ended.collect()
        });
        for made in made {
            merges.extend(made.unwrap_or_else(|panic| resume_unwind(panic))?);
        }
    }
    Ok(merges)
}

fn merge_some(scratch: &Scratch, pairs: &[(CommitId, CommitId)]) -> Result<Vec<Merge>, GitError> {
    let lines = pairs.iter().map(|(one, other)| format!("{one} {other}\n"));
    let input: String = lines.collect();
    let call = scratch.call(["merge-tree", "--stdin"]);
    let output = call.input(input.into_bytes()).output_limit(OUTPUT).run();
    if let Err(GitError::OutputTooLarge { .. }) = output
        && pairs.len() > 1
    {
        let (some, others) = pairs.split_at(pairs.len() / 2);
        let mut merges = merge_some(scratch, some)?;
        merges.extend(merge_some(scratch, others)?);
        return Ok(merges);
    }
    let read = parse(&output?).filter(|read| read.len() == pairs.len());
    let mut merges = read.ok_or_else(|| unexpected("merge-tree"))?;
    for (merge, (one, other)) in merges.iter_mut().zip(pairs) {
        for (path, _) in &mut merge.conflicts {
            *path = own_path(path, [one, other]).to_vec();
        }
        merge.conflicts.sort_by(|one, other| one.0.cmp(&other.0));
        merge.conflicts.dedup_by(|one, other| one.0 == other.0);
    }
    Ok(merges)
}

/// The path that a file has in its commit: one that is in the way of a directory is put beside it, under
/// a name that ends with its commit.
fn own_path<'a>(path: &'a [u8], commits: [&CommitId; 2]) -> &'a [u8] {
    let mut ends = commits.into_iter().map(|commit| format!("~{commit}"));
    ends.find_map(|end| path.strip_suffix(end.as_bytes()))
        .unwrap_or(path)
}

/// The kinds of what is said of paths.
type Kinds<'a> = HashMap<&'a [u8], &'a [u8]>;

/// Reads what git-merge-tree(1) says of several merges.
fn parse(output: &[u8]) -> Option<Vec<Merge>> {
    let mut fields = output.split(|byte| *byte == 0);
    let mut merges = Vec::new();
    loop {
        let status = fields.next()?;
        if status.is_empty() {
            // Behind the last one is nothing more.
            return fields.next().is_none().then_some(merges);
        }
        let is_clean = status == b"1";
        let tree = String::from_utf8(fields.next()?.to_vec()).ok()?;
        let stages = fields.by_ref().take_while(|field| !field.is_empty());
        let paths = stages.map(|stage| {
            let tab = stage.iter().position(|byte| *byte == b'\t')?;
            Some(&stage[tab + 1..])
        });
        let mut paths: Vec<&[u8]> = paths.collect::<Option<_>>()?;
        paths.dedup();
        let kinds = if is_clean {
            // The empty field behind it was taken for the end of the stages.
            Kinds::new()
        } else {
            messages(&mut fields)?
        };
        if paths.is_empty() {
            // A directory of which nobody knows where it went: no file of it conflicts.
            paths.extend(kinds.keys());
            paths.sort_unstable();
        }
        let conflicts = paths.into_iter().map(|path| {
            let kind = kinds.get(path).copied().unwrap_or(b"conflict");
            (path.to_vec(), String::from_utf8_lossy(kind).into_owned())
        });
        merges.push(Merge {
            tree,
            conflicts: conflicts.collect(),
            is_clean,
        });
    }
}

/// Reads what is said of a merge: each time how many paths, these, what it is, and a sentence.
fn messages<'a>(fields: &mut impl Iterator<Item = &'a [u8]>) -> Option<Kinds<'a>> {
    let mut kinds = Kinds::new();
    loop {
        let count = fields.next()?;
        if count.is_empty() {
            return Some(kinds);
        }
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        let paths: Vec<&[u8]> = fields.by_ref().take(count).collect();
        let (what, _sentence) = (fields.next()?, fields.next()?);
        // Some of git's words have a blank there, some have none.
        let kind = what.strip_prefix(b"CONFLICT").map(<[u8]>::trim_ascii);
        let kind = kind.and_then(|kind| kind.strip_prefix(b"(")?.strip_suffix(b")"));
        let Some(kind) = kind else { continue };
        for path in paths {
            // The first word on a path is the one that says most.
            kinds.entry(path).or_insert(kind);
        }
    }
}
