//! What a run writes down: before it acts, before a result counts, and on a disk that is full.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::Operation;
use agent_run::event::{Event, EventKind, StopReason, TaskOutcome, TaskPhase};
use agent_run::journal::FoundRun;

use super::scene::{Scene, Seen, nothing_changed, report};
use crate::fake::Script;
use crate::records::Small;

const ONE: &str = "version: 1\ntasks:\n  a: { run: x }\n";

fn journal(scene: &Scene) -> Vec<Event> {
    let found = FoundRun::of(&scene.state(), &scene.run).unwrap();
    found.journal().read().unwrap()
}

fn phases(events: &[Event]) -> Vec<TaskPhase> {
    let phase = |event: &Event| match event.kind {
        EventKind::Phase { phase } => Some(phase),
        _ => None,
    };
    events.iter().filter_map(phase).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_what_the_journal_has() {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(0));
    let mut seen = Seen::default();
    let summary = scene.observed(ONE, &mut seen).await.unwrap();
    assert_eq!(journal(&scene), seen.events);
    let seqs: Vec<u64> = seen.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    let last = seen.events.last().unwrap();
    assert_eq!(last.kind, EventKind::RunFinished { summary });
}

#[tokio::test(start_paused = true)]
async fn an_intent_is_in_the_journal_before_the_act() {
    let scene = Scene::new();
    let at_start = Arc::new(Mutex::new(Vec::new()));
    let (state, run, seen) = (scene.state(), scene.run.clone(), at_start.clone());
    let script = Scene::hands_off(0).on_start(move |_| {
        let found = FoundRun::of(&state, &run).unwrap();
        *seen.lock().unwrap() = phases(&found.journal().read().unwrap());
    });
    scene.engine.script("task/a", script);
    scene.run(ONE).await;
    let at_start = at_start.lock().unwrap();
    assert_eq!(*at_start, [TaskPhase::Preparing, TaskPhase::Running]);
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_the_run_stops_and_its_last_records_are_written() {
    let scene = Scene::new();
    let runs = scene.state().runs();
    std::fs::create_dir_all(&runs).unwrap();
    let disk = Small::new(&runs, "16m");
    let (filler, full) = (runs.join("filler"), runs.join("filler"));
    std::fs::create_dir(&filler).unwrap();
    let fills = Script::runs_forever()
        .on_exit(move |config| {
            std::fs::remove_dir_all(&full).unwrap();
            nothing_changed(config);
        })
        .on_start(move |_| {
            let mut size = 16 << 20;
            while size > 0 {
                let path = filler.join(format!("{size}"));
                // What did not fit is there in part: the next one is another.
                let _ = std::fs::write(path, vec![1; size]);
                size /= 2;
            }
        });
    scene.engine.script("task/a", fills);
    let yaml = "version: 1\nmax_parallel: 1\ndefaults: { timeout: 100h }\ntasks:\n  a: { run: x }\n  b: { run: x }\n";
    let mut seen = Seen::default();
    let summary = scene.observed(yaml, &mut seen).await.unwrap();
    assert_eq!(summary.stopped, Some(StopReason::JournalFailed));
    assert!(summary.took < Duration::from_secs(100 * 3600 - 1));
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    let skipped = &report(&summary, "b").outcome;
    assert!(
        matches!(skipped, TaskOutcome::Skipped { .. }),
        "{skipped:?}"
    );
    let stops = scene.engine.calls().into_iter();
    assert_eq!(
        stops.filter(|(what, _)| *what == Operation::Stop).count(),
        1
    );
    let written = journal(&scene);
    let last = &written.last().unwrap().kind;
    assert!(matches!(last, EventKind::RunFinished { .. }), "{last:?}");
    let warned = |event: &Event| {
        matches!(&event.kind, EventKind::Warning { message }
            if message.contains("the journal cannot be written: the disk is full"))
    };
    assert!(seen.events.iter().any(warned), "{:?}", seen.events.last());
    scene.engine.assert_no_leaks();
    drop(disk);
}
