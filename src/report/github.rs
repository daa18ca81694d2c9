//! What GitHub's runner reads in a step's output: workflow commands, and how foreign text is kept
//! from being one.
//!
//! The syntax is that of `ActionCommand.cs` and `ActionCommandManager.cs` of actions/runner. The
//! runner reads standard output and standard error through two pipes and keeps no order between
//! them (`ProcessInvoker.cs`): commands, and the tokens that stop them, go to standard error only,
//! and what goes to standard output is made [`inert`].

use std::borrow::Cow;
use std::collections::HashMap;

use super::words::cause;
use crate::event::{BranchResult, RunSummary, TaskOutcome, TaskReport};
use crate::id::TaskId;
use crate::sanitize;
use crate::secrets::SecretString;

/// Values, and lines of values, that are shorter are not masked: they would tear up every output.
const SHORTEST_VALUE: usize = 6;
const SHORTEST_LINE: usize = 8;

/// Where the spec says something of a task: lines, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLines {
    /// Where it begins.
    pub task: usize,
    /// Where its memory limit is, if the spec says it.
    pub mem_limit: Option<usize>,
    /// Where its disk limit is, if the spec says it.
    pub disk_limit: Option<usize>,
    /// Where its time limit is, if the spec says it.
    pub timeout: Option<usize>,
}

/// The spec, for annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecPlaces {
    /// The file, relative to the workspace if it is in it; none where the spec is no file.
    pub file: Option<String>,
    /// Its tasks.
    pub tasks: HashMap<TaskId, TaskLines>,
}

/// Writes workflow commands, and holds them stopped while foreign text is printed.
pub(super) struct GitHub {
    places: SpecPlaces,
    /// What lets the runner read commands again, while it does not.
    token: Option<String>,
}

impl GitHub {
    pub(super) fn new(places: SpecPlaces) -> Self {
        Self {
            places,
            token: None,
        }
    }

    /// What stands before foreign text. The token is new each time: nobody can have seen it.
    pub(super) fn foreign(&mut self) -> String {
        if self.token.is_some() {
            return String::new();
        }
        let token = random();
        let text = format!("::stop-commands::{token}\n");
        self.token = Some(token);
        text
    }

    /// What ends foreign text.
    pub(super) fn own(&mut self) -> String {
        let token = self.token.take();
        token
            .map(|token| format!("::{token}::\n"))
            .unwrap_or_default()
    }

    /// Opens a group.
    pub(super) fn begin(&mut self, title: &str) -> String {
        self.own() + &command("group", &[], title)
    }

    /// Closes it.
    pub(super) fn end(&mut self) -> String {
        self.own() + &command("endgroup", &[], "")
    }

    /// One error for a task that failed, a warning where it may; nothing for others.
    pub(super) fn annotation(&mut self, title: &str, report: &TaskReport) -> String {
        let Some(what) = failure(report) else {
            return String::new();
        };
        let mut properties = Vec::new();
        let lines = self.places.tasks.get(&report.task);
        if let (Some(file), Some(lines)) = (&self.places.file, lines) {
            let ending = match &report.outcome {
                TaskOutcome::VerifyFailed { cause } => cause,
                outcome => outcome,
            };
            let limit = match ending {
                TaskOutcome::OutOfMemory => lines.mem_limit,
                TaskOutcome::OutOfDisk { .. } => lines.disk_limit,
                TaskOutcome::TimedOut => lines.timeout,
                _ => None,
            };
            properties.push(("file", file.clone()));
            properties.push(("line", limit.unwrap_or(lines.task).to_string()));
        }
        properties.push(("title", title.to_owned()));
        let what = sanitize::line(what.as_bytes(), false);
        let name = if report.allow_failure {
            "warning"
        } else {
            "error"
        };
        self.own() + &command(name, &properties, &inert(&what))
    }
}

/// Why a task counts as failed, in words that are no agent's.
fn failure(report: &TaskReport) -> Option<String> {
    match &report.outcome {
        TaskOutcome::Cancelled | TaskOutcome::Skipped { .. } => return None,
        TaskOutcome::Succeeded if report.is_good() => return None,
        TaskOutcome::Succeeded => {}
        outcome => return cause(outcome),
    }
    Some(match report.branch.as_ref().map(|branch| &branch.result) {
        Some(BranchResult::Rejected { check, .. }) => {
            format!("its work was rejected by the check `{check}`")
        }
        Some(BranchResult::Taken { branch, .. }) => format!("its branch {branch} was taken"),
        _ => "its work could not be collected".into(),
    })
}

/// Commands that make the runner mask secrets, a line of theirs each: it masks within lines only.
/// Lines that are too short to be masked by us are left out here too.
pub fn masks<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> String {
    let lines = secrets.into_iter().flat_map(|secret| {
        let several = secret.lines().nth(1).is_some();
        let shortest = if several {
            SHORTEST_LINE
        } else {
            SHORTEST_VALUE
        };
        secret.lines().filter(move |line| line.len() >= shortest)
    });
    lines.map(|line| command("add-mask", &[], line)).collect()
}

/// What a run gives to later steps, for the file `GITHUB_OUTPUT`: `run`, its id, and `branches`, a
/// JSON array of what was created.
pub fn outputs(run: &RunSummary) -> String {
    let branches = run
        .tasks
        .iter()
        .filter_map(|task| match &task.branch.as_ref()?.result {
            BranchResult::Created { branch, commit } => Some(serde_json::json!({
                "task": task.task,
                "branch": branch,
                "commit": commit,
                "passed": task.is_good(),
            })),
            _ => None,
        });
    let branches = branches.collect::<serde_json::Value>().to_string();
    let output = |name: &str, value: &str| {
        let end = random();
        format!("{name}<<{end}\n{value}\n{end}\n")
    };
    output("run", run.run.as_str()) + &output("branches", &branches)
}

/// Makes text of which the runner takes no line for a command, whatever stands in it: `##[` counts
/// anywhere in a line, `::` at its start after white space.
pub fn inert(text: &str) -> Cow<'_, str> {
    let starts = |line: &str| line.trim_start().starts_with("::");
    let is_line = |c| matches!(c, '\n' | '\r');
    if !text.contains("##[") && !text.split(is_line).any(starts) {
        return Cow::Borrowed(text);
    }
    let lines = text.split_inclusive(is_line).map(|line| {
        let line = line.replace("##[", "##\u{fffd}[");
        if starts(&line) {
            return format!("\u{fffd}{line}");
        }
        line
    });
    Cow::Owned(lines.collect())
}

/// The same for JSON, by an escape of its own: what it holds stays as it is.
pub fn inert_json(json: &str) -> String {
    json.replace("##[", "##\\u005b")
}

/// One command. The runner takes `%25`, `%0D` and `%0A` in data, `%3A` and `%2C` in properties too.
fn command(name: &str, properties: &[(&str, String)], data: &str) -> String {
    let escaped = |text: &str| {
        let text = text.replace('%', "%25").replace('\r', "%0D");
        text.replace('\n', "%0A")
    };
    let property = |(key, value): &(&str, String)| {
        let value = escaped(value).replace(':', "%3A").replace(',', "%2C");
        format!("{key}={value}")
    };
    let properties: Vec<String> = properties.iter().map(property).collect();
    let blank = if properties.is_empty() { "" } else { " " };
    format!(
        "::{name}{blank}{}::{}\n",
        properties.join(","),
        escaped(data)
    )
}

/// 128 bits that nobody can guess.
fn random() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}
