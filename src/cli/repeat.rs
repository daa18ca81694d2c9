//! `run --plan`: a plan that was made before, and what it needs of now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;

use super::args::{OverArgs, SpecArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare::{self, Asked, Prepared};
use super::select;
use super::surroundings::Surroundings;
use crate::engine::config::{ImageRequest, PullPolicy};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine as _, EngineError, ErrorKind};
use crate::git::{Git, GitError, Repository};
use crate::id::{RunId, ServiceName, TaskId};
use crate::journal::{self, JournalError};
use crate::plan::{
    self, EngineCapacity, RepeatError, RepeatInputs, RepositoryPlan, RunPlan, TaskPlan, graph,
};
use crate::secrets::SecretString;

/// A plan that is asked to be repeated.
pub(super) struct Repeat {
    /// What people call it.
    name: String,
    plan: RunPlan,
    select: Vec<TaskId>,
    run: RunId,
    /// The spec that knows the values of its variables, if it has any.
    values: Option<Asked>,
}

/// Reads a plan, and the spec that it was made from where values are needed that no plan holds.
pub(super) fn read(here: &Path, file: &Path, arguments: &SpecArgs) -> Result<Repeat, Failure> {
    let name = file.display().to_string();
    let plan: RunPlan =
        journal::read_json(&here.join(file), plan::VERSION).map_err(|e| unreadable(file, e))?;
    let (spec, words) = prepare::split_words(arguments);
    let ids: Vec<&TaskId> = plan.tasks.iter().map(|task| &task.id).collect();
    let select = select::named(&ids, &name, (words, arguments.exact))?;
    let select: Vec<TaskId> = select.into_iter().cloned().collect();
    of(here, (name, plan), select, spec)
}

/// A plan with these tasks of it to be repeated, with the values of variables from a spec, if it needs any.
pub(super) fn of(
    here: &Path,
    (name, plan): (String, RunPlan),
    select: Vec<TaskId>,
    spec: Option<PathBuf>,
) -> Result<Repeat, Failure> {
    let chosen = graph::with_needs(&plan.tasks, &select);
    let selected = |task: &&TaskPlan| chosen.contains(&task.id);
    let values = if plan
        .tasks
        .iter()
        .filter(selected)
        .any(TaskPlan::has_variables)
    {
        Some(read_values(here, &name, &plan, spec)?)
    } else {
        None
    };
    let run = values.as_ref().map(|asked| asked.run.clone());
    Ok(Repeat {
        run: run.unwrap_or_else(prepare::new_run_id),
        name,
        plan,
        select,
        values,
    })
}

fn unreadable(file: &Path, error: JournalError) -> Failure {
    let hint = match &error {
        JournalError::NewerVersion { .. } => "use the agent-run that wrote it, or a later one",
        JournalError::Damaged { .. } => {
            "`agent-run plan --format json` writes a plan; that of a run is plan.json in its directory"
        }
        _ => "--plan names a file that `agent-run plan --format json` wrote",
    };
    let what = anyhow!("{} cannot be repeated", file.display());
    Failure::new(Exit::SpecInvalid, anyhow::Error::from(error).context(what)).hint(hint)
}

fn read_values(
    here: &Path,
    name: &str,
    plan: &RunPlan,
    spec: Option<PathBuf>,
) -> Result<Asked, Failure> {
    let Some(file) = spec.or_else(|| plan.spec_path.clone()) else {
        let error = anyhow!(
            "{name} has variables whose values no plan holds, and its spec came from standard input"
        );
        let hint = format!("name a spec that has them: agent-run run --plan {name} SPEC");
        return Err(Failure::new(Exit::SpecInvalid, error).hint(hint));
    };
    let arguments = SpecArgs {
        words: Vec::new(),
        file: Some(file.clone()),
        exact: false,
    };
    let read = prepare::read_spec(here, &arguments, None);
    read.map_err(|failure| {
        let why = format!(
            "{name} takes the values of variables from {}",
            file.display()
        );
        failure.hint(why)
    })
}

/// A plan to be gone on with: the same run, with the values of variables read anew.
pub(super) async fn same(
    surroundings: &Surroundings,
    mut plan: RunPlan,
) -> Result<Prepared, Failure> {
    let name = format!("run {}", plan.run);
    if plan.tasks.iter().any(TaskPlan::has_variables) {
        let values = read_values(&surroundings.directory, &name, &plan, None)?;
        let lacking = plan::fill(&mut plan, &|task, service, variable| {
            value(&values, task, service, variable)
        });
        if let Err(error) = lacking {
            let what = anyhow!("{name} cannot be resumed");
            let failure = anyhow::Error::from(error).context(what);
            return Err(Failure::new(Exit::SpecInvalid, failure));
        }
    }
    let git = Git::new(
        &surroundings.search_path,
        &surroundings.state.path().join("git"),
    )?;
    let repository = Repository::open(&git, &plan.repository.path)?;
    let engine = DockerEngine::connect(&surroundings.engine).await?;
    let info = engine.info().await?;
    let lacking = plan.tasks.iter();
    let mut lacking = lacking.filter_map(|task| plan::has_runtime(task, &info.runtimes).err());
    if let Some(error) = lacking.next() {
        let what = anyhow!("{name} cannot be resumed");
        let failure = anyhow::Error::from(error).context(what);
        return Err(Failure::new(Exit::EnvironmentUnusable, failure));
    }
    plan.warnings.clear();
    Ok(Prepared {
        plan,
        repository,
        engine: Arc::new(engine),
        info,
    })
}

fn value(
    values: &Asked,
    task: &TaskId,
    service: Option<&ServiceName>,
    name: &str,
) -> Option<SecretString> {
    let task = values.spec.tasks.iter().find(|t| t.id.value == *task)?;
    let Some(service) = service else {
        return task.variables().remove(name);
    };
    let mut services = task.services.list.iter();
    let service = services.find(|s| s.name.value == *service)?;
    service.environment.get(name).cloned()
}

impl Repeat {
    /// Makes a plan of now: nothing is created on the way.
    pub(super) async fn prepare(
        self,
        surroundings: &Surroundings,
        over: OverArgs,
    ) -> Result<Prepared, Failure> {
        let git = Git::new(
            &surroundings.search_path,
            &surroundings.state.path().join("git"),
        )?;
        let old = &self.plan.repository;
        let repository = Repository::open(&git, &old.path).map_err(|error| {
            Failure::from(error).hint("the plan is of that repository, and repeats there only")
        })?;
        prepare::refuse_state_inside(surroundings, &repository)?;
        let place = base(&repository, old)?;
        let engine = DockerEngine::connect(&surroundings.engine).await?;
        let info = engine.info().await?;
        let variable = |task: &TaskId, service: Option<&ServiceName>, name: &str| {
            value(self.values.as_ref()?, task, service, name)
        };
        let inputs = RepeatInputs {
            run: self.run.clone(),
            repository: place,
            branches: &repository.branches()?,
            engine: EngineCapacity {
                cpus: info.cpus,
                memory: info.memory,
                own: 0,
            },
            runtimes: &info.runtimes,
            select: &self.select,
            over: over.into(),
            variable: &variable,
        };
        let repeated = plan::repeat(self.plan.clone(), inputs);
        let mut plan = repeated.map_err(|error| self.refused(error))?;
        let images = || {
            let tasks = plan.tasks.iter();
            tasks.flat_map(|task| task.images().map(|(image, known)| (&task.id, image, known)))
        };
        for (task, image, _) in images().filter(|(.., known)| known.is_some()) {
            require_image(&engine, task, image).await?;
        }
        let unpinned = images().filter(|(.., known)| known.is_none());
        let unpinned = unpinned.map(|(id, image, _)| {
            let image = &image.reference;
            format!("the plan does not say which {image} task {id} ran in: it gets today's")
        });
        let unpinned: Vec<String> = unpinned.collect();
        plan.warnings.extend(unpinned);
        let uncommitted = repository.uncommitted()?;
        prepare::adapt(&mut plan, &[], (&repository, uncommitted), &info);
        Ok(Prepared {
            plan,
            repository,
            engine: Arc::new(engine),
            info,
        })
    }

    fn refused(&self, error: RepeatError) -> Failure {
        let spec = self.values.as_ref().map_or("", |asked| &asked.name);
        let hint = match &error {
            RepeatError::BranchTaken { .. } => {
                "delete or rename that branch, if its work is safe elsewhere".to_owned()
            }
            RepeatError::NoValue(_) => {
                format!("{spec}, where the plan takes them from, does not set them any more")
            }
            RepeatError::NeverFits { .. } => {
                "run the spec anew, with a `mem_limit` that fits".to_owned()
            }
            RepeatError::NoRuntime { hint, .. } => hint.clone(),
            RepeatError::NoSuchTask(_) | RepeatError::Senseless(_) => {
                "`agent-run plan --format json` writes a plan".to_owned()
            }
        };
        let what = format!("{} cannot be repeated", self.name);
        Failure::new(Exit::SpecInvalid, anyhow::Error::from(error).context(what)).hint(hint)
    }
}

/// The same repository, with the base that the plan had, whatever its name stands for now.
fn base(repository: &Repository, old: &RepositoryPlan) -> Result<RepositoryPlan, Failure> {
    let wanted = old.base.as_str();
    let base = repository.resolve_base(wanted).map_err(|error| {
        let is_missing = matches!(error, GitError::NoSuchCommit { .. });
        let failure = Failure::from(error);
        if !is_missing {
            return failure;
        }
        let name = &old.base_ref;
        failure.hint(format!(
            "it was {name} when the plan was made: get it back (git fetch ORIGIN {wanted}), or run the spec anew"
        ))
    })?;
    let is_named_still = repository.resolve_base(&old.base_ref).ok().as_ref() == Some(&base);
    Ok(RepositoryPlan {
        path: repository.directory().to_owned(),
        git_dir: repository.common_dir().to_owned(),
        key: repository.key().clone(),
        base_ref: if is_named_still {
            old.base_ref.clone()
        } else {
            base.to_string()
        },
        base,
        history: old.history,
    })
}

/// An image that nobody can pull is there, or nothing is started.
async fn require_image(
    engine: &DockerEngine,
    task: &TaskId,
    image: &ImageRequest,
) -> Result<(), Failure> {
    if image.pull_policy != PullPolicy::Never {
        return Ok(());
    }
    match engine.ensure_image(image).await {
        Ok(_) => Ok(()),
        Err(EngineError {
            kind: ErrorKind::ImageUnavailable(_),
            ..
        }) => {
            let image = &image.reference;
            let error = anyhow!("the image {image} of task {task} is not on the engine any more");
            let hint =
                "it was built or tagged here, so nobody can pull it: load it, or run the spec anew";
            Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint))
        }
        Err(error) => Err(error.into()),
    }
}
