//! What was asked: a spec after reading, with defaults merged into its tasks.
//!
//! Every field is a key of the file and its documentation is the key's description in the JSON
//! Schema. Nothing is filled in: what the file does not say is `None` or empty.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::preview::PreviewSpec;
use super::schema;
use super::services::ServicesSpec;
use super::source::{At, SourceFile};
use super::verify::VerifySpec;
use crate::agents::Image;
use crate::engine::config::{Publish, PullPolicy, Ulimit};
use crate::id::{
    BranchName, CellValue, ClaimKey, HostPattern, ImageRef, PathPattern, TaskId, WorktreePath,
};
use crate::secrets::SecretString;

/// A run of agent tasks on one repository, each in a git worktree and a container of its own.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(title = "agent-run spec", transform = schema::object)]
pub struct RunSpec {
    /// The text it was read from, for later messages.
    #[schemars(skip)]
    pub source: Arc<SourceFile>,
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// What people call this run.
    pub name: Option<String>,
    /// The repository: a path, relative to the spec. Default: the one that holds the spec.
    #[schemars(with = "Option<String>")]
    pub repo: Option<At<PathBuf>>,
    /// The ref that every worktree starts from. Default: HEAD.
    pub base: Option<At<String>>,
    /// How much history the tasks see: `full` (the default), or `depth` and a number of commits.
    #[schemars(with = "Option<schema::HistoryForm>")]
    pub history: Option<History>,
    /// How many tasks run at once at most. Default: what the engine's CPUs and memory allow.
    #[schemars(range(min = 1))]
    pub max_parallel: Option<At<usize>>,
    /// Whether nothing more is started after the first failure. Default: false.
    #[schemars(with = "Option<bool>")]
    pub fail_fast: bool,
    /// Time limit of the whole run. Default: none.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub timeout: Option<Duration>,
    /// Who the commits are by: `Name <mail>`, or `name` and `email`.
    #[schemars(with = "Option<schema::AuthorForm>")]
    pub author: Option<Identity>,
    /// Secrets by name. Declaring one grants it to no task.
    #[schemars(
        with = "Option<BTreeMap<String, schema::SecretForm>>",
        extend("patternProperties" = schema::extensions())
    )]
    pub secrets: BTreeMap<String, At<SecretOrigin>>,
    /// How the tasks' work is taken: `limits`.
    #[schemars(with = "Option<CollectSpec>")]
    pub collect: CollectSpec,
    /// Where claims are taken besides this repository: `remote`.
    #[schemars(with = "Option<ClaimsSpec>")]
    pub claims: ClaimsSpec,
    /// The tasks by id: lower-case letters, digits, `.`, `_` and `-`.
    #[schemars(
        with = "BTreeMap<TaskId, Option<TaskSpec>>",
        extend("patternProperties" = schema::extensions(), "propertyNames" = schema::task_ids())
    )]
    pub tasks: Vec<TaskSpec>,
}

/// One task: what runs, with which limits, and the branch that its work becomes.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transform = schema::object)]
pub struct TaskSpec {
    /// Its id.
    #[schemars(skip)]
    pub id: At<TaskId>,
    /// The tasks that must have ended well before it starts: one id, or a list.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub needs: Vec<At<TaskId>>,
    /// What its worktree starts from: `task:` and an id for that task's result, or the base of the run.
    /// Default: the results of its needs, merged; without needs the base of the run.
    #[schemars(with = "Option<String>")]
    pub base: Option<At<TaskBase>>,
    /// The image; with `build`, the tag of what is built. Default: agent-run's base image.
    pub image: Option<At<ImageRef>>,
    /// Build the image from a directory: its path, or `context` and more.
    #[schemars(with = "Option<schema::BuildForm>")]
    pub build: Option<BuildSpec>,
    /// When the image is pulled or built. Default: `missing`.
    pub pull_policy: Option<PullPolicy>,
    /// Replaces the image's ENTRYPOINT; a text is split into words without a shell.
    #[schemars(with = "Option<schema::WordsForm>")]
    pub entrypoint: Option<Vec<String>>,
    /// Words for the ENTRYPOINT; a text is split into words without a shell. Default: the image's.
    #[schemars(with = "Option<schema::WordsForm>")]
    pub command: Option<Vec<String>>,
    /// A script for `sh -eu`, or for the interpreter that its first line names. Never interpolated.
    pub run: Option<At<String>>,
    /// The agent that it runs, in place of `run` or `command`: one of `agent-run agents`, or of `agents`.
    #[schemars(with = "Option<String>")]
    pub agent: Option<AgentSpec>,
    /// What the agent is told, at `/agent/prompt.md`: a text (never interpolated), or `file`.
    #[schemars(with = "Option<schema::PromptForm>")]
    pub prompt: Option<Prompt>,
    /// What runs once, before all tasks that have the same: a script that installs into the image, or
    /// `run` with the `paths` of the worktree that it fills.
    #[schemars(with = "Option<schema::SetupForm>")]
    pub setup: Option<SetupSpec>,
    /// Directories that stay from task to task: `key` and `path` of each.
    #[schemars(with = "Option<Vec<schema::CacheForm>>")]
    pub cache: Vec<Cache>,
    /// Environment variables: a map, or a list of `KEY=value` and of names to pass through.
    #[schemars(with = "Option<schema::EnvironmentForm>")]
    pub environment: BTreeMap<String, SecretString>,
    /// Files of `KEY=value` lines; `environment` wins, later files win over earlier ones.
    #[schemars(with = "Option<schema::EnvFileForm>")]
    pub env_file: Vec<EnvFile>,
    /// The secrets it is granted: names, or `source` and the `environment` variable to fill.
    #[schemars(with = "Option<Vec<schema::GrantForm>>")]
    pub secrets: Vec<SecretGrant>,
    /// CPUs. Default: 2, or what the engine has.
    #[schemars(with = "Option<schema::CpusForm>")]
    pub cpus: Option<At<NanoCpus>>,
    /// Memory. Default: 2g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub mem_limit: Option<At<i64>>,
    /// Memory and swap together. Default: `mem_limit`, so no swap.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub memswap_limit: Option<At<i64>>,
    /// Processes and threads. Default: 512.
    #[schemars(range(min = 1))]
    pub pids_limit: Option<At<i64>>,
    /// Size of `/dev/shm`. Default: 64m.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub shm_size: Option<At<i64>>,
    /// Disk, for its worktree, git directory, home, hand-off and the container's own files: a task that
    /// uses more is ended, and its work kept. At least 1m. Default: 10g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub disk_limit: Option<At<i64>>,
    /// Size of the log: of a longer one the first three quarters and the last quarter are kept.
    /// At least 1m. Default: 1g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub log_limit: Option<At<i64>>,
    /// Resource limits by name: a number, or `soft` and `hard`; -1 is none.
    #[schemars(
        with = "Option<BTreeMap<String, schema::UlimitForm>>",
        extend("patternProperties" = schema::extensions())
    )]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// In-memory file systems: `/path` or `/path:size=1g,mode=1777`.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub tmpfs: BTreeMap<String, String>,
    /// Where it starts: an absolute path. Default: /workspace.
    pub working_dir: Option<String>,
    /// Who it runs as: `uid` or `uid:gid`, as numbers. Default: a user of agent-run's.
    #[schemars(with = "Option<schema::UserForm>")]
    pub user: Option<String>,
    /// How its worktree is made: `checkout` (of its own), `overlay` (a copy-on-write view of a checkout
    /// that all tasks share), or `auto` (the default: a view where the repository is large).
    pub workspace: Option<WorkspaceMode>,
    /// Whether the image's file system is read-only. Default: false.
    pub read_only: Option<bool>,
    /// `bridge` (the default: open to the outside, not to other tasks) or `none`.
    pub network_mode: Option<NetworkMode>,
    /// What it may reach, and nothing else: hosts by name. Default: anything.
    #[schemars(with = "Option<schema::EgressForm>")]
    pub egress: Option<Vec<HostPattern>>,
    /// What runs beside it, on its network: templates by name, or services, or a compose file.
    #[schemars(with = "Option<schema::ServicesForm>")]
    pub services: ServicesSpec,
    /// Its TCP ports that people reach, each at a free port of the engine's machine: `3000`, or
    /// `0.0.0.0::3000` for others than those at that machine. Default: none.
    #[schemars(with = "Option<Vec<schema::Scalar>>")]
    pub ports: Vec<Publish>,
    /// What runs its containers: a runtime that the engine has, such as `runsc`. Default: the engine's.
    #[schemars(with = "Option<String>")]
    pub runtime: Option<At<String>>,
    /// Time limit of one attempt, from the container's start. Default: 1h.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub timeout: Option<At<Duration>>,
    /// Time limit of what comes before: pull and build. Default: 15m.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub startup_timeout: Option<Duration>,
    /// Between TERM and KILL. Default: 10s.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub stop_grace_period: Option<Duration>,
    /// For committing and bundling what the task left. Default: 20s.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub handoff_timeout: Option<Duration>,
    /// A task that runs for longer than this is said to be slow. Default: half of `timeout`.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub slow_after: Option<Duration>,
    /// Further attempts after one that failed: how many, or `max` and more. Default: none.
    #[schemars(with = "Option<schema::RetryForm>")]
    pub retry: Option<Retry>,
    /// Whether the run succeeds, and those that need this task run, all the same if it fails. Default:
    /// false.
    pub allow_failure: Option<bool>,
    /// Runs it once for each cell of a matrix: each value of each axis with each of the others, less
    /// `exclude`, and `include`. Here the values of one cell by axis.
    #[schemars(with = "Option<schema::MatrixParts>")]
    pub matrix: BTreeMap<String, CellValue>,
    /// It is run only where one of these is asked for, or it is named itself. Default: always.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub profiles: Vec<String>,
    /// The branch that its work becomes. Default: `agent/<run>/<task>`.
    #[schemars(with = "Option<String>")]
    pub branch: Option<At<BranchName>>,
    /// What the task works on with nobody else: while another task has the same claim, of this run or
    /// another on the same repository, it is skipped. Default: none.
    #[schemars(with = "Option<String>")]
    pub claim: Option<At<ClaimKey>>,
    /// What the task may change: patterns; a directory stands for everything in it. What it changes
    /// besides is told as worth a look. Default: anything.
    #[schemars(with = "Option<schema::OneOrMany>")]
    pub touches: Option<Touches>,
    /// Whether a result that changes something else than `touches` is refused. Default: false.
    pub touches_strict: Option<bool>,
    /// Files of the worktree that are copied for you: patterns, or `paths` and `when`. Default: none.
    #[schemars(with = "Option<schema::ArtifactsForm>")]
    pub artifacts: Option<Artifacts>,
    /// A check of its result in a container of its own: a script, or `run` and more. Default: none.
    #[schemars(with = "Option<schema::VerifyForm>")]
    pub verify: Option<VerifySpec>,
    /// How many attempts go on from a result that failed `verify`, told why. Default: none.
    #[schemars(range(max = 10))]
    pub feedback: Option<u32>,
    /// How `agent-run preview` starts what the task has made, for people to look at. Default: not at all.
    #[schemars(with = "Option<schema::PreviewForm>")]
    pub preview: Option<PreviewSpec>,
}

/// Where claims are taken besides the repository.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(transform = schema::object)]
pub struct ClaimsSpec {
    /// A remote of the repository, so that machines which share only that see each other's claims.
    pub remote: Option<String>,
}

/// How the tasks' work is taken.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(transform = schema::object)]
pub struct CollectSpec {
    /// What is taken at most from one attempt.
    #[schemars(with = "Option<CollectLimitsSpec>")]
    pub limits: CollectLimitsSpec,
}

/// What is taken at most from one attempt: more is refused, and stays in the attempt's directory.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(transform = schema::object)]
pub struct CollectLimitsSpec {
    /// Size of the bundle that is handed off. Default: 2g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub bundle: Option<u64>,
    /// All new objects together, unpacked. Default: 8g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub total: Option<u64>,
    /// One file. Default: 1g.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub file: Option<u64>,
    /// Commits on top of the base. Default: 10000.
    #[schemars(range(min = 1))]
    pub commits: Option<u64>,
    /// New objects: commits, directories and versions of files. Default: 1000000.
    #[schemars(range(min = 1))]
    pub objects: Option<u64>,
    /// Paths more than the base has. Default: 1000000.
    #[schemars(range(min = 1))]
    pub paths: Option<u64>,
    /// Nesting of directories. Default: 512.
    #[schemars(range(min = 1, max = 2048))]
    pub depth: Option<u64>,
    /// The new directories, as git stores them. Default: 256m.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub trees: Option<u64>,
    /// Uncommitted files that are committed at the end. Default: 100m.
    #[schemars(with = "Option<schema::SizeForm>")]
    pub leftovers: Option<u64>,
    /// Time for any one step of checking. Default: 5m.
    #[schemars(with = "Option<schema::DurationForm>")]
    pub time: Option<Duration>,
}

/// Whether further attempts follow one that failed. By default none does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retry {
    /// How many attempts follow the first at most.
    pub max: u32,
    /// What they follow; whatever it was if empty.
    pub when: Vec<RetryCause>,
    /// The exit codes that count as [`RetryCause::ExitCode`]; all of them if empty.
    pub exit_codes: Vec<u8>,
    /// From the end of the first attempt to the second; doubled each time after that.
    pub backoff: Duration,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    /// agent-run or the engine could not do their part.
    InfraFailure,
    /// The image could not be had: pull, build.
    PullFailure,
    /// One of its services was not ready.
    ServiceFailure,
    /// It ran past its `timeout`.
    Timeout,
    /// It ran out of memory.
    Oom,
    /// Its command ended with another code than 0, or by a signal: 128 and its number.
    ExitCode,
    /// Its result did not pass `verify`.
    VerifyFailure,
    /// Its agent was refused for the number of its requests: it ended with 75.
    RateLimited,
}

/// Billionths of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoCpus(pub i64);

/// What a task runs in place of a script or command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// The version of the client in an image of agent-run's own; none in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The model, as the agent names it; its own default if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// After how many turns of the model it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// What it may use of its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The files of its home that stay from attempt to attempt, so that they are one conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session: Vec<PathPattern>,
    /// Further words for its command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// What a task may use of its agent's model, with all of its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// Tokens, read and written.
    pub tokens: Option<u64>,
    /// What they cost, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
}

/// What an image is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// A directory: an absolute path.
    Directory(At<PathBuf>),
    /// A Dockerfile of agent-run's own.
    Own(&'static Image),
}

/// How to build a task's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// The build context.
    pub context: BuildContext,
    /// The Dockerfile, relative to a directory.
    pub dockerfile: At<String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// The text.
    Text(String),
    /// A file of the host, an absolute path; [`super::read_files`] replaces it by its text.
    File(At<PathBuf>),
}

/// A file of environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// An absolute path.
    pub path: At<PathBuf>,
    /// Whether it is an error if there is none.
    pub required: bool,
}

/// How much of the base's history the tasks see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// All of it.
    #[default]
    Full,
    /// The newest commits only.
    Depth(u32),
}

/// A name and an e-mail address, as in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in a commit")]
pub struct Identity {
    pub name: String,
    pub email: String,
}

/// The places a secret can come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// A variable of agent-run's environment.
    Environment(String),
    /// A file of the host: an absolute path.
    File(PathBuf),
    /// What a program of the host prints.
    Command(HostCommand),
}

/// A program of the host, run as the user would run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCommand {
    /// The program, looked for on PATH unless it has a `/`, and its arguments.
    pub words: Vec<String>,
    /// Where it runs: the directory of the spec, absolute.
    pub directory: PathBuf,
}

/// Files of a task's worktree that are copied before it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// Which; a directory stands for everything in it.
    pub paths: Vec<PathPattern>,
    /// After which endings.
    pub when: When,
}

/// What a task may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// Paths; a directory stands for everything in it.
    pub paths: Vec<PathPattern>,
    /// Whether a result that changes others is refused.
    pub strict: bool,
}

/// The endings of a task after which something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After all.
    #[default]
    Always,
    /// After its command ended with 0.
    Success,
    /// After any other.
    Failure,
}

/// A secret that a task is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGrant {
    /// The secret's name.
    pub name: String,
    /// The variable it is put into; else it is the file `/run/secrets/<name>`.
    pub environment: Option<String>,
}

/// What runs once for all tasks that have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupSpec {
    /// Its script.
    pub run: String,
    /// Files of the base that it depends on: it runs again when one of them is another.
    pub files: Vec<At<WorktreePath>>,
    /// Directories that it makes, which tasks see copy-on-write.
    pub paths: Vec<At<WorktreePath>>,
    /// Who it runs as.
    pub user: SetupUser,
    /// The secrets that it is granted.
    pub secrets: Vec<SecretGrant>,
}

/// Who a setup runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetupUser {
    /// The task's user: its `paths` are kept.
    Agent,
    /// Root of its container: what it writes into the image is kept too.
    Root,
}

/// A directory that stays from task to task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Tells those of a repository apart.
    pub key: String,
    /// Where tasks see it: an absolute path inside.
    pub path: String,
    /// Who has it at the same time.
    pub mode: CacheMode,
}

/// Who has a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// All tasks that name it: for programs that lock it themselves.
    #[default]
    Shared,
    /// One task: others get another one.
    Private,
}

/// How a task's worktree is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// As a view where that is faster and the engine can do it, else as a checkout.
    #[default]
    Auto,
    /// As a view: unchanged files are seen through it, in a checkout that others see too.
    Overlay,
    /// As a checkout of its own.
    Checkout,
}

/// What a task's worktree starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskBase {
    /// That task's result.
    Task(TaskId),
    /// A ref, as the spec writes it.
    Ref(String),
}

/// How a task is attached to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Open to the outside, not to other tasks.
    #[default]
    Bridge,
    /// Loopback only.
    None,
}
