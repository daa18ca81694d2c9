//! What was asked: YAML text to a [`RunSpec`], with every problem at once.
//!
//! [`parse`] is pure: the environment comes in as a function. [`read_files`] is the one place that
//! reads what a spec names. Nothing here knows repositories or engines, or fills in a default.

mod agent;
mod budget;
mod diagnostic;
mod egress;
mod files;
mod graph;
mod hints;
mod interpolate;
mod limits;
mod matrix;
mod merge;
mod model;
mod ports;
mod preview;
mod reader;
mod resolved;
mod retry;
mod runtime;
mod schema;
mod services;
mod session;
mod setup;
mod source;
mod task;
mod top;
mod tree;
pub mod units;
mod verify;

use std::path::Path;
use std::sync::Arc;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use files::read_files;
pub(crate) use hints::did_you_mean;
pub use hints::{AGENT_KEYS, INNER_KEYS, NOT_OF_AGENTS, TASK_KEYS, TOP_KEYS};
pub use matrix::MOST_CELLS;
pub(crate) use matrix::nearest;
pub use model::{
    AgentSpec, Artifacts, Budget, BuildContext, BuildSpec, Cache, CacheMode, CollectLimitsSpec,
    CollectSpec, EnvFile, History, HostCommand, Identity, NanoCpus, NetworkMode, Prompt, Retry,
    RetryCause, RunSpec, SecretGrant, SecretOrigin, SetupSpec, SetupUser, TaskBase, TaskSpec,
    Touches, When, WorkspaceMode,
};
pub use preview::PreviewSpec;
pub use resolved::resolved;
pub use retry::MOST_RETRIES;
pub use schema::schema;
pub use services::{ComposeFile, DependsOn, ServiceSpec, ServicesSpec};
pub use source::{At, SIZE_LIMIT, SourceFile, Span, SpecError, read_text};
pub use verify::{MOST_FEEDBACK, VerifySpec};

use crate::id::RunId;

/// What a spec is read in.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The run, for `${run.id}`.
    pub run: &'a RunId,
    /// Where the spec's paths start: an absolute path.
    pub directory: &'a Path,
    /// The environment, for `${NAME}`.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads a spec. Does no I/O: the files that it names are read by [`read_files`].
pub fn parse(source: &SourceFile, context: &Context<'_>) -> Result<RunSpec, Diagnostics> {
    let source = Arc::new(source.clone());
    match top::read(&source, context) {
        (Some(spec), problems) if problems.is_empty() => Ok(spec),
        (_, problems) => Err(Diagnostics::new(&source, problems)),
    }
}
