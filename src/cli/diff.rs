//! `diff`: what a task's work changes, as a patch. `log`: the commits that it consists of.

use std::fmt::Write as _;

use super::args::TaskArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings::Surroundings;
use super::target::Target;
use super::work::{Work, print_patch};
use crate::git::LoggedCommit;
use crate::report::Paint;
use crate::sanitize;
use crate::secrets::MASK;

pub(super) fn diff(surroundings: &Surroundings, arguments: &TaskArgs) -> Result<Exit, Failure> {
    let (target, work) = find(surroundings, arguments)?;
    let Some(Work { base, tip, .. }) = work else {
        return Ok(Exit::Success);
    };
    let color = surroundings.result_paint.color;
    let patch = target.repository(surroundings)?.diff(&base, &tip, color)?;
    print_patch(&patch, color);
    Ok(Exit::Success)
}

pub(super) fn log(surroundings: &Surroundings, arguments: &TaskArgs) -> Result<Exit, Failure> {
    let (target, work) = find(surroundings, arguments)?;
    let Some(work) = work else {
        return Ok(Exit::Success);
    };
    let repository = target.repository(surroundings)?;
    let paint = surroundings.result_paint;
    let mut text = String::new();
    for mut commit in repository.log(&work.base, &work.tip)? {
        if work.names_secret {
            commit.files =
                b" files are not listed: one has the value of a secret in its name".to_vec();
        }
        let is_secret = work.secret_commits.contains(&commit.id);
        // Writing to a string cannot fail.
        let _ = write_commit(&mut text, &commit, is_secret, paint);
    }
    print_result(&text);
    Ok(Exit::Success)
}

fn find(
    surroundings: &Surroundings,
    arguments: &TaskArgs,
) -> Result<(Target, Option<Work>), Failure> {
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let task = target.task(&arguments.task)?;
    let work = Work::of(&target, &[&task.id])?.pop().flatten();
    Ok((target, work))
}

/// Writes a commit as git-log(1) does. What holds a secret is left out whole: the values are not known here.
fn write_commit(
    text: &mut String,
    commit: &LoggedCommit,
    is_secret: bool,
    paint: Paint,
) -> std::fmt::Result {
    if !text.is_empty() {
        writeln!(text)?;
    }
    let id = format!("commit {}", commit.id);
    writeln!(text, "{}", paint.careful(&id))?;
    let (author, message) = if is_secret {
        (MASK.as_bytes(), MASK.as_bytes())
    } else {
        (&*commit.author, commit.message.trim_ascii())
    };
    writeln!(text, "Author: {}", sanitize::line(author, false))?;
    let date = sanitize::line(&commit.date, false);
    writeln!(text, "Date:   {date}\n")?;
    for line in message.split(|byte| *byte == b'\n') {
        let line = format!("    {}", sanitize::line(line, false));
        writeln!(text, "{}", line.trim_end())?;
    }
    let files = commit.files.trim_ascii_end();
    for line in files
        .split(|byte| *byte == b'\n')
        .filter(|_| !files.is_empty())
    {
        writeln!(text, "{}", sanitize::line(line, false))?;
    }
    Ok(())
}
