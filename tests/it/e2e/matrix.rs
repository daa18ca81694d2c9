//! Tasks with a matrix: each cell is a task of its own wherever tasks are told of or named.

use serde_json::{Value, json};

use super::scene::{Ended, Scene, expect, start, task};

const SMALL: &str = "review[model=small]";
const BIG: &str = "review[model=Acme/Big]";

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn each_cell_has_its_values_and_a_branch_and_is_told_of_everywhere() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
defaults: { network_mode: none }
tasks:
  review:
    run: |
      echo "$AGENT_MATRIX_MODEL at $AGENT_MATRIX_LEVEL as $AGENT_TASK"
      echo "$AGENT_MATRIX_MODEL" > model.txt
      test "$AGENT_MATRIX_MODEL" = small
    matrix:
      model: [small, Acme/Big]
      include: [{ level: 3 }]
"#,
    );
    let junit = scene.path().join("junit.xml");
    let summary = scene.path().join("summary.md");
    let words = [
        "run",
        path(&spec),
        "--junit",
        path(&junit),
        "--summary",
        path(&summary),
    ];
    let ended = scene.agent_run(&words);
    assert_eq!(ended.code, Some(100), "{ended}");
    let result = scene.checked_result(&ended);
    let run = result["run"].as_str().expect("a run");
    for (id, model, slug) in [
        (SMALL, "small", "review+model=small"),
        (BIG, "Acme/Big", "review+model=acme-big+"),
    ] {
        let report = task(&result, id);
        assert_eq!(report["matrix"], json!({"model": model, "level": 3}));
        let branch = report["branch"]["branch"].as_str().expect("a branch");
        assert!(
            branch.starts_with(&format!("agent/{run}/{slug}")),
            "{branch}"
        );
        assert_eq!(
            scene.git(&["show", &format!("{branch}:model.txt")]),
            format!("{model}\n")
        );
        let said = format!("{model} at 3 as {id}");
        let mut lines = ended.stderr.lines();
        let told = lines.any(|l| l.starts_with(id) && l.ends_with(&format!("| {said}")));
        assert!(told, "{ended}");
        let log = scene.agent_run(&["logs", id, "--run", run]);
        assert_eq!(log.stdout, format!("{said}\n"), "{log}");
        let shown = scene.agent_run(&["show", id, "--run", run]);
        assert!(shown.stdout.contains(branch), "{shown}");
        let next = format!("agent-run logs '{id}' --run {run}");
        assert!(shown.stdout.contains(&next), "{shown}");
        let diff = scene.agent_run(&["diff", id, "--run", run]);
        assert!(diff.stdout.contains(&format!("+{model}\n")), "{diff}");
        assert!(ended.stdout.contains(&format!("] {id}: ")), "{ended}");
    }
    assert!(
        ended.stdout.contains(&format!("agent-run show '{BIG}'")),
        "{ended}"
    );
    let junit = std::fs::read_to_string(junit).expect("a report");
    assert!(junit.contains(&format!("name=\"{SMALL}\"")), "{junit}");
    assert!(
        junit.contains("name=\"matrix.model\" value=\"Acme/Big\""),
        "{junit}"
    );
    let markdown = std::fs::read_to_string(summary).expect("a summary");
    assert!(
        markdown.contains("<code>review&#91;model&#61;small&#93;</code>"),
        "{markdown}"
    );
    are_named_together(&scene, run);
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// By the name of their task, by a pattern, and where one is wanted not.
fn are_named_together(scene: &Scene, run: &str) {
    for word in ["review", "review[*", "*"] {
        let logs = scene.agent_run(&["logs", word, "--run", run]);
        for id in [SMALL, BIG] {
            assert!(
                logs.stdout.contains(&format!("as {id}\n")),
                "{word}: {logs}"
            );
        }
    }
    let shown = scene.agent_run(&["show", "review", "--run", run]);
    assert_eq!(shown.code, Some(2), "{shown}");
    let names = format!("name one of them: {SMALL}, {BIG}");
    assert!(shown.stderr.contains(&names), "{shown}");
}

#[test]
fn a_running_cell_is_entered_and_all_are_stopped_by_their_task() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\nmax_parallel: 2\ntasks:\n  w:\n    run: echo ready; sleep 600\n    matrix: { n: [1, 2] }\n",
    );
    let (mut child, mut lines) = start(&scene, &["run", path(&spec)]);
    expect(&mut lines, "| ready");
    expect(&mut lines, "| ready");
    let run = scene.runs()[0].clone();
    let told = scene.agent_run(&[
        "exec",
        "--run",
        &run,
        "w[n=2]",
        "sh",
        "-c",
        "echo $AGENT_MATRIX_N; hostname",
    ]);
    assert_eq!(
        (told.code, told.stdout.as_str()),
        (Some(0), "2\nw-n-2\n"),
        "{told}"
    );
    let stopped = scene.agent_run(&["stop", &run, "w"]);
    assert_eq!(stopped.code, Some(0), "{stopped}");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(100), "{rest:?}");
    let result = scene.result();
    for id in ["w[n=1]", "w[n=2]"] {
        assert_eq!(task(&result, id)["outcome"]["outcome"], "cancelled");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

const SPEC: &str = "\
version: 1
tasks:
  fix: { run: x }
  review: { run: x, matrix: { model: [small, large], os: [a, b] } }
  audit: { run: x, profiles: [nightly] }
  deep: { run: x, profiles: [weekly, nightly] }
";

/// The tasks of the plan with these words.
fn planned(scene: &Scene, spec: &str, words: &[&str]) -> String {
    let all = [&["plan", spec, "--format", "json"], words].concat();
    let ended = scene.agent_run(&all);
    assert_eq!(ended.code, Some(0), "{ended}");
    let plan: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let tasks = plan["tasks"].as_array().expect("tasks").iter();
    let ids: Vec<&str> = tasks
        .map(|task| task["id"].as_str().expect("an id"))
        .collect();
    ids.join(" ")
        .replace("review[model=", "r[")
        .replace(",os=", ",")
}

#[test]
fn tasks_are_selected_by_names_patterns_and_profiles() {
    let scene = Scene::new();
    let spec = scene.spec(SPEC);
    let spec = path(&spec);
    let review = "r[small,a] r[small,b] r[large,a] r[large,b]";
    for (words, expected) in [
        (&[][..], format!("fix {review}")),
        (&["review"], review.into()),
        (&["review[model=small]"], "r[small,a] r[small,b]".into()),
        (
            &["review[model=large,os=b]", "fix"],
            "fix r[large,b]".into(),
        ),
        (&["*[*os=a]"], "r[small,a] r[large,a]".into()),
        (&["audit"], "audit".into()),
        (&["fix", "--profile", "nightly"], "fix".into()),
        (
            &["--profile", "nightly"],
            format!("fix {review} audit deep"),
        ),
        (&["--profile", "weekly"], format!("fix {review} deep")),
        (&["--profile", "*"], format!("fix {review} audit deep")),
        (&["--exact", "fix", "audit"], "fix audit".into()),
        (
            &["--exact", "review[model=small,os=a]"],
            "r[small,a]".into(),
        ),
        (&["--exact"], format!("fix {review}")),
    ] {
        assert_eq!(planned(&scene, spec, words), expected, "{words:?}");
    }
    let mut by_variable = scene.command(&["plan", spec]);
    by_variable.env("AGENT_RUN_PROFILE", "weekly,nightly");
    let by_variable: Ended = by_variable.output().expect("agent-run").into();
    assert!(by_variable.stdout.contains("\naudit\n"), "{by_variable}");
}

/// What selected tasks need is run too, whatever its profiles, and nothing else.
#[test]
fn needs_outside_of_the_selected_profiles_are_run_too() {
    let scene = Scene::new();
    let spec = scene.spec(
        "\
version: 1
defaults: { network_mode: none }
tasks:
  design: { run: echo plan > design, profiles: [slow], matrix: { n: [1, 2] } }
  build: { run: cat design > built, needs: 'design[n=1]' }
  lint: { run: 'true' }
  audit: { run: 'true', profiles: [nightly], needs: build }
  other: { run: 'true', profiles: [nightly, slow] }
",
    );
    let spec = path(&spec);
    for (words, expected) in [
        (&[][..], "design[n=1] build lint"),
        (
            &["--profile", "nightly"],
            "design[n=1] build lint audit other",
        ),
        (&["lint"], "lint"),
        (&["audit"], "design[n=1] build audit"),
        (&["--exact", "build", "lint"], "design[n=1] build lint"),
        (
            &["--profile", "*"],
            "design[n=1] design[n=2] build lint audit other",
        ),
    ] {
        assert_eq!(planned(&scene, spec, words), expected, "{words:?}");
    }
    let ended = scene.agent_run(&["run", spec]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let result = scene.result();
    assert_eq!(result["tasks"].as_array().expect("tasks").len(), 3);
    let branch = task(&result, "build")["branch"]["branch"].as_str();
    let built = format!("{}:built", branch.expect("a branch"));
    assert_eq!(scene.git(&["show", &built]), "plan\n");
    // What is wrong with a need's setup is told before anything starts.
    let spec = scene.spec(
        "\
version: 1
tasks:
  design: { run: x, profiles: [slow], setup: { run: x, files: [missing.lock], paths: [deps] } }
  build: { run: x, needs: design }
",
    );
    let refused = scene.agent_run(&["run", path(&spec)]);
    assert_eq!(refused.code, Some(94), "{refused}");
    let why = "the base has no file `missing.lock`";
    assert!(refused.stderr.contains(why), "{refused}");
}

#[test]
fn what_selects_nothing_says_what_there_is() {
    let scene = Scene::new();
    let spec = scene.spec(SPEC);
    let only = "version: 1\ntasks:\n  audit: { run: x, profiles: [nightly] }\n";
    let refused = |words: &[&str], code, text: &str| {
        let ended = scene.agent_run(&[&["run", path(&spec)], words].concat());
        assert_eq!(ended.code, Some(code), "{ended}");
        assert!(ended.stderr.contains(text), "{ended}");
        assert_eq!(scene.runs(), Vec::<String>::new());
    };
    let all = "its tasks: fix, review[model=small,os=a], review[model=small,os=b]";
    refused(&["fix", "tset*"], 4, "none matches `tset*`");
    refused(&["tset*"], 4, all);
    refused(&["reviw"], 2, "did you mean `review`?");
    refused(
        &["review[model=tiny]"],
        2,
        "has no task `review[model=tiny]`",
    );
    for word in ["review", "review[model=small]", "review*"] {
        let no_id = format!("no task of {} has the id `{word}`", path(&spec));
        refused(&["--exact", "fix", word], 2, &no_id);
        let hint = "without --exact it means review[model=small,os=a], ";
        refused(&["--exact", word], 2, hint);
    }
    refused(&["--exact", "reviw"], 2, "did you mean `review`?");
    refused(&["--exact", "tset*"], 2, "has no task `tset*`");
    refused(&["--profile", "nightyl"], 2, "did you mean `nightly`?");
    refused(&["--profile", "x"], 2, "its profiles: nightly, weekly");
    scene.spec(only);
    refused(&[], 4, "with --profile: nightly");
}
