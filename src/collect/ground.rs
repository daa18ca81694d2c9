//! Whether a result stays on the ground that its task was given: by every path that differs from the
//! base, also those that are gone.

use super::error::{CollectError, rejected};
use super::trees::{Entry, MODE_TREE, ObjectId, Trees};
use crate::id::{Area, PathPattern};
use crate::sanitize;

/// Most paths outside that are looked for, and that are named.
const COUNTED: usize = 1000;
const NAMED: usize = 20;

/// What a task may change.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Paths; a directory stands for everything in it.
    pub paths: &'a [PathPattern],
    /// Whether a result that changes others is refused.
    pub strict: bool,
}

/// The paths outside of the ground, each with why it is told; sanitised.
pub(super) fn check(
    ground: Ground<'_>,
    trees: &Trees,
    (old, new): (ObjectId, ObjectId),
) -> Result<Vec<(String, String)>, CollectError> {
    let outside = outside(&Area::of(ground.paths), trees, (old, new));
    let named = outside.iter().take(NAMED);
    let named: Vec<String> = named.map(|path| sanitize::line(path, false)).collect();
    let more = match outside.len() {
        COUNTED => format!(" and {COUNTED} more or so"),
        all if all > NAMED => format!(" and {} more", all - NAMED),
        _ => String::new(),
    };
    if ground.strict && !named.is_empty() {
        let named = named.join(", ");
        return rejected(
            "touches",
            format!("it changes what `touches` in the spec does not name: {named}{more}"),
        );
    }
    let why = "is outside of what `touches` in the spec names";
    let told = named.into_iter().map(|path| (path, why.to_owned()));
    let rest = (!more.is_empty()).then(|| (format!("…{more}"), why.to_owned()));
    Ok(told.chain(rest).collect())
}

/// Paths that differ and are not in the area, in order; no more than are counted.
fn outside(area: &Area, trees: &Trees, (old, new): (ObjectId, ObjectId)) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut pending = vec![(Vec::new(), Some(old), Some(new))];
    while let Some((prefix, old, new)) = pending.pop() {
        let entries = |id: Option<ObjectId>| id.map(|id| trees.entries(&id)).unwrap_or_default();
        let (before, after) = (entries(old), entries(new));
        let changed = |entry: &&Entry| !before.contains(entry) || !after.contains(entry);
        let mut names: Vec<&[u8]> = before
            .iter()
            .chain(&after)
            .filter(changed)
            .map(|entry| entry.name.as_slice())
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = [&prefix[..], name].concat();
            if area.covers(&path) {
                continue;
            }
            let of = |entries: &[Entry]| entries.iter().find(|e| e.name == name).cloned();
            let sides = [of(&before), of(&after)];
            let is_file = |side: &Option<Entry>| side.as_ref().is_some_and(|e| e.mode != MODE_TREE);
            if sides.iter().any(is_file) {
                found.push(path.clone());
            }
            if found.len() == COUNTED {
                return found;
            }
            let [old, new] = sides.map(|side| side.filter(|e| e.mode == MODE_TREE).map(|e| e.id));
            if old.is_some() || new.is_some() {
                pending.push(([&path[..], b"/"].concat(), old, new));
            }
        }
    }
    found.sort();
    found
}
