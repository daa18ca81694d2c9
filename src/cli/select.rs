//! Tasks that words of the command line name, and what is said where they name none.

use clap::CommandFactory as _;

use super::args::Cli;
use super::error::Failure;
use super::exit_code::Exit;
use crate::id::TaskId;
use crate::plan::select::{is_pattern, matching, of_profiles, profiles};
use crate::sanitize;
use crate::spec::{RunSpec, did_you_mean};

/// The most names that a hint has.
const SHOWN: usize = 8;

/// The tasks that these words mean, each once. A name of none is a mistake in the command line; a
/// pattern of none selects nothing.
pub(super) fn find_tasks<'a>(
    tasks: &[&'a TaskId],
    whose: &str,
    words: &[String],
) -> Result<Vec<&'a TaskId>, Failure> {
    named(tasks, whose, (words, false))
}

/// The same; where they are `exact`, each has to be an id.
pub(super) fn named<'a>(
    tasks: &[&'a TaskId],
    whose: &str,
    (words, exact): (&[String], bool),
) -> Result<Vec<&'a TaskId>, Failure> {
    let mut found: Vec<&TaskId> = Vec::new();
    for word in words {
        let matching = matching(tasks, word);
        if exact && matching.iter().any(|id| id.as_str() != word) {
            return Err(no_id(whose, word, &matching));
        }
        if matching.is_empty() {
            return Err(unknown(tasks, whose, word, exact));
        }
        let new: Vec<_> = matching
            .into_iter()
            .filter(|id| !found.contains(id))
            .collect();
        found.extend(new);
    }
    Ok(found)
}

fn no_id(whose: &str, word: &str, meant: &[&TaskId]) -> Failure {
    let shown = sanitize::line(word.as_bytes(), false);
    let error = anyhow::anyhow!("no task of {whose} has the id `{shown}`");
    let meant = listed(meant.iter().map(|id| id.as_str()));
    let hint = format!("without --exact it means {meant}");
    Failure::new(Exit::Usage, error).hint(hint)
}

/// The one task that a word means.
pub(super) fn find_task<'a>(
    tasks: &[&'a TaskId],
    whose: &str,
    word: &str,
) -> Result<&'a TaskId, Failure> {
    let found = find_tasks(tasks, whose, &[word.to_owned()])?;
    if let [id] = found[..] {
        return Ok(id);
    }
    let (word, number) = (sanitize::line(word.as_bytes(), false), found.len());
    let error = anyhow::anyhow!("`{word}` means {number} tasks of {whose}");
    let hint = format!(
        "name one of them: {}",
        listed(found.iter().map(|id| id.as_str()))
    );
    Err(Failure::new(Exit::Usage, error).hint(hint))
}

/// The tasks of a spec that these words mean; without any, those that run with these profiles. All of
/// them are no list.
pub(super) fn of_spec(
    spec: &RunSpec,
    name: &str,
    (words, exact): (&[String], bool),
    on: Option<&[String]>,
) -> Result<Vec<TaskId>, Failure> {
    if !words.is_empty() {
        let ids: Vec<&TaskId> = spec.tasks.iter().map(|task| &task.id.value).collect();
        return Ok(named(&ids, name, (words, exact))?
            .into_iter()
            .cloned()
            .collect());
    }
    let Some(on) = on else { return Ok(Vec::new()) };
    let mut known: Vec<&str> = profiles(spec).collect();
    known.sort_unstable();
    known.dedup();
    let selected = of_profiles(spec, on).map_err(|unknown| {
        let unknown = sanitize::line(unknown.as_bytes(), false);
        let error = anyhow::anyhow!("{name} has no profile `{unknown}`");
        let hint = match did_you_mean(&unknown, known.iter().copied()) {
            none if none.is_empty() && known.is_empty() => "its tasks have no `profiles`".into(),
            none if none.is_empty() => format!("its profiles: {}", listed(known.iter().copied())),
            near => near,
        };
        Failure::new(Exit::Usage, error).hint(hint)
    })?;
    if selected.is_empty() {
        let error = anyhow::anyhow!("no task of {name} was selected: each has `profiles`");
        let profiles = listed(known.iter().copied());
        let hint = format!("name tasks, or one of its profiles with --profile: {profiles}");
        return Err(Failure::new(Exit::NothingSelected, error).hint(hint));
    }
    Ok(selected)
}

fn unknown(tasks: &[&TaskId], whose: &str, word: &str, exact: bool) -> Failure {
    let shown = sanitize::line(word.as_bytes(), false);
    let ids = || tasks.iter().map(|id| id.as_str());
    if is_pattern(word) && !exact {
        let error = anyhow::anyhow!("no task of {whose} was selected: none matches `{shown}`");
        let hint = format!("its tasks: {}", listed(ids()));
        return Failure::new(Exit::NothingSelected, error).hint(hint);
    }
    let error = anyhow::anyhow!("{whose} has no task `{shown}`");
    Failure::new(Exit::Usage, error).hint(near(tasks, &shown))
}

/// What was meant by the name of no task.
fn near(tasks: &[&TaskId], word: &str) -> String {
    let cli = Cli::command();
    let commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    if commands.contains(&word) {
        return format!("the command comes first: agent-run {word} …");
    }
    let ids = || tasks.iter().map(|id| id.as_str());
    let of_cells = tasks.iter().filter(|id| id.is_cell()).map(|id| id.task());
    // A task is likelier than a command that is as near.
    let of_tasks = did_you_mean(word, ids().chain(of_cells));
    let of_commands = did_you_mean(word, commands.iter().copied());
    match [of_tasks, of_commands]
        .into_iter()
        .find(|near| !near.is_empty())
    {
        None => format!("its tasks: {}", listed(ids())),
        Some(near) => near,
    }
}

/// Names in a row, the first of many.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let shown: Vec<&str> = names.take(SHOWN).collect();
    format!("{}{more}", shown.join(", "))
}
