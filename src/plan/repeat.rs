//! A plan that was made before becomes one of now: another run, on the same base and the same images.

use std::collections::BTreeSet;

use super::{
    EngineCapacity, Over, RepositoryPlan, RunPlan, TaskPlan, branches, capacity, graph, runtime,
};
use crate::engine::config::{ImageRequest, Limits, PullPolicy};
use crate::id::{BranchName, ImageRef, RunId, ServiceName, TaskId};
use crate::secrets::SecretString;

/// The values of variables, which no plan holds: of a task, or of a service of it, by name.
pub type Variables<'a> = dyn Fn(&TaskId, Option<&ServiceName>, &str) -> Option<SecretString> + 'a;

/// What a plan that is repeated needs of now.
pub struct RepeatInputs<'a> {
    /// The run.
    pub run: RunId,
    /// The repository, with the plan's base in it.
    pub repository: RepositoryPlan,
    /// The repository's local branches, without `refs/heads/`.
    pub branches: &'a [String],
    /// What the engine has.
    pub engine: EngineCapacity,
    /// What the engine can run containers with.
    pub runtimes: &'a [String],
    /// The tasks to run, together with what they need; all of the plan if empty.
    pub select: &'a [TaskId],
    /// What the command line says in place of the plan.
    pub over: Over,
    /// The values of tasks' variables, which no plan holds.
    pub variable: &'a Variables<'a>,
}

/// Why a plan cannot be repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepeatError {
    /// No agent-run made it so.
    #[error("{0}")]
    Senseless(String),
    /// It has no such task.
    #[error("the plan has no task `{0}`")]
    NoSuchTask(TaskId),
    /// A branch is there already, or one that excludes it.
    #[error("the branch `{branch}` of task `{task}` cannot be made: `{taken}` exists")]
    BranchTaken {
        /// The task.
        task: TaskId,
        /// Its branch.
        branch: String,
        /// The one that exists.
        taken: String,
    },
    /// A task can never run on this engine.
    #[error("task `{task}` can never run here: {why}")]
    NeverFits {
        /// The task.
        task: TaskId,
        /// Its limit and what there is.
        why: String,
    },
    /// The engine cannot run its containers with what they are to be run with.
    #[error("task `{task}` cannot run here: {why}")]
    NoRuntime {
        /// The task.
        task: TaskId,
        /// What is missing.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// Values of variables are nowhere.
    #[error("no value is known of: {}", .0.join(", "))]
    NoValue(Vec<String>),
}

/// Makes the plan of a run that repeats another.
///
/// Each task runs in the images that it ran in ([`TaskPlan::images`]), where the plan knows them.
/// Names that hold the id of the plan's run hold that of the new one.
pub fn repeat(plan: RunPlan, inputs: RepeatInputs<'_>) -> Result<RunPlan, RepeatError> {
    check(&plan)?;
    let known = |id: &&TaskId| plan.tasks.iter().any(|task| task.id == **id);
    if let Some(unknown) = inputs.select.iter().find(|id| !known(id)) {
        return Err(RepeatError::NoSuchTask(unknown.clone()));
    }
    let chosen = graph::with_needs(&plan.tasks, inputs.select);
    let selected = |t: &TaskPlan| chosen.contains(&t.id);
    let has_list = |t: &TaskPlan| selected(t) && t.egress.is_some();
    let engine = inputs.engine.beside_proxy(plan.tasks.iter().any(has_list));
    let mut tasks = Vec::new();
    for mut task in plan.tasks.into_iter().filter(selected) {
        if plan.previews.is_none() && !task.moves_branch() {
            task.branch = renamed(&task.branch, &plan.run, &inputs.run);
            refuse_taken(&task, inputs.branches)?;
        }
        task.retry.max = inputs.over.retries.unwrap_or(task.retry.max);
        if let Some((why, _)) = capacity::never_fits(task.memory(), engine) {
            return Err(RepeatError::NeverFits { task: task.id, why });
        }
        has_runtime(&task, inputs.runtimes)?;
        for (image, known) in task.images_mut() {
            if let Some(known) = known {
                *image = pinned(known);
            }
        }
        tasks.push(task);
    }
    fill_tasks(&mut tasks, inputs.variable)?;
    let is_granted = |name: &str| {
        let mut granted = tasks.iter().map(TaskPlan::secret_names);
        granted.any(|names| names.contains(name))
    };
    let secrets = plan.secrets.iter().filter(|s| is_granted(&s.name));
    let spare = capacity::spare(engine, &tasks);
    let memory = engine.for_containers() - spare;
    let asked = inputs.over.jobs.unwrap_or(plan.parallel);
    Ok(RunPlan {
        secrets: secrets.cloned().collect(),
        parallel: capacity::at_once(Some(asked), (engine, memory), &tasks),
        memory,
        spare,
        order: graph::order(&tasks),
        max_fail: inputs.over.max_fail(plan.max_fail),
        run: inputs.run,
        repository: inputs.repository,
        warnings: Vec::new(),
        tasks,
        ..plan
    })
}

/// Whether the engine can run a task's containers with what they are to be run with.
///
/// # Errors
/// [`RepeatError::NoRuntime`].
pub fn has_runtime(task: &TaskPlan, known: &[String]) -> Result<(), RepeatError> {
    let asked = task.runtime.as_ref();
    match asked.and_then(|asked| runtime::missing(asked, known)) {
        None => Ok(()),
        Some((why, hint)) => Err(RepeatError::NoRuntime {
            task: task.id.clone(),
            why,
            hint,
        }),
    }
}

/// Gives the variables of a plan that was read back their values.
///
/// # Errors
/// [`RepeatError::NoValue`].
pub fn fill(plan: &mut RunPlan, variable: &Variables<'_>) -> Result<(), RepeatError> {
    fill_tasks(&mut plan.tasks, variable)
}

fn fill_tasks(tasks: &mut [TaskPlan], variable: &Variables<'_>) -> Result<(), RepeatError> {
    let mut missing = Vec::new();
    for task in tasks {
        for (name, value) in &mut task.environment {
            match variable(&task.id, None, name) {
                Some(found) => *value = found,
                None => missing.push(format!("{name} of task `{}`", task.id)),
            }
        }
        for service in &mut task.services {
            for (name, value) in &mut service.environment {
                if let Some(found) = variable(&task.id, Some(&service.name), name) {
                    *value = found;
                } else {
                    let (service, task) = (&service.name, &task.id);
                    missing.push(format!("{name} of service `{service}` of task `{task}`"));
                }
            }
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(RepeatError::NoValue(missing))
    }
}

/// A plan may have been written by hand: what would not limit is refused, like what is there twice.
fn check(plan: &RunPlan) -> Result<(), RepeatError> {
    let mut seen = BTreeSet::new();
    for task in &plan.tasks {
        let id = &task.id;
        if !seen.insert(id) {
            return Err(RepeatError::Senseless(format!(
                "task `{id}` is there twice"
            )));
        }
        let unknown = |id: &&TaskId| !plan.tasks.iter().any(|task| task.id == **id);
        if let Some(need) = task.needs.iter().chain(&task.starts_from).find(unknown) {
            let what = format!("task `{id}` needs `{need}`, which is not there");
            return Err(RepeatError::Senseless(what));
        }
        if let Some(from) = task.starts_from.iter().find(|id| !task.needs.contains(id)) {
            let what = format!("task `{id}` starts from `{from}` and does not need it");
            return Err(RepeatError::Senseless(what));
        }
        let mut all = task.services.iter().map(|service| &service.limits);
        if limits_nothing(&task.limits) || all.any(limits_nothing) {
            let what = format!("task `{id}` has a limit that limits nothing");
            return Err(RepeatError::Senseless(what));
        }
    }
    if graph::longest_paths(&plan.tasks).is_none() {
        let what = "tasks need each other in a circle".to_owned();
        return Err(RepeatError::Senseless(what));
    }
    Ok(())
}

fn limits_nothing(limits: &Limits) -> bool {
    let least = [
        limits.nano_cpus,
        limits.memory,
        limits.memory_swap,
        limits.pids,
    ];
    least.iter().any(|limit| *limit <= 0) || limits.memory_swap < limits.memory
}

fn renamed(branch: &BranchName, from: &RunId, to: &RunId) -> BranchName {
    let name = branch.as_str().replace(from.as_str(), to.as_str());
    // Ids are all of one form: what was a name is one still.
    name.parse().unwrap_or_else(|_| branch.clone())
}

fn refuse_taken(task: &TaskPlan, existing: &[String]) -> Result<(), RepeatError> {
    let branch = task.branch.as_str();
    let taken = existing
        .iter()
        .find(|taken| *taken == branch || branches::excludes(branch, taken));
    match taken {
        None => Ok(()),
        Some(taken) => Err(RepeatError::BranchTaken {
            task: task.id.clone(),
            branch: branch.to_owned(),
            taken: taken.clone(),
        }),
    }
}

/// A digest can be pulled anywhere; an id is one engine's own.
fn pinned(image: &ImageRef) -> ImageRequest {
    ImageRequest {
        reference: image.clone(),
        pull_policy: if image.as_str().contains('@') {
            PullPolicy::Missing
        } else {
            PullPolicy::Never
        },
        build: None,
    }
}
