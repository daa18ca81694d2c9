//! `export`: what was collected of tasks, as files for those who have no forge.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::args::{ExportArgs, ExportFormat};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::Target;
use super::work::Work;
use super::{print_error, print_result};
use crate::event::TaskReport;
use crate::git::{GitError, Repository};
use crate::id::{CommitId, TaskId};
use crate::report::quoted;

pub(super) fn export(surroundings: &Surroundings, arguments: &ExportArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let works = works(&target, &arguments.tasks)?;
    if works.is_empty() {
        let error = anyhow!(
            "no such task of run {} has changed anything",
            target.found.run
        );
        return Err(Failure::new(Exit::NothingSelected, error));
    }
    if arguments.format != ExportFormat::Patch {
        refuse_secrets(&works)?;
    }
    let directory = surroundings.directory.join(&arguments.output);
    let files = files(&target, &works, arguments.format);
    let paths: Vec<PathBuf> = files.iter().map(|name| directory.join(name)).collect();
    if !arguments.force {
        refuse_existing(&paths)?;
    }
    let repository = target.repository(surroundings)?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("could not make {}", directory.display()))?;
    if arguments.format == ExportFormat::Bundle {
        let without = without(&target, &works)?;
        let branches = works
            .iter()
            .map(|work| (work.branch.clone(), work.tip.clone()));
        let branches: Vec<_> = branches.collect();
        place(&paths[0], arguments.force, |file| {
            Ok(repository.write_bundle(&branches, &without, file)?)
        })?;
    } else {
        for (work, path) in works.iter().zip(&paths) {
            let write = |file: &Path| write(&repository, work, arguments.format, file);
            place(path, arguments.force, write)?;
        }
    }
    let written = paths.iter().map(|path| format!("{}\n", path.display()));
    print_result(&written.collect::<String>());
    Ok(Exit::Success)
}

/// What is asked for; tasks that are named and have changed nothing are told.
fn works(target: &Target, named: &[String]) -> Result<Vec<Work>, Failure> {
    if named.is_empty() {
        return Work::of_all(target, TaskReport::is_good);
    }
    let tasks = target.tasks(named)?;
    let works = Work::of(target, &tasks)?;
    for (task, _) in tasks.iter().zip(&works).filter(|(_, work)| work.is_none()) {
        print_error(&format!("task {task} has changed nothing\n"));
    }
    Ok(works.into_iter().flatten().collect())
}

/// A patch has no messages; what else is written goes to others with them.
fn refuse_secrets(works: &[Work]) -> Result<(), Failure> {
    let Some(work) = works.iter().find(|work| !work.secret_commits.is_empty()) else {
        return Ok(());
    };
    let task = &work.task;
    let error = anyhow!("what commits of task {task} say holds the value of a secret");
    let hint = "rewrite them first, or export it with `--format patch`, which has no messages";
    Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint))
}

/// The files' names: made of tasks' own safe names, never of what an agent has chosen.
fn files(target: &Target, works: &[Work], format: ExportFormat) -> Vec<String> {
    let of_task = |work: &Work, ending| format!("{}.{ending}", TaskId::slug(&work.task));
    match (format, works) {
        (ExportFormat::Patch, works) => works.iter().map(|w| of_task(w, "patch")).collect(),
        (ExportFormat::Mbox, works) => works.iter().map(|w| of_task(w, "mbox")).collect(),
        (ExportFormat::Bundle, [work]) => vec![of_task(work, "bundle")],
        (ExportFormat::Bundle, _) => vec![format!("{}.bundle", target.found.run)],
    }
}

fn refuse_existing(paths: &[PathBuf]) -> Result<(), Failure> {
    // A link counts, wherever it leads.
    let Some(path) = paths.iter().find(|path| fs::symlink_metadata(path).is_ok()) else {
        return Ok(());
    };
    let error = anyhow!("{} is there already: nothing was written", path.display());
    let hint = "say `--force` to replace it, or another directory with `--output`";
    Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint))
}

/// What whoever gets a bundle has: the bases, but none that is a task's own work.
fn without(target: &Target, works: &[Work]) -> Result<Vec<CommitId>, Failure> {
    let collected = Work::of_all(target, |_| true)?;
    let is_base = |commit: &CommitId| collected.iter().all(|work| work.tip != *commit);
    let bases = works.iter().map(|work| work.base.clone());
    let mut without: Vec<CommitId> = bases.filter(is_base).collect();
    without.push(target.plan.repository.base.clone());
    without.sort();
    without.dedup();
    Ok(without)
}

fn write(
    repository: &Repository,
    work: &Work,
    format: ExportFormat,
    file: &Path,
) -> Result<(), Failure> {
    let range = (&work.base, &work.tip);
    let written = match format {
        ExportFormat::Mbox => repository.write_mails(range, file),
        _ => repository.write_patch(range, file),
    };
    written.map_err(|error| {
        let is_merge = matches!(error, GitError::NotLinear { .. });
        let task = &work.task;
        let failure = Failure::new(
            Exit::EnvironmentUnusable,
            anyhow::Error::from(error).context(format!("task {task} is not exported")),
        );
        if is_merge {
            let task = quoted(task);
            failure.hint(format!(
                "`agent-run export {task} --format bundle` has merges too"
            ))
        } else {
            failure
        }
    })
}

/// Puts a file there that is written whole before it has its name.
fn place(
    path: &Path,
    force: bool,
    write: impl Fn(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let failed = || format!("could not write {}", path.display());
    let file = tempfile::Builder::new()
        .prefix(".agent-run-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .with_context(failed)?;
    let file = file.into_temp_path();
    write(&file)?;
    let placed = if force {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    placed.with_context(failed)?;
    Ok(())
}
