//! How many events a second reach a file: `cargo bench --bench events -- FILE`, as `make bench` does.
#![expect(
    clippy::disallowed_macros,
    reason = "a benchmark prints what it measured"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use agent_run::event::{Event, EventKind, TaskPhase, Usage};
use agent_run::report::EventLog;

const EVENTS: u64 = 500_000;

fn main() {
    let file = std::env::args().nth(1).expect("the file to write");
    let mut log = EventLog::default();
    log.open(Path::new(&file)).expect("a file to write");
    let usage = Usage {
        after: Duration::from_millis(61_003),
        cpu: Duration::from_millis(40_417),
        memory: 400 << 20,
        peak_memory: 600 << 20,
        received: 123_456_789,
        sent: 1_234_567,
    };
    let began = Instant::now();
    for seq in 0..EVENTS {
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
            task: Some("fix-login".parse().expect("a task")),
            kind,
        };
        assert!(log.write(&event).is_empty(), "the file can be written");
    }
    let rate = u128::from(EVENTS) * 1000 / began.elapsed().as_millis().max(1);
    println!("{rate}");
}
