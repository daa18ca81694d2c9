//! What a result must be to enter the user's repository. Fails closed: a check that cannot be
//! made counts as failed.

use std::collections::{HashMap, HashSet};

use super::CollectLimits;
use super::error::{CollectError, fail_closed, rejected};
use super::quarantine::{Quarantine, revisions};
use super::trees::{ObjectId, Trees, unhex};
use crate::id::CommitId;
use crate::workspace::BaseStore;

/// Most objects that a result may add, and what one id takes in a listing.
const OBJECTS: usize = 1_000_000;
const ID_LINE: usize = 41;

/// What tips add to the base: known by its headers, nothing of it is read yet.
pub(super) struct Added {
    base: ObjectId,
    base_tree: ObjectId,
    tip_tree: ObjectId,
    /// The parents of every new commit.
    parents: HashMap<ObjectId, Vec<ObjectId>>,
    trees: Vec<ObjectId>,
    largest_blob: u64,
    bytes: u64,
}

/// A result that passed.
pub(super) struct Checked {
    pub(super) trees: Trees,
    pub(super) base_tree: ObjectId,
    pub(super) tip_tree: ObjectId,
}

impl Added {
    /// Lists what `tips`, all of them commits, add to `base`; the first is the result.
    pub(super) fn list(
        quarantine: &Quarantine<'_>,
        tips: &[&CommitId],
        base: &CommitId,
    ) -> Result<Self, CollectError> {
        // Fails where an object is missing. Commits come with their parents.
        let listing = quarantine
            .call([
                "rev-list",
                "--objects",
                "--no-object-names",
                "--parents",
                "--stdin",
            ])
            .input(revisions(tips, base))
            .output_limit(OBJECTS * ID_LINE)
            .run_text()
            .map_err(fail_closed("objects"))?;
        let mut questions: String = tips.iter().flat_map(|tip| [tip.as_str(), "\n"]).collect();
        for commit in [base, tips[0]] {
            questions.extend([commit.as_str(), "^{tree}\n"]);
        }
        let ids = listing
            .lines()
            .map(|line| line.split(' ').next().unwrap_or(line));
        questions.extend(ids.flat_map(|id| [id, "\n"]));
        let answer = quarantine
            .call([
                "cat-file",
                "--batch-check=%(objectname) %(objecttype) %(objectsize)",
            ])
            .input(questions.into_bytes())
            .output_limit(OBJECTS * 80)
            .run_text()
            .map_err(fail_closed("objects"))?;
        let mut headers = answer.lines().map(header);
        let mut next = || headers.next().unwrap_or_else(|| header(""));
        for _ in tips {
            let (_, kind, _) = next()?;
            if kind != "commit" {
                return rejected("tip-is-commit", format!("the result's tip is a {kind}"));
            }
        }
        let (base_tree, tip_tree) = (next()?.0, next()?.0);
        let mut added = Self {
            base: id(base.as_str())?,
            base_tree,
            tip_tree,
            parents: HashMap::new(),
            trees: Vec::new(),
            largest_blob: 0,
            bytes: 0,
        };
        for line in listing.lines() {
            added.add(line, next()?)?;
        }
        Ok(added)
    }

    fn add(
        &mut self,
        line: &str,
        (object, kind, size): (ObjectId, &str, u64),
    ) -> Result<(), CollectError> {
        self.bytes = self.bytes.saturating_add(size);
        match kind {
            "tree" => self.trees.push(object),
            "blob" => self.largest_blob = self.largest_blob.max(size),
            "commit" => {
                let parents = line.split(' ').skip(1).map(id).collect::<Result<_, _>>()?;
                self.parents.insert(object, parents);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a tip builds on the base.
    pub(super) fn descends(&self, tip: &CommitId) -> Result<bool, CollectError> {
        Ok(self.walk(id(tip.as_str())?).contains(&self.base))
    }

    /// How many commits a tip adds to the base.
    pub(super) fn commits(&self, tip: &CommitId) -> Result<u64, CollectError> {
        let reached = self.walk(id(tip.as_str())?);
        let new = reached.iter().filter(|id| self.parents.contains_key(*id));
        Ok(new.count() as u64)
    }

    /// A tip, the new commits below it, and the parents of these.
    fn walk(&self, tip: ObjectId) -> HashSet<ObjectId> {
        let mut reached = HashSet::from([tip]);
        let mut pending = vec![tip];
        while let Some(commit) = pending.pop() {
            for parent in self.parents.get(&commit).into_iter().flatten() {
                if reached.insert(*parent) {
                    pending.push(*parent);
                }
            }
        }
        reached
    }

    /// Checks the size and shape of everything that was listed.
    pub(super) fn check(
        &self,
        quarantine: &Quarantine<'_>,
        store: &BaseStore,
        limits: &CollectLimits,
    ) -> Result<Checked, CollectError> {
        let commits = self.parents.len() as u64;
        if commits > limits.commits {
            let detail = format!("{commits} commits, at most {} are taken", limits.commits);
            return rejected("commits", detail);
        }
        if self.largest_blob > limits.blob_bytes {
            let (size, most) = (self.largest_blob, limits.blob_bytes);
            let detail = format!("a file of {size} bytes, at most {most} are taken");
            return rejected("blob-size", detail);
        }
        if self.bytes > limits.total_bytes {
            let detail = format!(
                "{} bytes, at most {} are taken",
                self.bytes, limits.total_bytes
            );
            return rejected("total-size", detail);
        }
        let (base_tree, tip_tree) = (self.base_tree, self.tip_tree);
        let mut trees = Trees::default();
        trees.load(quarantine, &self.trees)?;
        trees.complete(store, [base_tree, tip_tree], limits.depth)?;
        check_shape(&mut trees, &self.trees, &base_tree, limits)?;
        Ok(Checked {
            trees,
            base_tree,
            tip_tree,
        })
    }
}

/// Reads a line of `cat-file --batch-check`.
fn header(line: &str) -> Result<(ObjectId, &str, u64), CollectError> {
    let words: Vec<_> = line.split(' ').collect();
    let [name, kind, size] = words[..] else {
        return rejected("objects", "an object is missing");
    };
    match size.parse() {
        Ok(size) => Ok((id(name)?, kind, size)),
        Err(_) => rejected("objects", "an object cannot be read"),
    }
}

fn id(text: &str) -> Result<ObjectId, CollectError> {
    unhex(text).map_or_else(|| rejected("objects", "an object has no id"), Ok)
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
