//! A run that has ended, as the reports of it are tested with.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use agent_run::event::{RunSummary, TaskReport, Usage};
use agent_run::report::{Hints, Limit, Limits};

/// What a task of it used.
pub fn usage() -> Usage {
    Usage {
        cpu: Duration::from_millis(1500),
        peak_memory: 1700 << 20,
        ..Usage::default()
    }
}

/// The run.
pub fn run(tasks: Vec<TaskReport>) -> RunSummary {
    RunSummary {
        run: "261120-101500-abcd".parse().unwrap(),
        tasks,
        stopped: None,
        took: Duration::from_secs(3700),
        agents: None,
        egress: Vec::new(),
        forecast: None,
        teardown_errors: Vec::new(),
        directory: "/state/runs/261120-101500-abcd".into(),
    }
}

/// Its hints: every task has its limits from two lines of the spec.
pub fn hints(run: &RunSummary) -> Hints {
    let limit = |value: &str, line: u32| Limit {
        value: value.into(),
        place: Some(format!("agent-run.yaml:{line}")),
    };
    let limits = Limits {
        mem_limit: limit("2g", 3),
        disk_limit: limit("10g", 5),
        timeout: limit("1h", 4),
        verify_timeout: None,
        slow_after: "30m".into(),
    };
    let limits = run.tasks.iter().map(|t| (t.task.clone(), limits.clone()));
    Hints {
        base: "main".into(),
        limits: limits.collect::<HashMap<_, _>>(),
        previews: HashSet::new(),
    }
}
