//! What happens and what happened: events, phases, outcomes, reports of branches and runs.
//!
//! Plain serialisable data. Everything that people or scripts see of a run is derived from it.
//! Log bytes are no events: they go to the task's log file, and to reporters by a bounded channel.
//!
//! As JSON, durations are whole milliseconds and sizes bytes, with the unit in the name; times are
//! RFC 3339 in UTC.

mod agent;
mod artifacts;
mod branch;
mod egress;
mod forecast;
mod milliseconds;
mod ports;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{CellValue, CommitId, RunId, TaskId};

pub use agent::{AgentReport, AgentUsage, Budget};
pub use artifacts::{ArtifactFile, ArtifactsReport};
pub use branch::{BranchReport, BranchResult, FileStat};
pub use egress::{HostUse, TaskEgress};
pub use forecast::{BranchForecast, ConflictLines, FileConflict, Fit, Forecast, PairForecast};
pub use ports::PublishedPort;

/// The version of events and results. Within one, fields and kinds are only added.
pub const VERSION: u32 = 1;

/// What is written to a file, with its version.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Versioned<T> {
    /// The version of this format. Within one, fields and kinds are only added.
    #[schemars(extend("const" = VERSION))]
    version: u32,
    #[serde(flatten)]
    content: T,
}

impl<T> Versioned<T> {
    /// `content`, to be written in this version.
    pub fn new(content: T) -> Self {
        Self {
            version: VERSION,
            content,
        }
    }
}

/// The JSON Schema (draft 7) of a line of an events file.
pub fn events_schema() -> Value {
    schema::<Event>()
}

/// The JSON Schema (draft 7) of `result.json`.
pub fn result_schema() -> Value {
    schema::<RunSummary>()
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().for_serialize();
    let generator = settings.into_generator();
    generator.into_root_schema_for::<Versioned<T>>().to_value()
}

/// Something that happened in a run. One line of the events file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts the events of a run from 0.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Since the run began, in milliseconds of the monotonic clock.
    pub elapsed_ms: u64,
    /// The task that it concerns, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of [`Event`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The run began.
    RunStarted {
        /// Its id.
        run: RunId,
        /// How many tasks it has.
        tasks: usize,
        /// How many may run at once.
        parallel: usize,
    },
    /// A task entered a phase.
    Phase {
        /// The phase.
        phase: TaskPhase,
    },
    /// An image is being pulled or built, or is there now.
    Image {
        /// The image as the spec names it.
        image: String,
        /// What goes on with it, in words.
        status: String,
    },
    /// What the task needs is being prepared, once for all tasks that need the same, or is there now.
    Setup {
        /// What goes on with it, in words.
        status: String,
        /// What it writes.
        log: PathBuf,
    },
    /// Something that people should know and that fails nothing.
    Warning {
        /// In words.
        message: String,
    },
    /// What the task's container has used so far.
    Usage {
        /// As the engine counts it.
        usage: Usage,
    },
    /// Where people reach the ports of the task that its spec publishes, until its container ends.
    Ports {
        /// Each of them.
        ports: Vec<PublishedPort>,
    },
    /// People reach the port of a preview.
    Answers {
        /// Where.
        port: PublishedPort,
    },
    /// The task runs for longer than its `slow_after`.
    Slow,
    /// The task uses more disk than its `disk_limit`: its container is killed.
    OutOfDisk {
        /// How much it uses at least, in bytes.
        used_bytes: u64,
    },
    /// The task has used up its `budget`: its container is stopped.
    OutOfBudget {
        /// What its agent has used in all attempts, by its client's word.
        used: AgentUsage,
        /// What it may use.
        budget: Budget,
    },
    /// The task asked for a host that its allow-list does not have, for the first time.
    EgressDenied {
        /// The host, see [`HostUse::host`].
        host: String,
        /// The port.
        port: u16,
    },
    /// The run was asked to stop.
    Stopping {
        /// Why, and how.
        reason: StopReason,
        /// Whether containers are killed without grace.
        forced: bool,
    },
    /// An attempt at a task has failed, its work is safe, and another attempt follows.
    Retry {
        /// What became of the attempt.
        report: Box<TaskReport>,
        /// When the next one begins, if a slot is free then.
        #[serde(rename = "wait_ms", with = "milliseconds")]
        #[schemars(with = "u64")]
        wait: Duration,
        /// Whether it goes on from the work of this one, told why that was not enough.
        #[serde(default)]
        goes_on: bool,
    },
    /// A task has ended and its work is safe.
    TaskFinished {
        /// What became of it.
        report: Box<TaskReport>,
    },
    /// The run has ended and nothing of it is left running.
    RunFinished {
        /// What became of it.
        summary: RunSummary,
    },
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// Waits for a free slot.
    Waiting,
    /// Its worktree, image, network and container are being made.
    Preparing,
    /// Its container runs.
    Running,
    /// Its container was asked to end.
    Stopping,
    /// Its work is being checked and brought into the repository.
    Collecting,
    /// A container of its own runs the spec's `verify` on its result.
    Verifying,
    /// It has ended.
    Finished,
}

/// What a task's container has used, as the engine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// How long the container had run when it was measured; what it did later is not in here.
    #[serde(rename = "after_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub after: Duration,
    /// CPU time, of user and system.
    #[serde(rename = "cpu_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub cpu: Duration,
    /// Memory in use without what the kernel can drop, in bytes.
    #[serde(rename = "memory_bytes")]
    pub memory: u64,
    /// The most memory that was in use without what the kernel can drop, in bytes. On cgroup v1 from
    /// the kernel's own highest count; on cgroup v2, which the engine gives none of, the highest of
    /// the measurements.
    #[serde(rename = "peak_memory_bytes")]
    pub peak_memory: u64,
    /// Received from the network, in bytes.
    #[serde(rename = "received_bytes")]
    pub received: u64,
    /// Sent to the network, in bytes.
    #[serde(rename = "sent_bytes")]
    pub sent: u64,
}

/// How long a task was in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTime {
    /// The phase.
    pub phase: TaskPhase,
    /// How long.
    #[serde(rename = "took_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub took: Duration,
}

/// Why a whole run stops early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Ctrl-C.
    Interrupted,
    /// TERM or HUP.
    Terminated,
    /// The time limit of the whole run.
    TimedOut,
    /// Its journal could not be written, as on a full disk.
    JournalFailed,
}

/// How a task ended, whatever became of its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TaskOutcome {
    /// Its command ended with 0.
    Succeeded,
    /// Its command ended with another code.
    Failed {
        /// The code, 1 to 255; untrusted.
        exit_code: i64,
    },
    /// The engine reports that it ran out of memory.
    OutOfMemory,
    /// It used more disk than its `disk_limit`, and was killed.
    OutOfDisk {
        /// How much it used when that was seen, in bytes, or more.
        used_bytes: u64,
    },
    /// It used up its `budget`, and was stopped.
    OutOfBudget {
        /// What its agent had used in all attempts when that was seen, by its client's word.
        used: AgentUsage,
        /// What it may use.
        budget: Budget,
    },
    /// It ran past its `timeout`.
    TimedOut,
    /// A signal ended its command, and it was none of ours.
    Killed {
        /// The signal's number.
        signal: i64,
    },
    /// Its command ended with 0, and its result did not pass `verify`.
    VerifyFailed {
        /// How that ended: `failed`, `out_of_memory`, `out_of_disk`, `timed_out` or `killed`.
        cause: Box<TaskOutcome>,
    },
    /// The run stopped while it ran.
    Cancelled,
    /// It never started.
    Skipped {
        /// Why, as a clause.
        reason: String,
        /// Whether it is since somebody else works on the same: no failure of the run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        claimed: bool,
    },
    /// We could not do our part.
    Infra {
        /// What we were doing, as a noun: `workspace`, `image`, `secrets`, `setup`, `network`, `container`,
        /// `collect`, `verify`, `preview`; `interrupted` where the engine went away meanwhile.
        stage: String,
        /// What went wrong.
        message: String,
    },
}

/// A run of the spec's `verify` on an attempt's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// The commit that was checked out: the result's tip, or the base where nothing was changed.
    pub commit: CommitId,
    /// The container's running time; 0 where none was started.
    #[serde(rename = "ran_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub ran: Duration,
    /// What its container used; none where it was not measured.
    pub usage: Option<Usage>,
    /// The id of the image that it ran in.
    pub image: Option<String>,
    /// What a registry calls that image, `name@sha256:…`; none where none does.
    pub image_digest: Option<String>,
    /// Its raw log; none where no container was started.
    pub log: Option<PathBuf>,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// What it has of a matrix, by axis, if it is a cell of one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, CellValue>,
    /// The names of the secrets that it, its setup or its check is granted.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// The attempt that decided, from 1; 0 if none began.
    pub attempt: u32,
    /// How it ended.
    pub outcome: TaskOutcome,
    /// Whether the spec lets it fail: what goes wrong with it makes no failure of the run then.
    #[serde(default)]
    pub allow_failure: bool,
    /// The commit that its work stands on and is measured against, where that is another than the
    /// run's base: what the tasks made that it started from.
    #[serde(default)]
    pub base: Option<CommitId>,
    /// What became of its work; none where it never had a worktree.
    pub branch: Option<BranchReport>,
    /// What became of its artifacts; none where the spec asks for none, or not after this ending.
    #[serde(default)]
    pub artifacts: Option<ArtifactsReport>,
    /// Where its ports were published while it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Its agent and what that used; none where it has none, or has not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentReport>,
    /// The container's running time.
    #[serde(rename = "ran_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub ran: Duration,
    /// How long it was in each phase, in order; the first is waiting.
    #[serde(default)]
    pub phases: Vec<PhaseTime>,
    /// What its container used; none where it was not measured.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The id of the image that it ran in.
    #[serde(default)]
    pub image: Option<String>,
    /// What a registry calls that image, `name@sha256:…`; none where none does.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Whether the engine killed some process of it for memory though the command went on.
    pub child_oom_killed: bool,
    /// The raw log.
    pub log: Option<PathBuf>,
    /// The check of its result; none where the spec asks for none, or it did not come to that.
    #[serde(default)]
    pub verify: Option<VerifyReport>,
    /// The last lines of the log, or, where `verify` failed, of its log; sanitised and masked. For
    /// tasks that did not succeed.
    pub last_lines: Vec<String>,
    /// What could not be removed, each a sentence.
    pub teardown_errors: Vec<String>,
    /// The attempts before this one, all failed, the oldest first; they have none themselves.
    #[serde(default)]
    pub earlier_attempts: Vec<TaskReport>,
}

impl TaskReport {
    /// A report of a task that never began, and says no more than its outcome.
    pub fn bare(task: TaskId, outcome: TaskOutcome) -> Self {
        Self {
            task,
            matrix: BTreeMap::new(),
            secrets: Vec::new(),
            attempt: 0,
            outcome,
            allow_failure: false,
            base: None,
            branch: None,
            artifacts: None,
            ports: Vec::new(),
            agent: None,
            ran: Duration::ZERO,
            phases: Vec::new(),
            usage: None,
            image: None,
            image_digest: None,
            child_oom_killed: false,
            log: None,
            verify: None,
            last_lines: Vec::new(),
            teardown_errors: Vec::new(),
            earlier_attempts: Vec::new(),
        }
    }

    /// All attempts, the first one first, this one last.
    pub fn attempts(&self) -> impl Iterator<Item = &Self> {
        self.earlier_attempts.iter().chain([self])
    }

    /// The logs of this attempt: its container's, and that of its result's check.
    pub fn logs(&self) -> impl Iterator<Item = &PathBuf> {
        let of_verify = self.verify.as_ref().and_then(|verify| verify.log.as_ref());
        self.log.iter().chain(of_verify)
    }

    /// Whether the task counts as good.
    pub fn is_good(&self) -> bool {
        let collected = matches!(
            self.branch.as_ref().map(|b| &b.result),
            Some(BranchResult::Created { .. } | BranchResult::NoChange)
        );
        self.outcome == TaskOutcome::Succeeded && collected
    }

    /// Whether it did not go well, and may.
    pub fn is_allowed_failure(&self) -> bool {
        self.allow_failure && !self.is_good()
    }

    /// Whether the run has failed for it: it is not good, may not fail, and was not skipped since
    /// somebody else works on the same.
    pub fn is_failure(&self) -> bool {
        let elsewhere = matches!(self.outcome, TaskOutcome::Skipped { claimed: true, .. });
        !self.is_good() && !self.allow_failure && !elsewhere
    }
}

/// What became of a run. The file `result.json` of its directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its tasks, in the order of the spec.
    pub tasks: Vec<TaskReport>,
    /// Why it stopped early, if it did.
    pub stopped: Option<StopReason>,
    /// From start to end.
    #[serde(rename = "took_ms", with = "milliseconds")]
    #[schemars(with = "u64")]
    pub took: Duration,
    /// What the agents of all tasks used together; none where no client has told anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentUsage>,
    /// The hosts that tasks with an allow-list asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<TaskEgress>,
    /// Which of the branches of good tasks fit together and into the base as it was at the end; none
    /// where there are no such branches, or git could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<Forecast>>,
    /// What could not be removed and belongs to no task, each a sentence.
    pub teardown_errors: Vec<String>,
    /// The run's directory.
    pub directory: PathBuf,
}
