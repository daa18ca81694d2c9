//! The words for outcomes, times and results. Those of cargo-nextest where it has one.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use super::Paint;
use crate::event::{
    AgentReport, AgentUsage, ArtifactsReport, BranchReport, BranchResult, Budget, TaskOutcome,
    TaskReport,
};
use crate::id::TaskId;

/// The words for how a task ended, painted: where it was tried several times, with the number of the
/// attempt that decided.
pub fn verdict(paint: Paint, report: &TaskReport) -> String {
    if report.earlier_attempts.is_empty() {
        return painted(paint, report, word(report));
    }
    attempt_verdict(paint, report)
}

/// The words for how one of several attempts ended, painted.
pub fn attempt_verdict(paint: Paint, report: &TaskReport) -> String {
    let word = match word(report) {
        // So that it fits into its column.
        "TIMEOUT" => "TMT",
        word => word,
    };
    painted(paint, report, &format!("TRY {} {word}", report.attempt))
}

/// The word for how an attempt ended.
pub(super) fn word(report: &TaskReport) -> &'static str {
    match &report.outcome {
        TaskOutcome::Succeeded if report.is_good() => "PASS",
        TaskOutcome::Succeeded => "REJECT",
        TaskOutcome::Failed { .. } | TaskOutcome::VerifyFailed { .. } => "FAIL",
        TaskOutcome::OutOfMemory => "OOM",
        TaskOutcome::OutOfDisk { .. } => "DISK",
        TaskOutcome::OutOfBudget { .. } => "BUDGET",
        TaskOutcome::TimedOut => "TIMEOUT",
        TaskOutcome::Killed { .. } => "KILLED",
        TaskOutcome::Infra { .. } => "INFRA",
        TaskOutcome::Cancelled => "CANCEL",
        TaskOutcome::Skipped { .. } => "SKIP",
    }
}

fn painted(paint: Paint, report: &TaskReport, words: &str) -> String {
    let words = padded(words);
    match report.outcome {
        _ if report.is_good() => paint.good(&words),
        TaskOutcome::Cancelled => paint.careful(&words),
        TaskOutcome::Skipped { .. } => paint.faint(&words),
        _ if report.is_allowed_failure() => paint.careful(&words),
        _ => paint.bad(&words),
    }
}

/// A word at the right of the first column.
pub fn padded(word: &str) -> String {
    format!("{word:>12}")
}

/// Why a task ended as it did, as a clause; nothing for success.
pub fn cause(outcome: &TaskOutcome) -> Option<String> {
    Some(match outcome {
        TaskOutcome::Succeeded => return None,
        TaskOutcome::Failed { exit_code } => format!("exit code {exit_code}"),
        TaskOutcome::OutOfMemory => "ran out of memory".into(),
        TaskOutcome::OutOfDisk { used_bytes } => {
            format!("used {} of disk", size(*used_bytes))
        }
        TaskOutcome::OutOfBudget { used, budget } => {
            format!("used up its budget: {}", of_budget(*used, *budget))
        }
        TaskOutcome::TimedOut => "ran past its time".into(),
        TaskOutcome::Killed { signal: 9 } => {
            "killed by signal 9, not by agent-run, and the engine reports no lack of memory".into()
        }
        TaskOutcome::Killed { signal } => format!("killed by signal {signal}"),
        TaskOutcome::VerifyFailed { cause } => verify_failed(cause),
        TaskOutcome::Cancelled => "the run was stopped".into(),
        TaskOutcome::Skipped { reason, .. } => reason.clone(),
        TaskOutcome::Infra { stage, message } => format!("{stage}: {message}"),
    })
}

/// Why a task ended as it did, with the limit that it met if one, and whether it may; nothing where it
/// went well.
pub fn ending(report: &TaskReport, limit: &str) -> Option<String> {
    let cause = cause(&report.outcome).map(|cause| format!("{cause}{limit}"));
    let parts: Vec<String> = cause.into_iter().chain(allowed(report)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// That a failure is none of the run's, if it is so.
pub(super) fn allowed(report: &TaskReport) -> Option<String> {
    let is_skipped = matches!(report.outcome, TaskOutcome::Skipped { .. });
    (report.is_allowed_failure() && !is_skipped).then(|| "allowed to fail".into())
}

/// What a shell says where it does not find a command; see POSIX.1, 2.8.2.
const NOT_FOUND: i64 = 127;

fn verify_failed(how: &TaskOutcome) -> String {
    let how_told = cause(how).unwrap_or_default();
    match how {
        TaskOutcome::Failed {
            exit_code: NOT_FOUND,
        } => {
            format!("verification failed: {how_told}, a command that it needs is not in its image")
        }
        _ => format!("verification failed: {how_told}"),
    }
}

/// That its result was verified, and how long that took; empty where it was not.
pub fn verified(report: &TaskReport) -> String {
    match &report.verify {
        Some(verify) if report.outcome == TaskOutcome::Succeeded => {
            format!(", verified in {}", time(verify.ran).trim())
        }
        _ => String::new(),
    }
}

/// What became of the work, in a line.
pub fn work(report: &BranchReport) -> String {
    match &report.result {
        BranchResult::Created { branch, .. } => format!("{branch}  {}", amount(report)),
        BranchResult::NoChange => "no change".into(),
        BranchResult::Rejected {
            check,
            detail,
            path,
        } => format!("rejected ({check}: {detail}), kept in {}", path.display()),
        BranchResult::Taken {
            branch, kept_ref, ..
        } => format!("branch {branch} was taken meanwhile, kept as {kept_ref}"),
        BranchResult::SetAside { kept_ref, .. } => format!("{kept_ref}  {}", amount(report)),
        BranchResult::Kept { path, reason } => {
            format!("not collected ({reason}), kept in {}", path.display())
        }
    }
}

/// What became of the work, in a line beside the task's name: its branch is told at the end.
pub fn gain(report: &BranchReport) -> String {
    match report.result {
        BranchResult::Created { .. } => amount(report),
        _ => work(report),
    }
}

/// How much work it is.
pub(super) fn amount(report: &BranchReport) -> String {
    let BranchReport {
        commits,
        files,
        insertions,
        deletions,
        ..
    } = report;
    format!(
        "{}, {}, +{insertions} −{deletions}",
        count(*commits, "commit"),
        count(*files, "file")
    )
}

/// What became of a task's artifacts, in a line; paths below `run` without it.
pub fn artifacts(report: &ArtifactsReport, run: &Path) -> String {
    let ArtifactsReport {
        directory,
        files,
        bytes,
        skipped,
        incomplete,
        ..
    } = report;
    let mut words = "no files".to_owned();
    if *files > 0 {
        let place = directory.strip_prefix(run).unwrap_or(directory);
        let files = count(*files, "file");
        words = format!("{files}, {} in {}", size(*bytes), place.display());
    }
    if *skipped > 0 {
        words.push_str(&format!("; {skipped} skipped"));
    }
    if let Some(why) = incomplete {
        words.push_str(&format!("; incomplete: {why}"));
    }
    words
}

/// How the tasks of a run ended, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    passed: usize,
    /// Of those, what did not pass at the first attempt.
    flaky: usize,
    failed: usize,
    /// Those that failed and may.
    allowed: usize,
    cancelled: usize,
    skipped: usize,
}

impl Totals {
    /// Counts one more.
    pub fn add(&mut self, report: &TaskReport) {
        let number = match report.outcome {
            _ if report.is_good() => &mut self.passed,
            TaskOutcome::Cancelled => &mut self.cancelled,
            TaskOutcome::Skipped { .. } => &mut self.skipped,
            _ if report.is_allowed_failure() => &mut self.allowed,
            _ => &mut self.failed,
        };
        *number += 1;
        self.flaky += usize::from(report.is_good() && !report.earlier_attempts.is_empty());
    }

    /// How many have ended.
    pub fn number(self) -> usize {
        self.passed + self.failed + self.allowed + self.cancelled + self.skipped
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed", self.passed)?;
        if self.flaky > 0 {
            write!(f, " ({} flaky)", self.flaky)?;
        }
        for (number, word) in [
            (self.failed, "failed"),
            (self.allowed, "failed (allowed)"),
            (self.cancelled, "cancelled"),
            (self.skipped, "skipped"),
        ] {
            if number > 0 {
                write!(f, ", {number} {word}")?;
            }
        }
        Ok(())
    }
}

/// A task's id as a shell takes it for one word.
pub fn quoted(task: &TaskId) -> Cow<'_, str> {
    shell_words::quote(task.as_str())
}

/// What agents used, in words; empty where no client has told anything.
pub fn used(used: AgentUsage) -> String {
    let turns = used.turns.map(|turns| count(turns, "turn"));
    let tokens = used.tokens.map(|tokens| count(tokens, "token"));
    let cost = used.micro_usd.filter(|micro| *micro > 0).map(usd);
    let parts: Vec<String> = [turns, tokens, cost].into_iter().flatten().collect();
    parts.join(", ")
}

/// Millionths of a US dollar; four digits say enough of it.
pub fn usd(micro: u64) -> String {
    let hundredths = micro.saturating_add(50) / 100;
    format!("${}.{:04}", hundredths / 10_000, hundredths % 10_000)
}

/// What was used of a budget.
fn of_budget(used: AgentUsage, budget: Budget) -> String {
    let tokens = budget.tokens.map(|most| {
        let used = used.tokens.unwrap_or_default();
        format!("{used} of {}", count(most, "token"))
    });
    let cost = budget.micro_usd.map(|most| {
        let used = used.micro_usd.unwrap_or_default();
        format!("{} of {}", usd(used), usd(most))
    });
    let parts: Vec<String> = tokens.into_iter().chain(cost).collect();
    parts.join(", ")
}

/// A task's agent and what it used.
pub fn agent(report: &AgentReport) -> String {
    let version = report.version.iter().map(|version| format!(" {version}"));
    let used = Some(used(report.used)).filter(|used| !used.is_empty());
    let used = used.map(|used| format!(": {used}"));
    [report.name.clone()]
        .into_iter()
        .chain(version)
        .chain(used)
        .collect()
}

/// A number and its noun.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A size in at most five columns, 1024-based as in a spec.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u32, char); 3] = [(30, 'g'), (20, 'm'), (10, 'k')];
    for (shift, unit) in UNITS {
        let tenths = (u128::from(bytes) * 10) >> shift;
        match tenths {
            0..10 => {}
            10..100 if tenths % 10 > 0 => return format!("{}.{}{unit}", tenths / 10, tenths % 10),
            _ => return format!("{}{unit}", tenths / 10),
        }
    }
    format!("{bytes}b")
}

/// How long ago something was, in its largest unit.
pub fn since(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

/// A duration in seven columns.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let text = match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    };
    format!("{text:>7}")
}

/// A duration that is still growing, in seven columns.
pub(super) fn ticking(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{:>7}", format!("{seconds}s")),
        _ => time(duration),
    }
}

/// A time limit, as a spec would write it.
pub fn limit(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if duration.subsec_millis() > 0 || text.is_empty() {
        return format!("{}ms", duration.as_millis());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_too_large() {
        let sizes = [
            0,
            1023,
            1024,
            1536,
            10 << 10,
            (1 << 20) - 1,
            123 << 20,
            5 << 40,
        ];
        let shown = ["0b", "1023b", "1k", "1.5k", "10k", "1023k", "123m", "5120g"];
        assert_eq!(sizes.map(size), shown);
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400, 864_000];
        let ages = ages.map(|seconds| since(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "10d"]);
    }
}
