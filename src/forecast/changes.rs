//! Which paths tips change, and which pairs of them could get into each other's way at all.
//!
//! Two that change no path in common, replace no directory of the other's by a file, and remove no
//! directory in which the other does something (git would look for it under a new name) merge
//! cleanly: for those nothing needs to be merged.

use std::collections::{BTreeSet, HashMap};

use super::scratch::{Scratch, unexpected};
use crate::git::GitError;

/// How many trees are compared by one process.
const AT_ONCE: usize = 32;
/// What it may say of them, in bytes.
const OUTPUT: usize = 1 << 30;

/// The path is a file's, or a link's or a submodule's, that is changed.
const FILE: u8 = 1;
/// The path is a directory's in which something is changed.
const DIRECTORY: u8 = 2;
/// The path is a directory's that is there no more.
const GONE: u8 = 4;
/// The path is a directory's below which a file is there no more.
const LOSES: u8 = 8;
/// The path is a directory's below which there is a new file.
const GAINS: u8 = 16;

/// For each of some, a set of them.
type Relation = Vec<Vec<u64>>;

/// What was changed from one tree to another, for many such pairs.
pub(super) struct Changes {
    /// By the place of a pair: the paths and what is changed of them.
    of: Vec<Vec<(usize, u8)>>,
    paths: Vec<Vec<u8>>,
    /// By the place of a pair: those that touch it.
    touching: Relation,
    /// By the place of a pair: those that it may meet once others are merged.
    near: Relation,
}

impl Changes {
    /// Of pairs of trees, the older one first.
    pub(super) fn find(scratch: &Scratch, trees: &[(String, String)]) -> Result<Self, GitError> {
        let mut of = Vec::with_capacity(trees.len());
        let mut places = HashMap::new();
        for some in trees.chunks(AT_ONCE) {
            let input: String = some
                .iter()
                .map(|(old, new)| format!("{old} {new}\n"))
                .collect();
            let words = [
                "diff-tree",
                "--stdin",
                "-r",
                "-t",
                "-z",
                "--raw",
                "--no-renames",
            ];
            let call = scratch.call(words).input(input.into_bytes());
            let output = call
                .config("diff.ignoreSubmodules=none")
                .output_limit(OUTPUT)
                .run()?;
            let read = parse(&output, &mut places);
            let read = read.filter(|read| read.len() == some.len());
            of.extend(read.ok_or_else(|| unexpected("diff-tree"))?);
        }
        let mut paths = vec![Vec::new(); places.len()];
        for (path, place) in places {
            paths[place] = path;
        }
        let by_path = by_path(&of, paths.len());
        Ok(Self {
            touching: touching(&by_path, of.len()),
            near: near(&by_path, of.len()),
            of,
            paths,
        })
    }

    /// Whether nothing was changed.
    pub(super) fn is_empty(&self, at: usize) -> bool {
        self.of[at].is_empty()
    }

    /// Whether two could get into each other's way.
    pub(super) fn touch(&self, one: usize, other: usize) -> bool {
        has(&self.touching[one], other)
    }

    /// Whether two that do not touch could where a third one is merged too: one removes files of a
    /// directory to which the other adds, and the third may remove the rest.
    pub(super) fn is_near(&self, one: usize, other: usize) -> bool {
        has(&self.near[one], other)
    }

    /// The directories above what was changed.
    pub(super) fn directories(&self, at: usize, found: &mut BTreeSet<Vec<u8>>) {
        found.insert(Vec::new());
        let changed = self.of[at].iter().filter(|(_, what)| what & DIRECTORY != 0);
        found.extend(changed.map(|(path, _)| self.paths[*path].clone()));
    }
}

/// Reads the raw format of git-diff-tree(1), of several pairs of trees.
fn parse(output: &[u8], places: &mut HashMap<Vec<u8>, usize>) -> Option<Vec<Vec<(usize, u8)>>> {
    let mut all: Vec<Vec<(usize, u8)>> = Vec::new();
    let mut rest = output;
    while !rest.is_empty() {
        let Some(record) = rest.strip_prefix(b":") else {
            // Two ids and what stands between and behind them.
            rest = rest.get(82..)?;
            all.push(Vec::new());
            continue;
        };
        let mut fields = record.splitn(3, |byte| *byte == 0);
        let (facts, path) = (fields.next()?, fields.next()?);
        rest = fields.next()?;
        let was_directory = facts.starts_with(b"040000");
        let is_directory = facts.get(7..13)? == b"040000";
        let what = match (was_directory, is_directory) {
            (_, true) => DIRECTORY,
            (true, false) => GONE,
            (false, false) => FILE,
        };
        let mut place = |path: &[u8]| {
            let new = places.len();
            *places.entry(path.to_vec()).or_insert(new)
        };
        let changes = all.last_mut()?;
        changes.push((place(path), what));
        let below = match facts.last() {
            Some(b'D') if what == FILE => LOSES,
            Some(b'A') if what == FILE => GAINS,
            _ => continue,
        };
        let ends = path.iter().zip(0..).filter(|(byte, _)| **byte == b'/');
        changes.extend(ends.map(|(_, end)| (place(&path[..end]), below)));
    }
    Some(all)
}

/// By the place of a path: who changes what of it.
fn by_path(of: &[Vec<(usize, u8)>], paths: usize) -> Vec<Vec<(usize, u8)>> {
    let mut by_path: Vec<Vec<(usize, u8)>> = vec![Vec::new(); paths];
    for (at, changes) in of.iter().enumerate() {
        for (path, what) in changes {
            match by_path[*path].last_mut() {
                Some((last, all)) if *last == at => *all |= what,
                _ => by_path[*path].push((at, *what)),
            }
        }
    }
    by_path
}

/// For each, which others have a path in common with it that both do not only have something below.
fn touching(by_path: &[Vec<(usize, u8)>], count: usize) -> Relation {
    let is_itself = |what: u8| what & (FILE | GONE) != 0;
    let mut touching = vec![none(count); count];
    for those in by_path.iter().filter(|those| those.len() > 1) {
        let all = set(count, those, |_| true);
        let themselves = set(count, those, is_itself);
        for (at, what) in those {
            let met = if is_itself(*what) { &all } else { &themselves };
            add(&mut touching[*at], met);
        }
    }
    touching
}

/// For each, which others add to a directory from which it removes, or the other way round.
fn near(by_path: &[Vec<(usize, u8)>], count: usize) -> Relation {
    let mut near = vec![none(count); count];
    for those in by_path.iter().filter(|those| those.len() > 1) {
        let losing = set(count, those, |what| what & LOSES != 0);
        let gaining = set(count, those, |what| what & GAINS != 0);
        for (at, what) in those {
            if what & LOSES != 0 {
                add(&mut near[*at], &gaining);
            }
            if what & GAINS != 0 {
                add(&mut near[*at], &losing);
            }
        }
    }
    near
}

fn none(count: usize) -> Vec<u64> {
    vec![0; count.div_ceil(64)]
}

fn set(count: usize, those: &[(usize, u8)], is_in: impl Fn(u8) -> bool) -> Vec<u64> {
    let mut set = none(count);
    for (at, _) in those.iter().filter(|(_, what)| is_in(*what)) {
        set[at / 64] |= 1 << (at % 64);
    }
    set
}

fn add(set: &mut [u64], more: &[u64]) {
    set.iter_mut()
        .zip(more)
        .for_each(|(all, more)| *all |= more);
}

fn has(set: &[u64], at: usize) -> bool {
    set[at / 64] >> (at % 64) & 1 == 1
}
