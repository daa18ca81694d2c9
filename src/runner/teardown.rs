//! Removes what an attempt leaves behind. Goes on whatever fails, and says what did.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::admission::Memory;
use super::setup::release_caches;
use super::{Pin, Shared, StepError, blocking};
use crate::engine::{Engine, EngineError, ErrorKind};
use crate::id::{AttemptId, StateDir};
use crate::workspace::{self, TakenCache};

/// How often a removal that the engine refused is tried again, and how long apart.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What an attempt leaves on the engine, on disk and in the user's repository.
#[derive(Default)]
pub(super) struct Remains {
    /// Its containers, by name; some may never have been created.
    pub(super) containers: Vec<String>,
    /// Whether nobody knows that its container has ended.
    pub(super) may_run: bool,
    /// The memory that its container may use, where it may still run.
    pub(super) memory: Option<Memory>,
    /// Its volumes, likewise.
    pub(super) volumes: Vec<String>,
    /// The caches that it has.
    pub(super) caches: Vec<TakenCache>,
    /// Set once the directory was begun.
    pub(super) attempt: Option<AttemptId>,
    /// Whether the directory holds work that is nowhere else.
    pub(super) keep_work: bool,
    /// What failed to stop.
    pub(super) errors: Vec<String>,
}

impl Remains {
    /// What of it is there to be removed, as far as the containers are.
    pub(super) fn named(&self, state: &StateDir) -> Vec<Removed> {
        let containers = self.containers.iter();
        let mut named: Vec<_> = containers.map(|c| Removed::new("container", c)).collect();
        named.extend(self.volumes.iter().map(|v| Removed::new("volume", v)));
        let directory = self.attempt.as_ref().filter(|_| !self.keep_work);
        let directory = directory.filter(|attempt| state.attempt(attempt).exists());
        named.extend(directory.map(|attempt| Removed::new("worktree", attempt)));
        named
    }
}

/// Removes it all; gives what could not be removed, each a sentence.
pub(super) async fn teardown<E: Engine>(shared: &Arc<Shared<E>>, remains: Remains) -> Vec<String> {
    let context = &shared.context;
    let torn = tear_down(&context.engine, &context.state, remains).await;
    if torn.may_run {
        shared.views.stay_in_use();
    }
    torn.errors
}

/// Something that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What it is, as people call it: `container`, `volume`, `worktree`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
}

impl Removed {
    pub(super) fn new(what: &'static str, name: &(impl ToString + ?Sized)) -> Self {
        let name = name.to_string();
        Self { what, name }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.name)
    }
}

/// How a removal went.
#[derive(Default)]
pub(super) struct Torn {
    pub(super) removed: Vec<Removed>,
    /// What could not be removed, each a sentence.
    pub(super) errors: Vec<String>,
    /// Whether something may still run in the directory, so that it is still there.
    pub(super) may_run: bool,
}

/// Removes what is on the engine, then the directory.
pub(super) async fn tear_down<E: Engine>(
    engine: &Arc<E>,
    state: &StateDir,
    remains: Remains,
) -> Torn {
    let mut torn = Torn {
        errors: remains.errors,
        ..Torn::default()
    };
    for name in &remains.containers {
        let removed = again(|| engine.remove_container(name)).await;
        torn.note("container", name, sentence(removed));
    }
    // What may run still uses it. Whoever can end it later has to give the memory back.
    match remains.memory {
        Some(memory) if torn.removed.len() < remains.containers.len() => memory.keep(),
        memory => drop(memory),
    }
    for name in &remains.volumes {
        let removed = again(|| engine.remove_volume(name)).await;
        torn.note("volume", name, sentence(removed));
    }
    torn.may_run = torn.removed.len() < remains.containers.len() + remains.volumes.len();
    if !torn.may_run {
        release_caches(remains.caches);
    }
    // What a container may still write in is no place to delete in; `clean` tries it all again.
    if let Some(attempt) = remains.attempt
        && !torn.may_run
    {
        if remains.keep_work {
            let check = state.check(&attempt);
            torn.errors
                .extend(remove(engine, state, &attempt, check).await);
        } else {
            torn.take_directory(engine, state, &attempt).await;
        }
    }
    torn
}

impl Torn {
    pub(super) fn take(&mut self, other: Self) {
        self.removed.extend(other.removed);
        self.errors.extend(other.errors);
        self.may_run |= other.may_run;
    }

    fn note(&mut self, what: &'static str, name: &(impl ToString + ?Sized), error: Option<String>) {
        match error {
            None => self.removed.push(Removed::new(what, name)),
            Some(error) => self.errors.push(error),
        }
    }

    /// Removes an attempt's directory.
    pub(super) async fn take_directory<E: Engine>(
        &mut self,
        engine: &Arc<E>,
        state: &StateDir,
        attempt: &AttemptId,
    ) {
        let there = state.attempt(attempt).exists();
        let error = remove_directory(engine, state, attempt).await;
        if there || error.is_some() {
            self.note("worktree", attempt, error);
        }
    }
}

/// Removes an attempt's directory; gives a sentence if that failed.
pub(super) async fn remove_directory<E: Engine>(
    engine: &Arc<E>,
    state: &StateDir,
    attempt: &AttemptId,
) -> Option<String> {
    remove(engine, state, attempt, state.attempt(attempt)).await
}

/// Removes a directory of an attempt; gives a sentence if that failed.
async fn remove<E: Engine>(
    engine: &Arc<E>,
    state: &StateDir,
    attempt: &AttemptId,
    directory: PathBuf,
) -> Option<String> {
    let (state, attempt) = (state.clone(), attempt.clone());
    // A run is over once nobody has its engine any more.
    let engine = engine.clone();
    let removed = blocking(move || {
        let _engine = engine;
        let removed = workspace::remove(&state, &directory);
        // Other attempts may have left work in it.
        let _ = std::fs::remove_dir(state.task(&attempt.run, &attempt.task));
        removed
    });
    Some(StepError::new("remove", &removed.await.err()?).message)
}

/// Removes something from the engine.
///
/// # Errors
/// Of the last try, where each failed.
pub(super) async fn again<T, F>(remove: impl Fn() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    for _ in 1..TRIES {
        if let Ok(done) = remove().await {
            return Ok(done);
        }
        tokio::time::sleep(PAUSE).await;
    }
    remove().await
}

/// What could not be removed, if it could not.
pub(super) fn sentence(removed: Result<(), EngineError>) -> Option<String> {
    Some(StepError::new("remove", &removed.err()?).message)
}

/// Lets go of the base, after all attempts are removed; gives a sentence if that failed.
pub(super) async fn unpin<E: Engine>(shared: &Arc<Shared<E>>) -> Option<String> {
    let shared = shared.clone();
    let removed = blocking(move || {
        let pin = *shared.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if pin == Pin::Never {
            return None;
        }
        let context = &shared.context;
        context.repository.unpin(&context.plan.run).err()
    });
    Some(StepError::new("remove", &removed.await?).message)
}

/// Removes a network, unless somebody uses it.
///
/// # Errors
/// Of the last try, where each failed; [`ErrorKind::HeldByNobody`] is not tried again: it would be so for
/// as long as the engine runs.
pub(super) async fn remove_network<E: Engine>(engine: &E, name: &str) -> Result<(), EngineError> {
    let unless_used = async || match engine.remove_network(name).await {
        Err(error) if error.kind == ErrorKind::InUse => Ok(Ok(())),
        Err(error) if error.kind == ErrorKind::HeldByNobody => Ok(Err(error)),
        removed => removed.map(Ok),
    };
    again(unless_used).await?
}
