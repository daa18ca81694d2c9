//! Many tasks at once.

use std::time::Duration;

use super::scene::Scene;

/// As many as an engine of this size would be asked to run at once, and more.
#[tokio::test(start_paused = true)]
async fn two_hundred_tasks_run_at_once() {
    let scene = Scene::new();
    let minute = Duration::from_secs(60);
    scene
        .engine
        .script("*", Scene::hands_off(0).after(10 * minute));
    let tasks: String = (0..200)
        .map(|n| format!("  t{n}: {{ run: x }}\n"))
        .collect();
    let yaml =
        format!("version: 1\nmax_parallel: 200\ndefaults: {{ mem_limit: 64m }}\ntasks:\n{tasks}");
    let summary = scene.run(&yaml).await;
    assert_eq!(summary.tasks.len(), 200);
    let bad: Vec<_> = summary
        .tasks
        .iter()
        .filter(|task| !task.is_good())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // One after the other they would take more than a day.
    assert!(summary.took < 11 * minute, "{:?}", summary.took);
    scene.assert_nothing_left();
}
