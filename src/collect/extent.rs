//! How much a checkout of a result takes. Its objects are checked and few, but each may stand for any
//! number of files: what is on the disk is counted here before it is there.

use std::collections::HashMap;
use std::path::Path;

use git2::{ObjectType, Oid, Repository};

use crate::id::CommitId;

/// What a file or directory takes at least, in bytes.
const BLOCK: u64 = 4096;

/// A result that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the results: {0}")]
pub struct ExtentError(#[from] git2::Error);

/// How much disk the files of a commit of ours take at least, in bytes. Each tree is counted once,
/// however often it is there.
///
/// # Errors
/// Where an object is missing.
pub fn checkout_size(results: &Path, commit: &CommitId) -> Result<u64, ExtentError> {
    let repository = Repository::open_bare(results)?;
    let commit = repository.find_commit(Oid::from_str(commit.as_str())?)?;
    let root = commit.tree_id();
    let odb = repository.odb()?;
    let mut sizes: HashMap<Oid, u64> = HashMap::new();
    let mut pending = vec![root];
    while let Some(id) = pending.last().copied() {
        if sizes.contains_key(&id) {
            pending.pop();
            continue;
        }
        let tree = repository.find_tree(id)?;
        let known = pending.len();
        let mut size = BLOCK;
        for entry in &tree {
            let below = match entry.kind() {
                Some(ObjectType::Tree) => {
                    let below = sizes.get(&entry.id()).copied();
                    if below.is_none() {
                        pending.push(entry.id());
                    }
                    below.unwrap_or(0)
                }
                Some(ObjectType::Blob) => {
                    let (bytes, _) = odb.read_header(entry.id())?;
                    BLOCK.max(bytes as u64)
                }
                // A commit of another repository: an empty directory.
                _ => BLOCK,
            };
            size = size.saturating_add(below);
        }
        if pending.len() == known {
            sizes.insert(id, size);
            pending.pop();
        }
    }
    Ok(sizes.get(&root).copied().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use git2::{Signature, TreeBuilder};

    use super::*;

    /// A commit of these entries, each a mode and an object.
    fn tree(repository: &Repository, entries: &[(i32, Oid)]) -> Oid {
        let mut builder: TreeBuilder<'_> = repository.treebuilder(None).expect("a tree");
        for (number, (mode, id)) in entries.iter().enumerate() {
            builder
                .insert(format!("{number}"), *id, *mode)
                .expect("an entry");
        }
        builder.write().expect("a tree")
    }

    fn size_of(repository: &Repository, tree: Oid) -> u64 {
        let tree = repository.find_tree(tree).expect("a tree");
        let by = Signature::now("a", "a@example.org").expect("a name");
        let commit = repository
            .commit(None, &by, &by, "", &tree, &[])
            .expect("a commit");
        let commit = commit.to_string().parse().expect("an id");
        checkout_size(repository.path(), &commit).expect("a size")
    }

    #[test]
    fn files_count_as_blocks_at_least_and_what_is_there_often_counts_often() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = Repository::init_bare(directory.path()).expect("a repository");
        let small = repository.blob(b"x").expect("a blob");
        let large = repository.blob(&[b'x'; 10_000]).expect("a blob");
        let files = tree(
            &repository,
            &[(0o100_644, small), (0o100_755, large), (0o120_000, small)],
        );
        assert_eq!(size_of(&repository, files), BLOCK + BLOCK + 10_000 + BLOCK);
        let twice = tree(&repository, &[(0o040_000, files), (0o040_000, files)]);
        assert_eq!(
            size_of(&repository, twice),
            BLOCK + 2 * (3 * BLOCK + 10_000)
        );
        // A submodule is an empty directory.
        let other = tree(&repository, &[(0o160_000, small)]);
        assert_eq!(size_of(&repository, other), 2 * BLOCK);
    }

    #[test]
    fn few_objects_that_are_many_files_are_counted_and_not_walked() {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = Repository::init_bare(directory.path()).expect("a repository");
        let blob = repository.blob(&vec![0; 1 << 20]).expect("a blob");
        let mut top = tree(&repository, &[(0o100_644, blob); 100]);
        for _ in 0..20 {
            top = tree(&repository, &[(0o040_000, top); 100]);
        }
        assert_eq!(size_of(&repository, top), u64::MAX);
    }
}
