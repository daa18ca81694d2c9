//! Promotion: a checked result enters `results.git` and then the user's repository.
//!
//! Only a pack that git wrote anew from checked objects is brought in, one promotion at a time per
//! repository. No ref is ever overwritten.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::CollectRequest;
use super::error::{CollectError, io};
use super::quarantine::Quarantine;
use crate::event::BranchResult;
use crate::git::{GitCall, GitError, RepositoryLock};
use crate::id::CommitId;
use crate::sanitize;

/// What is written into the mark that keeps a pack from being repacked away.
pub(super) const KEEP: &str = "agent-run";
const NOTHING: &str = "0000000000000000000000000000000000000000";

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
        attempt,
        ..
    } = request;
    let tips: Vec<_> = [tip]
        .into_iter()
        .chain(sides.iter().map(|(id, _)| id))
        .collect();
    let pack = quarantine.repack(&tips, store.base())?;
    let _lock = RepositoryLock::acquire(state, repository.key())?;

    let results = state.results(repository.key());
    let git = repository.git();
    if !results.join("HEAD").is_file() {
        git.call(["init", "-q", "--bare", "--template="])
            .git_dir(&results)
            .run()?;
    }
    super::borrow(&results, store)?;
    let on_results = |arguments: &[&str]| git.call(arguments).git_dir(&results);
    let keep = take_in(&on_results, &results, &pack)?;
    let name = format!("refs/results/{}/{attempt}", store.key());
    on_results(&["update-ref", &name, tip.as_str()]).run()?;
    for (index, (side, _)) in sides.iter().enumerate() {
        let name = format!("refs/results/{}/{attempt}-side-{}", store.key(), index + 1);
        on_results(&["update-ref", &name, side.as_str()]).run()?;
    }
    release(&keep)?;

    let on_users = |arguments: &[&str]| repository.call(arguments);
    let keep = take_in(&on_users, repository.common_dir(), &pack)?;
    let incoming = attempt.incoming_ref();
    on_users(&["update-ref", &incoming, tip.as_str()]).run()?;
    let mut notes = Vec::new();
    let side_refs = keep_sides(request, sides, &mut notes)?;
    let result = if tip == store.base() {
        BranchResult::NoChange
    } else {
        place(request, tip, &mut notes)?
    };
    // The work is safe: what stays behind now is only untidy.
    let dropped = on_users(&["update-ref", "-d", &incoming]).run();
    notes.extend(dropped.err().map(|e| e.to_string()));
    notes.extend(release(&keep).err().map(|e| e.to_string()));
    Ok(Promoted {
        result,
        side_refs,
        notes,
        results,
    })
}

/// Indexes a pack in a repository; the file it returns keeps repacking away from it meanwhile.
fn take_in<'a>(
    call: &dyn Fn(&[&str]) -> GitCall<'a>,
    git_dir: &Path,
    pack: &Path,
) -> Result<PathBuf, CollectError> {
    let pack = File::open(pack).map_err(io("open", pack))?;
    let keep = format!("--keep={KEEP}");
    let answer = call(&["index-pack", "--stdin", &keep])
        .input_file(pack)
        .run_text()?;
    let hash = answer.trim().rsplit('\t').next().unwrap_or_default();
    Ok(git_dir
        .join("objects/pack")
        .join(format!("pack-{hash}.keep")))
}

fn release(keep: &Path) -> Result<(), CollectError> {
    match fs::remove_file(keep) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", keep)(error))
        }
        _ => Ok(()),
    }
}

/// Makes the branch; where its name is taken, keeps the result under a ref of ours.
fn place(
    request: &CollectRequest<'_>,
    tip: &CommitId,
    notes: &mut Vec<String>,
) -> Result<BranchResult, CollectError> {
    let (branch, commit) = (request.branch.clone(), tip.clone());
    match create(request, &branch.full_ref(), tip) {
        Ok(()) => return Ok(BranchResult::Created { branch, commit }),
        Err(GitError::Failed { stderr, .. }) => {
            notes.push(format!("git did not make the branch: {stderr}"));
        }
        Err(other) => return Err(other.into()),
    }
    let kept_ref = request.attempt.kept_ref(0);
    create(request, &kept_ref, tip)?;
    Ok(BranchResult::Taken {
        branch,
        commit,
        kept_ref,
    })
}

fn keep_sides(
    request: &CollectRequest<'_>,
    sides: &[(CommitId, String)],
    notes: &mut Vec<String>,
) -> Result<Vec<(String, String)>, CollectError> {
    let mut kept = Vec::new();
    for (index, (id, what)) in sides.iter().enumerate() {
        let name = request.attempt.kept_ref(index + 1);
        match create(request, &name, id) {
            Ok(()) => kept.push((name, what.clone())),
            Err(GitError::Failed { stderr, .. }) => {
                notes.push(format!("{name} was not made: {stderr}"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(kept)
}

/// Makes a ref that is not there; one that stands at `commit` already is as good.
fn create(request: &CollectRequest<'_>, name: &str, commit: &CommitId) -> Result<(), GitError> {
    let message = format!("agent-run: {}", request.attempt);
    let call =
        request
            .repository
            .call(["update-ref", "-m", &message, name, commit.as_str(), NOTHING]);
    let Err(error) = call.run() else {
        return Ok(());
    };
    let there = request
        .repository
        .call(["rev-parse", "-q", "--verify", name])
        .run()
        .unwrap_or_default();
    let same = sanitize::line(there.trim_ascii(), false) == commit.as_str();
    if same { Ok(()) } else { Err(error) }
}
