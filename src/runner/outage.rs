//! An engine that goes away in mid-run, by a restart or a crash: whoever loses it waits for it here,
//! and looks then at what is left. Its containers may have gone on without it, or not.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::stops::{Stops, Urgency};
use super::{Shared, StepError};
use crate::engine::{Engine, EngineError, EngineInfo, ErrorKind};
use crate::event::EventKind;

/// The stage of what failed because the engine went away.
pub(super) const INTERRUPTED: &str = "interrupted";
/// How long an engine is waited for: longer than the upgrade of one takes.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long it may take for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the engine was waited for in vain. One asks for all that wait.
#[derive(Default)]
pub(super) struct Outage(Mutex<bool>);

/// An engine that answers.
pub(super) struct Back {
    /// What it is now; it may have another configuration than before.
    pub(super) info: EngineInfo,
    /// Whether it was away.
    pub(super) was_away: bool,
}

/// Whether a call may have failed because the engine went away.
pub(super) fn may_be_away(error: &EngineError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Unreachable(_) | ErrorKind::Broken(_) | ErrorKind::Timeout
    )
}

/// What ended because the engine went away.
pub(super) fn interrupted(message: String) -> StepError {
    StepError {
        stage: INTERRUPTED,
        message,
    }
}

impl<E: Engine> Shared<E> {
    /// Returns once the engine answers; nothing where it stays away, or the task is to stop first.
    pub(super) async fn engine_back(&self, mut stops: Stops) -> Option<Back> {
        if let Some(info) = self.ask().await {
            let was_away = false;
            return Some(Back { info, was_away });
        }
        let info = tokio::select! {
            info = self.await_engine() => info?,
            () = stops.asked(Urgency::Graceful) => return None,
        };
        let was_away = true;
        Some(Back { info, was_away })
    }

    async fn await_engine(&self) -> Option<EngineInfo> {
        let mut is_final = self.outage.0.lock().await;
        let began = Instant::now();
        // Another one may have waited for it.
        let info = self.ask().await;
        if info.is_some() || *is_final {
            *is_final &= info.is_none();
            return info;
        }
        let minutes = PATIENCE.as_secs() / 60;
        self.say_of_engine(&format!(
            "does not answer: what runs is not stopped for that, nothing is started, and it is \
             waited for up to {minutes} minutes"
        ));
        while began.elapsed() < PATIENCE {
            sleep(PAUSE).await;
            if let Some(info) = self.ask().await {
                self.say_of_engine("answers again");
                return Some(info);
            }
        }
        *is_final = true;
        self.say_of_engine("has not come back: what it still runs, `agent-run clean` will find");
        None
    }

    async fn ask(&self) -> Option<EngineInfo> {
        let answer = timeout(ANSWER, self.context.engine.info()).await;
        answer.ok()?.ok()
    }

    fn say_of_engine(&self, what: &str) {
        let message = format!("the engine at {} {what}", self.context.info.endpoint);
        self.event(None, EventKind::Warning { message });
    }
}
