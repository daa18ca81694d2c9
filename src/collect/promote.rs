//! Promotion: a checked result enters `results.git` and then the user's repository.
//!
//! Only a pack that git wrote anew from checked objects is brought in, one promotion at a time per
//! repository. No ref is ever overwritten.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::CollectRequest;
use super::error::{CollectError, io};
use super::place::Place;
use super::quarantine::{Pack, Quarantine};
use crate::event::{BranchReport, BranchResult};
use crate::git::{GitError, RepositoryLock, init_bare};
use crate::id::{BranchName, CommitId, StateDir};

/// What is written into the mark that keeps a pack from being repacked away.
pub(super) const KEEP: &str = "agent-run";

/// Where a result has ended up.
pub(super) struct Promoted {
    pub(super) result: BranchResult,
    /// Refs in the user's repository of the further tips, and what they are.
    pub(super) side_refs: Vec<(String, String)>,
    pub(super) notes: Vec<String>,
    pub(super) results: PathBuf,
}

/// Brings `tip`, unless it is the base, and the further tips in.
pub(super) fn promote(
    request: &CollectRequest<'_>,
    quarantine: &Quarantine<'_>,
    tip: &CommitId,
    sides: &[(CommitId, String)],
) -> Result<Promoted, CollectError> {
    let CollectRequest {
        repository,
        state,
        store,
        workspace,
        attempt,
        ..
    } = request;
    let tips: Vec<_> = [tip]
        .into_iter()
        .chain(sides.iter().map(|(id, _)| id))
        .collect();
    // What it starts from is in it as well: of that the user may have deleted the branch.
    let pack = quarantine.repack(&tips, store.base())?;
    let _lock = RepositoryLock::acquire(state, repository.key())?;

    let results = state.results(repository.key(), store.key());
    if !results.join("HEAD").is_file() {
        init_bare(&results)?;
    }
    super::borrow(&results, store)?;
    take_in(&results, &pack)?;
    let name = attempt.result_ref();
    let ours = git2::Repository::open_bare(&results)?;
    for (index, commit) in tips.iter().enumerate() {
        let side = match index {
            0 => String::new(),
            index => format!("-side-{index}"),
        };
        let commit = git2::Oid::from_str(commit.as_str())?;
        ours.reference(&format!("{name}{side}"), commit, true, "")?;
    }

    // Until a ref holds it, the mark keeps the user's own repacking from dropping it.
    let directory = repository.common_dir().join("objects/pack");
    let keep = directory.join(format!("pack-{}.keep", pack.hash));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&keep, KEEP))
        .map_err(io("write", &keep))?;
    take_in(repository.common_dir(), &pack)?;
    let mut notes = Vec::new();
    let side_refs = keep_sides(request, sides, &mut notes)?;
    let result = if tip == workspace.base() {
        BranchResult::NoChange
    } else {
        let place = Place {
            repository,
            attempt,
            guard: request.guard,
            moves: request.moves,
        };
        place.put(request.branch, tip, &mut notes)?
    };
    // The work is safe: what stays behind now is only untidy.
    notes.extend(release(&keep).err().map(|e| e.to_string()));
    Ok(Promoted {
        result,
        side_refs,
        notes,
        results,
    })
}

/// Adds a pack to a repository as git does: on the disk before it gets its name, the index last,
/// since with that git knows of it.
fn take_in(git_dir: &Path, pack: &Pack) -> Result<(), CollectError> {
    let directory = git_dir.join("objects/pack");
    for (from, kind) in [(&pack.data, "pack"), (&pack.index, "idx")] {
        let path = directory.join(format!("pack-{}.{kind}", pack.hash));
        let copy = || -> std::io::Result<()> {
            // Git clears away what begins so and is never finished.
            let mut file = tempfile::Builder::new()
                .prefix("tmp_pack_")
                .tempfile_in(&directory)?;
            std::io::copy(&mut fs::File::open(from)?, &mut file)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(0o444))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        copy().map_err(io("write", &path))?;
    }
    Ok(())
}

fn release(keep: &Path) -> Result<(), CollectError> {
    match fs::remove_file(keep) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", keep)(error))
        }
        _ => Ok(()),
    }
}

/// Gives the branch to work that was set aside: no other attempt follows after all. Where the
/// branch's name is taken, or on failure, the work stays where it is.
pub fn name_set_aside(
    state: &StateDir,
    place: Place<'_>,
    branch: &BranchName,
    report: &mut BranchReport,
) {
    let BranchResult::SetAside { commit, kept_ref } = report.result.clone() else {
        return;
    };
    let notes = &mut report.notes;
    let repository = place.repository;
    let placed = RepositoryLock::acquire(state, repository.key())
        .map_err(CollectError::from)
        .and_then(|_lock| place.put(Some(branch), &commit, notes));
    match placed {
        Ok(result) => report.result = result,
        Err(error) => notes.push(error.to_string()),
    }
    if matches!(report.result, BranchResult::Created { .. }) {
        let removed = repository.call(["update-ref", "-d", &kept_ref, commit.as_str()]);
        report
            .notes
            .extend(removed.run().err().map(|e| e.to_string()));
    }
}

fn keep_sides(
    request: &CollectRequest<'_>,
    sides: &[(CommitId, String)],
    notes: &mut Vec<String>,
) -> Result<Vec<(String, String)>, CollectError> {
    let mut kept = Vec::new();
    let place = Place {
        repository: request.repository,
        attempt: request.attempt,
        guard: None,
        moves: None,
    };
    for (index, (id, what)) in sides.iter().enumerate() {
        let name = request.attempt.kept_ref(index + 1);
        match place.create(&name, id) {
            Ok(()) => kept.push((name, what.clone())),
            Err(GitError::Failed { stderr, .. }) => {
                notes.push(format!("{name} was not made: {stderr}"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(kept)
}
