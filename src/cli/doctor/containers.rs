//! What throw-away containers found, as findings.

use super::finding::Finding;
use super::{ENGINE_FIX, POOL_FIX, firewall, line};
use crate::cli::error::hint_of;
use crate::id::RunId;
use crate::runner::{Examination, ExamineError, Internet, Pool, Reach};

/// One finding for each thing that was tried.
pub(super) fn findings(found: &Examination, run: &RunId, pool: Pool) -> Vec<Finding> {
    let mut findings = vec![mounts(&found.bind_mounts), limits(&found.limits)];
    if found.bind_mounts.is_ok() {
        findings.insert(1, views(&found.views));
    }
    match &found.reach {
        Ok(reach) => findings.extend(reached(*reach, pool)),
        Err(error) => findings.push(failed("task network", error)),
    }
    if !found.left.is_empty() {
        findings.push(
            Finding::warn(
                "left behind",
                "not everything made for these checks is gone",
            )
            .details(found.left.iter().map(|left| line(left)))
            .fix(format!("agent-run clean --run {run}")),
        );
    }
    findings
}

fn mounts(proof: &Result<(), ExamineError>) -> Finding {
    let check = "bind mounts";
    match proof {
        Ok(()) => Finding::ok(
            check,
            "directories arrive in containers, and what they write here",
        ),
        Err(error) => failed(check, error),
    }
}

/// That worktrees are checkouts costs time and nothing else.
fn views(found: &Result<(), String>) -> Finding {
    let check = "worktree views";
    match found {
        Ok(()) => Finding::ok(
            check,
            "worktrees of one base can share their unchanged files",
        ),
        Err(why) => Finding::ok(check, "each worktree is a checkout of its own")
            .details([line(why)].into_iter()),
    }
}

/// As a run would fail, with its hint.
fn failed(check: &str, error: &ExamineError) -> Finding {
    let found = Finding::fail(check, line(&error.to_string()));
    match error {
        ExamineError::Run(error) => found.fix(hint_of(error)),
        ExamineError::PoolTaken => found.fix(POOL_FIX),
        ExamineError::Container(_) | ExamineError::Stopped => found.fix(ENGINE_FIX),
    }
}

fn limits(read: &Result<Vec<(&'static str, bool)>, ExamineError>) -> Finding {
    let check = "limits";
    let read = match read {
        Ok(read) => read,
        Err(error) => return failed(check, error),
    };
    let names = |wanted: bool| -> Vec<&str> {
        let of_kind = read.iter().filter(|(_, holds)| *holds == wanted);
        of_kind.map(|(key, _)| *key).collect()
    };
    let (hold, missing) = (names(true).join(", "), names(false));
    if missing.is_empty() {
        return Finding::ok(check, format!("{hold} hold, as a container reads them"));
    }
    let missing = missing.join(", ");
    Finding::warn(check, format!("a container does not see {missing} in force"))
        .fix("with a rootless engine delegate the cgroup controllers to its user, else enable them in the kernel")
}

fn reached(reach: Reach, pool: Pool) -> Vec<Finding> {
    let isolation = if reach.peer {
        Finding::fail("isolation", "one task can connect to another")
            .fix("let the engine manage the firewall (\"iptables\": true in daemon.json), and restart it")
    } else {
        Finding::ok("isolation", "a task cannot connect to another")
    };
    let internet = match reach.internet {
        Internet::Reached => Finding::ok("internet", "tasks reach it, by name"),
        Internet::NoConnections => {
            Finding::warn("internet", "tasks look up names but connect to nothing").fix(
                "let the engine's host forward: sysctl net.ipv4.ip_forward=1, and its firewall",
            )
        }
        Internet::NoNames => Finding::warn(
            "internet",
            "tasks cannot look up names: no agent reaches its model",
        )
        .fix("check the DNS of the engine's host, and `dns` in the engine's daemon.json"),
    };
    let metadata = if reach.metadata {
        Finding::warn(
            "metadata",
            "tasks reach 169.254.169.254, and with it this machine's cloud identity",
        )
        .fix(closing(pool))
    } else {
        Finding::ok("metadata", "no cloud metadata service answers tasks")
    };
    let host = match reach.host {
        Some(true) => Finding::warn(
            "host",
            "tasks reach what listens on all addresses of this machine",
        )
        .fix(closing(pool)),
        Some(false) => Finding::ok("host", "tasks do not reach what listens on this machine"),
        None => Finding::skip("host", "the engine's machine is another one"),
    };
    vec![isolation, internet, metadata, host]
}

/// What keeps tasks from where they should not get.
fn closing(pool: Pool) -> String {
    let command = firewall::command(pool);
    format!("run what `{command}` prints, or give tasks `egress` or `network_mode: none`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(reach: Reach) -> String {
        let found = reached(reach, Pool::default());
        super::super::finding::text(&found, None, crate::report::Paint { color: false })
    }

    #[test]
    fn a_task_that_reaches_another_makes_the_engine_unusable() {
        let apart = Reach {
            internet: Internet::Reached,
            metadata: false,
            host: Some(false),
            peer: false,
        };
        let text = verdicts(apart);
        assert!(text.ends_with("\nagent-run can run here\n"), "{text}");
        let text = verdicts(Reach {
            peer: true,
            ..apart
        });
        assert!(
            text.contains("fail  isolation") && text.contains("iptables"),
            "{text}"
        );
        let open = Reach {
            internet: Internet::NoConnections,
            metadata: true,
            host: Some(true),
            peer: false,
        };
        let text = verdicts(open);
        assert!(
            text.ends_with("\nagent-run can run here: 3 warnings\n"),
            "{text}"
        );
        assert!(
            text.contains("fix: run what `agent-run doctor --firewall` prints"),
            "{text}"
        );
    }

    #[test]
    fn limits_that_are_not_in_force_are_named() {
        let found = limits(&Ok(vec![("mem_limit", true), ("cpus", false)]));
        let text =
            super::super::finding::text(&[found], None, crate::report::Paint { color: false });
        assert!(
            text.contains("warn  limits") && text.contains("does not see cpus"),
            "{text}"
        );
    }
}
