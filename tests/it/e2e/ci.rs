//! The command in jobs of GitHub and GitLab, with agents that try to speak to them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::scene::{Ended, Scene, docker, interrupt, spawn, until};
use crate::ci::github::{self, Runner};
use crate::ci::gitlab;

const KEY: &str = "-----BEGIN KEY-----\nbm90LWEta2V5\n-----END KEY-----\n";

/// A task that prints these lines and leaves files and commits named like commands, one that goes
/// well, and one that fails for a reason of ours.
fn spec(scene: &Scene, lines: &[String]) -> PathBuf {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(lines.join("\n"));
    scene.spec(&format!(
        "version: 1
secrets: {{ key: {{ environment: DEPLOY_KEY }} }}
tasks:
  hostile:
    secrets: [key]
    run: |
      echo {text} | base64 -d
      echo
      echo {text} | base64 -d >&2
      cat /run/secrets/key
      mkdir ' '
      for name in '::error::file' '##[add-mask]file' ' ::set-output name=x::file' 'a ##[group]b'; do
        echo x > \"$name\"
      done
      mkdir -p '::warning::dir/.git-like' .github/workflows
      echo x > '.github/workflows/::error::x.yml'
      git init -q '##[error]nested'
      git -C '##[error]nested' commit -q --allow-empty -m nested
      echo inner > '##[error]nested/file'
      git add . 2>/dev/null || true
      git commit -qm '::error::subject ##[add-mask]subject'
      git switch -qc side
      git commit -q --allow-empty -m '::add-mask::side'
      git switch -q -
      exit 3
  good:
    run: echo fine; echo good > good.txt
  broken:
    image: agent-run-no-such-image:1
    pull_policy: never
    run: 'true'
"
    ))
}

/// Makes the command that of a step of a workflow.
fn in_github(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = scene.command(arguments);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("CI", "true")
        .env("GITHUB_WORKSPACE", scene.path())
        .env("GITHUB_OUTPUT", scene.path().join("outputs"))
        .env("GITHUB_STEP_SUMMARY", scene.path().join("summary.md"))
        .env("DEPLOY_KEY", KEY);
    command
}

fn ended(command: &mut Command) -> Ended {
    command.output().expect("agent-run").into()
}

/// The orders in which the runner may come to read the two pipes.
fn orders(ended: &Ended) -> [Vec<String>; 3] {
    let (out, err) = (Runner::lines(&ended.stdout), Runner::lines(&ended.stderr));
    let mut mixed = Vec::new();
    for at in 0..out.len().max(err.len()) {
        mixed.extend(out.get(at).cloned());
        mixed.extend(err.get(at).cloned());
    }
    [
        [err.clone(), out.clone()].concat(),
        [out, err].concat(),
        mixed,
    ]
}

#[test]
fn a_hostile_task_gives_github_no_command() {
    let scene = Scene::new();
    let spec = spec(&scene, &github::hostile_lines());
    let spec = spec.to_str().expect("a path");
    for (progress, output, groups) in [
        ("auto", "group", true),
        ("plain", "prefixed", false),
        ("plain", "none", false),
        ("quiet", "group", false),
    ] {
        let modes = ["--progress", progress, "--output", output];
        let ended = ended(&mut in_github(
            &scene,
            &[&["run", spec][..], &modes].concat(),
        ));
        assert_eq!(ended.code, Some(100), "{ended}");
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains('\r'), "{ended}");
        }
        let shown =
            ended.stdout.contains("::error::file") && ended.stdout.contains("add-mask]file");
        assert!(shown, "the names are told, as text: {ended}");
        for lines in orders(&ended) {
            let mut runner = Runner::default();
            for line in &lines {
                runner.line(line);
            }
            only_ours(&runner, groups);
        }
    }
    let later: [&[&str]; 8] = [
        &["logs", "hostile"],
        &["logs", "--timestamps"],
        &["show", "hostile"],
        &["show", "hostile", "--format", "json"],
        &["ps"],
        &["ps", "--format", "json"],
        &["plan", spec],
        &["clean"],
    ];
    for arguments in later {
        let ended = ended(in_github(&scene, arguments).current_dir(scene.repo()));
        assert_eq!(ended.code, Some(0), "{ended}");
        for lines in orders(&ended) {
            let mut runner = Runner::default();
            for line in &lines {
                runner.line(line);
            }
            assert_eq!(runner.executed, Vec::new(), "{arguments:?}: {ended}");
            assert_eq!(runner.stops, 0, "{ended}");
        }
        if arguments[..] == ["show", "hostile", "--format", "json"] {
            let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
            assert!(told.to_string().contains("##[add-mask]file"), "{ended}");
        }
    }
}

#[test]
fn what_goes_to_standard_output_gives_github_no_command() {
    let scene = Scene::new();
    let spec = spec(&scene, &github::hostile_lines());
    let spec = spec.to_str().expect("a path");
    for flag in ["--summary", "--junit", "--events"] {
        let ended = ended(&mut in_github(&scene, &["run", spec, flag, "-"]));
        assert_eq!(ended.code, Some(100), "{ended}");
        assert!(ended.stdout.contains("after-an-escape"), "{flag}: {ended}");
        for lines in orders(&ended) {
            let mut runner = Runner::default();
            for line in &lines {
                runner.line(line);
            }
            only_ours(&runner, true);
        }
    }
}

/// Expects the masks, groups and errors of the three tasks, and not a command more.
#[track_caller]
fn only_ours(runner: &Runner, groups: bool) {
    let data = |name| -> Vec<&str> { runner.all(name).iter().map(|c| c.data.as_str()).collect() };
    let masks = ["-----BEGIN KEY-----", "bm90LWEta2V5", "-----END KEY-----"];
    assert_eq!(data("add-mask"), masks);
    let errors = runner.all("error");
    let mut titles: Vec<_> = errors
        .iter()
        .map(|c| c.properties["title"].as_str())
        .collect();
    titles.sort_unstable();
    assert_eq!(titles, ["FAIL hostile", "INFRA broken"]);
    for error in &errors {
        assert_eq!(error.properties["file"], "spec.yaml");
    }
    let (opened, closed) = (data("group").len(), data("endgroup").len());
    assert_eq!(
        (opened, closed),
        if groups { (2, 2) } else { (0, 0) },
        "{:?}",
        runner.log
    );
    let number = masks.len() + errors.len() + opened + closed;
    assert_eq!(runner.executed.len(), number, "{:?}", runner.executed);
    assert!(!runner.is_stopped());
    assert!(!runner.log.iter().any(|line| line.contains("bm90LWEta2V5")));
}

#[test]
fn github_is_told_where_and_what() {
    let scene = Scene::new();
    let spec = spec(&scene, &["hello".to_owned()]);
    let ended = ended(&mut in_github(
        &scene,
        &["run", spec.to_str().expect("a path")],
    ));
    let mut runner = Runner::default();
    runner.read(&ended.stderr);
    let errors = runner.all("error");
    let failed = errors
        .iter()
        .find(|c| c.data == "exit code 3")
        .expect("an error");
    assert_eq!(failed.properties["line"], "5");
    let line = "  hostile:";
    let text = std::fs::read_to_string(&spec).expect("the spec");
    assert_eq!(text.lines().nth(4), Some(line));
    assert!(runner.log.iter().any(|line| line == "| hello"), "{ended}");
    // What a task, or a name of its own, could be in stands between tokens.
    let ours = |line: &String| line.contains("START") || line.contains("Starting");
    runner.unprotected.retain(|line| !ours(line));
    assert_eq!(runner.unprotected, Vec::<String>::new());
    let tokens = runner
        .log
        .iter()
        .filter_map(|line| line.strip_prefix("::stop-commands::"));
    let tokens: BTreeSet<&str> = tokens.collect();
    assert_eq!(tokens.len(), runner.stops, "each token is a new one");
    let written = std::fs::read_to_string(scene.path().join("outputs")).expect("outputs");
    let outputs = github::outputs(&written);
    assert_eq!(outputs["run"], scene.runs()[0]);
    let branches: Value = serde_json::from_str(&outputs["branches"]).expect("JSON");
    let branches: Vec<(&str, bool)> = branches
        .as_array()
        .expect("an array")
        .iter()
        .map(|branch| {
            let name = branch["branch"].as_str().expect("a name");
            let commit = scene.git(&["rev-parse", name]);
            assert_eq!(branch["commit"], commit.trim());
            (
                branch["task"].as_str().expect("a task"),
                branch["passed"] == true,
            )
        })
        .collect();
    assert_eq!(branches, [("hostile", false), ("good", true)], "{ended}");
    let summary = std::fs::read_to_string(scene.path().join("summary.md")).expect("a summary");
    assert!(
        summary.contains("## 3 tasks: 1 passed, 2 failed"),
        "{summary}"
    );
}

#[test]
fn a_summary_is_no_longer_than_github_takes() {
    let scene = Scene::new();
    let spec = scene.spec("version: 1\ntasks:\n  a:\n    run: echo a > a\n");
    let file = scene.path().join("summary.md");
    for (used, kept) in [((1 << 20) - 100, false), (1 << 20, true), (2 << 20, true)] {
        std::fs::write(&file, "x".repeat(used)).expect("a file");
        let ended = ended(&mut in_github(
            &scene,
            &["run", spec.to_str().expect("a path")],
        ));
        assert_eq!(ended.code, Some(0), "{ended}");
        let length = std::fs::metadata(&file).expect("a file").len();
        let length = usize::try_from(length).expect("a length");
        assert!(length <= used.max(1 << 20), "{length}");
        assert_eq!(length == used, kept, "{length}");
    }
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("a directory");
    let ended = ended(&mut in_github(
        &scene,
        &["run", spec.to_str().expect("a path")],
    ));
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("GITHUB_STEP_SUMMARY"), "{ended}");
    assert!(ended.stdout.contains("1 passed"), "{ended}");
}

#[test]
fn the_logs_of_ci_have_colours_unless_nobody_wants_them() {
    let scene = Scene::new();
    let spec = scene.spec("version: 1\ntasks:\n  a:\n    run: printf '\\033[31mred\\n'\n");
    let arguments = ["run", spec.to_str().expect("a path")];
    for service in ["GITHUB_ACTIONS", "GITLAB_CI"] {
        let mut command = scene.command(&arguments);
        command.env("CI", "true").env(service, "true");
        let with = ended(&mut command);
        let line = "| \u{1b}[31mred\u{1b}[0m";
        assert!(with.stderr.lines().any(|l| l == line), "{with}");
        assert!(with.stdout.contains("\u{1b}[32m"), "{with}");
        let without = ended(command.env("NO_COLOR", "1"));
        assert!(without.stderr.contains("\n| red\n"), "{without}");
        let text = without.stdout + &without.stderr.replace("\u{1b}[0K", "");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn no_secret_goes_into_a_file() {
    let scene = Scene::new();
    let spec = spec(&scene, &["hello".to_owned()]);
    let log = scene.path().join("log");
    let mut command = in_github(
        &scene,
        &["run", spec.to_str().expect("a path"), "good", "hostile"],
    );
    let file = std::fs::File::create(&log).expect("a file");
    let ended = command.stderr(file).output().expect("agent-run");
    assert_eq!(ended.status.code(), Some(100));
    let text = std::fs::read_to_string(log).expect("the log");
    assert!(text.contains("::group::"), "{text}");
    assert!(!text.contains("add-mask::-----BEGIN"), "{text}");
    assert!(!text.contains("bm90LWEta2V5"), "{text}");
}

#[test]
fn gitlab_gets_a_section_for_each_task_and_none_from_it() {
    let scene = Scene::new();
    let spec = spec(&scene, &gitlab::hostile_lines());
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    command
        .env("GITLAB_CI", "true")
        .env("CI", "true")
        .env("DEPLOY_KEY", KEY);
    let ended = ended(&mut command);
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(gitlab::markers(&ended.stdout), Vec::new());
    let mut markers = gitlab::markers(&ended.stderr);
    let spans: Vec<_> = markers
        .chunks(2)
        .map(|pair| (pair[0].opens, pair[1].opens))
        .collect();
    assert_eq!(spans, [(true, false), (true, false)], "{markers:?}");
    assert!(markers[0].time <= markers[1].time);
    assert!(ended.stderr.contains("\u{1b}[32"), "colour is on: {ended}");
    markers.retain(|marker| marker.opens);
    markers.sort_by(|a, b| a.name.cmp(&b.name));
    let folded: Vec<_> = markers
        .iter()
        .map(|m| (m.name.as_str(), m.options.as_str()))
        .collect();
    let expected = [
        ("agent_run_good", "[collapsed=true]"),
        ("agent_run_hostile", "[collapsed=false]"),
    ];
    assert_eq!(folded, expected, "{ended}");
}

#[test]
fn every_attempt_has_a_group_and_only_the_last_one_an_error() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
defaults: { retry: 1, run: 'echo "words $AGENT_ATTEMPT"; test "$AGENT_ATTEMPT" = "$GOOD"' }
max_parallel: 1
tasks:
  flaky: { env: { GOOD: 2 } }
  lost: { env: { GOOD: 3 } }
"#;
    let spec = scene.spec(yaml);
    let run = ["run", spec.to_str().expect("a path")];
    let told = ended(&mut in_github(&scene, &run));
    assert_eq!(told.code, Some(100), "{told}");
    let mut runner = Runner::default();
    runner.read(&told.stderr);
    let of = |text: &str| {
        let (verdict, _) = text.rsplit_once(' ').expect("a time");
        verdict.to_owned()
    };
    let mut groups: Vec<String> = runner.all("group").iter().map(|c| of(&c.data)).collect();
    groups.sort_unstable();
    let all = [
        "TRY 1 FAIL flaky",
        "TRY 1 FAIL lost",
        "TRY 2 FAIL lost",
        "TRY 2 PASS flaky",
    ];
    assert_eq!(groups, all, "{told}");
    assert_eq!(runner.all("endgroup").len(), 4);
    let errors = runner.all("error");
    let titles: Vec<&str> = errors
        .iter()
        .map(|c| c.properties["title"].as_str())
        .collect();
    assert_eq!(titles, ["TRY 2 FAIL lost"], "{told}");
    for line in ["| words 1", "| words 2"] {
        assert_eq!(
            runner.log.iter().filter(|l| *l == line).count(),
            2,
            "{told}"
        );
    }
    let told = ended(
        scene
            .command(&run)
            .env("GITLAB_CI", "true")
            .env("CI", "true"),
    );
    let mut names: Vec<String> = gitlab::markers(&told.stderr)
        .into_iter()
        .filter_map(|marker| marker.opens.then_some(marker.name))
        .collect();
    names.sort_unstable();
    let of_both = |name: &str| {
        [
            format!("agent_run_{name}"),
            format!("agent_run_{name}_TRY2"),
        ]
    };
    assert_eq!(
        names,
        [of_both("flaky"), of_both("lost")].concat(),
        "{told}"
    );
}

#[test]
fn a_cancelled_step_of_github_ends_by_itself_and_loses_no_work() {
    let scene = Scene::new();
    let yaml = "
version: 1
defaults: { stop_grace_period: 10m }
tasks:
  deaf:
    run: |
      trap '' TERM INT
      echo half > half.txt
      echo ready
      while :; do sleep 1; done
";
    let spec = scene.spec(yaml);
    let (mut child, lines) = spawn(in_github(&scene, &["run", spec.to_str().expect("a path")]));
    let half = || {
        let run = scene.runs().pop()?;
        let task = scene.state().join("runs").join(run).join("tasks/deaf/1");
        std::fs::metadata(task.join("worktree/half.txt")).ok()
    };
    until("it has begun", || half().is_some());
    interrupt(&child);
    until("it has ended", || {
        child.try_wait().expect("a child").is_some()
    });
    let text: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{text:#?}");
    let told = text
        .iter()
        .any(|line| line.contains("`stop_grace_period` is 1500ms at most"));
    assert!(told, "{text:#?}");
    let run = scene.state().join("runs").join(&scene.runs()[0]);
    let plan = std::fs::read(run.join("plan.json")).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    let grace = serde_json::json!({ "secs": 1, "nanos": 500_000_000 });
    assert_eq!(plan["tasks"][0]["stop_grace_period"], grace);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let branch = format!("agent/{}/deaf", scene.runs()[0]);
    let text = scene.git(&["show", &format!("{branch}:half.txt")]);
    assert_eq!(text, "half\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_cancelled_step_with_eight_tasks_ends_by_itself_and_loses_no_work() {
    let scene = Scene::new();
    let tasks: String = (0..8)
        .map(|n| {
            let deaf = if n % 2 == 0 { "trap '' TERM INT;" } else { "" };
            format!("  t{n}: {{ run: \"{deaf} echo {n} > half.txt; echo ready; while :; do sleep 1; done\" }}\n")
        })
        .collect();
    let spec = scene.spec(&format!(
        "version: 1\ndefaults: {{ mem_limit: 64m, network_mode: none, stop_grace_period: 10m }}\ntasks:\n{tasks}"
    ));
    let spec = spec.to_str().expect("a path");
    let flags = ["run", spec, "-j", "8", "--output", "prefixed"];
    let (mut child, mut lines) = spawn(in_github(&scene, &flags));
    let ready = lines.by_ref().filter(|line| line.ends_with("| ready"));
    assert_eq!(ready.take(8).count(), 8, "not all tasks came up");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:#?}");
    let run = scene.runs().pop().expect("a run");
    let containers = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=agent-run.run={run}"),
    ]);
    assert_eq!(containers.stdout, "", "{rest:#?}");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    for n in 0..8 {
        let half = format!("agent/{run}/t{n}:half.txt");
        assert_eq!(scene.git(&["show", &half]), format!("{n}\n"), "{cleaned}");
    }
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}
