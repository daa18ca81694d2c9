//! The trees of a result: loaded once per id, counted without being enumerated.
//!
//! Twelve objects can make 10^10 paths. So every number is kept per tree id and added up with
//! saturation; only what differs from the base is ever walked, within a budget.

use std::collections::HashMap;

use git2::{ObjectType, Oid, Repository};

use super::error::{CollectError, fail_closed, rejected, too_much};
use super::quarantine::Quarantine;
use crate::git::GitError;
use crate::workspace::{BaseStore, Workspace};

/// A SHA-1 object id.
pub(super) type ObjectId = [u8; 20];

pub(super) const MODE_TREE: u32 = 0o040_000;
/// The mode of a symbolic link.
pub(super) const MODE_LINK: u32 = 0o120_000;
/// The mode of a commit of another repository.
pub(super) const MODE_GITLINK: u32 = 0o160_000;

/// How many directories are looked at for each file that may be found.
const DIRECTORIES: usize = 16;

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: u32,
    pub(super) name: Vec<u8>,
    pub(super) id: ObjectId,
}

/// How much is below a tree.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) paths: u64,
    pub(super) depth: u64,
}

/// A file that differs from the base.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) old: Option<Entry>,
    pub(super) new: Entry,
}

/// Trees by id, with all that they contain.
pub(super) struct Trees {
    bodies: HashMap<ObjectId, Vec<u8>>,
    extents: HashMap<ObjectId, Extent>,
    bytes: u64,
    most_bytes: u64,
}

impl Trees {
    /// None yet, and at most so many bytes of them.
    pub(super) fn new(most_bytes: u64) -> Self {
        Self {
            bodies: HashMap::new(),
            extents: HashMap::new(),
            bytes: 0,
            most_bytes,
        }
    }

    /// Loads an agent's trees, each by its id.
    pub(super) fn load(
        &mut self,
        quarantine: &Quarantine<'_>,
        new: &[ObjectId],
    ) -> Result<(), CollectError> {
        if new.is_empty() {
            return Ok(());
        }
        let output = quarantine
            .call(["cat-file", "--batch"])
            .input(
                new.iter()
                    .map(|id| hex(id) + "\n")
                    .collect::<String>()
                    .into_bytes(),
            )
            .output_limit(usize::try_from(self.most_bytes).unwrap_or(usize::MAX))
            .run()
            .map_err(|error| match error {
                GitError::OutputTooLarge { .. } => self.too_large(),
                other => fail_closed("objects")(other),
            })?;
        self.bytes += output.len() as u64;
        match self.take(&output, new) {
            Some(()) => Ok(()),
            None => malformed(),
        }
    }

    /// Loads what `roots` and the loaded trees refer to: what is not new is that of the
    /// base and the start, and read there. Refuses what is nested deeper than `depth`.
    pub(super) fn complete(
        &mut self,
        (store, workspace): (&BaseStore, &Workspace),
        roots: [ObjectId; 2],
        depth: u64,
    ) -> Result<(), CollectError> {
        let store = Repository::open_bare(store.path())?;
        let base = store.odb()?;
        if let Some(objects) = workspace.start_objects() {
            base.add_disk_alternate(&objects.display().to_string())?;
        }
        let mut wanted: Vec<_> = self.bodies.values().flat_map(|b| subtrees(b)).collect();
        wanted.extend(roots);
        for _ in 0..=depth {
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|id| !self.bodies.contains_key(id));
            if wanted.is_empty() {
                return Ok(());
            }
            let mut below = Vec::new();
            for id in std::mem::take(&mut wanted) {
                let body = match base.read(Oid::from_bytes(&id)?) {
                    Ok(tree) if tree.kind() == ObjectType::Tree => tree.data().to_vec(),
                    _ => return malformed(),
                };
                self.bytes += body.len() as u64;
                if self.bytes > self.most_bytes {
                    return Err(self.too_large());
                }
                below.extend(subtrees(&body));
                self.bodies.insert(id, body);
            }
            wanted = below;
        }
        Err(too_deep(depth))
    }

    fn too_large(&self) -> CollectError {
        let found = "listings of directories";
        too_much("tree-bytes", found, "trees", self.most_bytes)
    }

    /// Reads the answer of `cat-file --batch`.
    pub(super) fn take(&mut self, mut output: &[u8], wanted: &[ObjectId]) -> Option<()> {
        for id in wanted {
            let end = output.iter().position(|b| *b == b'\n')?;
            let header = std::str::from_utf8(&output[..end]).ok()?;
            let size: usize = header
                .strip_prefix(&format!("{} tree ", hex(id)))?
                .parse()
                .ok()?;
            let (body, rest) = output.get(end + 1..)?.split_at_checked(size)?;
            output = rest.strip_prefix(b"\n")?;
            parse(body)?;
            self.bodies.insert(*id, body.to_vec());
        }
        Some(())
    }

    /// A loaded tree as git has it; empty where it is not loaded.
    pub(super) fn body(&self, id: &ObjectId) -> &[u8] {
        self.bodies.get(id).map_or(&[], Vec::as_slice)
    }

    /// The entries of a loaded tree. They are not kept parsed: that takes three times the memory.
    pub(super) fn entries(&self, id: &ObjectId) -> Vec<Entry> {
        let body = self.bodies.get(id);
        body.and_then(|body| parse(body)).unwrap_or_default()
    }

    /// How much is below a loaded tree.
    pub(super) fn extent(&mut self, root: &ObjectId) -> Extent {
        let mut pending = vec![*root];
        while let Some(id) = pending.last().copied() {
            // A tree may be waited for from many sides; it is counted once.
            if self.extents.contains_key(&id) {
                pending.pop();
                continue;
            }
            let entries = self.entries(&id);
            let subtrees = || entries.iter().filter(|e| e.mode == MODE_TREE).map(|e| e.id);
            let mut unknown: Vec<_> = subtrees()
                .filter(|s| !self.extents.contains_key(s))
                .collect();
            unknown.sort_unstable();
            unknown.dedup();
            if unknown.is_empty() {
                let mut extent = Extent {
                    paths: entries.len() as u64,
                    depth: 1,
                };
                for below in subtrees().filter_map(|s| self.extents.get(&s)) {
                    extent.paths = extent.paths.saturating_add(below.paths);
                    extent.depth = extent.depth.max(below.depth + 1);
                }
                self.extents.insert(id, extent);
                pending.pop();
            } else {
                pending.extend(unknown);
            }
        }
        self.extents.get(root).copied().unwrap_or_default()
    }

    /// The files of `new` that are other than in `old`, at most `budget`, of at most [`DIRECTORIES`] times
    /// as many directories: there may be hardly a file in them; whether these are all; and how many
    /// files of `old` are gone, directories below a gone one counted as well.
    pub(super) fn changes(
        &mut self,
        old: &ObjectId,
        new: &ObjectId,
        budget: usize,
    ) -> (Vec<Change>, bool, u64) {
        let mut found = Vec::new();
        let mut gone = 0_u64;
        let mut pending = vec![(Vec::new(), Some(*old), *new)];
        let mut looked_at = 0;
        while let Some((prefix, old, new)) = pending.pop() {
            looked_at += 1;
            if looked_at > DIRECTORIES.saturating_mul(budget) {
                return (found, false, gone);
            }
            let before = old.map(|id| self.entries(&id)).unwrap_or_default();
            let mut before: HashMap<_, _> =
                before.iter().map(|e| (e.name.clone(), e.clone())).collect();
            for entry in self.entries(&new) {
                let old = before.remove(&entry.name);
                if old.as_ref() == Some(&entry) {
                    continue;
                }
                if found.len() + pending.len() >= budget {
                    return (found, false, gone);
                }
                let path = [&prefix[..], &entry.name].concat();
                let old_tree = old.as_ref().filter(|e| e.mode == MODE_TREE).map(|e| e.id);
                if entry.mode == MODE_TREE {
                    let file = u64::from(old.is_some() && old_tree.is_none());
                    gone = gone.saturating_add(file);
                    pending.push(([&path[..], b"/"].concat(), old_tree, entry.id));
                } else {
                    let below = old_tree.map_or(0, |id| self.extent(&id).paths);
                    gone = gone.saturating_add(below);
                    let old = old.filter(|e| e.mode != MODE_TREE);
                    found.push(Change {
                        path,
                        old,
                        new: entry,
                    });
                }
            }
            for entry in before.into_values() {
                let below = if entry.mode == MODE_TREE {
                    self.extent(&entry.id).paths
                } else {
                    1
                };
                gone = gone.saturating_add(below);
            }
        }
        (found, true, gone)
    }
}

/// Directories nested deeper than the limit.
pub(super) fn too_deep(most: u64) -> CollectError {
    too_much("depth", "deeper directories", "depth", most)
}

fn malformed<T>() -> Result<T, CollectError> {
    rejected("trees", "a tree is missing or malformed")
}

/// The trees that a tree refers to.
fn subtrees(body: &[u8]) -> Vec<ObjectId> {
    let entries = parse(body).unwrap_or_default().into_iter();
    entries
        .filter(|e| e.mode == MODE_TREE)
        .map(|e| e.id)
        .collect()
}

/// Reads a tree object as gitformat-pack's sources have it: `mode name NUL id`, repeated.
pub(super) fn parse(mut body: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let blank = body.iter().position(|b| *b == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(&body[..blank]).ok()?, 8).ok()?;
        let rest = &body[blank + 1..];
        let end = rest.iter().position(|b| *b == 0)?;
        let id = rest.get(end + 1..end + 21)?.try_into().ok()?;
        entries.push(Entry {
            mode,
            name: rest[..end].to_vec(),
            id,
        });
        body = &rest[end + 21..];
    }
    Some(entries)
}

/// An object id in hexadecimal digits.
pub(super) fn hex(id: &ObjectId) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    id.iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

/// An object id from hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<ObjectId> {
    let mut id = [0; 20];
    if text.len() != 40 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(id)
}
