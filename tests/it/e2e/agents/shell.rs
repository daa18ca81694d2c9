//! What every agent has, by the one that needs no model: its prompt is a script.

use serde_json::json;

use super::super::pipelines::shellcheck;
use super::super::scene::{Scene, task};

#[test]
fn an_agents_script_has_what_the_spec_says_to_it() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
agents:
  own:
    extends: shell
    run: told | cat >told.txt; printf '%s|' "$AGENT_NAME" "$AGENT_MODEL" "$AGENT_MAX_TURNS" "$@" >said.txt
    has_max_turns: true
tasks:
  plain: { agent: shell, prompt: "echo \"$1\" '$(id)' > said.txt", args: ["two words"] }
  own:
    agent: own
    model: large
    max_turns: 7
    args: -a 'b c'
    prompt: Say "it's" `x` $(y) ${HOME}
    verify: 'grep -q "did not pass" told.txt || { echo look here; exit 1; }'
    feedback: 1
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let show = |id: &str, file: &str| {
        let branch = task(&result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        scene.git(&["show", &format!("{branch}:{file}")])
    };
    assert_eq!(show("plain", "said.txt"), "two words $(id)\n");
    assert_eq!(show("own", "said.txt"), "own|large|7|-a|b c|");
    let told = show("own", "told.txt");
    assert!(
        told.starts_with("Say \"it's\" `x` $(y) ${HOME}\n\nagent-run: the result"),
        "{told}"
    );
    assert!(told.contains("look here"), "{told}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_an_agent_says_of_itself_is_taken_masked_and_believed_in_nothing() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
secrets: { key: { environment: SCRIPTED_KEY } }
defaults: { agent: shell }
tasks:
  good:
    secrets: [{ source: key, environment: KEY }]
    prompt: |
      mkdir ~/.agent-run
      echo '{"turns":3,"tokens":1234,"usd":0.25,"more":"x"}' >~/.agent-run/usage.json
      echo "the key is $KEY." >~/.agent-run/transcript.jsonl
  odd:
    prompt: |
      mkdir ~/.agent-run
      echo '{"turns":-1,"tokens":1e300,"usd":1}' >~/.agent-run/usage.json
      ln -s /etc/passwd ~/.agent-run/transcript.jsonl
  none:
    prompt: |
      mkdir -p ~/.agent-run/usage.json ~/.agent-run/transcript.jsonl
  long:
    prompt: |
      mkdir ~/.agent-run
      { printf '{"turns":1,"x":"'; head -c 100000 /dev/zero | tr '\0' x; printf '"}'; } >~/.agent-run/usage.json
      mkfifo ~/.agent-run/transcript.jsonl
"#,
    );
    let spec = spec.to_str().expect("a path");
    let mut command = scene.command(&["run", spec]);
    command.env("SCRIPTED_KEY", "hunter2-hunter2");
    let ended = command.output().expect("agent-run").into();
    let result = scene.checked_result(&ended);
    assert_eq!(ended.code, Some(0), "{ended}");
    let agent = |id: &str| task(&result, id)["agent"].clone();
    let transcript = agent("good")["transcript"].clone();
    let expected = json!({
        "name": "shell", "version": null, "turns": 3, "tokens": 1234, "micro_usd": 250_000,
        "retry_after_ms": null, "transcript": transcript,
    });
    assert_eq!(agent("good"), expected);
    let transcript = std::fs::read_to_string(transcript.as_str().expect("a path"));
    let transcript = transcript.expect("a transcript");
    assert!(
        transcript.starts_with("the key is ") && !transcript.contains("hunter2"),
        "{transcript}"
    );
    let nothing = json!({
        "name": "shell", "version": null, "turns": null, "tokens": null, "micro_usd": null,
        "retry_after_ms": null, "transcript": null,
    });
    assert_eq!(agent("none"), nothing);
    assert_eq!(agent("long"), nothing);
    let mut odd = nothing;
    odd["micro_usd"] = json!(1_000_000);
    assert_eq!(agent("odd"), odd);
    let sum = json!({ "turns": 3, "tokens": 1234, "micro_usd": 1_250_000 });
    assert_eq!(result["agents"], sum);
    assert!(
        ended
            .stdout
            .contains("agent shell: 3 turns, 1234 tokens, $0.2500"),
        "{ended}"
    );
    assert!(
        ended
            .stdout
            .contains("agents 3 turns, 1234 tokens, $1.2500"),
        "{ended}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn an_event_that_a_preset_does_not_understand_ends_nothing() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
agents:
  odd:
    extends: shell
    run: |
      client 'def event: if .number then { line: (.number + 1 | tostring) } else { turn: .id, line } end;' cat /agent/prompt.md
tasks:
  odd:
    agent: odd
    prompt: |
      {"number":"none"}
      {"id":5,"line":"one"}
      no event
      {"id":{"a":"b"},"line":"two"}
      {"number":2}
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(task(&result, "odd")["agent"]["turns"], 2, "{ended}");
    let log = scene.agent_run(&["-C", "repo", "logs", "odd"]).stdout;
    let lines = ["one", "no event", "two", "3", "agent-run: turns: 2"];
    let at = lines.map(|line| log.find(line).unwrap_or_else(|| panic!("{line}: {log}")));
    assert!(at.is_sorted(), "{log}");
}

#[test]
fn a_client_that_leaves_something_running_or_is_deaf_holds_nothing_up() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
agents:
  own:
    extends: shell
    has_max_turns: true
    run: "client 'def event: .;' sh /agent/prompt.md"
defaults: { agent: own, timeout: 2m }
tasks:
  leaves:
    prompt: |
      echo '{"line":"the last"}'
      echo "no event" >&2
      sleep 600 &
      exit 3
  deaf:
    max_turns: 2
    prompt: |
      trap '' TERM
      for turn in 1 2 3; do echo "{\"turn\":$turn}"; done
      until sleep 600; do :; done
"#,
    );
    let outcome = |id: &str| task(&result, id)["outcome"]["exit_code"].clone();
    assert_eq!(
        (outcome("leaves"), outcome("deaf")),
        (json!(3), json!(79)),
        "{ended}"
    );
    let log = scene.agent_run(&["-C", "repo", "logs", "leaves"]).stdout;
    assert!(
        log.contains("the last") && log.contains("no event"),
        "{log}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_agents_run_is_sound() {
    for preset in agent_run::agents::PRESETS {
        let (_, run) = preset.text.split_once("\nrun: |\n").expect("a script");
        let script: Vec<&str> = run
            .lines()
            .map(|line| line.get(2..).unwrap_or(""))
            .collect();
        let prelude = agent_run::agents::PRELUDE;
        // Programs of jq and inner shells are in single quotes; a preset's functions stand for the prelude's.
        let own = "# shellcheck disable=SC2016,SC2317";
        shellcheck("sh", &format!("{own}\n{prelude}{}\n", script.join("\n")));
    }
}

#[test]
fn a_limited_rate_is_tried_again_where_the_spec_says_so() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
defaults: { agent: shell, prompt: '[ "$AGENT_ATTEMPT" = 2 ] || exit "$1"' }
tasks:
  limited: { args: ["75"], retry: { when: [rate_limited] } }
  refused: { args: ["77"], retry: { when: [rate_limited] } }
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(task(&result, "limited")["outcome"]["outcome"], "succeeded");
    assert_eq!(task(&result, "limited")["attempt"], 2);
    assert_eq!(task(&result, "refused")["outcome"]["exit_code"], 77);
    assert_eq!(task(&result, "refused")["attempt"], 1);
}

#[test]
fn a_task_waits_for_as_long_as_the_words_of_its_model_say() {
    let scene = Scene::new();
    let words = [
        ("seconds", "Please try again in 1.2s. Visit", Some(2)),
        ("folded", "Please try\n      again in 800ms.", Some(1)),
        ("longer", "try again in 1h2m3s", Some(3723)),
        ("days", "Try again in 5 days 20 minutes.", Some(21600)),
        (
            "header",
            "'retry-after': '7', Retrying in 32.0 seconds",
            Some(7),
        ),
        ("last", "retry after 9s, then retry in 3 minutes", Some(180)),
        ("date", "retry-after: Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("none", "try again later, at 5", None),
    ];
    let mut spec = String::from(
        "version: 1
agents:
  own: { extends: shell, run: \"client '' sh /agent/prompt.md\" }
defaults: { agent: own }
tasks:
",
    );
    for (id, words, _) in words {
        spec += &format!(
            "  {id}:\n    prompt: |\n      cat <<'E'\n      Error 429: {words}\n      E\n      exit 1\n"
        );
    }
    spec += "    retry: { when: [rate_limited] }\n";
    let spec = spec.replace(
        "  seconds:\n",
        "  seconds:\n    retry: { when: [rate_limited] }\n",
    );
    let (ended, result) = scene.run(&spec);
    for (id, _, seconds) in words {
        let report = task(&result, id);
        assert_eq!(report["outcome"]["exit_code"], 75, "{id}: {ended}");
        let asked = report["agent"]["retry_after_ms"].as_u64();
        let expected = seconds.map(|seconds: u64| seconds * 1000);
        assert_eq!(asked, expected, "{id}: {ended}");
    }
    assert_eq!(task(&result, "seconds")["attempt"], 2, "{ended}");
    assert_eq!(task(&result, "none")["attempt"], 2, "{ended}");
    let told = "again in 2s, as its agent asks";
    assert!(format!("{ended}").contains(told), "{ended}");
    let log = scene.agent_run(&["-C", "repo", "logs", "longer"]).stdout;
    let told = "agent-run: own: the model limits the rate, and asks to wait for 3723 s";
    assert!(log.contains(told), "{log}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn agents_are_listed_and_shown() {
    let scene = Scene::empty();
    let listed = scene.agent_run(&["agents"]);
    assert_eq!(listed.code, Some(0), "{listed}");
    for preset in agent_run::agents::PRESETS {
        assert!(listed.stdout.contains(preset.name), "{listed}");
        let shown = scene.agent_run(&["agents", "show", preset.name]);
        assert!(shown.stdout.ends_with(preset.text), "{shown}");
    }
    let json = scene.agent_run(&["agents", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["agents"].as_array().map(Vec::len), Some(7));
    let unknown = scene.agent_run(&["agents", "show", "claude"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(
        unknown.stderr.contains("the agents: claude-code"),
        "{unknown}"
    );
    let unknown = scene.agent_run(&["images", "build", "codx"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(
        unknown.stderr.contains("did you mean `codex`?"),
        "{unknown}"
    );
}
