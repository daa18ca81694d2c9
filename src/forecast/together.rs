//! Whether results that fit in pairs fit all together: three may conflict of which no two do.

use std::collections::BTreeSet;
use std::fs;

use super::Candidate;
use super::merges::{Merge, merge_pairs};
use super::scratch::{Scratch, unexpected};
use super::study::Study;
use crate::git::GitError;
use crate::id::CommitId;

/// Those that may get into each other's way, or need each other, in the order in which they are merged.
struct Group {
    left: std::vec::IntoIter<usize>,
    /// What is merged so far.
    tip: CommitId,
}

/// Which of those that fit in pairs do not fit all together, merged in this order onto the base. Groups
/// that cannot get into each other's way are merged beside each other, by one process at a time.
pub(super) fn left_out(
    scratch: &Scratch,
    study: &Study<'_>,
    candidates: &[Candidate],
    together: &[usize],
) -> Result<BTreeSet<usize>, GitError> {
    let groups = groups(study, candidates, together).into_iter();
    // One alone was merged with the base before.
    let groups = groups.filter(|group| group.len() > 1);
    let mut groups: Vec<Group> = groups
        .map(|group| Group {
            left: group.into_iter(),
            tip: study.tips[0].clone(),
        })
        .collect();
    let mut out = BTreeSet::new();
    loop {
        let mut steps = Vec::with_capacity(groups.len());
        for (place, group) in groups.iter_mut().enumerate() {
            for at in group.left.by_ref() {
                if candidates[at].needs.iter().all(|need| !out.contains(need)) {
                    steps.push((place, at));
                    break;
                }
                out.insert(at);
            }
        }
        if steps.is_empty() {
            return Ok(out);
        }
        let pairs = steps
            .iter()
            .map(|(place, at)| (groups[*place].tip.clone(), candidates[*at].commit.clone()));
        let pairs: Vec<_> = pairs.collect();
        let merges = merge_pairs(scratch, &pairs)?;
        let (mut places, mut made) = (Vec::new(), Vec::new());
        for (((place, at), merge), parents) in steps.into_iter().zip(merges).zip(pairs) {
            if merge.is_clean {
                places.push(place);
                made.push((merge, parents));
            } else {
                out.insert(at);
            }
        }
        for (place, tip) in places.into_iter().zip(commits(scratch, &made)?) {
            groups[place].tip = tip;
        }
    }
}

fn groups(study: &Study<'_>, candidates: &[Candidate], together: &[usize]) -> Vec<Vec<usize>> {
    let is_bound = |one: usize, other: usize| {
        study.may_meet(one + 1, other + 1)
            || candidates[one].needs.contains(&other)
            || candidates[other].needs.contains(&one)
    };
    let mut left: BTreeSet<usize> = together.iter().copied().collect();
    let mut groups = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut group = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(at) = open.pop() {
            let bound = left.iter().copied().filter(|other| is_bound(at, *other));
            let bound: Vec<usize> = bound.collect();
            for other in bound {
                left.remove(&other);
                group.insert(other);
                open.push(other);
            }
        }
        let order = together.iter().copied();
        groups.push(order.filter(|at| group.contains(at)).collect());
    }
    groups
}

/// Makes a commit of each of these merges of two, by one process; they are thrown away with the scratch.
fn commits(
    scratch: &Scratch,
    merges: &[(Merge, (CommitId, CommitId))],
) -> Result<Vec<CommitId>, GitError> {
    if merges.is_empty() {
        return Ok(Vec::new());
    }
    let who = "agent-run <agent-run@localhost> 0 +0000";
    let mut names = String::new();
    for (place, (merge, (one, other))) in merges.iter().enumerate() {
        let tree = &merge.tree;
        let text =
            format!("tree {tree}\nparent {one}\nparent {other}\nauthor {who}\ncommitter {who}\n\n");
        let (file, name) = scratch.file(place);
        fs::write(&file, text).map_err(GitError::io(format!("write {}", file.display())))?;
        names += &format!("{name}\n");
    }
    let words = [
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--no-filters",
        "--stdin-paths",
    ];
    let made = scratch.call(words).input(names.into_bytes()).run_text()?;
    let made = made.lines().map(|id| id.parse().ok());
    let made: Option<Vec<CommitId>> = made.collect();
    let made = made.filter(|made| made.len() == merges.len());
    made.ok_or_else(|| unexpected("hash-object"))
}
