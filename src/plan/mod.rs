//! What will be done: a spec and the facts of a repository become an immutable plan.
//!
//! Pure: no I/O, no clock, no environment. The plan is written to the run's directory; it holds no
//! value of an environment variable or secret.

mod branches;
mod capacity;
pub mod graph;
mod ground;
pub mod image;
mod preview;
mod repeat;
pub mod runtime;
pub mod select;
mod services;
mod setup;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::collect::limits::CollectLimits;
use crate::engine::config::{ImageRequest, Limits, Publish};
use crate::id::{
    BranchName, CellValue, ClaimKey, CommitId, HostPattern, ImageRef, RepoKey, RunId, TaskId,
};
use crate::secrets::SecretString;
use crate::spec::{CollectLimitsSpec, Diagnostic, Diagnostics, RunSpec, TaskSpec, did_you_mean};

pub use graph::OrderPlan;
pub use preview::PreviewPlan;
pub use repeat::{RepeatError, RepeatInputs, fill, has_runtime, repeat};
pub use services::{
    Dependency, POD_MEMORY, ServicePlan, SnapshotPlan, check_snapshots, has_snapshots,
};
pub use setup::{SetupPlan, check_setups, paths_of_setups};

pub use crate::spec::{
    AgentSpec, Artifacts, Budget, Cache, CacheMode, History, HostCommand, Identity, NetworkMode,
    Retry, RetryCause, SecretGrant, SecretOrigin, SetupUser, Touches, When, WorkspaceMode,
};

/// What a plan needs besides the spec.
#[derive(Debug, Clone)]
pub struct PlanInputs<'a> {
    /// The run.
    pub run: RunId,
    /// The repository and the base in it.
    pub repository: RepositoryPlan,
    /// The repository's local branches, without `refs/heads/`.
    pub branches: &'a [String],
    /// What the engine has.
    pub engine: EngineCapacity,
    /// What the engine can run containers with.
    pub runtimes: &'a [String],
    /// Who the commits are by, where the spec does not say.
    pub identity_default: Identity,
    /// The tasks to run, together with what they need; all tasks if empty.
    pub select: &'a [TaskId],
    /// What the command line says in place of the spec.
    pub over: Over,
    /// The file that the spec was read from, absolute; none where it was no file.
    pub spec_path: Option<PathBuf>,
}

/// What the command line says in place of a spec or a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Over {
    /// How many tasks run at once.
    pub jobs: Option<usize>,
    /// How many attempts follow a task's first at most.
    pub retries: Option<u32>,
    /// Whether nothing more is started after the first failure.
    pub fail_fast: Option<bool>,
    /// After how many failures nothing more is started; wins over `fail_fast`.
    pub max_fail: Option<u32>,
}

impl Over {
    /// After how many failures nothing more is started, where it would be `otherwise`.
    fn max_fail(self, otherwise: Option<u32>) -> Option<u32> {
        let fail_fast = self.fail_fast.map(|is_asked| is_asked.then_some(1));
        self.max_fail.or(fail_fast.unwrap_or(otherwise))
    }
}

/// What an engine's containers can use altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCapacity {
    /// CPUs.
    pub cpus: usize,
    /// Memory, in bytes.
    pub memory: i64,
    /// How much of that the run's own containers take, in bytes: those that serve its tasks.
    pub own: i64,
}

/// The version of plans that this agent-run writes and reads.
pub const VERSION: u32 = 1;

/// Everything that a run will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// The version of this format: [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Its name in the spec.
    pub name: Option<String>,
    /// The spec that it was made from, as messages name it.
    pub spec: String,
    /// The file that this is, absolute: the values of tasks' variables are read from there again.
    pub spec_path: Option<PathBuf>,
    /// The repository it works on.
    pub repository: RepositoryPlan,
    /// How many tasks run at once at most.
    pub parallel: usize,
    /// After how many failures nothing more is started; none where all tasks are run in any case.
    #[serde(default)]
    pub max_fail: Option<u32>,
    /// What the memory limits of running tasks may add up to, in bytes; plans of before leave it out.
    #[serde(default = "no_bound")]
    pub memory: i64,
    /// What one collector at a time may have beside the memory of its task, in bytes.
    #[serde(default)]
    pub spare: i64,
    /// Time limit of the whole run.
    pub timeout: Option<Duration>,
    /// Who the commits are by.
    pub author: Identity,
    /// The secrets that some task is granted.
    pub secrets: Vec<SecretSource>,
    /// What is taken at most from one attempt.
    pub collect_limits: CollectLimits,
    /// The remote on which claims are taken too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_remote: Option<String>,
    /// The run whose result its task only shows, see [`Self::preview_of`]: nothing of it is collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<RunId>,
    /// The tasks, in the order of the spec.
    pub tasks: Vec<TaskPlan>,
    /// In which order they can run.
    #[serde(default)]
    pub order: OrderPlan,
    /// What people should know before it starts, each a sentence.
    pub warnings: Vec<String>,
}

/// The repository of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryPlan {
    /// Its directory, as people know it.
    pub path: PathBuf,
    /// Its common git directory, canonical.
    pub git_dir: PathBuf,
    /// Its key in the state directory.
    pub key: RepoKey,
    /// The base as the spec names it.
    pub base_ref: String,
    /// The commit that every worktree starts from.
    pub base: CommitId,
    /// How much history the tasks see.
    pub history: History,
}

/// Where a secret's value comes from. The value itself is read when the run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// Its name in the spec.
    pub name: String,
    /// Where it is.
    pub origin: SecretOrigin,
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// Its id.
    pub id: TaskId,
    /// The tasks that must have ended well before it starts, in the order of the spec.
    #[serde(default)]
    pub needs: Vec<TaskId>,
    /// The tasks whose results its worktree starts from, merged in this order; the run's base where
    /// there are none. All of them are needed.
    #[serde(default)]
    pub starts_from: Vec<TaskId>,
    /// Its image.
    pub image: ImageRequest,
    /// What that was when it was last looked at: a digest where it has one, else an id.
    pub pinned_image: Option<ImageRef>,
    /// Replaces the image's ENTRYPOINT, if given.
    pub entrypoint: Option<Vec<String>>,
    /// What it runs.
    pub work: Work,
    /// The agent that it runs, if it is one's script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSpec>,
    /// What it is told, at `/agent/prompt.md`.
    pub prompt: Option<String>,
    /// What prepares its image and directories of its worktree, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<SetupPlan>,
    /// The directories that stay from task to task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// Environment variables; only their names are serialised.
    #[serde(
        serialize_with = "names_only",
        deserialize_with = "names_without_values"
    )]
    pub environment: BTreeMap<String, SecretString>,
    /// The secrets it is granted.
    pub secrets: Vec<SecretGrant>,
    /// Its limits.
    pub limits: Limits,
    /// The disk that it may use, in bytes.
    pub disk_limit: i64,
    /// Size of its log, in bytes.
    pub log_limit: i64,
    /// Absolute path inside.
    pub working_dir: String,
    /// `uid[:gid]` inside, if the spec says so.
    pub user: Option<String>,
    /// How its worktree is made; plans of before leave it out.
    #[serde(default)]
    pub workspace: WorkspaceMode,
    /// Whether the image's file system is read-only.
    pub read_only: bool,
    /// Its network.
    pub network_mode: NetworkMode,
    /// The hosts that it may reach, sorted; whatever its network reaches if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<HostPattern>>,
    /// What runs beside it, on its network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePlan>,
    /// Its ports that people reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Publish>,
    /// What runs its containers; the engine's default if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Time limit of one attempt, from the container's start.
    pub timeout: Duration,
    /// Time limit of what comes before: pull, build.
    pub startup_timeout: Duration,
    /// Between TERM and KILL of the command.
    pub stop_grace_period: Duration,
    /// For committing and bundling what the command left.
    pub handoff_timeout: Duration,
    /// How long it runs, from the container's start, before it is said to be slow.
    pub slow_after: Duration,
    /// Whether further attempts follow one that failed.
    #[serde(default)]
    pub retry: Retry,
    /// Whether the run succeeds, and those that need it run, all the same if it fails.
    #[serde(default)]
    pub allow_failure: bool,
    /// What it has of a matrix, by axis, if it is a cell of one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, CellValue>,
    /// The branch that its work becomes.
    pub branch: BranchName,
    /// What it works on, with nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimKey>,
    /// What it may change; anything if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touches: Option<Touches>,
    /// What is copied out of its worktree, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// What its result has to pass, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyPlan>,
    /// How many attempts at most go on from a result that failed that.
    #[serde(default)]
    pub feedback: u32,
    /// How people start what it has made, to look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewPlan>,
    /// What it goes on from, where another run has made that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// Where the spec says it.
    pub lines: Lines,
}

/// The attempt of another run that a task goes on from; the run's base is its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// The run.
    pub run: RunId,
    /// The attempt at the task of the same name.
    pub attempt: u32,
    /// Whether the task's branch is there already, at the run's base, and is moved on.
    pub moves_branch: bool,
}

/// A check of a task's result, in a container of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyPlan {
    /// The script, run by `sh -eu`, or by the interpreter that its first line names.
    pub run: String,
    /// Time limit, from its container's start.
    pub timeout: Duration,
    /// The image that it runs in, where that is another than the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<VerifyImage>,
    /// The secrets it is granted.
    pub secrets: Vec<SecretGrant>,
}

/// The image of a check, where it has one of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyImage {
    /// How it is asked for.
    pub request: ImageRequest,
    /// What that was when it was last looked at: a digest where it has one, else an id.
    pub pinned: Option<ImageRef>,
}

/// Lines of the spec, from 1, that say something of a task; also those of `defaults` and of anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Where the task begins.
    pub task: usize,
    /// Where its `mem_limit` is; none where it is agent-run's default.
    pub mem_limit: Option<usize>,
    /// Where its `disk_limit` is; none where it is agent-run's default.
    pub disk_limit: Option<usize>,
    /// Where its `timeout` is; none where it is agent-run's default.
    pub timeout: Option<usize>,
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// ENTRYPOINT and these words, or the image's CMD where there are none.
    Command(Option<Vec<String>>),
    /// A script, run by `sh -eu`, or by the interpreter that its first line names.
    Script(String),
}

impl TaskPlan {
    /// Whether its branch is there already, at the run's base, and is moved on.
    pub fn moves_branch(&self) -> bool {
        let from = self.continues.as_ref();
        from.is_some_and(|from| from.moves_branch)
    }

    /// Whether its container has no interface but loopback; where it has a list of hosts, it reaches
    /// them by way of that.
    pub fn has_only_loopback(&self) -> bool {
        self.egress.is_some() || self.network_mode == NetworkMode::None
    }

    /// The names of the secrets that it, its setup or its check is granted.
    pub fn secret_names(&self) -> BTreeSet<&str> {
        let of_setup = self.setup.iter().flat_map(|setup| &setup.secrets);
        let of_verify = self.verify.iter().flat_map(|verify| &verify.secrets);
        let grants = self.secrets.iter().chain(of_setup).chain(of_verify);
        grants.map(|grant| grant.name.as_str()).collect()
    }

    /// The images that it needs, each with what that was when it was last looked at.
    pub fn images(&self) -> impl Iterator<Item = (&ImageRequest, &Option<ImageRef>)> {
        let of_verify = self.verify.iter().filter_map(|v| v.image.as_ref());
        let of_verify = of_verify.map(|own| (&own.request, &own.pinned));
        let of_services = self.services.iter();
        let of_services = of_services.map(|own| (&own.image, &own.pinned_image));
        [(&self.image, &self.pinned_image)]
            .into_iter()
            .chain(of_verify)
            .chain(of_services)
    }

    /// The same, to be changed.
    pub fn images_mut(
        &mut self,
    ) -> impl Iterator<Item = (&mut ImageRequest, &mut Option<ImageRef>)> {
        let of_verify = self.verify.iter_mut().filter_map(|v| v.image.as_mut());
        let of_verify = of_verify.map(|own| (&mut own.request, &mut own.pinned));
        let of_services = self.services.iter_mut();
        let of_services = of_services.map(|own| (&mut own.image, &mut own.pinned_image));
        [(&mut self.image, &mut self.pinned_image)]
            .into_iter()
            .chain(of_verify)
            .chain(of_services)
    }
}

fn no_bound() -> i64 {
    i64::MAX
}

/// A plan that was read back knows the names of variables, and no value.
fn names_without_values<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, SecretString>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let without_value = |name| (name, SecretString::new(String::new()));
    Ok(names.into_iter().map(without_value).collect())
}

fn names_only<S: serde::Serializer>(
    environment: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(environment.keys())
}

/// Makes the plan of a spec whose files were read ([`crate::spec::read_files`]).
///
/// Fails with every limit that the engine cannot give, every branch that cannot be made and every
/// selected task that is not there. A spec without tasks to run yields a plan without tasks.
pub fn plan(spec: &RunSpec, inputs: PlanInputs<'_>) -> Result<RunPlan, Diagnostics> {
    let mut problems = unknown_selection(spec, inputs.select);
    let mut warnings = Vec::new();
    let selected = spec.with_needs(inputs.select);
    branches::check(spec, &inputs, &selected, &mut problems);
    let selected = |t: &&TaskSpec| selected.contains(&t.id.value);
    let has_list = |task: &TaskSpec| task.egress.is_some();
    let engine = inputs
        .engine
        .beside_proxy(spec.tasks.iter().filter(selected).any(has_list));
    let mut tasks = Vec::new();
    let retried =
        |task: &mut TaskPlan| task.retry.max = inputs.over.retries.unwrap_or(task.retry.max);
    for task in spec.tasks.iter().filter(selected) {
        let mut planner = task::Planner {
            task,
            source: &spec.source,
            engine,
            runtimes: inputs.runtimes,
            problems: &mut problems,
            warnings: &mut warnings,
        };
        tasks.extend(planner.plan(&inputs.run));
    }
    tasks.iter_mut().for_each(retried);
    Diagnostics::check(&spec.source, problems)?;
    graph::link(spec, &mut tasks);
    let asked = inputs
        .over
        .jobs
        .or(spec.max_parallel.as_ref().map(|m| m.value));
    let spare = capacity::spare(engine, &tasks);
    let memory = engine.for_containers() - spare;
    let parallel = capacity::at_once(asked, (engine, memory), &tasks);
    warnings.extend(tasks.iter().flat_map(services::warnings));
    warnings.extend(ground::overlaps(&tasks, parallel));
    let granted: BTreeSet<&str> = tasks.iter().flat_map(TaskPlan::secret_names).collect();
    let secrets = spec.secrets.iter();
    let secrets = secrets.filter(|(name, _)| granted.contains(name.as_str()));
    let secrets = secrets.map(|(name, origin)| SecretSource {
        name: name.clone(),
        origin: origin.value.clone(),
    });
    Ok(RunPlan {
        version: VERSION,
        name: spec.name.clone(),
        spec: spec.source.name().to_owned(),
        spec_path: inputs.spec_path,
        parallel,
        memory,
        spare,
        order: graph::order(&tasks),
        max_fail: inputs.over.max_fail(spec.fail_fast.then_some(1)),
        timeout: spec.timeout,
        author: spec.author.clone().unwrap_or(inputs.identity_default),
        secrets: secrets.collect(),
        collect_limits: collect_limits(&spec.collect.limits),
        claims_remote: spec.claims.remote.clone(),
        previews: None,
        run: inputs.run,
        repository: inputs.repository,
        tasks,
        warnings,
    })
}

fn collect_limits(asked: &CollectLimitsSpec) -> CollectLimits {
    let default = CollectLimits::default();
    CollectLimits {
        bundle: asked.bundle.unwrap_or(default.bundle),
        total: asked.total.unwrap_or(default.total),
        file: asked.file.unwrap_or(default.file),
        commits: asked.commits.unwrap_or(default.commits),
        objects: asked.objects.unwrap_or(default.objects),
        paths: asked.paths.unwrap_or(default.paths),
        depth: asked.depth.unwrap_or(default.depth),
        trees: asked.trees.unwrap_or(default.trees),
        leftovers: asked.leftovers.unwrap_or(default.leftovers),
        time: asked.time.unwrap_or(default.time),
    }
}

fn unknown_selection(spec: &RunSpec, select: &[TaskId]) -> Vec<Diagnostic> {
    let known = || spec.tasks.iter().map(|t| t.id.value.as_str());
    let unknown = select
        .iter()
        .filter(|id| !known().any(|k| k == id.as_str()));
    let problem = |id: &TaskId| {
        let title = format!("the spec has no task `{id}`");
        Diagnostic::general(title, did_you_mean(id.as_str(), known()))
    };
    unknown.map(problem).collect()
}
