//! What the targets of `fuzz/` run: the parsers and walks that see an agent's bytes, and what must
//! hold of their answers whatever the bytes are. Not part of the product: only built for them and
//! for the tests below, which run the same on the corpora and on random programs.

use std::collections::BTreeMap;

use super::handed_off::{SIDES, SUBMODULES, parse_header, parse_status};
use super::trees::{Entry, MODE_TREE, ObjectId, Trees, hex, parse};

/// Most paths that are enumerated one by one.
const ENUMERATED: usize = 4000;
const MODES: [u32; 4] = [0o100_644, 0o120_000, 0o160_000, MODE_TREE];

/// The header of a bundle.
///
/// # Panics
/// Where the parser is wrong.
pub fn bundle(bytes: &[u8]) {
    let Ok(header) = parse_header(&mut &bytes[..]) else {
        return;
    };
    let length = usize::try_from(header.length).expect("a length");
    let text = bytes.get(..length).expect("a length within the bytes");
    assert!(text.ends_with(b"\n\n"), "the header ends with a blank line");
    let mut numbers: Vec<_> = header.sides.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), header.sides.len(), "each number once");
    assert!(numbers.iter().all(|number| *number < SIDES));
}

/// The status file of a hand-off.
///
/// # Panics
/// Where the parser is wrong.
pub fn status(bytes: &[u8]) {
    let Some(status) = parse_status(bytes) else {
        return;
    };
    assert!(status.head.is_some());
    assert!(status.sides.len() <= SIDES && status.submodules.len() <= SUBMODULES);
    let words = status.sides.iter().map(|(_, what)| what);
    for words in words.chain(&status.submodules) {
        let control = |c: char| c.is_control() && c != '\t';
        assert!(!words.contains(control), "{words:?}");
    }
}

/// Trees: a body as it is, and a program that makes some which refer to each other.
///
/// # Panics
/// Where the parser or a walk is wrong.
pub fn trees(bytes: &[u8]) {
    if let Some(entries) = parse(bytes) {
        let least: usize = entries.iter().map(|entry| entry.name.len() + 23).sum();
        assert!(least <= bytes.len(), "more entries than bytes");
        assert!(entries.iter().all(|entry| !entry.name.contains(&0)));
    }
    let _ = Trees::new(u64::MAX).take(bytes, &[[b'1'; 20], [b'2'; 20]]);
    walks(bytes);
}

/// Makes the trees of a program and compares what is said of the last two with an enumeration.
fn walks(program: &[u8]) {
    let (mut trees, ids) = run(program);
    let [.., old, new] = ids[..] else {
        return;
    };
    let (Some(before), Some(after)) = (enumerate(&trees, &old), enumerate(&trees, &new)) else {
        // Too many to enumerate: these numbers must come all the same.
        trees.extent(&new);
        trees.changes(&old, &new, ENUMERATED);
        return;
    };
    let extent = trees.extent(&new);
    assert_eq!(extent.paths, after.len() as u64);
    assert_eq!(extent.depth, nesting(&trees, &new));

    let is_file = |entry: &&Entry| entry.mode != MODE_TREE;
    let files = |paths: &BTreeMap<Vec<u8>, Entry>| {
        let files = paths.iter().filter(|(_, entry)| is_file(entry));
        files
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let (old_files, new_files) = (files(&before), files(&after));
    let (found, all, gone) = trees.changes(&old, &new, ENUMERATED);
    assert!(all, "few enough to be listed");
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|c| (c.path, (c.old, c.new)))
        .collect();
    let expected: BTreeMap<_, _> = new_files
        .iter()
        .filter(|(path, entry)| old_files.get(*path) != Some(*entry))
        .map(|(path, entry)| (path.clone(), (old_files.get(path).cloned(), entry.clone())))
        .collect();
    assert_eq!(found, expected);
    let left = old_files
        .keys()
        .filter(|path| !new_files.contains_key(*path));
    let least = left.count() as u64;
    assert!(
        least <= gone && gone <= before.len() as u64,
        "{least} <= {gone}"
    );
    for budget in [0, 1, expected.len()] {
        let (some, all, _) = trees.changes(&old, &new, budget);
        assert!(some.len() <= budget && (!all || some.len() == expected.len()));
    }
}

/// Trees by a program: a tree is a number of entries, each three bytes for its mode, its name and
/// the object, which is one of the trees before or a file.
fn run(program: &[u8]) -> (Trees, Vec<ObjectId>) {
    let (mut trees, mut ids) = (Trees::new(u64::MAX), Vec::<ObjectId>::new());
    let mut rest = program;
    while let Some((count, after)) = rest.split_first() {
        let length = usize::from(count % 8 * 3).min(after.len());
        let (entries, after) = after.split_at(length);
        rest = after;
        let mut body = BTreeMap::new();
        for entry in entries.chunks_exact(3) {
            let mode = MODES[usize::from(entry[0] % 4)];
            let tree = match ids.len() {
                0 => None,
                count => ids.get(usize::from(entry[2]) % count),
            };
            let (mode, id) = match (mode, tree) {
                (MODE_TREE, None) => continue,
                (MODE_TREE, Some(id)) => (mode, *id),
                _ => (mode, [entry[2]; 20]),
            };
            let name = vec![b'a' + entry[1] % 16];
            body.insert(name.clone(), Entry { mode, name, id });
        }
        let mut bytes = Vec::new();
        for Entry { mode, name, id } in body.values() {
            bytes.extend([format!("{mode:o} ").as_bytes(), name, b"\0", id].concat());
        }
        let mut id = [0xee; 20];
        id[..8].copy_from_slice(&(ids.len() as u64).to_be_bytes());
        let header = format!("{} tree {}\n", hex(&id), bytes.len());
        let output = [header.as_bytes(), &bytes, b"\n"].concat();
        assert!(trees.take(&output, &[id]).is_some(), "a tree of git's form");
        ids.push(id);
    }
    (trees, ids)
}

/// Every path below a tree, if they are few.
fn enumerate(trees: &Trees, root: &ObjectId) -> Option<BTreeMap<Vec<u8>, Entry>> {
    let mut paths = BTreeMap::new();
    let mut pending = vec![(Vec::new(), *root)];
    while let Some((prefix, id)) = pending.pop() {
        for entry in trees.entries(&id) {
            let path = [&prefix[..], &entry.name].concat();
            if entry.mode == MODE_TREE {
                pending.push(([&path[..], b"/"].concat(), entry.id));
            }
            paths.insert(path, entry);
            if paths.len() + pending.len() > ENUMERATED {
                return None;
            }
        }
    }
    Some(paths)
}

/// How deep a tree is, an empty directory counted too.
fn nesting(trees: &Trees, root: &ObjectId) -> u64 {
    let entries = trees.entries(root);
    let below = entries.iter().filter(|entry| entry.mode == MODE_TREE);
    1 + below
        .map(|entry| nesting(trees, &entry.id))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Runs a target on every file of its corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let files = fs::read_dir(&corpus).expect("a corpus");
        let mut count = 0;
        for file in files {
            run(&fs::read(file.expect("a file").path()).expect("bytes"));
            count += 1;
        }
        assert!(count > 3, "{count} files in {}", corpus.display());
    }

    #[test]
    fn the_corpora_hold() {
        replay("bundle", bundle);
        replay("status", status);
        replay("trees", trees);
    }

    proptest! {
        #[test]
        fn counts_and_changes_are_those_of_an_enumeration(
            program in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            walks(&program);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            bundle(&bytes);
            status(&bytes);
            trees(&bytes);
        }
    }
}
