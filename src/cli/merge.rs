//! `merge`: results merged one after the other, in memory, onto a branch of their own or one that the
//! user names.

use std::fmt::Write as _;

use anyhow::anyhow;
use serde::Serialize;

use super::args::{Format, MergeArgs, MergeStrategy};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::Target;
use super::{forecast, print_json, print_result};
use crate::event::Versioned;
use crate::forecast::{
    Candidate, ForecastRequest, Integrated, IntegratedResult, IntegrationEnd, Merging, integrate,
};
use crate::git::{BranchPlace, Repository};
use crate::id::{BranchName, CommitId};
use crate::report::{self, Paint, padded};
use crate::sanitize;

/// The most commits of a result through which its first one is looked for.
const COMMITS: usize = 10_000;

/// What became of it.
#[derive(Serialize)]
struct Merged {
    /// The branch that the results were merged into.
    into: String,
    #[serde(flatten)]
    integrated: Integrated,
}

pub(super) fn merge(surroundings: &Surroundings, arguments: &MergeArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let repository = target.repository(surroundings)?;
    let of_run = forecast::results(&repository, &target)?;
    let candidates = if arguments.tasks.is_empty() {
        of_run
    } else {
        forecast::named(&repository, &of_run, &arguments.tasks)?
    };
    if candidates.is_empty() {
        let error = anyhow!("no task of run {} has a branch to merge", target.found.run);
        return Err(Failure::new(Exit::NothingSelected, error));
    }
    let into = Into::find(&repository, &target, arguments.into.as_deref())?;
    let author = &target.plan.author;
    let squash = arguments.strategy == MergeStrategy::Squash;
    let message = |candidate: &Candidate| message(&repository, &target, candidate, squash);
    let integrated = integrate(
        &ForecastRequest {
            repository: &repository,
            base: (&into.name, &into.start),
            candidates: &candidates,
            patience: None,
        },
        &Merging {
            author: (&author.name, &author.email),
            squash,
            message: &message,
        },
    )?;
    into.move_to(&repository, &integrated.commit)?;
    let is_whole = !integrated
        .results
        .iter()
        .any(|result| result.end.is_left_out());
    let merged = Merged {
        into: into.name,
        integrated,
    };
    if arguments.print.format == Format::Json {
        print_json(&Versioned::new(&merged))?;
    } else {
        print_result(&render(&merged, surroundings.result_paint));
    }
    Ok(if is_whole {
        Exit::Success
    } else {
        Exit::TasksFailed
    })
}

/// The branch that results are merged into.
struct Into {
    name: String,
    /// What it stands for; none where it is made.
    place: Option<BranchPlace>,
    /// What the results are merged onto.
    start: CommitId,
}

impl Into {
    fn find(
        repository: &Repository,
        target: &Target,
        named: Option<&str>,
    ) -> Result<Self, Failure> {
        let name = match named {
            None => BranchName::merged_of(&target.found.run),
            Some(name) => name.parse::<BranchName>().map_err(|error| {
                let hint = "name a local branch, as `--into main`";
                Failure::new(Exit::Usage, error).hint(hint)
            })?,
        };
        let place = repository.branch(name.as_str())?;
        let worktree = place.as_ref().and_then(|place| place.worktree.as_ref());
        if let Some(worktree) = worktree
            && (named.is_none() || repository.has_changes(worktree)?)
        {
            let error = anyhow!("{name} is checked out in {}", worktree.display());
            let hint = if named.is_none() {
                format!("say `--into {name}` if its files may change")
            } else {
                "files there are changed and not committed: commit or stash them first".into()
            };
            return Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint));
        }
        let start = match &place {
            Some(place) => place.commit.clone(),
            None => repository.resolve_base(&target.plan.repository.base_ref)?,
        };
        Ok(Self {
            name: name.to_string(),
            place,
            start,
        })
    }

    fn move_to(&self, repository: &Repository, commit: &CommitId) -> Result<(), Failure> {
        let moved = match &self.place {
            Some(place) if place.commit == *commit => return Ok(()),
            Some(place) => repository.fast_forward(&self.name, place, commit),
            None => repository.move_branch(&self.name, None, commit),
        };
        moved.map_err(|error| {
            let hint = format!(
                "{} is as it was; the merge is commit {commit}: run this again, or \
                 `git merge --ff-only {}`",
                self.name,
                commit.short()
            );
            Failure::from(error).hint(hint)
        })
    }
}

/// What the commit of a result says. Its title is the work's own, where that holds no secret.
fn message(
    repository: &Repository,
    target: &Target,
    candidate: &Candidate,
    squash: bool,
) -> String {
    let branch = &candidate.branch;
    let Some(task) = &candidate.task else {
        return format!(
            "Merge branch '{}'\n",
            sanitize::line(branch.as_bytes(), false)
        );
    };
    let run = &target.found.run;
    let trailer = format!("Task {task} of run {run}.\n");
    if !squash {
        return format!("Merge branch '{branch}'\n\n{trailer}");
    }
    let progress = target
        .found
        .progress()
        .ok()
        .and_then(|mut all| all.remove(task));
    let report = progress.and_then(|progress| progress.report);
    let has_secret = report.as_ref().and_then(|report| report.branch.as_ref());
    let has_secret = has_secret.is_none_or(|work| !work.secret_commits.is_empty());
    let base = report.and_then(|report| report.base);
    let base = base.unwrap_or_else(|| target.plan.repository.base.clone());
    let commits = repository.commits(&base, &candidate.commit, COMMITS);
    let first = commits.ok().and_then(|mut commits| commits.pop());
    let title = first
        .map(|(_, subject)| subject)
        .filter(|subject| !has_secret && !subject.is_empty());
    let title = title.unwrap_or_else(|| format!("Work of task {task}"));
    format!("{title}\n\n{trailer}")
}

fn render(merged: &Merged, paint: Paint) -> String {
    let mut text = String::new();
    let Integrated { commit, results } = &merged.integrated;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} is {}\n",
        paint.strong(&merged.into),
        commit.short()
    );
    for result in results {
        let _ = writeln!(text, "{}", line(result, paint));
    }
    let left = results
        .iter()
        .filter(|result| result.end.is_left_out())
        .count();
    if left > 0 {
        let all = results.len();
        let _ = writeln!(text, "\n{left} of {all} left out");
    }
    text
}

fn line(result: &IntegratedResult, paint: Paint) -> String {
    let branch = &result.branch;
    match &result.end {
        IntegrationEnd::Merged => format!("{} {branch}", paint.good(&padded("merged"))),
        IntegrationEnd::Same => format!(
            "{} {branch}: all of it is there",
            paint.faint(&padded("same"))
        ),
        IntegrationEnd::LeftOut { why } => {
            let why = report::conflict(why).unwrap_or_default();
            format!(
                "{} {branch}: conflicts: {why}",
                paint.bad(&padded("LEFT OUT"))
            )
        }
        IntegrationEnd::NeedsLeftOut { needs } => {
            let word = paint.bad(&padded("LEFT OUT"));
            format!("{word} {branch}: it needs {needs}, which is left out")
        }
    }
}
