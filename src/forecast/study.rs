//! All pairs of some tips, the first of which is the base: what merging them would give.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::changes::Changes;
use super::forks::{Fork, Forks};
use super::lines::conflict_lines;
use super::merges::{Merge, merge_pairs};
use super::scratch::{self, Scratch, unexpected};
use crate::event::{FileConflict, Fit};
use crate::git::GitError;
use crate::id::CommitId;
use crate::sanitize;

/// The most files of a pair that are told.
const FILES: usize = 20;
/// The most files that are told where there are many pairs, beside the first of each.
const ALL_FILES: usize = 4000;

/// Places of two tips, the smaller one first.
pub(super) type Pair = (usize, usize);

/// What is known of some tips.
pub(super) struct Study<'a> {
    scratch: &'a Scratch,
    pub(super) tips: Vec<CommitId>,
    /// What merging pairs would give, where it is more than a clean merge.
    pub(super) fits: BTreeMap<Pair, Fit>,
    /// The pairs that may get into each other's way, and so were merged.
    merged: BTreeSet<Pair>,
    /// Further pairs that may once others are merged.
    near: BTreeSet<Pair>,
    /// The directories in which something was merged.
    pub(super) directories: BTreeSet<Vec<u8>>,
}

/// What is to be found out of a pair.
enum Question {
    /// Nothing.
    Settled(Option<Fit>),
    /// What was changed since they parted, as (old, new).
    Changes([(CommitId, CommitId); 2]),
    /// What a merge gives.
    Merge,
}

impl<'a> Study<'a> {
    pub(super) fn make(scratch: &'a Scratch, tips: Vec<CommitId>) -> Result<Self, GitError> {
        let mut study = Self {
            scratch,
            tips,
            fits: BTreeMap::new(),
            merged: BTreeSet::new(),
            near: BTreeSet::new(),
            directories: BTreeSet::from([Vec::new()]),
        };
        let trees = study.compare()?;
        scratch.lay_attributes(&study.tips[0], &study.directories)?;
        study.merge(&trees)?;
        Ok(study)
    }

    /// Whether two tips may get into each other's way, with each other or with others merged before.
    pub(super) fn may_meet(&self, one: usize, other: usize) -> bool {
        let pair = (one.min(other), one.max(other));
        self.merged.contains(&pair) || self.near.contains(&pair)
    }

    /// Settles what can be settled without a merge. Gives the trees of the tips.
    fn compare(&mut self) -> Result<HashMap<CommitId, String>, GitError> {
        let forks = Forks::find(self.scratch, &self.tips)?;
        let count = self.tips.len();
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
        let questions: Vec<(Pair, Question)> = pairs
            .map(|pair| (pair, self.question(pair, &forks.between(pair.0, pair.1))))
            .collect();

        let mut commits: BTreeSet<CommitId> = self.tips.iter().cloned().collect();
        let mut spans = BTreeSet::new();
        for (pair, question) in &questions {
            match question {
                Question::Settled(_) => {}
                Question::Changes(both) => spans.extend(both.iter().cloned()),
                Question::Merge => {
                    spans.insert((self.tips[pair.0].clone(), self.tips[pair.1].clone()));
                }
            }
        }
        commits.extend(spans.iter().map(|(fork, _)| fork.clone()));
        let commits: Vec<CommitId> = commits.into_iter().collect();
        let trees = self.scratch.trees(&commits)?;
        let trees: HashMap<CommitId, String> = commits.into_iter().zip(trees).collect();
        let of_trees = spans
            .iter()
            .map(|(old, new)| (trees[old].clone(), trees[new].clone()));
        let changes = Changes::find(self.scratch, &of_trees.collect::<Vec<_>>())?;
        let places: HashMap<_, usize> = spans.into_iter().zip(0..).collect();
        for (pair, question) in questions {
            self.answer(pair, question, &changes, &places);
        }
        Ok(trees)
    }

    fn question(&self, (one, other): Pair, fork: &Fork) -> Question {
        let (first, second) = (&self.tips[one], &self.tips[other]);
        match fork {
            Fork::Nowhere => Question::Settled(Some(Fit::Unrelated)),
            Fork::Several => Question::Merge,
            // What the base has is merged. A task that builds on another holds it, as it should.
            Fork::At(fork) if first == second || one == 0 && fork == second => {
                Question::Settled(Some(Fit::Same))
            }
            Fork::At(fork) if one > 0 && (fork == first || fork == second) => {
                Question::Settled(None)
            }
            Fork::At(fork) => Question::Changes([
                (fork.clone(), first.clone()),
                (fork.clone(), second.clone()),
            ]),
        }
    }

    fn answer(
        &mut self,
        pair: Pair,
        question: Question,
        changes: &Changes,
        places: &HashMap<(CommitId, CommitId), usize>,
    ) {
        let spans = match question {
            Question::Settled(fit) => {
                self.fits.extend(fit.map(|fit| (pair, fit)));
                return;
            }
            Question::Merge => {
                vec![places[&(self.tips[pair.0].clone(), self.tips[pair.1].clone())]]
            }
            Question::Changes(both) => both.iter().map(|span| places[span]).collect(),
        };
        if let [one, other] = spans[..] {
            if changes.is_empty(other) || pair.0 > 0 && changes.is_empty(one) {
                self.fits.insert(pair, Fit::Same);
                return;
            }
            if !changes.touch(one, other) {
                self.near
                    .extend(changes.is_near(one, other).then_some(pair));
                return;
            }
        }
        self.merged.insert(pair);
        for span in spans {
            changes.directories(span, &mut self.directories);
        }
    }

    /// Merges what is left.
    fn merge(&mut self, trees: &HashMap<CommitId, String>) -> Result<(), GitError> {
        let tip = |at: usize| self.tips[at].clone();
        let pairs: Vec<Pair> = self.merged.iter().copied().collect();
        let commits: Vec<_> = pairs
            .iter()
            .map(|(one, other)| (tip(*one), tip(*other)))
            .collect();
        let merges = merge_pairs(self.scratch, &commits)?;
        let tree = |at: usize| &trees[&self.tips[at]];
        let mut conflicts = Vec::new();
        for ((one, other), merge) in pairs.into_iter().zip(merges) {
            let adds_nothing = merge.tree == *tree(one) || one > 0 && merge.tree == *tree(other);
            if !merge.is_clean {
                conflicts.push(((one, other), merge));
            } else if adds_nothing {
                self.fits.insert((one, other), Fit::Same);
            }
        }
        let told = self.tell(&conflicts)?;
        self.fits.extend(told);
        Ok(())
    }

    fn tell(&self, conflicts: &[(Pair, Merge)]) -> Result<Vec<(Pair, Fit)>, GitError> {
        let pairs = conflicts
            .iter()
            .map(|((one, other), merge)| (merge, &self.tips[*one], &self.tips[*other]));
        let fits = tell(self.scratch, &pairs.collect::<Vec<_>>())?;
        Ok(conflicts.iter().map(|(pair, _)| *pair).zip(fits).collect())
    }
}

/// What is to be told of merges that conflict, each of two commits.
pub(super) fn tell(
    scratch: &Scratch,
    merges: &[(&Merge, &CommitId, &CommitId)],
) -> Result<Vec<Fit>, GitError> {
    // 200 results that all conflict are 19,900 pairs, and all that is told stays in memory and reports.
    let most = FILES.min(1 + ALL_FILES / merges.len().max(1));
    let is_text = |(_, kind): &&(Vec<u8>, String)| kind == "contents";
    let texts = |merge: &Merge| {
        let shown = merge.conflicts.iter().take(most).filter(is_text);
        let names = shown.map(|(path, _)| scratch::name(&merge.tree, path));
        names.collect::<Vec<_>>()
    };
    let names: Vec<Vec<u8>> = merges.iter().flat_map(|(merge, ..)| texts(merge)).collect();
    let mut contents = scratch.blobs(&names)?.into_iter();
    let mut fits = Vec::with_capacity(merges.len());
    for (merge, one, other) in merges {
        let mut told = Vec::new();
        for conflict in merge.conflicts.iter().take(most) {
            let (path, kind) = conflict;
            let mut lines = Vec::new();
            if is_text(&conflict) {
                let content = contents.next().ok_or_else(|| unexpected("cat-file"))?;
                let content = content.unwrap_or_default();
                lines = conflict_lines(&content, one.as_str(), other.as_str());
            }
            told.push(FileConflict {
                path: sanitize::line(path, false),
                kind: sanitize::line(kind.as_bytes(), false),
                lines,
            });
        }
        fits.push(Fit::Conflict {
            files: merge.conflicts.len() as u64,
            conflicts: told,
        });
    }
    Ok(fits)
}
