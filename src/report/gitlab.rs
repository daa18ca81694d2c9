//! Sections that GitLab's log view folds: <https://docs.gitlab.com/ci/jobs/job_logs/>.
//!
//! A marker ends with a carriage return and an escape sequence that the sanitiser lets nobody else
//! print, so an agent can neither open nor close a section.

use super::Paint;
use crate::event::TaskReport;

/// Opens a task's section, folded if it went well. `now` is in seconds since 1970; GitLab shows the
/// time between start and end, so the start lies in the past.
pub(super) fn begin(title: &str, report: &TaskReport, now: u64, paint: Paint) -> String {
    let start = now.saturating_sub(report.ran.as_secs());
    let folded = report.is_good();
    let title = if folded {
        paint.good(title)
    } else {
        paint.bad(title)
    };
    let name = name(report);
    format!("\u{1b}[0Ksection_start:{start}:{name}[collapsed={folded}]\r\u{1b}[0K{title}\n")
}

/// Closes it.
pub(super) fn end(report: &TaskReport, now: u64) -> String {
    format!("\u{1b}[0Ksection_end:{now}:{}\r\u{1b}[0K\n", name(report))
}

/// No other attempt's: the names of tasks have no capitals.
fn name(report: &TaskReport) -> String {
    match report.attempt {
        0 | 1 => format!("agent_run_{}", report.task.word()),
        number => format!("agent_run_{}_TRY{number}", report.task.word()),
    }
}
