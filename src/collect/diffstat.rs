//! How much a result changes, counted by libgit2 in `results.git`, within a budget.

use std::path::Path;

use git2::{Delta, Diff, DiffOptions, Oid, Patch, Repository};

use super::error::CollectError;
use super::trees::{ObjectId, hex};
use crate::event::{BranchReport, FileStat};
use crate::sanitize;

/// Files that are listed one by one.
const LISTED: usize = 20;
/// Larger files count as changed, their lines are not counted.
const FILE_LIMIT: usize = 1 << 20;
/// Bytes that are compared in all.
const BUDGET: usize = 64 << 20;
/// More changed paths than this are only counted.
pub(super) const PATHS: usize = 20_000;

/// Fills the numbers of a report from two trees.
pub(super) fn fill(
    report: &mut BranchReport,
    results: &Path,
    base_tree: &ObjectId,
    tip_tree: &ObjectId,
) -> Result<(), CollectError> {
    let repository = Repository::open_bare(results)?;
    let tree = |id: &ObjectId| repository.find_tree(Oid::from_str(&hex(id))?);
    let (old, new) = (tree(base_tree)?, tree(tip_tree)?);
    let mut options = DiffOptions::new();
    options
        .ignore_submodules(true)
        .max_size(i64::try_from(FILE_LIMIT).unwrap_or(i64::MAX));
    let diff = repository.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
    let database = repository.odb()?;
    let size = |id: Oid| {
        if id.is_zero() {
            0
        } else {
            database.read_header(id).map_or(FILE_LIMIT + 1, |h| h.0)
        }
    };
    let mut budget = BUDGET;
    let mut uncounted = 0_usize;
    for (index, delta) in diff.deltas().enumerate() {
        report.files += 1;
        let path = delta
            .new_file()
            .path_bytes()
            .or(delta.old_file().path_bytes());
        let mut stat = FileStat {
            path: sanitize::line(path.unwrap_or_default(), false),
            insertions: 0,
            deletions: 0,
        };
        let bytes = size(delta.old_file().id()).saturating_add(size(delta.new_file().id()));
        if bytes <= 2 * FILE_LIMIT && bytes <= budget && delta.status() != Delta::Typechange {
            budget -= bytes;
            (stat.insertions, stat.deletions) = lines(&diff, index)?;
        } else {
            uncounted += 1;
        }
        report.insertions += stat.insertions;
        report.deletions += stat.deletions;
        report.diffstat.push(stat);
    }
    report
        .diffstat
        .sort_by_key(|f| std::cmp::Reverse(f.insertions + f.deletions));
    report.diffstat.truncate(LISTED);
    if uncounted > 0 {
        report.notes.push(format!(
            "The lines of {uncounted} large files are not counted."
        ));
    }
    Ok(())
}

fn lines(diff: &Diff<'_>, index: usize) -> Result<(u64, u64), CollectError> {
    let Some(patch) = Patch::from_diff(diff, index)? else {
        return Ok((0, 0));
    };
    let (_, insertions, deletions) = patch.line_stats()?;
    Ok((insertions as u64, deletions as u64))
}
