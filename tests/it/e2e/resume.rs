//! `resume` after kill -9: what has ended stays, what runs is watched on, the rest starts.

use super::scene::{Scene, docker, expect, start, task};

#[test]
fn a_run_that_was_killed_goes_on_with_its_container_and_its_log() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
max_parallel: 1
tasks:
  first: { run: 'echo first >> first.txt' }
  long:
    environment: { GREETING: hello }
    run: |
      echo begun >> long.txt
      i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i + 1)); done
      echo ready
      until [ -e /home/agent/go ]; do sleep 0.1; done
      echo "after $GREETING"
  last: { run: 'echo "$X last" >> last.txt', environment: { X: "y" } }
"#;
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let run = scene.runs()[0].clone();
    let containers = || {
        let filter = format!("label=agent-run.run={run}");
        docker(&["ps", "-q", "--filter", &filter]).stdout
    };
    let container = containers();
    assert_eq!(container.lines().count(), 1);
    let (mut child, mut lines) = start(&scene, &["resume", &run]);
    expect(&mut lines, "| ready");
    assert_eq!(containers(), container, "it is the same container");
    let busy = scene.agent_run(&["resume", &run]);
    assert_eq!(busy.code, Some(96), "{busy}");
    let place = scene.state().join("runs").join(&run);
    std::fs::write(place.join("tasks/long/1/home/go"), "").expect("a file");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    let result = scene.result();
    for (name, text) in [
        ("first", "first\n"),
        ("long", "begun\n"),
        ("last", "y last\n"),
    ] {
        assert_eq!(task(&result, name)["outcome"]["outcome"], "succeeded");
        let file = format!("agent/{run}/{name}:{name}.txt");
        assert_eq!(scene.git(&["show", &file]), text);
    }
    let log = scene.agent_run(&["logs", "long", "--run", &run, "--raw"]);
    let numbered: String = (0..300).map(|i| format!("line {i}\n")).collect();
    assert_eq!(log.stdout, numbered + "ready\nafter hello\n");
    assert_eq!(scene.left(), Vec::<String>::new());
    let again = scene.agent_run(&["resume", &run]);
    assert_eq!(again.code, Some(0), "{again}");
    assert!(again.stdout.contains("nothing to resume"), "{again}");
    let repo = scene.repo();
    let none = scene.agent_run(&["-C", repo.to_str().expect("a path"), "resume"]);
    assert_eq!(none.code, Some(4), "{none}");
}
