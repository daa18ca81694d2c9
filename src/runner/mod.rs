//! Runs a plan: admission, the life of each task, teardown, shutdown. The only concurrent module.
//!
//! `dispatcher` owns the truth and talks to the outside; each task is a spawned state machine that
//! reports events and is never dropped half-way; what it cannot do becomes its outcome.
#![expect(clippy::disallowed_methods, reason = "this is the module that spawns")]

mod admission;
mod agent;
mod attempts;
mod claim;
mod clean;
mod collector;
mod container;
mod course;
mod disk;
mod dispatcher;
mod egress;
mod examine;
mod failures;
mod feedback;
mod floor;
mod forecast;
mod images;
mod kept;
mod masked;
mod measure;
mod mounts;
mod network;
mod outage;
mod outcome;
mod past;
mod places;
mod prepare;
mod probe;
mod proof;
mod pump;
mod reconcile;
mod record;
mod retention;
mod runtime;
mod schedule;
mod secrets;
mod services;
mod session;
mod settle;
mod setup;
mod start;
mod stops;
mod task;
mod teardown;
mod unused;
mod user;
mod views;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::engine::{Engine, EngineError, EngineInfo, ErrorKind};
use crate::event::StopReason;
use crate::git::Repository;
use crate::id::StateDir;
use crate::plan::RunPlan;
use crate::secrets::Needles;
use crate::workspace::BaseStore;

pub use clean::{CleanReport, Cleaner};
pub use dispatcher::{LogLine, Observer, run};
pub use examine::{Examination, ExamineError, Examiner, Internet, Reach};
pub use kept::KeptReport;
pub use network::{CleanedNetworks, Pool};
pub use past::Record;
pub use reconcile::{Patience, Tidied, TidyContext, Tidying};
pub use retention::remove_merged;
pub use secrets::Secrets;
pub use stops::TaskStops;
pub use teardown::Removed;
pub use unused::remove_unused;

/// What a run works with. Everything in it is decided before the first task starts.
pub struct RunContext<E: Engine> {
    /// The engine.
    pub engine: Arc<E>,
    /// What the engine said of itself.
    pub info: EngineInfo,
    /// The plan.
    pub plan: RunPlan,
    /// The user's repository.
    pub repository: Repository,
    /// What the tasks borrow objects from.
    pub store: BaseStore,
    /// Where agent-run keeps its own files.
    pub state: StateDir,
    /// The values of the plan's secrets.
    pub secrets: Secrets,
    /// What to mask in everything that is shown.
    pub needles: Needles,
    /// The owner label.
    pub owner: String,
    /// Where the network gets its addresses from.
    pub pool: Pool,
    /// How long after a request to stop containers are killed and nothing more is collected; none
    /// where only a second request does that.
    pub patience: Option<Duration>,
    /// Which of its tasks are asked to stop.
    pub stops: watch::Receiver<TaskStops>,
}

/// Why a run could not go on at all: nothing is known to work, so nothing more is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A directory of ours did not arrive in a container.
    #[error(
        "a bind mount of {} does not arrive in containers of the engine at {endpoint}",
        path.display()
    )]
    BindMounts {
        /// The directory.
        path: PathBuf,
        /// The engine.
        endpoint: String,
    },
    /// The engine dropped a limit.
    #[error("the engine at {endpoint} does not honour `{key}`")]
    LimitNotHonoured {
        /// The spec's key.
        key: &'static str,
        /// The engine.
        endpoint: String,
    },
    /// A runtime that promises gVisor runs containers on another kernel.
    #[error(
        "`runtime: {runtime}` of the engine at {endpoint} is not gVisor: its containers run on {kernel}"
    )]
    NotGvisor {
        /// The spec's value.
        runtime: String,
        /// The engine.
        endpoint: String,
        /// What a container says of the kernel that it runs on.
        kernel: String,
    },
    /// What happens could not be written down.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
}

/// Whether and how the run is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shutdown {
    /// It is not.
    #[default]
    None,
    /// Containers get their grace, what exists is collected.
    Graceful(StopReason),
    /// Containers are killed; what exists stays on disk for `clean`.
    Forced(StopReason),
}

/// What tasks of a run share while it runs.
struct Shared<E: Engine> {
    context: RunContext<E>,
    notes: mpsc::UnboundedSender<record::Note>,
    lines: mpsc::Sender<LogLine>,
    shutdown: watch::Receiver<Shutdown>,
    network: network::Network,
    images: images::Images,
    measurements: measure::Allowance,
    outage: outage::Outage,
    floor: floor::Floor,
    began: Instant,
    pin: std::sync::Mutex<Pin>,
    /// Who may run.
    admission: Arc<admission::Admission>,
    views: views::Views,
    claims: claim::HeldClaims,
    setups: setup::Setups,
    egress: egress::Egress,
    proofs: proof::Proofs,
    fatal: std::sync::OnceLock<RunError>,
    failures: failures::Failures,
    /// What an earlier process left of the run.
    past: past::Past,
    /// Told once the journal cannot be written, so that the run must stop.
    unwritable: Notify,
}

/// What is known of the ref that keeps the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Pin {
    #[default]
    Never,
    /// It may be there.
    Tried,
    Made,
}

impl<E: Engine> Shared<E> {
    /// An engine's error as a step's; a limit that it drops makes the whole run pointless.
    fn step_error(&self, stage: &'static str, error: EngineError) -> StepError {
        if let ErrorKind::LimitNotHonoured(key) = error.kind {
            self.give_up(RunError::LimitNotHonoured {
                key,
                endpoint: self.context.info.endpoint.clone(),
            });
        }
        StepError::engine(stage)(error)
    }

    /// Notes what makes the whole run pointless; the first reason stays.
    fn give_up(&self, error: RunError) {
        let _ = self.fatal.set(error);
    }
}

/// A step of a task's life that failed: where, and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StepError {
    stage: &'static str,
    message: String,
}

impl StepError {
    fn new(stage: &'static str, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self { stage, message }
    }

    fn engine(stage: &'static str) -> impl FnOnce(EngineError) -> Self {
        move |error| match error.kind {
            ErrorKind::Unreachable(_) => Self::new(outage::INTERRUPTED, &error),
            _ => Self::new(stage, &error),
        }
    }
}

/// Runs blocking work on tokio's blocking threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Returns once the run is asked to kill what runs.
async fn asked_to_kill(shutdown: &mut watch::Receiver<Shutdown>) {
    let forced = |s: &Shutdown| matches!(s, Shutdown::Forced(_));
    if shutdown.wait_for(forced).await.is_err() {
        std::future::pending::<()>().await;
    }
}
