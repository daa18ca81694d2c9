//! What a result must be to enter the user's repository. Fails closed: a check that cannot be
//! made counts as failed.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{CollectError, fail_closed, rejected, too_much};
use super::limits::CollectLimits;
use super::quarantine::{Quarantine, revisions};
use super::trees::{ObjectId, Trees, too_deep, unhex};
use crate::git::GitError;
use crate::id::CommitId;
use crate::workspace::{BaseStore, Workspace};

/// What one object takes in the listings: its id, as one of its own and as somebody's parent.
const LISTED: u64 = 2 * 41;
/// Results with more bytes of trees than this are in memory one at a time, however many tasks end
/// at once.
const LARGE: u64 = 16 << 20;
static ALONE: Mutex<()> = Mutex::new(());
/// What a header takes: id, type, size.
const HEADER: u64 = 80;

/// What tips add to the base: known by its headers, nothing of it is read yet.
pub(super) struct Added {
    base: ObjectId,
    base_tree: ObjectId,
    tip_tree: ObjectId,
    /// The parents of every new commit.
    parents: HashMap<ObjectId, Vec<ObjectId>>,
    /// The new commits and files with their sizes, the newest first.
    commits: Vec<(ObjectId, u64)>,
    blobs: Vec<(ObjectId, u64)>,
    trees: Vec<ObjectId>,
    tree_bytes: u64,
    largest_blob: u64,
    bytes: u64,
}

/// A result that passed.
pub(super) struct Checked {
    pub(super) trees: Trees,
    pub(super) base_tree: ObjectId,
    pub(super) tip_tree: ObjectId,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Added {
    /// Lists what `tips`, all of them commits, add to `base`; the first is the result.
    pub(super) fn list(
        quarantine: &Quarantine<'_>,
        tips: &[&CommitId],
        base: &CommitId,
        most: u64,
    ) -> Result<Self, CollectError> {
        let bytes =
            |count: u64, each| usize::try_from(count.saturating_mul(each)).unwrap_or(usize::MAX);
        let too_many = |found: &str| too_much("object-count", found, "objects", most);
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
            .output_limit(bytes(most, LISTED))
            .run_text()
            .map_err(|error| match error {
                GitError::OutputTooLarge { .. } => too_many("a listing of objects"),
                other => fail_closed("objects")(other),
            })?;
        let count = listing.lines().count() as u64;
        if count > most {
            return Err(too_many(&format!("{count} objects")));
        }
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
            .output_limit(bytes(most.saturating_add(tips.len() as u64 + 2), HEADER))
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
            commits: Vec::new(),
            blobs: Vec::new(),
            trees: Vec::new(),
            tree_bytes: 0,
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
            "tree" => {
                self.trees.push(object);
                self.tree_bytes = self.tree_bytes.saturating_add(size);
            }
            "blob" => {
                self.blobs.push((object, size));
                self.largest_blob = self.largest_blob.max(size);
            }
            "commit" => {
                let parents = line.split(' ').skip(1).map(id).collect::<Result<_, _>>()?;
                self.commits.push((object, size));
                self.parents.insert(object, parents);
            }
            _ => {}
        }
        Ok(())
    }

    /// All new commits with their sizes in bytes, the newest first.
    pub(super) fn all_commits(&self) -> &[(ObjectId, u64)] {
        &self.commits
    }

    /// All new files with their sizes in bytes, those of the newest commit first.
    pub(super) fn files(&self) -> &[(ObjectId, u64)] {
        &self.blobs
    }

    /// All new directories.
    pub(super) fn directories(&self) -> &[ObjectId] {
        &self.trees
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
        from: (&BaseStore, &Workspace),
        limits: &CollectLimits,
    ) -> Result<Checked, CollectError> {
        let commits = self.parents.len() as u64;
        if commits > limits.commits {
            let found = format!("{commits} commits");
            return Err(too_much("commits", found, "commits", limits.commits));
        }
        if self.largest_blob > limits.file {
            let found = format!("a file of {} bytes", self.largest_blob);
            return Err(too_much("blob-size", found, "file", limits.file));
        }
        if self.bytes > limits.total {
            let found = format!("{} bytes of objects", self.bytes);
            return Err(too_much("total-size", found, "total", limits.total));
        }
        if self.tree_bytes > limits.trees {
            let found = format!("{} bytes of directories", self.tree_bytes);
            return Err(too_much("tree-bytes", found, "trees", limits.trees));
        }
        let alone = (self.tree_bytes > LARGE).then(|| ALONE.lock());
        let (base_tree, tip_tree) = (self.base_tree, self.tip_tree);
        let mut trees = Trees::new(limits.trees);
        trees.load(quarantine, &self.trees)?;
        trees.complete(from, [base_tree, tip_tree], limits.depth)?;
        check_shape(&mut trees, &self.trees, &base_tree, limits)?;
        Ok(Checked {
            trees,
            base_tree,
            tip_tree,
            // What it protects is no data: it cannot be left half-done.
            _alone: alone.map(|lock| lock.unwrap_or_else(PoisonError::into_inner)),
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
            return Err(too_deep(limits.depth));
        }
        if extent.paths > allowed {
            let found = format!("a tree of {} paths", extent.paths);
            return Err(too_much("paths", found, "paths", limits.paths));
        }
    }
    Ok(())
}
