//! The claim of a task: taken before its first attempt, renewed while it works, asked for again when
//! its work gets a branch, given back at its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{RunContext, Shared, StepError, blocking};
use crate::claims::{Claim, ClaimError, ClaimRecord, Claims, HOLDS, Taken, Wanted};
use crate::collect::CLAIM_LOST;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::git::Repository;
use crate::id::{CommitId, RunId, TaskId};
use crate::plan::TaskPlan;
use crate::sanitize;

/// How often a claim is renewed.
const RENEW: Duration = Duration::from_secs(3 * 60);

/// The claims of the tasks that have one, as long as they have it.
#[derive(Default)]
pub(super) struct HeldClaims(SyncMutex<BTreeMap<TaskId, Held>>);

#[derive(Clone)]
struct Held {
    state: Arc<Mutex<State>>,
    renewing: AbortHandle,
}

/// A claim as far as is known here.
pub(super) enum State {
    /// It is ours; since when that is known.
    Ours(Box<Claim>, Instant),
    /// It is somebody else's, or was given back.
    Gone,
}

impl State {
    /// What must stand when a branch is made.
    pub(super) fn guard(&self) -> Option<(String, CommitId)> {
        match self {
            Self::Ours(claim, _) => Some(claim.guard()),
            Self::Gone => None,
        }
    }
}

/// Why a task does not begin.
pub(super) enum Refusal {
    /// Somebody else works on the same.
    Claimed(String),
    /// Nothing is known of who does.
    Failed(StepError),
}

impl HeldClaims {
    fn get(&self, task: &TaskId) -> Option<Held> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(task).cloned()
    }

    fn put(&self, task: TaskId, held: Held) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(task, held);
    }

    fn take(&self, task: &TaskId) -> Option<Held> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(task)
    }
}

/// Takes what a task claims, if it claims something. One that had begun goes on without it: its work
/// is collected, and gets no branch.
pub(super) async fn take<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
) -> Result<(), Refusal> {
    let Some(key) = task.claim.clone() else {
        return Ok(());
    };
    let id = task.id.clone();
    let taken = ask(shared, move |claims, context| {
        let author = &context.plan.author;
        let wanted = Wanted {
            key: &key,
            holder: &format!("{} <{}>", author.name, author.email),
            host: &crate::journal::host(),
            owner: &context.owner,
            run: &context.plan.run,
            task: &id,
        };
        claims.take(&wanted, Timestamp::now())
    });
    let had_begun = shared.past.left.contains_key(&task.id);
    let state = match taken.await {
        Ok(Taken::Ours(claim)) => State::Ours(Box::new(claim), Instant::now()),
        _ if had_begun => State::Gone,
        Ok(Taken::Theirs(other)) => {
            let since = format!("{:.0}", other.taken);
            let ClaimRecord {
                run, task, host, ..
            } = other;
            let host = sanitize::line(host.as_bytes(), false);
            let who = format!("claimed by {task} of run {run} on {host} since {since}");
            return Err(Refusal::Claimed(who));
        }
        Err(error) => return Err(Refusal::Failed(StepError::new("claim", &error))),
    };
    let state = Arc::new(Mutex::new(state));
    let renewing = renew(Arc::downgrade(shared), task.id.clone(), state.clone());
    let held = Held {
        state,
        renewing: tokio::spawn(renewing).abort_handle(),
    };
    shared.claims.put(task.id.clone(), held);
    Ok(())
}

/// Holds a task's claim still while its work gets a place. Also says, where it has been lost, that
/// the work gets no branch.
pub(super) async fn hold<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskId,
) -> (Option<OwnedMutexGuard<State>>, Option<String>) {
    let Some(held) = shared.claims.get(task) else {
        return (None, None);
    };
    let state = held.state.lock_owned().await;
    let lost = match &*state {
        State::Gone => true,
        State::Ours(claim, known) => {
            let (claim, age) = (claim.clone(), known.elapsed());
            let is_held = ask(shared, move |claims, _| claims.is_held(&claim));
            // Where the remote does not answer, nobody else can have it before its time is over.
            !is_held.await.unwrap_or(age < HOLDS)
        }
    };
    (Some(state), lost.then(|| CLAIM_LOST.to_owned()))
}

/// Gives a task's claim back, if it has one.
pub(super) async fn release<E: Engine>(shared: &Arc<Shared<E>>, task: &TaskId) {
    let Some(held) = shared.claims.take(task) else {
        return;
    };
    // From here on it is not being renewed.
    let mut state = held.state.lock().await;
    held.renewing.abort();
    if let State::Ours(claim, _) = std::mem::replace(&mut *state, State::Gone) {
        let released = ask(shared, move |claims, _| claims.release(&claim));
        if let Err(error) = released.await {
            let message = format!(
                "its claim stays until it expires: {}",
                StepError::new("claim", &error).message
            );
            shared.event(Some(task), EventKind::Warning { message });
        }
    }
}

/// Makes a claim last as long as its task works, and no longer than its run. What cannot be reached
/// is tried again.
async fn renew<E: Engine>(run: Weak<Shared<E>>, task: TaskId, state: Arc<Mutex<State>>) {
    let mut told = false;
    loop {
        sleep(RENEW).await;
        let Some(shared) = run.upgrade() else { return };
        let mut state = state.lock().await;
        let State::Ours(claim, _) = &*state else {
            return;
        };
        let mut renewed = claim.clone();
        let answer = ask(&shared, move |claims, _| {
            let is_held = claims.renew(&mut renewed, Timestamp::now())?;
            Ok(is_held.then_some(renewed))
        });
        let message = match answer.await {
            Ok(Some(claim)) => {
                *state = State::Ours(claim, Instant::now());
                continue;
            }
            Ok(None) => {
                *state = State::Gone;
                "its claim was taken over by somebody else: its work will get no branch".to_owned()
            }
            Err(_) if told => continue,
            Err(error) => format!(
                "its claim could not be renewed, and is tried again: {}",
                StepError::new("claim", &error).message
            ),
        };
        told = true;
        shared.event(Some(&task), EventKind::Warning { message });
    }
}

/// Asks about claims on a thread that may wait.
async fn ask<E: Engine, T: Send + 'static>(
    shared: &Arc<Shared<E>>,
    question: impl FnOnce(Claims<'_>, &RunContext<E>) -> Result<T, ClaimError> + Send + 'static,
) -> Result<T, ClaimError> {
    let shared = shared.clone();
    blocking(move || {
        let context = &shared.context;
        let remote = context.plan.claims_remote.as_deref();
        question(Claims::of(&context.repository, remote), context)
    })
    .await
}

/// Removes the claims of a run that is dead from the repository; those on a remote are taken over
/// from here, or expire.
pub(super) fn release_of_run(repository: &Repository, run: &RunId) -> Result<(), ClaimError> {
    for (name, commit) in refs_of_run(repository, run)? {
        Claims::of(repository, None).remove(&name, &commit)?;
    }
    Ok(())
}

/// The refs of the claims of a run in the repository, each with its commit.
pub(super) fn refs_of_run(
    repository: &Repository,
    run: &RunId,
) -> Result<Vec<(String, CommitId)>, ClaimError> {
    let claims = Claims::of(repository, None).list()?.into_iter();
    let of_run = claims.filter_map(|(name, found)| {
        let is_its = found.record.is_ok_and(|record| record.run == *run);
        is_its.then_some((name, found.commit))
    });
    Ok(of_run.collect())
}
