//! Sessions that are kept: for attempts that go on from another one, and for `continue`.

use serde_json::Value;

use super::super::scene::{Scene, docker, expect, spawn, start, task};
use super::endpoint::{Endpoint, build_images};
use super::{AGENTS, GATE, HEAD, KEY, agent_task, content, log_of, run};

/// An agent that needs no model, and notes what it is told: that is its session.
const CHAT: &str = r#"
version: 1
agents:
  chat:
    extends: shell
    session_files: [.notes]
    run: |
      case "$(cat /agent/prompt.md)" in wait*) echo ready; until [ -e /tmp/go ]; do sleep 0.1; done ;; esac
      mkdir -p ~/.notes
      { told; echo; echo "-- ${AGENT_SESSION:-new}"; } >>~/.notes/said
      cp ~/.notes/said said.txt
      ls -A ~/.notes >left.txt
      ln -sf /etc/passwd ~/.notes/link
      rm -f ~/.notes/pipe; mkfifo ~/.notes/pipe
  mute: { extends: shell, session_files: [.notes], run: echo nothing }
tasks:
"#;

/// What is in a file of the task's branch.
fn show(scene: &Scene, report: &Value, file: &str) -> String {
    let branch = report["branch"]["branch"].as_str();
    let branch = branch.unwrap_or_else(|| panic!("{report:#}"));
    scene.git(&["show", &format!("{branch}:{file}")])
}

#[test]
fn an_attempt_that_goes_on_does_so_in_the_same_conversation() {
    let scene = Scene::new();
    let (ended, result) = scene.run(&format!(
        r#"{CHAT}
  kept:
    agent: chat
    session: keep
    prompt: first words
    verify: 'grep -q "look here" said.txt || {{ echo look here; exit 1; }}'
    feedback: 1
  anew:
    agent: chat
    prompt: first words
    verify: 'grep -q "look here" said.txt || {{ echo look here; exit 1; }}'
    feedback: 1
"#
    ));
    assert_eq!(ended.code, Some(0), "{ended}");
    let said = show(&scene, task(&result, "kept"), "said.txt");
    assert!(said.starts_with("first words\n-- new\n"), "{said}");
    assert!(said.ends_with("-- kept\n"), "{said}");
    // It knows its prompt.
    assert_eq!(said.matches("first words").count(), 1, "{said}");
    assert_eq!(said.matches("look here").count(), 1, "{said}");
    // Neither links nor pipes are anybody's conversation.
    assert_eq!(show(&scene, task(&result, "kept"), "left.txt"), "said\n");
    let notes = task(&result, "kept")["branch"]["notes"].to_string();
    let told = "its session is not kept as a whole: .notes/link is a symbolic link, and 1 more was skipped";
    assert!(notes.contains(told), "{notes}");
    let said = show(&scene, task(&result, "anew"), "said.txt");
    assert!(said.starts_with("first words\n"), "{said}");
    assert!(said.ends_with("-- new\n"), "{said}");
    assert_eq!(said.matches("--").count(), 1, "{said}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_task_goes_on_after_its_run_on_its_branch() {
    let scene = Scene::new();
    let secrets = "version: 1\nsecrets: { token: { environment: PATH } }\n";
    let chat = CHAT.replacen("version: 1\n", secrets, 1);
    let (ended, first) = scene.run(&format!(
        "{chat}
  talk:
    agent: chat
    session: keep
    prompt: first words
    setup: {{ run: 'mkdir deps; echo granted=$(ls /run/secrets)', paths: [deps], secrets: [token] }}
  other: {{ run: 'echo x >x.txt' }}
  mute: {{ agent: mute, session: keep, prompt: x }}
  last: {{ agent: chat, prompt: x, needs: [other], base: HEAD }}
"
    ));
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("| granted=token"), "{ended}");
    let branch = task(&first, "talk")["branch"]["branch"].as_str();
    let branch = branch.expect("a branch").to_owned();
    // Somebody adds to it.
    let head = format!("refs/heads/{branch}");
    let tree = format!("{branch}^{{tree}}");
    let added = scene.git(&["commit-tree", &tree, "-p", &branch, "-m", "mine"]);
    scene.git(&["update-ref", &head, added.trim()]);

    let go_on =
        |arguments: &[&str]| scene.agent_run(&[&["-C", "repo", "continue"], arguments].concat());
    let ended = go_on(&["talk", "--prompt", "second words"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    // What an agent has made is not what the setup has its secrets for.
    let has_none = ended
        .stderr
        .lines()
        .any(|line| line.ends_with("| granted="));
    assert!(has_none, "{ended}");
    let result = scene.checked_result(&ended);
    assert_eq!(result["tasks"].as_array().map(Vec::len), Some(1));
    let report = task(&result, "talk");
    assert_eq!(report["branch"]["branch"], *branch);
    assert_eq!(report["branch"]["commits"], 1, "{report:#}");
    let said = "first words\n-- new\nsecond words\n-- kept\n";
    assert_eq!(show(&scene, report, "said.txt"), said);
    scene.git(&["merge-base", "--is-ancestor", added.trim(), &branch]);

    scene.write("next.md", "third $(words)");
    let ended = go_on(&["talk", "--prompt-file", "next.md"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let report = task(&scene.result(), "talk").clone();
    let said = format!("{said}third $(words)\n-- kept\n");
    assert_eq!(show(&scene, &report, "said.txt"), said);

    let of_first = first["run"].as_str().expect("a run");
    for (arguments, why) in [
        (
            ["other", "--run", of_first, "--prompt", "x"],
            "it has no agent",
        ),
        (
            ["last", "--run", of_first, "--prompt", "x"],
            "give it `session: keep` in the spec",
        ),
        (
            ["mute", "--run", of_first, "--prompt", "x"],
            "its client left none of that attempt",
        ),
        (
            ["talk", "--run", of_first, "--prompt", " "],
            "the prompt is empty",
        ),
    ] {
        let refused = go_on(&arguments);
        assert!(refused.stderr.contains(why), "{refused}");
    }
    scene.git(&["checkout", "-q", &branch]);
    let refused = go_on(&["talk", "--prompt", "x"]);
    assert_eq!(refused.code, Some(96), "{refused}");
    assert!(refused.stderr.contains("is checked out"), "{refused}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_branch_that_somebody_has_moved_meanwhile_is_left_alone() {
    let scene = Scene::new();
    let (ended, first) = scene.run(&format!(
        "{CHAT}  talk: {{ agent: chat, session: keep, prompt: first words }}\n"
    ));
    assert_eq!(ended.code, Some(0), "{ended}");
    let branch = task(&first, "talk")["branch"]["branch"].as_str();
    let branch = branch.expect("a branch").to_owned();
    let repo = scene.repo();
    let repo = repo.to_str().expect("a path");
    let (mut child, mut lines) = start(
        &scene,
        &["-C", repo, "continue", "talk", "--prompt", "wait for me"],
    );
    expect(&mut lines, "| ready");
    scene.git(&["branch", "-f", &branch, "HEAD"]);
    let run = scene.runs().pop().expect("a run");
    let touched = docker(&[
        "exec",
        &format!("agent-run-{run}-1-talk"),
        "touch",
        "/tmp/go",
    ]);
    assert_eq!(touched.code, Some(0), "{touched}");
    let said: Vec<String> = lines.collect();
    child.wait().expect("agent-run");
    let result = scene.result();
    let report = task(&result, "talk");
    assert_eq!(report["branch"]["result"], "taken", "{report:#} {said:?}");
    let kept = report["branch"]["kept_ref"].as_str().expect("a ref");
    let said = scene.git(&["show", &format!("{kept}:said.txt")]);
    assert!(said.contains("wait for me"), "{said}");
    assert_eq!(
        scene.git(&["rev-parse", &branch]),
        scene.git(&["rev-parse", "HEAD"])
    );
}

/// Each client that can go on does so with its own files and flag: its model sees what was said before.
#[test]
#[ignore = "builds the images of all agents: make test-all runs it"]
fn clients_go_on_in_the_same_conversation() {
    let scene = Scene::new();
    build_images(&scene);
    let endpoint = Endpoint::new(&scene, 4);
    let mut spec = format!(
        "{HEAD}agents:\n  codex:\n    run: |\n{}tasks:{GATE}",
        held_back("codex")
    );
    let able = AGENTS.iter().filter(|(name, _)| *name != "mini-swe-agent");
    let able: Vec<&str> = able.map(|(name, _)| *name).collect();
    let more = "session: keep\nfeedback: 1\nverify: echo look here; exit 1";
    for name in &able {
        // The scene is the first part of each path, and does as `commit` does.
        let text = agent_task(name, "commit", more).replace(
            "model.test:8080/commit",
            &format!("model.test:8080/session-{name}"),
        );
        spec += &text;
    }
    let (result, _) = run(&scene, &endpoint, &spec);
    let asked = endpoint.asked();
    for name in able {
        let id = format!("{name}-commit");
        let (report, log) = (task(&result, &id), log_of(&scene, &id));
        assert_eq!(report["outcome"]["outcome"], "verify_failed", "{id}: {log}");
        assert_eq!(report["attempt"], 2, "{id}: {log}");
        let path = format!("/session-{name}/");
        let is_its = |asked: &&Value| asked["path"].as_str().is_some_and(|p| p.starts_with(&path));
        let texts = asked
            .iter()
            .filter(is_its)
            .map(|asked| asked["asked"].to_string());
        let told: Vec<String> = texts.filter(|text| text.contains("look here")).collect();
        assert!(!told.is_empty(), "{id}: {log}");
        let before = if name == "aider" {
            "<<<<<<< SEARCH"
        } else {
            "cat readme.md"
        };
        let goes_on = |text: &&String| {
            text.contains(before) && text.matches("touch /workspace/a").count() == 1
        };
        assert!(
            told.iter().any(|text| goes_on(&text)),
            "{id}: {log}\n{}",
            told[0]
        );
        let notes = report["branch"]["notes"].to_string();
        assert!(!notes.contains("session"), "{id}: {notes}");
        // Each attempt has used its own.
        let earlier = &report["earlier_attempts"][0]["agent"];
        let tokens = |agent: &Value| agent["tokens"].as_u64();
        let (now, then) = (tokens(&report["agent"]), tokens(earlier));
        if name == "aider" {
            assert!(now.is_some() && then.is_some(), "{id}: {log}");
        } else {
            assert_eq!((then, now), (Some(330), Some(110)), "{id}: {log}");
        }
        if name == "claude-code" {
            assert_eq!(earlier["micro_usd"], 1800, "{log}");
            assert_eq!(report["agent"]["micro_usd"], 600, "{log}");
        }
    }
    goes_on_after_its_run(&scene, &endpoint, task(&result, "codex-commit"));
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// The script of an agent that waits, where it goes on after its run, until its endpoint can be found.
fn held_back(name: &str) -> String {
    let preset = agent_run::agents::preset(name).expect("a preset");
    let (_, run) = preset.text.split_once("\nrun: |\n").expect("a script");
    let waits = r#"if [ -n "${AGENT_SESSION:-}" ] && [ -z "${AGENT_FEEDBACK:-}" ]; then
    echo ready; until [ -e /tmp/go ]; do sleep 0.1; done
fi
"#;
    let waits: Vec<&str> = waits.lines().collect();
    let lines = waits.into_iter().chain(run.lines());
    lines.map(|line| format!("      {line}\n")).collect()
}

/// `continue` goes on with a client in the conversation that its task had, on its branch, in a new container.
#[track_caller]
fn goes_on_after_its_run(scene: &Scene, endpoint: &Endpoint, before: &Value) {
    let before_asked = endpoint.asked().len();
    let repo = scene.repo();
    let repo = repo.to_str().expect("a path");
    let mut command = scene.command(&[
        "-C",
        repo,
        "continue",
        "codex-commit",
        "--prompt",
        "Go further.",
    ]);
    command.env("SCRIPTED_KEY", KEY);
    let (mut child, mut lines) = spawn(command);
    expect(&mut lines, "| ready");
    let run = scene.runs().pop().expect("a run");
    endpoint.join(&format!("agent-run-{run}-egress-proxy"));
    let container = format!("agent-run-{run}-1-codex-commit");
    let touched = docker(&["exec", &container, "touch", "/tmp/go"]);
    assert_eq!(touched.code, Some(0), "{touched}");
    let said: Vec<String> = lines.collect();
    child.wait().expect("agent-run");
    let result = scene.result();
    let report = task(&result, "codex-commit");
    let said = said.join("\n");
    assert_eq!(
        report["branch"]["branch"], before["branch"]["branch"],
        "{said}"
    );
    assert_eq!(report["outcome"]["outcome"], "verify_failed", "{said}");
    let asked: Vec<String> = endpoint.asked()[before_asked..]
        .iter()
        .map(|asked| asked["asked"].to_string())
        .collect();
    let first = asked.first().unwrap_or_else(|| panic!("{said}"));
    for told in ["Go further.", "cat readme.md", "look here"] {
        assert!(first.contains(told), "{told}: {first}");
    }
    assert_eq!(first.matches("touch /workspace/a").count(), 1, "{first}");
    assert_eq!(content(scene, report), "one\nchanged\nfurther\n", "{said}");
    // What its attempts used, not what the conversation has.
    let tokens = |report: &Value| report["agent"]["tokens"].as_u64();
    let used = (tokens(&report["earlier_attempts"][0]), tokens(report));
    assert_eq!(used, (Some(220), Some(110)), "{said}");
}
