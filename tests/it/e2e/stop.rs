//! `stop`: a run, or some of its tasks, by somebody else.

use super::scene::{Scene, expect, start, task};

#[test]
fn a_task_and_then_the_whole_run_are_stopped_from_outside() {
    let scene = Scene::new();
    let yaml = r"
version: 1
max_parallel: 2
tasks:
  one: { run: 'echo one > one.txt; echo ready one; sleep 600' }
  two: { run: 'echo two > two.txt; echo ready two; sleep 600' }
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    expect(&mut lines, "| ready");
    let run = scene.runs()[0].clone();
    let unknown = scene.agent_run(&["stop", &run, "three"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    let one = scene.agent_run(&["stop", &run, "one"]);
    assert_eq!(one.code, Some(0), "{one}");
    let last = scene.events().into_iter().rfind(|e| e["task"] == "one");
    let last = last.expect("an event");
    assert_eq!(last["kind"]["type"], "task_finished", "{last}");
    assert_eq!(scene.result(), serde_json::Value::Null, "two goes on");
    let all = scene.agent_run(&["stop", &run]);
    assert_eq!(all.code, Some(0), "{all}");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let result = scene.result();
    for name in ["one", "two"] {
        assert_eq!(task(&result, name)["outcome"]["outcome"], "cancelled");
        let file = format!("agent/{run}/{name}:{name}.txt");
        assert_eq!(scene.git(&["show", &file]), format!("{name}\n"));
    }
    assert_eq!(scene.left(), Vec::<String>::new());
    let again = scene.agent_run(&["stop", &run]);
    assert_eq!(again.code, Some(0), "{again}");
    assert!(again.stdout.contains("does not run"), "{again}");
}
