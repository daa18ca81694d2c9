//! How `plan` shows which task waits for which: as text, and as a flowchart of Mermaid.

use std::fmt::Write as _;

use crate::id::TaskId;
use crate::plan::{RunPlan, TaskPlan};

/// The most tasks of a line.
const SHOWN: usize = 12;

/// The order and the levels, where tasks need others.
pub(super) fn write_order(text: &mut String, plan: &RunPlan) -> std::fmt::Result {
    let order = &plan.order;
    if order.levels.len() < 2 {
        return Ok(());
    }
    let (levels, widest) = (order.levels.len(), order.widest());
    writeln!(text, "levels      {levels}, the widest of {widest}")?;
    for (number, level) in (1..).zip(&order.levels) {
        writeln!(text, "  {number:<9} {}", some(level))?;
    }
    writeln!(text, "order       {}", some(&order.order))
}

/// What a task waits for, and where it starts.
pub(super) fn write_needs(text: &mut String, task: &TaskPlan) -> std::fmt::Result {
    if task.needs.is_empty() {
        return Ok(());
    }
    writeln!(text, "  needs     {}", some(&task.needs))?;
    match &task.starts_from[..] {
        [] => writeln!(text, "  starts    from the base of the run"),
        [one] => writeln!(text, "  starts    from the result of {one}"),
        many => writeln!(
            text,
            "  starts    from the results of {}, merged",
            some(many)
        ),
    }
}

/// The CPUs that running tasks ask for at most, in billionths.
pub(super) fn most_cpus(plan: &RunPlan) -> i64 {
    most(plan, |task| task.limits.nano_cpus)
}

/// The memory that running tasks are promised at most, in bytes.
pub(super) fn most_memory(plan: &RunPlan) -> i64 {
    most(plan, TaskPlan::memory).min(plan.memory)
}

/// The sum of the largest of as many tasks as run at once.
fn most(plan: &RunPlan, of: impl Fn(&TaskPlan) -> i64) -> i64 {
    let mut all: Vec<i64> = plan.tasks.iter().map(of).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let largest = all.iter().take(plan.parallel);
    largest.fold(0, |sum, one| sum.saturating_add(*one))
}

fn some(tasks: &[TaskId]) -> String {
    let shown = tasks.len().min(SHOWN);
    let names: Vec<&str> = tasks[..shown].iter().map(TaskId::as_str).collect();
    match tasks.len() - shown {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The graph as a flowchart: a solid arrow leads to a task that starts from that result, a dotted one
/// to a task that only waits for it.
pub(super) fn mermaid(tasks: &[TaskPlan]) -> String {
    let mut text = String::from("flowchart TD\n");
    let place = |id: &TaskId| tasks.iter().position(|task| task.id == *id);
    let mut arrows = String::new();
    for (at, task) in tasks.iter().enumerate() {
        let label = escaped(task.id.as_str());
        let may = if task.allow_failure {
            "<br>may fail"
        } else {
            ""
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    t{at}[\"{label}{may}\"]");
        for (id, need) in task.needs.iter().filter_map(|id| Some((id, place(id)?))) {
            let arrow = if task.starts_from.contains(id) {
                "-->"
            } else {
                "-.->"
            };
            let _ = writeln!(arrows, "    t{need} {arrow} t{at}");
        }
    }
    text + &arrows
}

/// A text that Mermaid shows as it is, within double quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_alphanumeric() || matches!(character, '.' | '_' | '-' | ' ' | ',' | '/') {
            escaped.push(character);
        } else {
            let _ = write!(escaped, "#{};", u32::from(character));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_is_read_by_mermaid() {
        assert_eq!(escaped("fix-login_2.b"), "fix-login_2.b");
        assert_eq!(escaped("review[m=\"a\"]"), "review#91;m#61;#34;a#34;#93;");
        assert_eq!(escaped("<br>;#35;"), "#60;br#62;#59;#35;35#59;");
    }
}
