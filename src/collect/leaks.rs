//! Whether a result holds the value of a secret: in the names and contents of its files, in the messages
//! of its commits. It is told and not refused: the work is the user's, and so is what becomes of it.
//!
//! Looked at is what the task added, within fixed bounds: names all of them, commits and files of at
//! most 1 MiB each, 64 MiB in all of either, the newest first.

use std::collections::HashSet;

use super::error::{CollectError, fail_closed, rejected};
use super::policy::Added;
use super::quarantine::Quarantine;
use super::trees::{Change, ObjectId, Trees, hex};
use crate::event::BranchReport;
use crate::id::CommitId;
use crate::sanitize;
use crate::secrets::Needles;

/// The largest object that is looked at, in bytes.
const LARGEST: u64 = 1 << 20;
/// How much is looked at of commits, and of files, in bytes, and how much at once.
const BUDGET: u64 = 64 << 20;
const AT_ONCE: u64 = 8 << 20;
/// What a header of an object takes in git's answer, at most.
const HEADER: u64 = 80;
/// Most paths that are listed, and most commits.
const PATHS: usize = 100;
const COMMITS: usize = 1000;

/// What a report has of a file with a secret in its name, among other words.
pub const SECRET_NAME: &str = "the value of a secret in its name";
const IN_NAME: &str = "has the value of a secret in its name";
const IN_FILE: &str = "holds the value of a secret";

/// What a result adds.
pub(super) struct Additions<'a> {
    pub(super) added: &'a Added,
    pub(super) trees: &'a Trees,
    /// The files of its tip that are other than in its base.
    pub(super) changes: &'a [Change],
}

/// Looks for secrets in what a result adds, and tells of what is found: nothing fails for it.
pub(super) fn tell(
    quarantine: &Quarantine<'_>,
    needles: &Needles,
    additions: &Additions<'_>,
    report: &mut BranchReport,
) {
    if needles.is_empty() {
        return;
    }
    of_names(needles, additions, report);
    let looked = of_commits(quarantine, needles, additions, report)
        .and_then(|()| of_files(quarantine, needles, additions, report));
    if let Err(error) = looked {
        let note = format!("Not all of it could be searched for secrets: {error}");
        report.notes.push(note);
    }
}

fn of_names(needles: &Needles, additions: &Additions<'_>, report: &mut BranchReport) {
    let named = additions.changes.iter();
    let named = named.filter(|change| needles.are_in(&change.path));
    let listed = report.risky_paths.len();
    add_paths(report, named, IN_NAME);
    let is_in_tree = |id: &&ObjectId| needles.are_in(additions.trees.body(id));
    let is_earlier = report.risky_paths.len() == listed;
    if is_earlier
        && additions
            .added
            .directories()
            .iter()
            .any(|id| is_in_tree(&id))
    {
        let note = "An earlier commit or another branch of the task has a file with the value of a \
                    secret in its name.";
        report.notes.push(note.to_owned());
    }
}

fn of_commits(
    quarantine: &Quarantine<'_>,
    needles: &Needles,
    additions: &Additions<'_>,
    report: &mut BranchReport,
) -> Result<(), CollectError> {
    let found = search(quarantine, needles, additions.added.all_commits())?;
    if found.is_empty() {
        return Ok(());
    }
    report.notes.push(format!(
        "New commits hold the value of a secret in their message or author ({}): rewrite them before \
         anybody else gets them.",
        found.len()
    ));
    let ids = found.iter().take(COMMITS);
    report.secret_commits = ids
        .filter_map(|id| hex(id).parse::<CommitId>().ok())
        .collect();
    Ok(())
}

fn of_files(
    quarantine: &Quarantine<'_>,
    needles: &Needles,
    additions: &Additions<'_>,
    report: &mut BranchReport,
) -> Result<(), CollectError> {
    let found = search(quarantine, needles, additions.added.files())?;
    let mut earlier: HashSet<ObjectId> = found.into_iter().collect();
    if earlier.is_empty() {
        return Ok(());
    }
    let holds = |change: &&Change| earlier.contains(&change.new.id);
    let holding: Vec<&Change> = additions.changes.iter().filter(holds).collect();
    for change in &holding {
        earlier.remove(&change.new.id);
    }
    add_paths(report, holding.into_iter(), IN_FILE);
    if !earlier.is_empty() {
        report.notes.push(format!(
            "An earlier commit or another branch of the task holds the value of a secret in files that its \
             tip does not have ({}): whoever gets the history gets them.",
            earlier.len()
        ));
    }
    Ok(())
}

fn add_paths<'a>(report: &mut BranchReport, changes: impl Iterator<Item = &'a Change>, why: &str) {
    let paths = changes.take(PATHS);
    let paths = paths.map(|change| (sanitize::line(&change.path, false), why.to_owned()));
    report.risky_paths.extend(paths);
}

/// Those of the objects that hold a value, of the ones that are looked at.
fn search(
    quarantine: &Quarantine<'_>,
    needles: &Needles,
    objects: &[(ObjectId, u64)],
) -> Result<Vec<ObjectId>, CollectError> {
    let mut found = Vec::new();
    let mut batch = Vec::new();
    let (mut in_batch, mut in_all) = (0, 0);
    for &(id, size) in objects.iter().filter(|(_, size)| *size <= LARGEST) {
        let cost = size + HEADER;
        if in_all + cost > BUDGET {
            break;
        }
        if in_batch + cost > AT_ONCE {
            search_batch(quarantine, needles, &batch, &mut found)?;
            batch.clear();
            in_batch = 0;
        }
        batch.push((id, size));
        in_batch += cost;
        in_all += cost;
    }
    search_batch(quarantine, needles, &batch, &mut found)?;
    Ok(found)
}

fn search_batch(
    quarantine: &Quarantine<'_>,
    needles: &Needles,
    batch: &[(ObjectId, u64)],
    found: &mut Vec<ObjectId>,
) -> Result<(), CollectError> {
    if batch.is_empty() {
        return Ok(());
    }
    let ids: String = batch.iter().map(|(id, _)| hex(id) + "\n").collect();
    let limit = usize::try_from(2 * AT_ONCE).unwrap_or(usize::MAX);
    let call = quarantine.call(["cat-file", "--batch"]);
    let answer = call.input(ids.into_bytes()).output_limit(limit).run();
    let answer = answer.map_err(fail_closed("objects"))?;
    let mut rest = answer.as_slice();
    for (id, size) in batch {
        // A header in a line, the object, and the end of a line.
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        let header = rest.iter().position(|byte| *byte == b'\n');
        let body = header.and_then(|end| rest[end + 1..].split_at_checked(size));
        let Some((body, after)) = body else {
            return rejected("objects", "an answer of git's is cut");
        };
        if needles.are_in(body) {
            found.push(*id);
        }
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(())
}
