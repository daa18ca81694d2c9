//! The examples of `docs/patterns.md`, run as they are.

use super::scene::{Ended, Scene, task};
use serde_json::Value;

const PATTERNS: &str = include_str!("../../../docs/patterns.md");

/// Runs the example below a heading.
fn run(scene: &Scene, heading: &str) -> (Ended, Value) {
    let (_, rest) = PATTERNS
        .split_once(&format!("## {heading}\n"))
        .expect("the heading");
    let (_, rest) = rest.split_once("```yaml\n").expect("an example");
    scene.run(rest.split_once("```").expect("an end").0)
}

/// The branch of a task.
fn branch(result: &Value, id: &str) -> String {
    let branch = task(result, id)["branch"]["branch"].as_str();
    branch
        .unwrap_or_else(|| panic!("{id} has no branch: {result:#}"))
        .to_owned()
}

#[test]
fn independent_tasks_become_branches_of_the_base() {
    let scene = Scene::new();
    let (ended, result) = run(&scene, "Independent tasks");
    assert_eq!(ended.code, Some(0), "{ended}");
    for id in ["purpose", "licence", "ignore"] {
        let branch = branch(&result, id);
        let commits = scene.git(&["rev-list", "--count", &format!("main..{branch}")]);
        assert_eq!(commits, "1\n");
        scene.git(&["merge", "-q", "--no-edit", &branch]);
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn parts_that_conflict_are_joined_by_a_task() {
    let scene = Scene::new();
    let (ended, result) = run(&scene, "Parallel decomposition");
    assert_eq!(ended.code, Some(0), "{ended}");
    let join = branch(&result, "join");
    let library = scene.git(&["show", &format!("{join}:src/lib.rs")]);
    for part in ["parser", "printer", "reader"] {
        assert!(library.contains(&format!("mod {part};")), "{library}");
        let range = format!("{join}..{}", branch(&result, part));
        assert_eq!(scene.git(&["log", &range]), "", "{part} is in it");
    }
    assert!(!library.contains("<<<"), "{library}");
    let base = task(&result, "join")["base"].as_str().expect("a base");
    let divide = scene.git(&["rev-parse", &branch(&result, "divide")]);
    assert_eq!(base, divide.trim());
    scene.git(&["fsck", "--strict"]);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn steps_stand_on_each_other() {
    let scene = Scene::new();
    let (ended, result) = run(&scene, "Pipelines");
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(task(&result, "lint")["outcome"]["outcome"], "failed");
    let test = branch(&result, "test");
    let files = scene.git(&["diff", "--name-only", "main", &test]);
    assert_eq!(files, "DESIGN.md\nadd.sh\nadd.test.sh\n");
    let implement = branch(&result, "implement");
    let (from, to) = (scene.git(&["rev-parse", &implement]), format!("{test}^"));
    assert_eq!(scene.git(&["rev-parse", &to]), from);
    let next = format!("git log -p {}..{test}", &from[..10]);
    assert!(ended.stdout.contains(&next), "{next} {ended}");
    let shown = scene.agent_run(&["diff", "test", "-C", "repo"]);
    assert!(shown.stdout.contains("add.test.sh"), "{shown}");
    assert!(!shown.stdout.contains("DESIGN.md"), "{shown}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn the_plan_shows_the_graph() {
    let scene = Scene::new();
    let (_, rest) = PATTERNS.split_once("## Pipelines").expect("the heading");
    let (_, rest) = rest.split_once("```yaml\n").expect("an example");
    let spec = scene.spec(rest.split_once("```").expect("an end").0);
    let spec = spec.to_str().expect("a path");
    let plan = |format| scene.agent_run(&["plan", spec, "--format", format]);
    let text = plan("text");
    for line in [
        "levels      4, the widest of 1\n  1         design\n  2         implement\n",
        "order       design, implement, lint, test\n",
        "  needs     implement, lint\n  starts    from the results of implement, lint, merged\n",
    ] {
        assert!(text.stdout.contains(line), "{line} {text}");
    }
    let mermaid = plan("mermaid");
    assert_eq!(
        mermaid.stdout,
        "flowchart TD\n    t0[\"design\"]\n    t1[\"implement\"]\n    t2[\"lint<br>may fail\"]\n    \
         t3[\"test\"]\n    t0 --> t1\n    t1 --> t2\n    t1 --> t3\n    t2 --> t3\n"
    );
    let json: Value = serde_json::from_str(&plan("json").stdout).expect("JSON");
    assert_eq!(json["order"]["levels"][1][0], "implement");
    assert_eq!(json["tasks"][3]["needs"][1], "lint");
}
