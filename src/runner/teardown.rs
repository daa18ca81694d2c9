//! Removes what an attempt leaves behind. Goes on whatever fails, and says what did.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Pin, Shared, StepError, blocking};
use crate::engine::{Engine, EngineError, ErrorKind};
use crate::id::AttemptId;
use crate::workspace;

/// How often a removal that the engine refused is tried again, and how long apart.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What an attempt leaves on the engine, on disk and in the user's repository.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Its containers, by name; some may never have been created.
    pub(super) containers: Vec<String>,
    /// Its volume, likewise.
    pub(super) volume: Option<String>,
    /// Set once the directory was begun.
    pub(super) attempt: Option<AttemptId>,
    /// Whether the directory holds work that is nowhere else.
    pub(super) keep_work: bool,
    /// What failed to stop.
    pub(super) errors: Vec<String>,
}

/// Removes it all; gives what could not be removed, each a sentence.
pub(super) async fn teardown<E: Engine>(shared: &Arc<Shared<E>>, remains: Remains) -> Vec<String> {
    let mut errors = remains.errors;
    let engine = &*shared.context.engine;
    let mut may_run = false;
    for name in &remains.containers {
        let error = again(|| engine.remove_container(name)).await;
        may_run |= error.is_some();
        errors.extend(error);
    }
    if let Some(name) = &remains.volume {
        let error = again(|| engine.remove_volume(name)).await;
        may_run |= error.is_some();
        errors.extend(error);
    }
    if may_run {
        shared.views.stay_in_use();
    }
    let shared = shared.clone();
    // What a container may still write in is no place to delete in; `clean` tries it all again.
    let (attempt, keep_work) = (remains.attempt, remains.keep_work || may_run);
    let on_disk = blocking(move || {
        let attempt = attempt.filter(|_| !keep_work)?;
        let state = &shared.context.state;
        let removed = workspace::remove(state, &state.attempt(&attempt));
        // Other attempts may have left work in it.
        let _ = std::fs::remove_dir(state.task(&attempt.run, &attempt.task));
        Some(StepError::new("remove", &removed.err()?).message)
    });
    errors.extend(on_disk.await);
    errors
}

/// Removes something; gives a sentence if that failed each time.
async fn again<F>(remove: impl Fn() -> F) -> Option<String>
where
    F: Future<Output = Result<(), EngineError>>,
{
    let mut last = None;
    for attempt in 1..=TRIES {
        match remove().await {
            Ok(()) => return None,
            Err(error) => last = Some(StepError::new("remove", &error).message),
        }
        if attempt < TRIES {
            tokio::time::sleep(PAUSE).await;
        }
    }
    last
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

/// Removes a network, unless somebody uses it; gives a sentence if that failed.
pub(super) async fn remove_network<E: Engine>(engine: &E, name: &str) -> Option<String> {
    match engine.remove_network(name).await {
        Ok(()) => None,
        Err(error) if error.kind == ErrorKind::InUse => None,
        Err(error) => Some(StepError::new("remove", &error).message),
    }
}
