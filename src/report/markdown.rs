//! What became of a run, as Markdown: for a file, a step summary, a comment.
//!
//! Whatever an agent may have named or printed stands in code: as an inline element with every sign
//! of Markdown and HTML escaped, or in a block whose fence is longer than any in it. It can end
//! neither, and links, mentions and images in it are not followed.

use std::fmt::Write as _;

use super::egress::denied;
use super::forecast::{self, is_news};
use super::summary::{SKIPPED_PATHS_SHOWN, is_created, limit, peak, totals};
use super::words::{self, allowed, amount, attempt_verdict, cause, quoted, time, verdict, work};
use super::{Hints, Paint};
use crate::event::{BranchReport, BranchResult, RunSummary, StopReason, TaskOutcome, TaskReport};
use crate::id::task_directory;
use crate::sanitize;

/// Failures are told in full until the text is this long, in bytes: GitHub takes 1 MiB a step.
const FULL: usize = 512 * 1024;
/// The most conflicts that are told.
const CONFLICTS_SHOWN: usize = 50;
const PLAIN: Paint = Paint { color: false };

/// The summary of a run as Markdown (GitHub's and GitLab's flavour).
pub fn markdown(run: &RunSummary, hints: &Hints) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, run, hints);
    text
}

fn render(text: &mut String, run: &RunSummary, hints: &Hints) -> std::fmt::Result {
    writeln!(text, "## {}\n", totals(run))?;
    let (id, base) = (code(run.run.as_str()), code(&hints.base));
    write!(text, "Run {id} on {base} took {}", time(run.took).trim())?;
    if let Some(used) = run.agents {
        write!(text, " and its agents {}", words::used(used))?;
    }
    match run.stopped {
        Some(StopReason::Interrupted) => writeln!(text, ": **interrupted**.\n")?,
        Some(StopReason::Terminated) => writeln!(text, ": **terminated**.\n")?,
        Some(StopReason::TimedOut) => writeln!(text, ": **its time was over**.\n")?,
        Some(StopReason::JournalFailed) => {
            writeln!(text, ": **its journal could not be written**.\n")?;
        }
        None => writeln!(text, ".\n")?,
    }
    writeln!(
        text,
        "| Task | Result | Time | CPU | Peak memory | Work | Branch |"
    )?;
    writeln!(text, "|---|---|--:|--:|--:|---|---|")?;
    for task in &run.tasks {
        row(text, task, hints)?;
    }
    secrets(text, run)?;
    ports(text, run)?;
    previews(text, run, hints)?;
    let mut failed = run.tasks.iter().filter(|task| !task.is_good());
    for task in failed.by_ref() {
        failure(text, task, hints)?;
        if text.len() > FULL {
            break;
        }
    }
    let not_told = failed.count();
    if not_told > 0 {
        writeln!(
            text,
            "\nThe failures of {not_told} more tasks are in the table only."
        )?;
    }
    merging(text, run)?;
    earlier_attempts(text, run, hints)?;
    artifacts(text, run)?;
    to_look_at(text, run)
}

/// Which secrets tasks were granted.
fn secrets(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    let granted = run.tasks.iter().filter(|task| !task.secrets.is_empty());
    let granted = granted.map(|task| {
        let names: Vec<String> = task.secrets.iter().map(|name| code(name)).collect();
        format!("{} to {}", names.join(", "), code(task.task.as_str()))
    });
    let granted: Vec<String> = granted.collect();
    if granted.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nGranted secrets: {}.", granted.join("; "))
}

/// Where people reached what tasks served.
fn ports(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    let served = run.tasks.iter().filter(|task| !task.ports.is_empty());
    let served = served.map(|task| {
        let ports: Vec<String> = task.ports.iter().map(ToString::to_string).collect();
        format!("{} {}", code(task.task.as_str()), code(&ports.join(", ")))
    });
    let served: Vec<String> = served.collect();
    if served.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nPorts, while they ran: {}.", served.join("; "))
}

/// What starts results again.
fn previews(text: &mut String, run: &RunSummary, hints: &Hints) -> std::fmt::Result {
    let created = |task: &&TaskReport| task.branch.as_ref().is_some_and(is_created);
    let shown = run
        .tasks
        .iter()
        .filter(|task| hints.previews.contains(&task.task));
    let commands = shown.filter(created).map(|task| {
        let command = format!("agent-run preview {} --run {}", quoted(&task.task), run.run);
        code(&command)
    });
    let commands: Vec<String> = commands.collect();
    if commands.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nA look at results: {}.", commands.join("; "))
}

/// Which results fit together, where there is something to say.
fn merging(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    let Some(forecast) = run.forecast.as_ref().filter(|found| is_news(found)) else {
        return Ok(());
    };
    let verdict = forecast::verdict(forecast, &code(&forecast.base));
    if forecast.is_clean() {
        return writeln!(text, "\nMerging: {verdict}.");
    }
    writeln!(text, "\n### Merging\n\nOf the results {verdict}:\n")?;
    let mut conflicts = forecast::conflicts(forecast);
    for conflict in conflicts.by_ref().take(CONFLICTS_SHOWN) {
        writeln!(text, "- {}", code(&conflict))?;
    }
    match conflicts.count() {
        0 => Ok(()),
        more => writeln!(text, "- and {more} more"),
    }
}

/// The attempts before those that decided, and where their work is.
fn earlier_attempts(text: &mut String, run: &RunSummary, hints: &Hints) -> std::fmt::Result {
    let mut attempts = run
        .tasks
        .iter()
        .flat_map(|t| &t.earlier_attempts)
        .peekable();
    if attempts.peek().is_some() {
        writeln!(text, "\n### Earlier attempts\n")?;
    }
    for attempt in attempts {
        let word = attempt_verdict(PLAIN, attempt);
        let (task, time) = (code(attempt.task.as_str()), time(attempt.ran));
        let cause = cause(&attempt.outcome).unwrap_or_default();
        let limit = limit(attempt, &attempt.outcome, hints);
        write!(
            text,
            "- {task}: {} after {}: {}{limit}",
            word.trim(),
            time.trim(),
            code(&cause)
        )?;
        if let Some(report) = &attempt.branch {
            write!(text, "; work: {}", code(&work(report)))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn row(text: &mut String, task: &TaskReport, hints: &Hints) -> std::fmt::Result {
    let word = word(task);
    let word = if allowed(task).is_some() {
        format!("{word}, allowed")
    } else if task.is_good() {
        word
    } else {
        format!("**{word}**")
    };
    let cpu = task.usage.map(|usage| time(usage.cpu).trim().to_owned());
    let branch = match task.branch.as_ref().map(|report| &report.result) {
        Some(BranchResult::Created { branch, .. }) => code(branch.as_str()),
        Some(BranchResult::Taken { kept_ref, .. } | BranchResult::SetAside { kept_ref, .. }) => {
            code(kept_ref)
        }
        _ => String::new(),
    };
    let gain = match task.branch.as_ref() {
        Some(report) => match report.result {
            BranchResult::Created { .. }
            | BranchResult::Taken { .. }
            | BranchResult::SetAside { .. } => amount(report),
            BranchResult::NoChange => "no change".into(),
            BranchResult::Rejected { .. } => "rejected".into(),
            BranchResult::Kept { .. } => "kept, not collected".into(),
        },
        None => String::new(),
    };
    let agent = task
        .agent
        .as_ref()
        .map(|report| format!("; {}", code(&words::agent(report))));
    let gain = gain + &agent.unwrap_or_default();
    writeln!(
        text,
        "| {} | {word} | {} | {} | {} | {gain} | {branch} |",
        code(task.task.as_str()),
        time(task.ran).trim(),
        cpu.unwrap_or_default(),
        peak(task, hints).unwrap_or_default(),
    )
}

fn word(task: &TaskReport) -> String {
    verdict(PLAIN, task).trim().to_owned()
}

fn failure(text: &mut String, task: &TaskReport, hints: &Hints) -> std::fmt::Result {
    writeln!(text, "\n### {} {}\n", word(task), code(task.task.as_str()))?;
    if let Some(cause) = cause(&task.outcome) {
        let cause = match task.outcome {
            TaskOutcome::Infra { .. } | TaskOutcome::Skipped { .. } => code(&cause),
            _ => cause,
        };
        writeln!(text, "- {cause}{}", limit(task, &task.outcome, hints))?;
    }
    if let Some(words) = allowed(task) {
        writeln!(text, "- {words}")?;
    }
    if let Some(report) = &task.branch {
        writeln!(text, "- work: {}", code(&work(report)))?;
    }
    for log in task.logs() {
        writeln!(text, "- log: {}", code(&log.display().to_string()))?;
    }
    if !task.last_lines.is_empty() {
        writeln!(text, "\n{}", block(&task.last_lines))?;
    }
    Ok(())
}

/// What was copied, and the first of what was not.
fn artifacts(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    let mut items = String::new();
    for task in &run.tasks {
        let Some(report) = &task.artifacts else {
            continue;
        };
        let words = code(&words::artifacts(report, &run.directory));
        writeln!(items, "- {}: {words}", code(task.task.as_str()))?;
        for (path, why) in report.skipped_paths.iter().take(SKIPPED_PATHS_SHOWN) {
            writeln!(items, "  - skipped {}", code(&format!("{path}: {why}")))?;
        }
    }
    if items.is_empty() {
        return Ok(());
    }
    write!(text, "\n### Artifacts\n\n{items}")
}

/// What somebody who merges should know, whether the task went well or not.
fn to_look_at(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    let mut items = Vec::new();
    for task in &run.tasks {
        let mut add = |what: &str, words: &str| {
            let (task, words) = (code(task.task.as_str()), code(words));
            items.push(format!("- {task}: {what} {words}"));
        };
        if task.child_oom_killed {
            add("one of its processes was killed,", "out of memory");
        }
        if let Some(report) = &task.branch {
            of_branch(report, &mut add);
        }
        for place in task.attempts().filter_map(|attempt| left_in(run, attempt)) {
            add("some work is on no branch, kept in", &place);
        }
        for error in &task.teardown_errors {
            add("not removed:", error);
        }
    }
    for task in &run.egress {
        if let Some(denied) = denied(task) {
            let (task, denied) = (code(task.task.as_str()), code(&denied));
            items.push(format!("- {task}: {denied}"));
        }
    }
    for error in &run.teardown_errors {
        items.push(format!("- not removed: {}", code(error)));
    }
    if items.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n### To look at\n\n{}", items.join("\n"))
}

/// The directory with work that is on no ref, where nothing else says so.
fn left_in(run: &RunSummary, attempt: &TaskReport) -> Option<String> {
    let report = attempt.branch.as_ref()?;
    let is_untold = matches!(
        report.result,
        BranchResult::NoChange | BranchResult::Taken { .. } | BranchResult::SetAside { .. }
    );
    (report.content_left_behind && is_untold).then(|| {
        let place = task_directory(&run.directory, &attempt.task);
        place
            .join(attempt.attempt.to_string())
            .display()
            .to_string()
    })
}

fn of_branch(report: &BranchReport, add: &mut impl FnMut(&str, &str)) {
    for (path, why) in &report.risky_paths {
        add("look at", &format!("{path}: {why}"));
    }
    for (name, what) in &report.side_refs {
        add("also", &format!("{name}: {what}"));
    }
    for note in &report.notes {
        add("note:", note);
    }
}

/// Text as inline code that nothing in it can end or give a meaning to: line breaks become spaces,
/// signs become character references.
fn code(text: &str) -> String {
    let mut code = String::from("<code>");
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            code.push(' ');
        }
        for c in sanitize::line(line.as_bytes(), false).chars() {
            match c {
                '\t' => code.push(' '),
                // These mean nothing within a line.
                '/' | '-' | ',' | '+' | '(' | ')' => code.push(c),
                c if c.is_ascii_punctuation() => {
                    let _ = write!(code, "&#{};", u32::from(c));
                }
                c => code.push(c),
            }
        }
    }
    code + "</code>"
}

/// Lines as a block of code behind a fence that none of them holds.
fn block(lines: &[String]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .flat_map(|line| line.lines())
        .map(|line| sanitize::line(line.as_bytes(), false))
        .collect();
    let longest_run = |line: &String| line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let longest = lines.iter().map(longest_run).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", lines.join("\n"))
}
