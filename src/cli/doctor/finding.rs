//! What a check found, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::trust::Trust;
use crate::report::{Paint, count};

/// Columns before a finding's words: its verdict and what was looked at.
const INDENT: usize = 25;
/// The fewest columns that words are wrapped to.
const NARROW: usize = 30;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// agent-run can run, and somebody should know.
    Warn,
    /// agent-run cannot run.
    Fail,
    /// It could not be looked at.
    Skip,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: String,
    verdict: Verdict,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// Where more is said of it; for machines only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, check: &str, message: String) -> Self {
        Self {
            check: check.to_owned(),
            verdict,
            message,
            details: Vec::new(),
            sources: Vec::new(),
            fix: None,
        }
    }

    pub(super) fn ok(check: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, check, message.into())
    }

    pub(super) fn warn(check: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, check, message.into())
    }

    pub(super) fn fail(check: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, check, message.into())
    }

    pub(super) fn skip(check: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Skip, check, message.into())
    }

    /// The same as a warning.
    pub(super) fn only_a_warning(mut self) -> Self {
        self.verdict = Verdict::Warn;
        self
    }

    /// The same with a line for each of these.
    pub(super) fn details(mut self, details: impl Iterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// The same with where more is said.
    pub(super) fn sources(mut self, sources: impl Iterator<Item = String>) -> Self {
        self.sources.extend(sources);
        self
    }

    /// The same with what to do.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// All findings, for machines.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    version: u32,
    agent_run: &'static str,
    usable: bool,
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'a Trust>,
}

impl<'a> Report<'a> {
    pub(super) fn new(findings: &'a [Finding], trust: Option<&'a Trust>) -> Self {
        Self {
            version: 1,
            agent_run: env!("CARGO_PKG_VERSION"),
            usable: usable(findings),
            findings,
            trust,
        }
    }
}

/// Whether agent-run can run.
pub(super) fn usable(findings: &[Finding]) -> bool {
    findings.iter().all(|found| found.verdict != Verdict::Fail)
}

/// A line for each finding, wrapped to `columns` if there are any, and what they come to.
pub(super) fn text(findings: &[Finding], columns: Option<usize>, paint: Paint) -> String {
    let width = columns.map_or(usize::MAX, |columns| {
        columns.saturating_sub(INDENT).max(NARROW)
    });
    let mut text = String::new();
    // Writing to a string cannot fail.
    for found in findings {
        let word = match found.verdict {
            Verdict::Ok => paint.good("  ok"),
            Verdict::Warn => paint.careful("warn"),
            Verdict::Fail => paint.bad("fail"),
            Verdict::Skip => paint.faint("skip"),
        };
        let mut lines = wrapped(&found.message, width).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(text, "  {word}  {:<16} {first}", found.check);
        let details = found.details.iter().flat_map(|line| {
            let lines = wrapped(line, width.saturating_sub(2))
                .into_iter()
                .enumerate();
            lines.map(|(n, line)| format!("{}{line}", if n == 0 { "- " } else { "  " }))
        });
        let fix = found
            .fix
            .iter()
            .flat_map(|fix| wrapped(&format!("fix: {fix}"), width));
        for line in lines.chain(details).chain(fix) {
            let _ = writeln!(text, "{:INDENT$}{line}", "");
        }
    }
    let number = |verdict| findings.iter().filter(|f| f.verdict == verdict).count() as u64;
    let (failed, warned) = (number(Verdict::Fail), number(Verdict::Warn));
    let end = if failed > 0 {
        paint.bad("agent-run cannot run here")
    } else {
        paint.good("agent-run can run here")
    };
    let mut counts = Vec::new();
    if failed > 0 {
        counts.push(count(failed, "problem"));
    }
    if warned > 0 {
        counts.push(count(warned, "warning"));
    }
    let counts = if counts.is_empty() {
        String::new()
    } else {
        format!(": {}", counts.join(", "))
    };
    let _ = writeln!(text, "\n{end}{counts}");
    text
}

/// Breaks at blanks; a word that is longer than a line keeps its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let taken = console::measure_text_width(line);
        if taken == 0 {
            line.push_str(word);
        } else if taken + 1 + console::measure_text_width(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_what_they_come_to_is_said() {
        let findings = [
            Finding::ok("git", "2.39"),
            Finding::warn("disk", "word ".repeat(12)).fix("do this"),
            Finding::fail("engine", "no").details(["a".to_owned()].into_iter()),
        ];
        let plain = Paint { color: false };
        let text = text(&findings, Some(60), plain);
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert!(
            text.starts_with("    ok  git              2.39\n  warn  disk "),
            "{text}"
        );
        assert!(
            text.ends_with("\nagent-run cannot run here: 1 problem, 1 warning\n"),
            "{text}"
        );
        assert!(!usable(&findings) && usable(&findings[..2]));
    }
}
