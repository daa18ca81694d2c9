//! The agents themselves, installed from their registries and run in their images against an endpoint that
//! follows a script: reached by the allow-list of their tasks, and by nothing else.

mod budget;
mod endpoint;
mod failures;
mod session;
mod shell;

use std::process::Child;

use endpoint::{Endpoint, build_images, good};
use serde_json::Value;

use super::scene::{Scene, expect, spawn, task};

/// The page whose spec is run.
const PAGE: &str = include_str!("../../../../docs/agents.md");

const KEY: &str = "sk-scripted-0123456789abcdef";

/// What Claude Code keeps of a subscription's log-in.
const LOGIN: &str = r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-scripted","refreshToken":"sk-ant-ort01-scripted","expiresAt":4102444800000,"scopes":["user:inference"],"subscriptionType":"max"}}"#;

/// A token of a subscription, which ends in 2100.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X3BsYW5fdHlwZSI6InBsdXMiLCJjaGF0Z3B0X2FjY291bnRfaWQiOiJhIn19.c2ln";

/// What Codex keeps of a log-in with it.
fn codex_login() -> String {
    let tokens = serde_json::json!({
        "id_token": TOKEN, "access_token": TOKEN, "refresh_token": "scripted", "account_id": "a",
    });
    serde_json::json!({ "tokens": tokens, "last_refresh": "2099-01-01T00:00:00Z" }).to_string()
}

/// Every quote, and what a shell would run.
const PROMPT: &str = r#"Say "it's" `touch /workspace/a` $(touch /workspace/b) ${HOME} \ <<E; %s !"#;

/// What all tasks have: the endpoint by its name, with the scene as the first part of each path.
const HEAD: &str = "
version: 1
secrets:
  anthropic_key: { environment: SCRIPTED_KEY }
  openai_key: { environment: SCRIPTED_KEY }
  gemini_key: { environment: SCRIPTED_KEY }
  claude_login: { file: login.json }
  codex_login: { file: codex.json }
defaults:
  mem_limit: 1g
  cpus: 1
  timeout: 4m
  egress: { allow: ['model.test:8080'] }
";

const ENVIRONMENT: &str = "
      CLAUDE_CODE_MAX_RETRIES: '1'
      MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT: '2'
      ANTHROPIC_BASE_URL: http://model.test:8080/SCENE
      OPENAI_BASE_URL: http://model.test:8080/SCENE/v1
      OPENAI_API_BASE: http://model.test:8080/SCENE/v1
      GOOGLE_GEMINI_BASE_URL: http://model.test:8080/SCENE
";

/// Holds the tasks back until the endpoint can be found.
const GATE: &str = "
  gate:
    run: echo ready; until [ -e /tmp/go ]; do sleep 0.1; done
";

const AGENTS: [(&str, &str); 6] = [
    ("claude-code", ""),
    ("codex", "model: gpt-5"),
    ("gemini", "model: gemini-2.5-pro"),
    ("opencode", "model: anthropic/claude-sonnet-4-5"),
    ("aider", "model: openai/gpt-4o"),
    ("mini-swe-agent", "model: openai/gpt-4o"),
];

/// A task of an agent in a scene of the endpoint's.
fn agent_task(name: &str, scene: &str, more: &str) -> String {
    let (_, model) = AGENTS
        .iter()
        .find(|(agent, _)| *agent == name)
        .expect("an agent");
    let environment = ENVIRONMENT.replace("SCENE", scene);
    let prompt = serde_json::to_string(PROMPT).expect("JSON");
    let mut text = format!(
        "  {name}-{scene}:\n    needs: [gate]\n    base: HEAD\n    agent: {name}\n    prompt: {prompt}\n    environment:{environment}"
    );
    for line in [*model, more].iter().flat_map(|lines| lines.lines()) {
        text += &format!("    {line}\n");
    }
    text
}

fn begin(scene: &Scene, spec: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let spec = scene.spec(spec);
    let mut command = scene.command(&["run", spec.to_str().expect("a path"), "-j", "6"]);
    command.env("SCRIPTED_KEY", KEY);
    spawn(command)
}

/// Runs a spec with the endpoint; gives the result, and what was written meanwhile.
fn run(scene: &Scene, endpoint: &Endpoint, spec: &str) -> (Value, String) {
    let (mut child, mut lines) = begin(scene, spec);
    expect(&mut lines, "| ready");
    let run = scene.runs().pop().expect("a run");
    endpoint.join(&format!("agent-run-{run}-egress-proxy"));
    good(&[
        "exec",
        &format!("agent-run-{run}-1-gate"),
        "touch",
        "/tmp/go",
    ]);
    let said: Vec<String> = lines.collect();
    child.wait().expect("agent-run");
    (scene.result(), said.join("\n"))
}

/// What a task wrote.
fn log_of(scene: &Scene, id: &str) -> String {
    scene.agent_run(&["-C", "repo", "logs", id]).stdout
}

fn content(scene: &Scene, report: &Value) -> String {
    let branch = report["branch"]["branch"]
        .as_str()
        .unwrap_or_else(|| panic!("{report:#}"));
    scene.git(&["show", &format!("{branch}:readme.md")])
}

#[test]
#[ignore = "builds the images of all agents: make test-all runs it"]
fn each_client_works_in_its_image_and_comes_back_with_a_branch() {
    let scene = Scene::new();
    build_images(&scene);
    let endpoint = Endpoint::new(&scene, 0);
    let mut spec = format!("{HEAD}tasks:{GATE}");
    for (name, told) in works() {
        spec += &agent_task(name, told, "");
    }
    let large = large();
    std::fs::write(scene.path().join("large.md"), &large).expect("a prompt");
    let told = serde_json::to_string(PROMPT).expect("JSON");
    for (name, _) in AGENTS {
        let text = agent_task(name, "large", "");
        spec += &text.replace(&format!("prompt: {told}"), "prompt_file: large.md");
    }
    std::fs::write(scene.path().join("login.json"), LOGIN).expect("a log-in");
    spec += &agent_task("claude-code", "login", "secrets: [claude_login]");
    std::fs::write(scene.path().join("codex.json"), codex_login()).expect("a log-in");
    // Under a log-in it packs what it asks, which the endpoint does not read.
    let plain = "args: [-c, features.enable_request_compression=false]";
    spec += &agent_task(
        "codex",
        "login",
        &format!("secrets: [codex_login]\n{plain}"),
    );
    let (result, _) = run(&scene, &endpoint, &spec);
    for (name, told) in works() {
        came_back(&scene, &result, (name, told));
    }
    told_as_written(&endpoint);
    told_the_whole(&scene, &result, (&endpoint, &large));
    for (name, secret, sign, key) in [
        (
            "claude-code",
            "claude_login",
            "/v1/messages",
            "sk-ant-oat01-scripted",
        ),
        ("codex", "codex_login", "/v1/responses", TOKEN),
    ] {
        let id = format!("{name}-login");
        let report = task(&result, &id);
        assert_eq!(report["secrets"], serde_json::json!([secret]));
        assert_eq!(content(&scene, report), "one\nchanged\n");
        let path = format!("/login{sign}");
        let is_its = |asked: &Value| asked["path"].as_str().is_some_and(|p| p.starts_with(&path));
        let its: Vec<Value> = endpoint.asked().into_iter().filter(is_its).collect();
        assert!(!its.is_empty(), "{id}");
        for asked in its {
            assert_eq!(asked["key"], key, "{}", asked["path"]);
        }
        assert!(!log_of(&scene, &id).contains(key), "{id}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// The longest prompt that a spec can have.
fn large() -> String {
    let end = "the end";
    let mut text = format!("{PROMPT}\n").repeat((1 << 20) / PROMPT.len());
    text.truncate((1 << 20) - end.len());
    text + end
}

/// A prompt of a mebibyte arrives in one piece.
#[track_caller]
fn told_the_whole(scene: &Scene, result: &Value, (endpoint, prompt): (&Endpoint, &str)) {
    let prompt = serde_json::to_string(prompt).expect("JSON");
    let prompt = prompt.trim_matches('"');
    let told = |asked: &Value| {
        let is_its = |path: &str| path.starts_with("/large/");
        asked["path"].as_str().is_some_and(is_its) && asked["asked"].to_string().contains(prompt)
    };
    // Each asks three times, and aider once or twice.
    let number = endpoint.asked().iter().filter(|asked| told(asked)).count();
    assert!(number > 15, "{number}");
    for (name, _) in AGENTS {
        let id = format!("{name}-large");
        let log = log_of(scene, &id);
        let report = task(result, &id);
        assert_eq!(report["outcome"]["outcome"], "succeeded", "{id}: {log}");
        assert_eq!(content(scene, report), "one\nchanged\n", "{id}");
    }
}

/// The agents and what each is made to do: all of them commit, and all with tools try to get out.
fn works() -> impl Iterator<Item = (&'static str, &'static str)> {
    let commit = AGENTS.iter().map(|(name, _)| (*name, "commit"));
    let with_tools = AGENTS.iter().filter(|(name, _)| *name != "aider");
    let escape = with_tools.map(|(name, _)| (*name, "escape"));
    commit
        .chain(escape)
        .chain([("claude-code", "edit"), ("codex", "edit")])
}

/// A task brought its work back, told what it did, and got nowhere else.
#[track_caller]
fn came_back(scene: &Scene, result: &Value, (name, told): (&str, &str)) {
    let id = format!("{name}-{told}");
    let (report, log) = (task(result, &id), log_of(scene, &id));
    assert_eq!(report["outcome"]["outcome"], "succeeded", "{id}: {log}");
    let changed = match told {
        "escape" => "one\ntried\n",
        _ => "one\nchanged\n",
    };
    assert_eq!(content(scene, report), changed, "{id}: {log}");
    assert_eq!(report["branch"]["files"], 1, "{id}: {report:#}");
    let committed = report["branch"]["leftovers_committed"].as_bool();
    assert_eq!(committed, Some(told != "commit"), "{id}: {report:#}");
    assert!(
        !log.contains(KEY) && !log.contains("\u{1b}["),
        "{id}: {log}"
    );
    if name != "aider" {
        let first = if told == "commit" {
            "cat readme.md"
        } else {
            "readme.md"
        };
        assert!(log.contains(first), "{id}: {log}");
    }
    let agent = &report["agent"];
    assert_eq!(agent["name"], name, "{id}");
    let version = agent_run::agents::version(name).expect("a version");
    assert_eq!(agent["version"], version, "{id}");
    let turns = match (name, told) {
        ("aider", _) => 2,
        (_, "commit") => 3,
        _ => 2,
    };
    assert_eq!(agent["turns"], turns, "{id}: {log}");
    assert_eq!(agent["tokens"], 110 * turns, "{id}: {log}");
    let transcript = agent["transcript"]
        .as_str()
        .unwrap_or_else(|| panic!("{id}: {report:#}"));
    let transcript = std::fs::read_to_string(transcript).expect("a transcript");
    assert!(transcript.contains("readme.md"), "{id}: {transcript}");
    assert!(!transcript.contains(KEY), "{id}");
}

/// The prompt arrived as it is, and the key by the secret; nothing ran what stands in the prompt.
fn told_as_written(endpoint: &Endpoint) {
    let mut asked = endpoint.asked();
    asked.retain(|asked| {
        !asked["path"]
            .as_str()
            .is_some_and(|p| p.starts_with("/login/"))
    });
    let prompt = serde_json::to_string(PROMPT).expect("JSON");
    for (name, sign) in [
        ("claude-code", "/v1/messages?"),
        ("codex", "/v1/responses"),
        ("gemini", ":streamGenerateContent"),
        ("opencode", "/v1/messages"),
        ("aider and mini-swe-agent", "/chat/completions"),
    ] {
        let of_it = asked
            .iter()
            .filter(|asked| asked["path"].as_str().is_some_and(|p| p.contains(sign)));
        let of_it: Vec<&Value> = of_it.collect();
        assert!(!of_it.is_empty(), "{name}");
        for asked in of_it {
            assert_eq!(asked["key"], KEY, "{name}: {}", asked["path"]);
        }
        let is_told = |asked: &&Value| {
            asked["asked"]
                .to_string()
                .contains(prompt.trim_matches('"'))
        };
        let number = asked
            .iter()
            .filter(|a| a["path"].as_str().is_some_and(|p| p.contains(sign)));
        assert!(
            number.filter(is_told).count() > 0,
            "{name} was not told the prompt as it is"
        );
    }
}

/// `docs/agents.md` is right: its spec runs, and four agents come back with a branch each.
#[test]
#[ignore = "builds the images of all agents: make test-all runs it"]
fn four_agents_try_the_same_task() {
    let scene = Scene::new();
    build_images(&scene);
    let endpoint = Endpoint::new(&scene, 2);
    let (_, example) = PAGE.split_once("```yaml\n").expect("a spec");
    let (example, _) = example.split_once("```").expect("its end");
    let environment = format!("  environment:{}", ENVIRONMENT.replace("SCENE", "commit"));
    let spec = example
        .replace(
            "egress: { allow: [] }",
            "egress: { allow: ['model.test:8080'] }",
        )
        .replace(
            "environment: ANTHROPIC_API_KEY",
            "environment: SCRIPTED_KEY",
        )
        .replace("environment: OPENAI_API_KEY", "environment: SCRIPTED_KEY")
        .replace("environment: GEMINI_API_KEY", "environment: SCRIPTED_KEY")
        .replace("tasks:\n", &format!("{environment}tasks:{GATE}"))
        .replace(
            "    agent: ${matrix.agent}\n",
            "    agent: ${matrix.agent}\n    needs: [gate]\n    base: HEAD\n",
        );
    let (result, said) = run(&scene, &endpoint, &spec);
    for agent in ["claude-code", "codex", "gemini", "opencode"] {
        let id = format!("change[agent={agent}]");
        let report = task(&result, &id);
        assert_eq!(
            report["outcome"]["outcome"],
            "succeeded",
            "{id}: {}\n{said}",
            log_of(&scene, &id)
        );
        assert!(report["verify"].is_object(), "{report:#}");
        assert_eq!(content(&scene, report), "one\nchanged\n");
    }
}
