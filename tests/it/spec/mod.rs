//! Specs: what they mean, and every error as people see it.

mod agents;
mod bounds;
mod errors;
mod files;
mod interpolation;
mod matrix;
mod meaning;
mod reference;
mod resolved;
mod retry;
mod schema;
mod services;
mod units;
mod verify;

use std::path::Path;

use agent_run::id::RunId;
use agent_run::spec::{Context, Diagnostics, RunSpec, SourceFile, parse};

pub const RUN: &str = "251120-131500-abcd";

/// The environment of all spec tests.
pub fn environment(name: &str) -> Option<String> {
    let value = match name {
        "SET" => "value",
        "EMPTY" => "",
        "TOKEN" => "hunter2-very-secret",
        "TRICKY" => "a: [b\n- c",
        "TWO" => "two words",
        _ => return None,
    };
    Some(value.to_owned())
}

pub fn read(text: &str) -> Result<RunSpec, Diagnostics> {
    read_in(text, Path::new("/project"))
}

pub fn read_in(text: &str, directory: &Path) -> Result<RunSpec, Diagnostics> {
    let source = SourceFile::new("agent-run.yaml", text.to_owned());
    in_context(directory, |context| parse(&source, context))
}

/// What all spec tests read in.
pub fn in_context<T>(directory: &Path, act: impl FnOnce(&Context<'_>) -> T) -> T {
    let run: RunId = RUN.parse().expect("a run id");
    act(&Context {
        run: &run,
        directory,
        environment: &environment,
    })
}

/// A spec that must be right.
pub fn good(text: &str) -> RunSpec {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The message of a spec that must be wrong.
pub fn bad(text: &str) -> String {
    match read(text) {
        Ok(spec) => panic!("accepted: {spec:#?}"),
        Err(problems) => problems.to_string(),
    }
}

/// The message of a task with these lines.
pub fn bad_task(lines: &str) -> String {
    bad(&with_task(lines))
}

/// A spec of one task `t` with these lines beside `run`.
pub fn with_task(lines: &str) -> String {
    let mut text = "version: 1\ntasks:\n  t:\n".to_owned();
    for line in lines.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    let works = ["run:", "command:", "agent:"];
    let is_work = |line: &str| works.iter().any(|work| line.starts_with(work));
    if !lines.lines().any(is_work) {
        text.push_str("    run: make\n");
    }
    text
}
