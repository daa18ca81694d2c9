//! In which order to merge, and the most that fit together.

use std::collections::BTreeSet;

/// Sets of more tasks that conflict with one another than this are not searched through: they may
/// be 2^n. In those the task that conflicts with the fewest is taken, again and again.
const SEARCHED: usize = 40;

/// Tasks, what each needs, and which pairs conflict.
pub(super) struct Graph {
    needs: Vec<BTreeSet<usize>>,
    conflicts: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// Of what each needs, and of pairs. A task that needs another has its work, and so its conflicts.
    pub(super) fn new(
        needs: &[Vec<usize>],
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Self {
        let mut conflicts = vec![BTreeSet::new(); needs.len()];
        for (one, other) in pairs {
            conflicts[one].insert(other);
            conflicts[other].insert(one);
        }
        let needs: Vec<BTreeSet<usize>> = (0..needs.len()).map(|at| all_needs(needs, at)).collect();
        for (at, needed) in needs.iter().enumerate() {
            for other in needed
                .iter()
                .flat_map(|need| conflicts[*need].clone())
                .collect::<Vec<_>>()
            {
                if other != at && !needed.contains(&other) {
                    conflicts[at].insert(other);
                    conflicts[other].insert(at);
                }
            }
        }
        Self { needs, conflicts }
    }

    /// The order of these, those with the fewest conflicts with others of them first, each behind what
    /// it needs.
    pub(super) fn order(&self, among: &BTreeSet<usize>) -> Vec<usize> {
        let weight = |at: &usize| self.conflicts[*at].intersection(among).count();
        let mut left = among.clone();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let is_ready = |at: &&usize| self.needs[**at].is_disjoint(&left);
            let next = left.iter().filter(is_ready).min_by_key(|at| weight(at));
            // There is no circle in what tasks need; without one the first is as good.
            let next = next.or(left.first()).copied();
            let Some(next) = next else { break };
            left.remove(&next);
            order.push(next);
        }
        order
    }

    /// The most of these of which no two conflict, and whether there cannot be more.
    pub(super) fn together(&self, among: &BTreeSet<usize>) -> (BTreeSet<usize>, bool) {
        let mut left = among.clone();
        let mut chosen = BTreeSet::new();
        let mut is_largest = true;
        while let Some(first) = left.first().copied() {
            let part = self.connected(first, &left);
            left.retain(|at| !part.contains(at));
            if part.len() <= SEARCHED {
                chosen.extend(self.largest(&part));
            } else {
                is_largest = false;
                chosen.extend(self.greedy(part));
            }
        }
        (chosen, is_largest)
    }

    /// All of these that conflict with one, and with those, and so on.
    fn connected(&self, first: usize, among: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(at) = open.pop() {
            for next in self.conflicts[at].intersection(among) {
                if found.insert(*next) {
                    open.push(*next);
                }
            }
        }
        found
    }

    /// The largest set: with the task that conflicts with the most, or without it.
    fn largest(&self, among: &BTreeSet<usize>) -> BTreeSet<usize> {
        let degree = |at: &usize| self.conflicts[*at].intersection(among).count();
        let without = |gone: &BTreeSet<usize>| -> BTreeSet<usize> {
            among.difference(gone).copied().collect()
        };
        let with = |at: usize| {
            let mut gone = self.conflicts[at].clone();
            gone.insert(at);
            let mut set = self.largest(&without(&gone));
            set.insert(at);
            set
        };
        // One that conflicts with at most one is in some largest set.
        if let Some(free) = among.iter().find(|at| degree(at) <= 1) {
            return with(*free);
        }
        let Some(worst) = among.iter().max_by_key(|at| degree(at)) else {
            return BTreeSet::new();
        };
        let (with, without) = (
            with(*worst),
            self.largest(&without(&BTreeSet::from([*worst]))),
        );
        // As many: the earlier tasks.
        if without.len() >= with.len() {
            without
        } else {
            with
        }
    }

    fn greedy(&self, mut left: BTreeSet<usize>) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        let degree =
            |at: &usize, left: &BTreeSet<usize>| self.conflicts[*at].intersection(left).count();
        while let Some(next) = left.iter().min_by_key(|at| degree(at, &left)).copied() {
            left.remove(&next);
            left.retain(|at| !self.conflicts[next].contains(at));
            chosen.insert(next);
        }
        chosen
    }
}

/// What a task needs, and what that needs.
fn all_needs(needs: &[Vec<usize>], of: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = needs[of].clone();
    while let Some(need) = open.pop() {
        if need != of && found.insert(need) {
            open.extend(&needs[need]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(count: usize) -> BTreeSet<usize> {
        (0..count).collect()
    }

    #[test]
    fn those_with_the_fewest_conflicts_come_first_but_behind_what_they_need() {
        let needs = [vec![3], vec![], vec![0], vec![]];
        let graph = Graph::new(&needs, [(0, 1)]);
        // 2 has the conflicts of 0, and 0 waits for 3.
        assert_eq!(graph.order(&all(4)), [3, 0, 2, 1]);
        assert_eq!(graph.together(&all(4)), (BTreeSet::from([0, 2, 3]), true));
    }

    #[test]
    fn two_hundred_that_all_conflict_are_one() {
        let pairs = (0..200).flat_map(|one| (0..one).map(move |other| (one, other)));
        let (set, is_largest) = Graph::new(&vec![vec![]; 200], pairs).together(&all(200));
        assert_eq!((set.len(), is_largest), (1, false));
    }

    proptest! {
        #[test]
        fn no_set_is_larger(pairs in prop::collection::vec((0_usize..12, 0_usize..12), 0..40)) {
            let pairs: Vec<_> = pairs.into_iter().filter(|(one, other)| one != other).collect();
            let graph = Graph::new(&vec![vec![]; 12], pairs.clone());
            let (set, is_largest) = graph.together(&all(12));
            let fits = |set: u32| pairs.iter().all(|(one, other)| set >> one & set >> other & 1 == 0);
            let bits = set.iter().fold(0, |bits, at| bits | 1 << at);
            prop_assert!(is_largest && fits(bits));
            let largest = (0..1_u32 << 12).filter(|set| fits(*set)).map(u32::count_ones).max();
            prop_assert_eq!(Some(set.len()), largest.map(|count| count as usize));
        }
    }
}
