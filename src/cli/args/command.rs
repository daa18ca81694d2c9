//! The commands, in the order in which help lists them.

use clap::Subcommand;

use super::super::agents::AgentsArgs;
use super::super::go_on::ContinueArgs;
use super::super::images::ImagesArgs;
use super::super::preview::PreviewArgs;
use super::{
    CheckoutArgs, ClaimsArgs, CleanArgs, CompletionsArgs, DoctorArgs, ExecArgs, ExportArgs,
    ForecastArgs, InitArgs, LogsArgs, ManArgs, MergeArgs, PlanArgs, PsArgs, RefreshArgs,
    ResumeArgs, RunArgs, SchemaArgs, ShowArgs, SpecArgs, StopArgs, TaskArgs, WorktreesArgs,
};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the tasks of a spec and collect their branches
    Run(RunArgs),
    /// Show what a run would do, and do nothing
    Plan(PlanArgs),
    /// Check a spec without an engine or a repository
    Validate(SpecArgs),
    /// Print the spec as it is understood: anchors, defaults and variables resolved
    Config(SpecArgs),
    /// List runs and their tasks
    Ps(PsArgs),
    /// Show what became of a task: its commits, files, cause, resources, log
    Show(ShowArgs),
    /// Print what a task's work changes, as a patch
    Diff(TaskArgs),
    /// Print the commits of a task's work, with the files that each changes
    Log(TaskArgs),
    /// Show which results fit together and into the base as it is now, before any is merged
    Forecast(ForecastArgs),
    /// Merge results one by one, in memory, into a branch; what conflicts is left out
    Merge(MergeArgs),
    /// Bring a result onto what the base is now, as a new tip of its branch
    Refresh(RefreshArgs),
    /// Make a linked git worktree of a result, in this repository
    Checkout(CheckoutArgs),
    /// List the linked worktrees that were made of results, or remove them
    Worktrees(WorktreesArgs),
    /// Write results as files: patches, mails or bundles
    Export(ExportArgs),
    /// Show what tasks have written
    Logs(LogsArgs),
    /// Run a command, or a shell, in the container of a running task
    Exec(ExecArgs),
    /// Ask a live run, or some of its tasks, to stop: their work is collected
    Stop(StopArgs),
    /// Go on with a run whose process died: what has ended stays, what runs is watched on
    Resume(ResumeArgs),
    /// Go on with a task after its run: on its branch, in its agent's conversation
    Continue(ContinueArgs),
    /// Start what a task has made again, with services of its own, to look at it
    Preview(PreviewArgs),
    /// Remove what dead runs left behind; work that was not collected is collected first
    Clean(CleanArgs),
    /// List what tasks claim in this repository, or release a claim
    Claims(ClaimsArgs),
    /// List the agents that a spec can name, or show what one gives a task
    Agents(AgentsArgs),
    /// List what is kept for tasks to come: images and caches; or build images
    Images(ImagesArgs),
    /// Find out whether agent-run can run here, and what its tasks could reach
    Doctor(DoctorArgs),
    /// Write a spec for this repository that runs as it is
    Init(InitArgs),
    /// Print the JSON Schema of the spec, or of what a run writes
    Schema(SchemaArgs),
    /// Print a script that completes the command line in a shell
    Completions(CompletionsArgs),
    /// Print a page of the manual
    Man(ManArgs),
}
