//! Waits for the end of a container, also across a restart of the engine: an unknown outcome is
//! looked at, never guessed.

use super::Life;
use crate::engine::{Engine, EngineError, ErrorKind, Exit, OwnedObject};
use crate::event::EventKind;
use crate::id::TaskId;
use crate::runner::outage::{interrupted, may_be_away};
use crate::runner::{Shared, StepError};

/// How often an engine that is there may fail to say how a container ends.
const FAILURES: u32 = 3;

/// How a container ended.
///
/// # Errors
/// Of the stage `interrupted` where the engine went away and the container did not outlive that.
pub(in crate::runner) async fn to_the_end<E: Engine>(
    shared: &Shared<E>,
    task: &TaskId,
    name: &str,
) -> Result<Exit, StepError> {
    let mut was_away = false;
    let mut keeps_containers = true;
    let mut failures = 0;
    loop {
        let error = match shared.context.engine.wait(name).await {
            // By itself, while the engine was there or although it was not.
            Ok(exit) if keeps_containers => return Ok(exit),
            Ok(exit) => {
                return Err(interrupted(format!(
                    "the engine was restarted and ended container {name} (exit code {})",
                    exit.code
                )));
            }
            Err(error) => error,
        };
        if was_away && error.kind == ErrorKind::NotFound {
            return Err(interrupted(format!(
                "the engine was restarted and does not have container {name} any more"
            )));
        }
        failures += 1;
        if !may_be_away(&error) || failures > FAILURES {
            return Err(StepError::engine("container")(error));
        }
        let Some(back) = shared.engine_back(shared.stops(task)).await else {
            return Err(interrupted(format!(
                "the engine went away while container {name} ran: {error}"
            )));
        };
        if back.was_away {
            was_away = true;
            keeps_containers = back.info.keeps_containers;
            failures = 0;
            if keeps_containers {
                tell_of_its_end(shared, task, name).await;
            }
        }
    }
}

/// Looks whether a container has started though its start got no proper answer.
///
/// # Errors
/// The error of that start, where it has not, or the engine has ended it since.
pub(super) async fn has_started<E: Engine>(
    shared: &Shared<E>,
    task: &TaskId,
    name: &str,
    error: EngineError,
) -> Result<(), StepError> {
    let Some(back) = shared.engine_back(shared.stops(task)).await else {
        return Err(interrupted(error.to_string()));
    };
    let outlives = !back.was_away || back.info.keeps_containers;
    let is_it = |object: &OwnedObject| object.name == name && object.started;
    if outlives && owned(shared).await.iter().any(is_it) {
        return Ok(());
    }
    Err(if back.was_away {
        interrupted(error.to_string())
    } else {
        StepError::engine("container")(error)
    })
}

async fn owned<E: Engine>(shared: &Shared<E>) -> Vec<OwnedObject> {
    let owned = shared.context.engine.list_owned().await;
    // Nothing is known then.
    owned.unwrap_or_default()
}

impl<E: Engine> Life<'_, E> {
    /// The same error, or that the engine has gone: then the slot is kept until it is back, so that
    /// the tasks that wait do not all fail meanwhile.
    pub(super) async fn looked_into(&self, error: StepError) -> StepError {
        let back = self.shared.engine_back(self.stops()).await;
        match back {
            Some(back) if !back.was_away => error,
            _ => interrupted(error.message),
        }
    }
}

/// What a container writes while nobody reads is kept by a pipe, which goes with the container.
async fn tell_of_its_end<E: Engine>(shared: &Shared<E>, task: &TaskId, name: &str) {
    let has_ended = |object: &OwnedObject| object.name == name && !object.running;
    if owned(shared).await.iter().any(has_ended) {
        let message = format!(
            "container {name} ended while the engine was away: its log may lack what it wrote then"
        );
        shared.event(Some(task), EventKind::Warning { message });
    }
}
