//! `forecast`: which branches fit together and into the base as it is now.

use std::collections::HashMap;

use anyhow::anyhow;

use super::args::{ForecastArgs, Format};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::{self, Target};
use super::{print_error, print_json, print_result};
use crate::event::Versioned;
use crate::forecast::{self, Candidate, ForecastRequest};
use crate::git::Repository;
use crate::id::{CommitId, TaskId};
use crate::plan::select::matching;
use crate::report;
use crate::sanitize;

pub(super) fn forecast(
    surroundings: &Surroundings,
    arguments: &ForecastArgs,
) -> Result<Exit, Failure> {
    let asked = Asked::find(surroundings, arguments)?;
    let base = arguments.base.as_deref().unwrap_or(&asked.base);
    let tip = asked.repository.resolve_base(base)?;
    if asked.candidates.is_empty() {
        print_error("no branch is there to be merged\n");
        return Ok(Exit::NothingSelected);
    }
    let found = forecast::forecast(&ForecastRequest {
        repository: &asked.repository,
        base: (base, &tip),
        candidates: &asked.candidates,
        patience: None,
    })?;
    match arguments.print.format {
        Format::Json => print_json(&Versioned::new(found)),
        Format::Text => {
            print_result(&report::forecast(&found, surroundings.result_paint));
            Ok(Exit::Success)
        }
    }
}

/// What is asked about.
pub(super) struct Asked {
    pub(super) repository: Repository,
    /// The base as it is named where nothing else is said.
    pub(super) base: String,
    pub(super) candidates: Vec<Candidate>,
}

impl Asked {
    /// The results of a run if no word is said; else what the words name: tasks of the run, or
    /// branches of the repository, which may do without a run.
    fn find(surroundings: &Surroundings, arguments: &ForecastArgs) -> Result<Self, Failure> {
        let run = Target::find(surroundings, arguments.of.run.as_ref());
        let target = match run {
            Err(_) if arguments.of.run.is_none() && !arguments.branches.is_empty() => None,
            found => Some(found?),
        };
        let (repository, base) = if let Some(target) = &target {
            let base = target.plan.repository.base_ref.clone();
            (target.repository(surroundings)?, base)
        } else {
            let error = || anyhow!("{} is in no repository", surroundings.directory.display());
            let around = target::repository(surroundings)?;
            let around = around.ok_or_else(|| Failure::new(Exit::EnvironmentUnusable, error()))?;
            (around, "HEAD".to_owned())
        };
        let of_run = target
            .map(|target| results(&repository, &target))
            .transpose()?;
        let of_run = of_run.unwrap_or_default();
        let candidates = if arguments.branches.is_empty() {
            of_run
        } else {
            named(&repository, &of_run, &arguments.branches)?
        };
        Ok(Self {
            repository,
            base,
            candidates,
        })
    }
}

/// The branches of a run's tasks that went well.
pub(super) fn results(repository: &Repository, target: &Target) -> Result<Vec<Candidate>, Failure> {
    let mut progress = target.found.progress()?;
    let tasks = target.plan.tasks.iter();
    let reports = tasks.filter_map(|task| progress.remove(&task.id)?.report);
    let reports: Vec<_> = reports.collect();
    let needs = |id: &TaskId| {
        let mut tasks = target.plan.tasks.iter();
        let task = tasks.find(|task| task.id == *id);
        task.map(|task| task.needs.clone()).unwrap_or_default()
    };
    Ok(Candidate::of_tasks(repository, &reports, needs)?)
}

/// What these words name, each once.
pub(super) fn named(
    repository: &Repository,
    of_run: &[Candidate],
    words: &[String],
) -> Result<Vec<Candidate>, Failure> {
    let tasks: Vec<&TaskId> = of_run.iter().filter_map(|one| one.task.as_ref()).collect();
    let mut places = Vec::new();
    let mut others = Vec::new();
    let tips: HashMap<String, CommitId> = repository.refs("refs/heads")?.into_iter().collect();
    for word in words {
        let meant = matching(&tasks, word);
        let is_meant = |one: &Candidate| one.task.as_ref().is_some_and(|id| meant.contains(&id));
        let meant =
            (0..of_run.len()).filter(|at| is_meant(&of_run[*at]) || of_run[*at].branch == *word);
        let meant: Vec<usize> = meant.filter(|at| !places.contains(at)).collect();
        let is_of_run =
            !matching(&tasks, word).is_empty() || of_run.iter().any(|one| one.branch == *word);
        places.extend(meant);
        let is_new = others.iter().all(|other: &Candidate| other.branch != *word);
        if !is_of_run && is_new {
            let tip = tips.get(&format!("refs/heads/{word}")).cloned();
            let found = tip.map_or_else(|| repository.resolve_base(word), Ok);
            let commit = found.map_err(|error| {
                let shown = sanitize::line(word.as_bytes(), false);
                let hint = format!("`{shown}` is no task of the run with a branch either");
                Failure::from(error).hint(hint)
            })?;
            others.push(Candidate {
                branch: word.clone(),
                task: None,
                commit,
                needs: Vec::new(),
            });
        }
    }
    let mut found: Vec<Candidate> = places.iter().map(|at| of_run[*at].clone()).collect();
    for candidate in &mut found {
        let needs = candidate.needs.iter();
        let needs = needs.filter_map(|need| places.iter().position(|at| at == need));
        candidate.needs = needs.collect();
    }
    found.extend(others);
    Ok(found)
}
