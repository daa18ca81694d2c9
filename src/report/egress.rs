//! What tasks with an allow-list asked for: as a line of a summary, and as a list to paste into a spec.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::words::count;
use crate::event::{HostUse, RunSummary, TaskEgress};
use crate::id::HostPattern;

/// The most refused hosts that a summary names for a task.
const SHOWN: usize = 5;
/// The ports of a host that is named without one.
const WEB: &[u16] = &[80, 443];

/// What of a task was refused, in words; nothing where nothing was.
pub(super) fn denied(task: &TaskEgress) -> Option<String> {
    let denied: Vec<&HostUse> = task.hosts.iter().filter(|host| host.denied > 0).collect();
    let named = denied.iter().take(SHOWN).map(|used| {
        let times = if used.denied > 1 {
            format!(" ({} times)", used.denied)
        } else {
            String::new()
        };
        format!("{}:{}{times}", used.host, used.port)
    });
    let mut named: Vec<String> = named.collect();
    let more = denied.len().saturating_sub(SHOWN) as u64;
    if more > 0 {
        named.push(format!("{} more", count(more, "host")));
    }
    (!named.is_empty()).then(|| format!("egress denied {}", named.join(", ")))
}

/// What was used, as a list to paste into a spec; what was refused stands beside it, as comments.
pub fn egress(run: &RunSummary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, run);
    text
}

fn render(text: &mut String, run: &RunSummary) -> std::fmt::Result {
    if run.egress.is_empty() {
        return writeln!(
            text,
            "# run {}: no task with `egress` has asked for any host",
            run.run
        );
    }
    writeln!(
        text,
        "# run {}: the hosts that tasks with `egress` asked for",
        run.run
    )?;
    writeln!(text, "tasks:")?;
    for task in &run.egress {
        let allowed = patterns(task, |used| used.passed > 0);
        let denied = patterns(task, |used| used.passed == 0);
        writeln!(text, "  {}:\n    egress:", task.task)?;
        if allowed.is_empty() {
            writeln!(text, "      allow: []")?;
        } else {
            writeln!(text, "      allow:")?;
        }
        for pattern in allowed {
            writeln!(text, "        - {pattern}")?;
        }
        for pattern in denied {
            writeln!(text, "        # - {pattern}  # refused")?;
        }
        let is_odd = |used: &&HostUse| pattern(used).is_none();
        let odd: u64 = task
            .hosts
            .iter()
            .filter(is_odd)
            .map(|used| used.denied)
            .sum();
        if odd > 0 {
            let odd = count(odd, "request");
            writeln!(
                text,
                "        # and {odd} for what is no host by name, refused"
            )?;
        }
        if task.others > 0 {
            let others = count(task.others, "request");
            writeln!(text, "        # and {others} for hosts beyond these")?;
        }
    }
    Ok(())
}

/// Such hosts as an allow-list names them.
fn patterns(task: &TaskEgress, which: impl Fn(&HostUse) -> bool) -> BTreeSet<String> {
    let hosts = task.hosts.iter().filter(|used| which(used));
    hosts.filter_map(pattern).collect()
}

fn pattern(used: &HostUse) -> Option<String> {
    let text = if WEB.contains(&used.port) {
        used.host.clone()
    } else {
        format!("{}:{}", used.host, used.port)
    };
    let pattern: HostPattern = text.parse().ok()?;
    Some(pattern.to_string())
}
