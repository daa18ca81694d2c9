//! What goes wrong with a model, with each client: told apart, bounded, and its work collected.

use serde_json::Value;

use super::super::scene::{Scene, task};
use super::endpoint::{Endpoint, build_images};
use super::{AGENTS, GATE, HEAD, KEY, LOGIN, agent_task, log_of, run};

/// What a client in a scene of the endpoint's ends with. Claude Code asks again without a stream where one is
/// cut; aider and mini-swe-agent never ask for one.
const ENDS: [(&str, &str, i64); 26] = [
    ("claude-code", "unauthorized", 77),
    ("claude-code", "limited", 75),
    ("claude-code", "broken", 69),
    ("claude-code", "cut", 0),
    ("claude-code", "endless", 79),
    ("codex", "unauthorized", 77),
    ("codex", "limited", 75),
    ("codex", "broken", 69),
    ("codex", "cut", 69),
    ("codex", "endless", 79),
    ("gemini", "unauthorized", 77),
    ("gemini", "limited", 75),
    ("gemini", "broken", 69),
    ("gemini", "cut", 69),
    ("gemini", "endless", 79),
    ("opencode", "unauthorized", 77),
    ("opencode", "limited", 75),
    // It goes on as if nothing had been cut.
    ("opencode", "cut", 79),
    ("opencode", "endless", 79),
    ("aider", "unauthorized", 77),
    ("aider", "limited", 75),
    ("aider", "broken", 69),
    ("mini-swe-agent", "unauthorized", 77),
    ("mini-swe-agent", "limited", 75),
    ("mini-swe-agent", "broken", 69),
    ("mini-swe-agent", "endless", 79),
];

#[test]
#[ignore = "builds the images of all agents: make test-all runs it"]
fn failures_of_a_model_are_told_apart() {
    let scene = Scene::new();
    build_images(&scene);
    let endpoint = Endpoint::new(&scene, 1);
    let mut spec = format!("{HEAD}tasks:{GATE}");
    for (name, told, _) in ENDS {
        let turns = if name == "aider" { "" } else { "max_turns: 4" };
        spec += &agent_task(name, told, turns);
    }
    for (name, _) in AGENTS {
        spec += &agent_task(name, "option", "args: [--no-such-option]");
    }
    let again = "retry: { max: 1, when: [rate_limited] }\nsecrets: [claude_login]";
    spec += &agent_task("claude-code", "spent", again);
    spec += &agent_task("codex", "plan", "");
    std::fs::write(scene.path().join("login.json"), LOGIN).expect("a log-in");
    let (result, said) = run(&scene, &endpoint, &spec);
    let options = AGENTS.iter().map(|(name, _)| (*name, "option", 78));
    let mut wrong = Vec::new();
    for (name, told, code) in ENDS.into_iter().chain(options) {
        let id = format!("{name}-{told}");
        let report = task(&result, &id);
        let log = log_of(&scene, &id);
        let ended = match report["outcome"]["outcome"].as_str() {
            Some("succeeded") => Some(0),
            _ => report["outcome"]["exit_code"].as_i64(),
        };
        if ended != Some(code) {
            wrong.push(format!("{id}: not {code} but {}\n{log}", report["outcome"]));
            continue;
        }
        let because = log.contains(&format!("agent-run: {name}: "));
        assert!(because || code == 0, "{id}: {log}");
        assert!(!log.contains(KEY), "{id}: {log}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, _) in AGENTS {
        let version = agent_run::agents::version(name).expect("a version");
        let log = log_of(&scene, &format!("{name}-option"));
        let told = format!("agent-run: {name}: its client does not know an option");
        assert!(log.contains(&told), "{log}");
        assert!(log.contains(&format!("is for version {version}")), "{log}");
    }
    asked_to_wait(&scene, &result, &said);
}

/// What a model asks to wait is known as far as its client passes that on, and kept to.
#[track_caller]
fn asked_to_wait(scene: &Scene, result: &Value, said: &str) {
    for (name, seconds) in [
        ("gemini", Some(2)),
        ("opencode", Some(1)),
        ("aider", Some(2)),
        ("mini-swe-agent", Some(2)),
        // It says the status only.
        ("codex", None),
    ] {
        let id = format!("{name}-limited");
        let asked = task(result, &id)["agent"]["retry_after_ms"].as_u64();
        let log = log_of(scene, &id);
        assert_eq!(
            asked,
            seconds.map(|seconds: u64| seconds * 1000),
            "{id}: {log}"
        );
    }
    // It adds some to what it is told.
    let asked = task(result, "claude-code-limited")["agent"]["retry_after_ms"].as_u64();
    assert!(
        asked.is_some_and(|asked| (1000..60_000).contains(&asked)),
        "{asked:?}"
    );
    let plan = task(result, "codex-plan");
    assert_eq!(
        plan["outcome"]["exit_code"],
        75,
        "{}",
        log_of(scene, "codex-plan")
    );
    // It tells the minute.
    let asked = plan["agent"]["retry_after_ms"].as_u64();
    assert!(
        asked.is_some_and(|asked| (7_000_000..7_300_000).contains(&asked)),
        "{asked:?}"
    );
    let spent = task(result, "claude-code-spent");
    assert_eq!(spent["attempt"], 2, "{said}");
    let asked = spent["earlier_attempts"][0]["agent"]["retry_after_ms"].as_u64();
    let asked = asked.unwrap_or_else(|| panic!("{spent:#}"));
    assert!((1..=30_000).contains(&asked), "{asked}");
    assert!(said.contains(", as its agent asks"), "{said}");
    let waiting = &spent["phases"][0];
    assert_eq!(waiting["phase"], "waiting", "{spent:#}");
    assert!(waiting["took_ms"].as_u64() >= Some(asked), "{spent:#}");
}

/// How often a model answers that never does so again then: that a client with tools has worked by its second
/// answer, and aider, which has none, ends with that.
fn answers(name: &str) -> u64 {
    if name == "aider" { 1 } else { 2 }
}

#[test]
#[ignore = "builds the images of all agents: make test-all runs it"]
fn a_budget_and_a_timeout_end_every_client() {
    let scene = Scene::new();
    build_images(&scene);
    let endpoint = Endpoint::new(&scene, 3);
    let mut spec = format!("{HEAD}tasks:{GATE}");
    for (name, _) in AGENTS {
        let tokens = 100 * answers(name);
        let budget = format!("budget: {{ tokens: {tokens} }}");
        spec += &agent_task(name, "stall", &budget);
        spec += &agent_task(name, "hang", "timeout: 20s");
    }
    // opencode tries again without end.
    spec += &agent_task("opencode", "broken", "timeout: 20s");
    // Claude Code ends by itself, the others are ended.
    let priced = ["claude-code", "opencode", "mini-swe-agent"];
    for name in priced {
        spec += &agent_task(name, "endless", "budget: { usd: 0.003 }");
    }
    let (result, said) = run(&scene, &endpoint, &spec);
    let outcome = |id: &str| task(&result, id)["outcome"].clone();
    for (name, _) in AGENTS {
        let id = format!("{name}-stall");
        let (report, log) = (task(&result, &id), log_of(&scene, &id));
        assert_eq!(
            outcome(&id)["outcome"],
            "out_of_budget",
            "{id}: {report:#}\n{log}"
        );
        let tokens = 110 * answers(name);
        assert_eq!(outcome(&id)["used"]["tokens"], tokens, "{id}: {log}");
        assert_eq!(report["agent"]["tokens"], tokens, "{id}: {log}");
        if name != "aider" {
            assert_eq!(report["branch"]["result"], "created", "{id}: {report:#}");
        }
        let id = format!("{name}-hang");
        assert_eq!(outcome(&id)["outcome"], "timed_out", "{id}: {said}");
    }
    assert_eq!(outcome("opencode-broken")["outcome"], "timed_out", "{said}");
    for name in priced {
        let id = format!("{name}-endless");
        let ended = outcome(&id);
        assert_eq!(
            ended["outcome"],
            "out_of_budget",
            "{id}: {}",
            log_of(&scene, &id)
        );
        let used: Value = ended["used"]["micro_usd"].clone();
        assert!(
            used.as_u64().is_some_and(|used| used >= 3000),
            "{id}: {ended}"
        );
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}
