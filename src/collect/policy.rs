//! What a result must be to enter the user's repository. Fails closed: a check that cannot be
//! made counts as failed.

use super::CollectLimits;
use super::error::{CollectError, fail_closed, rejected};
use super::quarantine::{Quarantine, revisions};
use super::trees::{ObjectId, Trees, unhex};
use crate::id::CommitId;

/// Most objects that a result may add, and what one id takes in a listing.
const OBJECTS: usize = 1_000_000;
const ID_LINE: usize = 41;

/// A result that passed.
pub(super) struct Checked {
    pub(super) trees: Trees,
    pub(super) base_tree: ObjectId,
    pub(super) tip_tree: ObjectId,
}

/// Whether `tip` is a commit on top of `base`.
pub(super) fn descends(
    quarantine: &Quarantine<'_>,
    tip: &CommitId,
    base: &CommitId,
) -> Result<bool, CollectError> {
    let kind = quarantine.call(["cat-file", "-t", tip.as_str()]).run_text();
    let kind = kind.map_err(fail_closed("tip-is-commit"))?;
    if kind.trim() != "commit" {
        return rejected(
            "tip-is-commit",
            format!("the result's tip is a {}", kind.trim()),
        );
    }
    quarantine
        .call(["merge-base", "--is-ancestor", base.as_str(), tip.as_str()])
        .run_bool()
        .map_err(fail_closed("descends-from-base"))
}

/// How many commits `tips` add to `base`.
pub(super) fn commits(
    quarantine: &Quarantine<'_>,
    tips: &[&CommitId],
    base: &CommitId,
) -> Result<u64, CollectError> {
    let answer = quarantine
        .call(["rev-list", "--count", "--stdin"])
        .input(revisions(tips, base))
        .run_text()
        .map_err(fail_closed("commits"))?;
    let uncounted = |_| rejected("commits", "the commits cannot be counted");
    answer.trim().parse().or_else(uncounted)
}

/// Checks the size and shape of everything that `tips` add to `base`; the first is the result.
pub(super) fn check(
    quarantine: &Quarantine<'_>,
    tips: &[&CommitId],
    base: &CommitId,
    limits: &CollectLimits,
) -> Result<Checked, CollectError> {
    let commits = commits(quarantine, tips, base)?;
    if commits > limits.commits {
        let detail = format!("{commits} commits, at most {} are taken", limits.commits);
        return rejected("commits", detail);
    }
    // Fails where an object is missing.
    let objects = quarantine
        .call(["rev-list", "--objects", "--no-object-names", "--stdin"])
        .input(revisions(tips, base))
        .output_limit(OBJECTS * ID_LINE)
        .run_text()
        .map_err(fail_closed("objects"))?;
    let new_trees = check_sizes(quarantine, &objects, limits)?;
    let (base_tree, tip_tree) = (root(quarantine, base)?, root(quarantine, tips[0])?);
    let mut trees = Trees::default();
    let roots = new_trees.iter().copied().chain([base_tree, tip_tree]);
    trees.load(quarantine, roots.collect(), limits.depth)?;
    check_shape(&mut trees, &new_trees, &base_tree, limits)?;
    Ok(Checked {
        trees,
        base_tree,
        tip_tree,
    })
}

/// Checks that no tree is too deep or unfolds to too many paths.
fn check_shape(
    trees: &mut Trees,
    new_trees: &[ObjectId],
    base_tree: &ObjectId,
    limits: &CollectLimits,
) -> Result<(), CollectError> {
    let allowed = trees.extent(base_tree).paths.saturating_add(limits.paths);
    for tree in new_trees {
        let extent = trees.extent(tree);
        if extent.depth > limits.depth {
            let detail = format!("directories are nested deeper than {}", limits.depth);
            return rejected("depth", detail);
        }
        if extent.paths > allowed {
            let detail = format!("a tree adds more than {} paths", limits.paths);
            return rejected("paths", detail);
        }
    }
    Ok(())
}

/// Checks sizes by their headers, before anything is read; returns which objects are trees.
fn check_sizes(
    quarantine: &Quarantine<'_>,
    objects: &str,
    limits: &CollectLimits,
) -> Result<Vec<ObjectId>, CollectError> {
    let answer = quarantine
        .call([
            "cat-file",
            "--batch-check=%(objectname) %(objecttype) %(objectsize)",
        ])
        .input(objects.as_bytes().to_vec())
        .output_limit(OBJECTS * 80)
        .run_text()
        .map_err(fail_closed("objects"))?;
    let (mut total, mut trees) = (0_u64, Vec::new());
    for line in answer.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [id, kind, size] = words[..] else {
            return rejected("objects", "an object is missing");
        };
        let (Some(id), Ok(size)) = (unhex(id), size.parse::<u64>()) else {
            return rejected("objects", "an object cannot be read");
        };
        total = total.saturating_add(size);
        match kind {
            "tree" => trees.push(id),
            "blob" if size > limits.blob_bytes => {
                return rejected(
                    "blob-size",
                    format!(
                        "a file of {size} bytes, at most {} are taken",
                        limits.blob_bytes
                    ),
                );
            }
            _ => {}
        }
    }
    if total > limits.total_bytes {
        return rejected(
            "total-size",
            format!("{total} bytes, at most {} are taken", limits.total_bytes),
        );
    }
    Ok(trees)
}

fn root(quarantine: &Quarantine<'_>, commit: &CommitId) -> Result<ObjectId, CollectError> {
    let name = format!("{commit}^{{tree}}");
    let answer = quarantine
        .call(["rev-parse", "--verify", "-q", &name])
        .run_text();
    let answer = answer.map_err(fail_closed("trees"))?;
    unhex(answer.trim()).map_or_else(|| rejected("trees", "a commit has no tree"), Ok)
}
