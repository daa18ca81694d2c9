//! Where the histories of any two tips part, found for all pairs in one walk.

use std::collections::HashMap;

use super::scratch::{Scratch, unexpected};
use crate::git::GitError;
use crate::id::CommitId;

/// A set of tips, by their places.
type Bits = Vec<u64>;

/// Where two histories part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fork {
    /// At this commit, which both have.
    At(CommitId),
    /// At several: they have been merged with each other before.
    Several,
    /// Nowhere: they have nothing in common.
    Nowhere,
}

/// Where histories part.
pub(super) struct Forks {
    /// The commits, each with the tips that have it.
    nodes: Vec<Node>,
    /// Those at which some histories may part: no child has the same tips.
    places: Vec<usize>,
}

struct Node {
    commit: CommitId,
    tips: Bits,
    children: Vec<usize>,
}

impl Forks {
    pub(super) fn find(scratch: &Scratch, tips: &[CommitId]) -> Result<Self, GitError> {
        let words = ["merge-base", "--octopus"].into_iter();
        let ids = tips.iter().map(CommitId::as_str);
        let (is_found, answer) = scratch.call(words.chain(ids.clone())).run_answer()?;
        let shared = is_found.then(|| String::from_utf8_lossy(&answer).trim().to_owned());
        let words = ["rev-list", "--topo-order", "--parents"].into_iter();
        let excluded = shared.iter().flat_map(|id| ["--not", id.as_str()]);
        let history = scratch.call(words.chain(ids).chain(excluded)).run_text()?;
        Self::of(&history, tips, shared.as_deref()).ok_or_else(|| unexpected("rev-list"))
    }

    /// Of lines of a commit and its parents, children first, and of the commit that all tips have.
    fn of(history: &str, tips: &[CommitId], shared: Option<&str>) -> Option<Self> {
        let ids = history.lines().filter_map(|line| line.split(' ').next());
        let places: HashMap<&str, usize> = ids.chain(shared).zip(0..).collect();
        let none = vec![0; tips.len().div_ceil(64)];
        let mut nodes = Vec::with_capacity(places.len());
        for id in history
            .lines()
            .filter_map(|line| line.split(' ').next())
            .chain(shared)
        {
            nodes.push(Node {
                commit: id.parse().ok()?,
                tips: none.clone(),
                children: Vec::new(),
            });
        }
        for (at, tip) in tips.iter().enumerate() {
            let place = places.get(tip.as_str())?;
            nodes[*place].tips[at / 64] |= 1 << (at % 64);
        }
        for (at, line) in history.lines().enumerate() {
            for parent in line.split(' ').skip(1) {
                // Others are beyond the commit that all have.
                let Some(parent) = places.get(parent) else {
                    continue;
                };
                let tips = nodes[at].tips.clone();
                let parent = &mut nodes[*parent];
                parent.children.push(at);
                parent
                    .tips
                    .iter_mut()
                    .zip(tips)
                    .for_each(|(all, more)| *all |= more);
            }
        }
        if let Some(last) = nodes.last_mut().filter(|_| shared.is_some()) {
            (0..tips.len()).for_each(|at| last.tips[at / 64] |= 1 << (at % 64));
        }
        let is_last = |node: &Node| {
            let mut children = node.children.iter();
            !children.any(|child| nodes[*child].tips == node.tips)
        };
        let places = (0..nodes.len()).filter(|at| is_last(&nodes[*at])).collect();
        Some(Self { nodes, places })
    }

    /// Where the histories of the tips with these places part.
    pub(super) fn between(&self, one: usize, other: usize) -> Fork {
        let has = |node: &Node, at: usize| node.tips[at / 64] >> (at % 64) & 1 == 1;
        let has_both = |node: &Node| has(node, one) && has(node, other);
        let places = self.places.iter().map(|at| &self.nodes[*at]);
        let mut last = places.filter(|node| {
            has_both(node)
                && !node
                    .children
                    .iter()
                    .any(|child| has_both(&self.nodes[*child]))
        });
        match (last.next(), last.next()) {
            (Some(fork), None) => Fork::At(fork.commit.clone()),
            (Some(_), Some(_)) => Fork::Several,
            (None, _) => Fork::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: u8) -> CommitId {
        format!("{name:040x}").parse().expect("an id")
    }

    fn forks(history: &[&[u8]], tips: &[u8], shared: Option<u8>) -> Forks {
        let line = |ids: &&[u8]| ids.iter().map(|n| format!("{n:040x}")).collect::<Vec<_>>();
        let lines: Vec<String> = history.iter().map(|ids| line(ids).join(" ")).collect();
        let tips: Vec<CommitId> = tips.iter().map(|tip| id(*tip)).collect();
        let shared = shared.map(|shared| format!("{shared:040x}"));
        Forks::of(&lines.join("\n"), &tips, shared.as_deref()).expect("a history")
    }

    #[test]
    fn tips_part_at_the_newest_commit_that_both_have() {
        // 1 is below all; 3 and 4 build on 2, 5 on 3.
        let forks = forks(
            &[&[5, 3], &[4, 2], &[3, 2], &[2, 1]],
            &[3, 4, 5, 1],
            Some(1),
        );
        assert_eq!(forks.between(0, 1), Fork::At(id(2)));
        assert_eq!(forks.between(1, 2), Fork::At(id(2)));
        assert_eq!(forks.between(0, 2), Fork::At(id(3)));
        assert_eq!(forks.between(0, 3), Fork::At(id(1)));
    }

    #[test]
    fn tips_that_were_merged_both_ways_part_at_several() {
        // 2 and 3 on 1; 4 merges 3 into 2, 5 merges 2 into 3.
        let forks = forks(
            &[&[5, 3, 2], &[4, 2, 3], &[3, 1], &[2, 1]],
            &[4, 5],
            Some(1),
        );
        assert_eq!(forks.between(0, 1), Fork::Several);
    }

    #[test]
    fn a_commit_that_all_have_is_one_of_several_where_another_does_not_lead_to_it() {
        // 9 is a shared commit; 2 is shared too, and built on something before 9.
        let forks = forks(&[&[5, 2, 9], &[4, 2, 9], &[2, 8]], &[4, 5], Some(9));
        assert_eq!(forks.between(0, 1), Fork::Several);
    }

    #[test]
    fn tips_without_a_common_commit_part_nowhere() {
        let forks = forks(&[&[2], &[1]], &[1, 2], None);
        assert_eq!(forks.between(0, 1), Fork::Nowhere);
    }
}
