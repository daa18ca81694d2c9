//! Collection: what a task handed off is checked, and what passes becomes a branch.
//!
//! Bundle → quarantine → policy → `results.git` → the user's repository. Called when the task's
//! container is gone. Nothing that an agent wrote is executed or believed, and what is refused
//! leaves nothing in the user's repository.

mod artifacts;
mod diffstat;
mod error;
mod extent;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod glimpse;
mod ground;
mod handed_off;
mod leaks;
pub mod limits;
mod merge;
mod open;
mod place;
mod policy;
mod promote;
mod prune;
mod quarantine;
mod risk;
mod trees;
mod wanted;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::event::{BranchReport, BranchResult};
use crate::git::Repository;
use crate::id::{AttemptId, BranchName, CommitId, StateDir};
use crate::secrets::Needles;
use crate::workspace::{BaseStore, Workspace};
pub use artifacts::{ArtifactsRequest, copy_artifacts};
use error::{CollectError, io, rejected};
pub use extent::{ExtentError, checkout_size};
pub use glimpse::glimpse;
pub use ground::Ground;
use handed_off::{Bundle, HandedOff, Leftovers, Status};
use leaks::Additions;
pub use leaks::SECRET_NAME;
use limits::CollectLimits;
pub use merge::{MergeError, MergeRequest, Merged, merge};
pub use place::{CLAIM_LOST, Place};
use policy::{Added, Checked};
pub use promote::name_set_aside;
pub use prune::{release_packs, remove_unused};
use quarantine::Quarantine;

/// Submodules with further work that a note names.
const SUBMODULES_NAMED: usize = 5;

/// How to read the directory of a worktree that was a view.
const ONLY_CHANGED: &str = "Its worktree has only the files that the task wrote: \
     unchanged ones are in the base, and a character device stands for a deleted one.";

/// What is collected, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct CollectRequest<'a> {
    /// The user's repository.
    pub repository: &'a Repository,
    /// The state directory.
    pub state: &'a StateDir,
    /// The store with the run's base.
    pub store: &'a BaseStore,
    /// The attempt's directories.
    pub workspace: &'a Workspace,
    /// The attempt.
    pub attempt: &'a AttemptId,
    /// The branch to make; none for an attempt that another one follows, whose work is set aside.
    pub branch: Option<&'a BranchName>,
    /// A ref and what it must stand for when the branch is made, else the work is set aside.
    pub guard: Option<&'a (String, CommitId)>,
    /// Where the branch stands, if it is there and is to be moved on.
    pub moves: Option<&'a CommitId>,
    /// What the task may change; all of it if nothing is said.
    pub ground: Option<Ground<'a>>,
    /// What is taken at most.
    pub limits: CollectLimits,
    /// The values of secrets, for which the result is searched.
    pub secrets: &'a Needles,
}

/// Whether the attempt's own container did not hand its work off, so that a collector container
/// must run the hand-off again before [`collect`].
pub fn needs_collector(workspace: &Workspace) -> bool {
    let look = || -> Result<bool, CollectError> {
        let folder = HandedOff::open(&workspace.out())?;
        let status = folder.status()?;
        let bundle = folder.bundle(u64::MAX)?;
        // A collector may have the memory that the task had not.
        Ok(status.bundle_failed.is_none() && status.bundle == bundle.is_some())
    };
    !look().unwrap_or(false)
}

/// Collects an attempt's work. Whatever goes wrong is told by the report; where that is
/// `Rejected` or `Kept`, or says `content_left_behind`, the caller keeps the attempt's directory.
pub fn collect(request: &CollectRequest<'_>) -> BranchReport {
    let path = request.workspace.directory().to_owned();
    let report = collect_or_fail(request);
    let mut report = report.unwrap_or_else(|error| {
        let mut report = BranchReport::bare(match error {
            CollectError::Rejected { check, detail } => {
                let check = check.to_owned();
                BranchResult::Rejected {
                    check,
                    detail,
                    path,
                }
            }
            other => {
                let reason = other.to_string();
                BranchResult::Kept { path, reason }
            }
        });
        report.content_left_behind = true;
        report
    });
    if report.content_left_behind && request.workspace.is_view() {
        report.notes.push(ONLY_CHANGED.to_owned());
    }
    report
}

fn collect_or_fail(request: &CollectRequest<'_>) -> Result<BranchReport, CollectError> {
    let folder = HandedOff::open(&request.workspace.out())?;
    let status = folder.status()?;
    let mut report = BranchReport::bare(BranchResult::NoChange);
    match folder.bundle(request.limits.bundle)? {
        Some(bundle) => collect_bundle(request, &status, bundle, &mut report)?,
        None if status.bundle => {
            let reason = "the hand-off's bundle is not there".to_owned();
            return Err(CollectError::NotHandedOff(reason));
        }
        None if let Some(said) = &status.bundle_failed => {
            let reason = format!(
                "git could not pack the commits inside the container: {said}. They are in the task's \
                 directory, as is the rest of its work; where memory or disk was too little, run the \
                 task again with more `mem_limit` or `disk_limit`"
            );
            return Err(CollectError::NotHandedOff(reason));
        }
        None if status.changed && status.head.as_ref() != Some(request.workspace.base()) => {
            return not_on_top();
        }
        None => {}
    }
    describe(&status, request, &mut report);
    Ok(report)
}

fn collect_bundle(
    request: &CollectRequest<'_>,
    status: &Status,
    bundle: Bundle,
    report: &mut BranchReport,
) -> Result<(), CollectError> {
    let CollectRequest {
        repository,
        workspace,
        store,
        limits,
        ..
    } = *request;
    let base = workspace.base();
    let quarantine = Quarantine::new(repository.git(), workspace, store, limits)?;
    quarantine.unpack(bundle.pack)?;
    let tip = bundle.head.as_ref().unwrap_or(base);
    let with = |sides: &[&CommitId]| {
        let tips: Vec<_> = [tip].into_iter().chain(sides.iter().copied()).collect();
        Added::list(&quarantine, &tips, base, limits.objects)
    };
    let all: Vec<_> = bundle.sides.iter().map(|(_, id)| id).collect();
    let mut added = with(&all)?;
    if !added.descends(tip)? {
        return not_on_top();
    }
    let sides = sides_on_top(&added, &bundle.sides, status)?;
    if sides.len() < bundle.sides.len() {
        report.content_left_behind = true;
        let note = "Some other branches of the task do not build on the base and were not taken.";
        report.notes.push(note.into());
        added = with(&sides.iter().map(|(id, _)| id).collect::<Vec<_>>())?;
    }
    let mut checked = added.check(&quarantine, (store, workspace), &limits)?;
    report.commits = added.commits(tip)?;
    let looked_for = (&added, request.secrets);
    let few_paths = look_for_risks(&quarantine, store, &mut checked, looked_for, report)?;
    if let Some(ground) = request.ground {
        let trees = (checked.base_tree, checked.tip_tree);
        let outside = ground::check(ground, &checked.trees, trees)?;
        report.risky_paths.extend(outside);
    }
    let promoted = promote::promote(request, &quarantine, tip, &sides)?;
    report.result = promoted.result;
    report.side_refs = promoted.side_refs;
    report.notes.extend(promoted.notes);
    if few_paths {
        // The work is safe: numbers that cannot be had fail nothing.
        let counted = diffstat::fill(
            report,
            &promoted.results,
            &checked.base_tree,
            &checked.tip_tree,
        );
        report.notes.extend(counted.err().map(|e| e.to_string()));
    }
    Ok(())
}

/// The further tips that build on the base, and what they are.
fn sides_on_top(
    added: &Added,
    sides: &[(usize, CommitId)],
    status: &Status,
) -> Result<Vec<(CommitId, String)>, CollectError> {
    let mut kept = Vec::new();
    for (number, id) in sides {
        if added.descends(id)? {
            let said = status.sides.iter().find(|(n, _)| n == number);
            let what = said.map_or_else(|| "unnamed".to_owned(), |(_, what)| what.clone());
            kept.push((id.clone(), what));
        }
    }
    Ok(kept)
}

/// Fills the risky paths; says whether the changed paths are few enough to count their lines.
fn look_for_risks(
    quarantine: &Quarantine<'_>,
    store: &BaseStore,
    checked: &mut Checked,
    (added, secrets): (&Added, &Needles),
    report: &mut BranchReport,
) -> Result<bool, CollectError> {
    let (base_tree, tip_tree) = (checked.base_tree, checked.tip_tree);
    let (changes, all, gone) = checked
        .trees
        .changes(&base_tree, &tip_tree, 5 * diffstat::PATHS);
    let risks = risk::find(quarantine, &changes, store)?;
    report.risky_paths = risks.paths;
    let additions = Additions {
        added,
        trees: &checked.trees,
        changes: &changes,
    };
    leaks::tell(quarantine, secrets, &additions, report);
    if risks.absent > 0 {
        report.content_left_behind = true;
        let note = format!(
            "{} submodules moved to commits that are not in the result; if the task made them, they are in its directory.",
            risks.absent
        );
        report.notes.push(note);
    }
    if risks.nested > 0 {
        report.content_left_behind = true;
        let note = format!(
            "{} nested repositories are not in the branch; their content is in the task's directory.",
            risks.nested
        );
        report.notes.push(note);
    }
    if !all {
        report
            .notes
            .push("Too many paths changed to look at each: more may deserve a look.".into());
    }
    let total = gone.saturating_add(changes.len() as u64);
    let few = all && total <= diffstat::PATHS as u64;
    if !few {
        report.files = total;
        report
            .notes
            .push("Too many paths changed to count their lines.".into());
    }
    Ok(few)
}

/// Adds what the status says to a report.
fn describe(status: &Status, request: &CollectRequest<'_>, report: &mut BranchReport) {
    report.leftovers_committed = status.leftovers == Leftovers::Committed;
    let mut left_behind = |note: &str| {
        report.content_left_behind = true;
        report.notes.push(note.to_owned());
    };
    match status.leftovers {
        Leftovers::TooLarge => left_behind(&format!(
            "Uncommitted files are larger than `collect.limits.leftovers` in the spec allows ({}): they are not committed, but in the task's directory.",
            request.limits.leftovers
        )),
        Leftovers::Failed => left_behind(
            "Uncommitted files could not be committed; they are in the task's directory.",
        ),
        Leftovers::None | Leftovers::Committed => {}
    }
    if status.leftovers_incomplete {
        left_behind(
            "Some uncommitted files could not be committed; they are in the task's directory.",
        );
    }
    for path in &status.submodules {
        let why = "is a submodule with work that is not in the branch".to_owned();
        report.risky_paths.push((path.clone(), why));
    }
    if !status.submodules.is_empty() {
        let named = status.submodules.iter().take(SUBMODULES_NAMED);
        left_behind(&format!(
            "Submodules hold changes or commits that are not in the branch ({}); they are in {}.",
            named.map(String::as_str).collect::<Vec<_>>().join(", "),
            request.workspace.worktree().display()
        ));
    }
    if status.branches_incomplete {
        left_behind("The task made more branches than are taken; they are in its git directory.");
    }
    if status.submodules_unknown {
        left_behind("It could not be found out whether submodules hold further work.");
    }
    if status.rebuilt {
        left_behind("The task broke its git directory: its files came back as one commit.");
    }
}

fn not_on_top<T>() -> Result<T, CollectError> {
    rejected(
        "descends-from-base",
        "the result does not build on the base commit",
    )
}

/// Lets a repository of ours read the base store's objects and know where its history ends.
fn borrow(git_dir: &Path, store: &BaseStore) -> Result<(), CollectError> {
    borrow_objects(git_dir, &store.objects())?;
    match store.shallow() {
        Some(shallow) => add_lines(&git_dir.join("shallow"), &shallow),
        None => Ok(()),
    }
}

/// Lets a repository of ours read these objects.
fn borrow_objects(git_dir: &Path, objects: &Path) -> Result<(), CollectError> {
    // Not quoted: libgit2 takes the line as it is.
    let line = [objects.as_os_str().as_bytes(), b"\n"].concat();
    add_lines(&git_dir.join("objects/info/alternates"), &line)
}

/// Adds the lines that a file does not have yet, leaving no moment at which it is incomplete.
fn add_lines(path: &Path, lines: &[u8]) -> Result<(), CollectError> {
    let old = fs::read(path).unwrap_or_default();
    let split = |bytes: &[u8]| {
        bytes
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(<[u8]>::to_vec)
            .collect::<BTreeSet<_>>()
    };
    let mut all = split(&old);
    all.extend(split(lines));
    let mut text = all.into_iter().collect::<Vec<_>>().join(&b'\n');
    text.push(b'\n');
    let parent = path.parent().unwrap_or(path);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(parent)?;
        let file = tempfile::NamedTempFile::new_in(parent)?;
        fs::write(file.path(), &text)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(io("write", path))
}
