//! What will be done: a spec and the facts of a repository become an immutable plan.
//!
//! Pure: no I/O, no clock, no environment. The plan is written to the run's directory; it holds no
//! value of an environment variable or secret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::config::{ImageRequest, Limits};
use crate::id::{BranchName, CommitId, RepoKey, RunId, TaskId};
use crate::secrets::SecretString;

/// Everything that a run will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunPlan {
    /// The run.
    pub run: RunId,
    /// Its name in the spec.
    pub name: Option<String>,
    /// The repository it works on.
    pub repository: RepositoryPlan,
    /// How many tasks run at once.
    pub parallel: usize,
    /// Time limit of the whole run.
    pub timeout: Option<Duration>,
    /// Who the commits are by.
    pub author: Identity,
    /// The secrets that some task is granted.
    pub secrets: Vec<SecretSource>,
    /// The tasks, in the order of the spec.
    pub tasks: Vec<TaskPlan>,
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

/// Where a secret's value comes from. The value itself is read when the run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// Its name in the spec.
    pub name: String,
    /// Where it is.
    pub origin: SecretOrigin,
}

/// The places a secret can come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// A variable of agent-run's environment.
    Environment(String),
    /// A file of the host: an absolute path.
    File(PathBuf),
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskPlan {
    /// Its id.
    pub id: TaskId,
    /// Its image.
    pub image: ImageRequest,
    /// Replaces the image's ENTRYPOINT, if given.
    pub entrypoint: Option<Vec<String>>,
    /// What it runs.
    pub work: Work,
    /// What it is told, at `/agent/prompt.md`.
    pub prompt: Option<String>,
    /// Environment variables; only their names are serialised.
    #[serde(serialize_with = "names_only")]
    pub environment: BTreeMap<String, SecretString>,
    /// The secrets it is granted.
    pub secrets: Vec<SecretGrant>,
    /// Its limits.
    pub limits: Limits,
    /// Absolute path inside.
    pub working_dir: String,
    /// `uid[:gid]` inside, if the spec says so.
    pub user: Option<String>,
    /// Whether the image's file system is read-only.
    pub read_only: bool,
    /// Its network.
    pub network_mode: NetworkMode,
    /// Time limit of one attempt, from the container's start.
    pub timeout: Duration,
    /// Time limit of what comes before: pull, build.
    pub startup_timeout: Duration,
    /// Between TERM and KILL of the command.
    pub stop_grace_period: Duration,
    /// For committing and bundling what the command left.
    pub handoff_timeout: Duration,
    /// The branch that its work becomes.
    pub branch: BranchName,
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

/// A secret that a task is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGrant {
    /// The secret's name.
    pub name: String,
    /// The variable it is put into; else it is the file `/run/secrets/<name>`.
    pub environment: Option<String>,
}

/// How a task is attached to the world.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A network of its own, open to the outside.
    #[default]
    Bridge,
    /// Loopback only.
    None,
}

fn names_only<S: serde::Serializer>(
    environment: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(environment.keys())
}
