//! How many events a second reach a file.

use std::time::{Duration, Instant};

use agent_run::event::{Event, EventKind, TaskPhase, Usage};
use agent_run::report::EventLog;
use anyhow::{Result, ensure};

use crate::rows::{Goal, Row, median};
use crate::scene::Scene;

const EVENTS: u32 = 500_000;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let rates: Vec<f64> = (0..rounds).map(|_| rate(scene)).collect::<Result<_>>()?;
    Ok(vec![Row {
        what: "events to a file".into(),
        against: "–".into(),
        goal: Goal::AtLeast(200_000.0),
        measured: median(rates),
        unit: " a second",
        detail: String::new(),
    }])
}

fn rate(scene: &Scene) -> Result<f64> {
    let mut log = EventLog::default();
    log.open(&scene.path("events.ndjson"))?;
    let usage = Usage {
        after: Duration::from_millis(61_003),
        cpu: Duration::from_millis(40_417),
        memory: 400 << 20,
        peak_memory: 600 << 20,
        received: 123_456_789,
        sent: 1_234_567,
    };
    let began = Instant::now();
    for seq in 0..u64::from(EVENTS) {
        let kind = if seq % 4 == 0 {
            let phase = TaskPhase::Running;
            EventKind::Phase { phase }
        } else {
            EventKind::Usage { usage }
        };
        let event = Event {
            seq,
            at: "2026-11-20T13:51:07.112Z".into(),
            elapsed_ms: seq,
            task: Some("fix-login".parse()?),
            kind,
        };
        ensure!(log.write(&event).is_empty(), "the file cannot be written");
    }
    Ok(f64::from(EVENTS) / began.elapsed().as_secs_f64())
}
