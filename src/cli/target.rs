//! Which run and which of its tasks a command is about.

use anyhow::anyhow;

use super::error::Failure;
use super::exit_code::Exit;
use super::select;
use super::surroundings::Surroundings;
use crate::event::{self, RunSummary, TaskReport};
use crate::git::{Git, GitError, Repository};
use crate::id::{BranchName, CommitId, RunId, TaskId};
use crate::journal::{FoundRun, RunState};
use crate::plan::{self, RunPlan, TaskPlan};

/// A run that a command is about.
pub(super) struct Target {
    pub(super) found: FoundRun,
    pub(super) plan: RunPlan,
}

impl Target {
    /// The run with this id; else the latest one of the repository around here.
    pub(super) fn find(surroundings: &Surroundings, run: Option<&RunId>) -> Result<Self, Failure> {
        let found = match run {
            Some(run) => FoundRun::of(&surroundings.state, run)?,
            None => latest(surroundings)?,
        };
        let plan = found.read_json("plan.json", plan::VERSION)?;
        Ok(Self { found, plan })
    }

    /// The run's repository.
    pub(super) fn repository(&self, surroundings: &Surroundings) -> Result<Repository, Failure> {
        let of_git = surroundings.state.path().join("git");
        let git = Git::new(&surroundings.search_path, &of_git)?;
        Ok(Repository::open(&git, &self.plan.repository.path)?)
    }

    /// The run's task with this name.
    pub(super) fn task(&self, word: &str) -> Result<&TaskPlan, Failure> {
        let id = select::find_task(&self.ids(), &self.name(), word)?;
        let is_it = |task: &&TaskPlan| task.id == *id;
        Ok(self.plan.tasks.iter().find(is_it).expect("a task of it"))
    }

    /// The run's tasks that these words mean, each once.
    pub(super) fn tasks(&self, words: &[String]) -> Result<Vec<&TaskId>, Failure> {
        select::find_tasks(&self.ids(), &self.name(), words)
    }

    /// What became of a task of it, once it has finished.
    pub(super) fn ended(
        &self,
        task: &TaskPlan,
        refused: impl Fn(&str, &str) -> Failure,
    ) -> Result<TaskReport, Failure> {
        if self.found.state != RunState::Finished {
            let hint = "wait for it, or end it: agent-run stop, agent-run resume";
            return Err(refused("its run has not finished", hint));
        }
        let ended: RunSummary = self.found.read_json("result.json", event::VERSION)?;
        let mut reports = ended.tasks.into_iter();
        let report = reports.find(|report| report.task == task.id);
        report.ok_or_else(|| refused("its run has no report of it", "run the spec anew"))
    }

    fn ids(&self) -> Vec<&TaskId> {
        self.plan.tasks.iter().map(|task| &task.id).collect()
    }

    fn name(&self) -> String {
        format!("run {}", self.found.run)
    }
}

/// The tip of a branch that a task has made, also where somebody has added to it: what it is called, and its
/// commit. Else why there is none, and what to do.
pub(super) fn tip(
    repository: &Repository,
    branch: &BranchName,
) -> Result<(String, CommitId), (String, &'static str)> {
    let name = branch.full_ref();
    match repository.resolve_base(&name) {
        Ok(commit) => Ok((name, commit)),
        Err(_) => Err((
            format!("its branch {branch} is not there any more"),
            "make it again: `agent-run show` has its commit",
        )),
    }
}

fn latest(surroundings: &Surroundings) -> Result<FoundRun, Failure> {
    let Some(repository) = repository(surroundings)? else {
        let error = anyhow!("{} is in no repository", surroundings.directory.display());
        let hint = "go to the repository of the run, or name the run with --run";
        return Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint));
    };
    let latest = FoundRun::latest(&surroundings.state, repository.key())?;
    latest.ok_or_else(|| {
        let error = anyhow!(
            "no run of {} is in {}",
            repository.directory().display(),
            surroundings.state.path().display()
        );
        Failure::new(Exit::Usage, error)
            .hint("`agent-run ps --all` lists the runs of all repositories")
    })
}

/// The repository around the current directory, if there is one.
pub(super) fn repository(surroundings: &Surroundings) -> Result<Option<Repository>, Failure> {
    let git = Git::new(
        &surroundings.search_path,
        &surroundings.state.path().join("git"),
    )?;
    match Repository::open(&git, &surroundings.directory) {
        Ok(repository) => Ok(Some(repository)),
        Err(GitError::NotARepository { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
