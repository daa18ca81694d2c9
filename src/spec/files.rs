//! Reads the files that a spec names. The one place of `spec` that touches the disk.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::Context;
use super::diagnostic::{Diagnostic, Diagnostics, shown};
use super::merge::{is_own, is_variable_name};
use super::model::{BuildContext, Prompt, RunSpec, TaskSpec};
use super::services::read_file;
use super::source::{SpecError, read_text};
use crate::secrets::SecretString;

/// Puts the text of `prompt` files and the variables of `env_file`s into the tasks, and checks
/// that what `build` names is there; reads compose files. Problems are placed where the spec names the
/// file, those of a compose file in it.
pub fn read_files(spec: &mut RunSpec, context: &Context<'_>) -> Result<(), Diagnostics> {
    let mut problems = Vec::new();
    for task in &mut spec.tasks {
        read_prompt(task, &mut problems);
        read_env_files(task, &mut problems);
        check_build(task, &mut problems);
    }
    Diagnostics::check(&spec.source, problems)?;
    for task in &mut spec.tasks {
        if let Some(file) = &task.services.file {
            let has_egress = task.egress.is_some();
            task.services.list = read_file(&spec.source, context, file, has_egress)?;
        }
    }
    Ok(())
}

fn read_prompt(task: &mut TaskSpec, problems: &mut Vec<Diagnostic>) {
    let Some(Prompt::File(path)) = &task.prompt else {
        return;
    };
    match read_text(&path.value) {
        Ok(text) if text.trim().is_empty() => {
            let title = format!("the prompt {} is empty", path.value.display());
            problems.push(Diagnostic::new(path.span, title, ""));
        }
        Ok(text) => task.prompt = Some(Prompt::Text(text)),
        Err(error) => problems.push(Diagnostic::new(path.span, error.to_string(), "")),
    }
}

fn read_env_files(task: &mut TaskSpec, problems: &mut Vec<Diagnostic>) {
    let mut variables = BTreeMap::new();
    for file in &task.env_file {
        let span = file.path.span;
        let text = match read_text(&file.path.value) {
            Ok(text) => text,
            Err(error) if !file.required && is_absent(&error) => continue,
            Err(error) => {
                let hint = if is_absent(&error) {
                    "write `required: false` if it may be missing"
                } else {
                    ""
                };
                problems.push(Diagnostic::new(span, error.to_string(), hint));
                continue;
            }
        };
        for (number, line) in text.lines().enumerate() {
            match variable(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    variables.insert(name.to_owned(), SecretString::new(value.to_owned()));
                }
                // The line itself may be a secret.
                Err(Malformed) => {
                    let path = shown(&file.path.value.display().to_string());
                    let title = format!("line {} of {path} is not `KEY=value`", number + 1);
                    problems.push(Diagnostic::new(span, title, ""));
                }
            }
        }
    }
    // A file for other programs too may hold names of ours; ours stand.
    variables.retain(|name, _| !is_own(name));
    for (name, value) in variables {
        task.environment.entry(name).or_insert(value);
    }
}

fn is_absent(error: &SpecError) -> bool {
    matches!(error, SpecError::Unreadable { source, .. } if source.kind() == ErrorKind::NotFound)
}

struct Malformed;

/// The variable of a line; none in a blank line or a comment. One pair of quotes is removed.
fn variable(line: &str) -> Result<Option<(&str, &str)>, Malformed> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(Malformed)?;
    let (name, value) = (name.trim(), value.trim());
    if !is_variable_name(name) || value.contains('\0') {
        return Err(Malformed);
    }
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Ok(Some((
        name,
        quoted('"').or_else(|| quoted('\'')).unwrap_or(value),
    )))
}

fn check_build(task: &TaskSpec, problems: &mut Vec<Diagnostic>) {
    let Some(build) = &task.build else {
        return;
    };
    let BuildContext::Directory(place) = &build.context else {
        return;
    };
    let context: &Path = &place.value;
    if !context.is_dir() {
        let title = format!("the build context {} is not a directory", context.display());
        problems.push(Diagnostic::new(place.span, title, ""));
    } else if !context.join(&build.dockerfile.value).is_file() {
        let name = shown(&build.dockerfile.value);
        let title = format!("there is no {name} in {}", context.display());
        let hint = "`dockerfile` names it, relative to `context`";
        problems.push(Diagnostic::new(build.dockerfile.span, title, hint));
    }
}
