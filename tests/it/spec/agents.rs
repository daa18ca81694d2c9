//! `agent` and `agents`: what presets give a task, what it can give anew, and what is wrong.

use agent_run::agents::{IMAGES, PRESETS, image, version};
use agent_run::engine::config::{BuildConfig, PullPolicy};
use agent_run::plan::{Budget, TaskPlan, Work};
use insta::assert_snapshot;

use super::{bad, good, read};
use crate::plan::planned;

const SECRETS: &str = "\
version: 1
secrets:
  anthropic_key: { environment: ANTHROPIC_API_KEY }
  openai_key: { environment: OPENAI_API_KEY }
  gemini_key: { environment: GEMINI_API_KEY }
  claude_login: { file: login.json }
  team_key: { environment: TEAM_KEY }
";

fn task(keys: &str) -> TaskPlan {
    tasks(&format!("tasks:\n  t: {{ prompt: Do it., {keys} }}\n")).remove(0)
}

fn tasks(rest: &str) -> Vec<TaskPlan> {
    planned(&good(&format!("{SECRETS}{rest}"))).tasks
}

fn granted(task: &TaskPlan) -> Vec<(&str, Option<&str>)> {
    let grants = task.secrets.iter();
    grants
        .map(|grant| (grant.name.as_str(), grant.environment.as_deref()))
        .collect()
}

fn reached(task: &TaskPlan) -> Vec<&str> {
    let hosts = task.egress.as_ref().expect("a list").iter();
    hosts.map(agent_run::id::HostPattern::as_str).collect()
}

fn script(task: &TaskPlan) -> &str {
    match &task.work {
        Work::Script(script) => script,
        Work::Command(words) => panic!("{words:?}"),
    }
}

#[test]
fn each_preset_says_all_that_a_task_needs() {
    for preset in PRESETS {
        let name = preset.name;
        let model = if preset.text.contains("needs_model: true") {
            ", model: openai/x"
        } else {
            ""
        };
        let task = task(&format!("agent: {name}{model}, egress: {{ allow: [] }}"));
        let script = script(&task);
        // On a command line all processes of the machine could read it, and its length is bounded.
        for (at, _) in script.match_indices("/agent/prompt.md") {
            let before = script[..at].lines().last().unwrap_or_default().trim_start();
            assert!(
                ["cat ", "exec sh -eu "].contains(&before),
                "{name}: {before}"
            );
        }
        assert!(!script.contains("AGENT_PROMPT"), "{name}");
        if name == "shell" {
            assert_eq!((granted(&task), reached(&task)), (Vec::new(), Vec::new()));
            continue;
        }
        assert_eq!(granted(&task).len(), 1, "{name}");
        assert!(!reached(&task).is_empty(), "{name}");
        let tag = format!("agent-run-{name}:{}-", version(name).expect("a version"));
        let reference = task.image.reference.as_str();
        assert!(reference.starts_with(&tag), "{reference}");
        assert_eq!(task.image.pull_policy, PullPolicy::Missing);
    }
}

/// What is printed of a preset can be pasted under `agents`, and then means the same.
#[test]
fn a_preset_can_be_pasted() {
    for preset in PRESETS {
        let mut text = format!("{SECRETS}agents:\n  pasted:\n");
        for line in preset.text.lines() {
            text += &format!("    {line}\n");
        }
        text += "tasks:\n";
        for (id, agent) in [("a", preset.name), ("b", "pasted")] {
            text += &format!("  {id}: {{ agent: {agent}, model: openai/x, prompt: Do it. }}\n");
        }
        let tasks = planned(&good(&text)).tasks;
        assert_eq!(tasks[0].work, tasks[1].work);
        assert_eq!(tasks[0].image, tasks[1].image);
        assert_eq!(tasks[0].secrets, tasks[1].secrets);
        assert_eq!(tasks[0].environment, tasks[1].environment);
    }
}

#[test]
fn every_image_builds_from_its_dockerfile_alone_and_from_a_pinned_version() {
    for own in IMAGES {
        let lines = || own.dockerfile.lines();
        let copies = lines().filter(|line| line.starts_with("COPY ") || line.starts_with("ADD "));
        for line in copies {
            assert!(line.starts_with("COPY --from=packages "), "{line}");
        }
        assert!(!own.dockerfile.contains("latest"), "{}", own.name);
        assert_eq!(
            own.dockerfile.contains("ARG VERSION\n"),
            version(own.name).is_some()
        );
        // Whoever changes to root comes back.
        let users: Vec<&str> = lines().filter(|line| line.starts_with("USER ")).collect();
        assert!(
            users.is_empty() || users == ["USER root", "USER agent"],
            "{users:?}"
        );
    }
    for preset in PRESETS.iter().filter(|preset| preset.name != "shell") {
        assert!(image(preset.name).is_some(), "{}", preset.name);
    }
}

#[test]
fn each_key_of_a_preset_can_be_given_anew() {
    let with = |keys: &str| task(&format!("agent: claude-code, {keys}"));
    let plain = with("timeout: 5m");
    let other = with("image: \"mine:1\", environment: { DISABLE_TELEMETRY: \"0\", OWN: x }");
    assert_eq!(other.image.reference.as_str(), "mine:1");
    assert_eq!(other.image.build, None);
    let variable = |name: &str| other.environment[name].expose().to_owned();
    assert_eq!(
        (variable("DISABLE_TELEMETRY"), variable("OWN")),
        ("0".into(), "x".into())
    );
    assert!(other.environment.contains_key("DISABLE_AUTOUPDATER"));
    assert_eq!(other.work, plain.work);

    let directory = with("build: ./image");
    assert!(matches!(
        directory.image.build,
        Some(BuildConfig::Directory { .. })
    ));
    let older = with("build: { args: { VERSION: 2.0.1 } }");
    assert!(
        older
            .image
            .reference
            .as_str()
            .starts_with("agent-run-claude-code:2.0.1-")
    );
    let at_every_run = with("pull_policy: build");
    assert_eq!(at_every_run.image.pull_policy, PullPolicy::Build);
    assert_eq!(at_every_run.image.reference, plain.image.reference);
}

#[test]
fn an_agent_stands_on_the_base_image_or_on_another() {
    let below = |keys: &str| {
        let task = task(&format!("agent: claude-code{keys}"));
        let Some(BuildConfig::Dockerfile { args, below, .. }) = task.image.build else {
            panic!("{:?}", task.image);
        };
        (
            args["BASE"].clone(),
            below.map(|below| below.reference.to_string()),
        )
    };
    let base = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(below(""), (base.clone(), Some(base)));
    let (named, built) = below(", build: { args: { BASE: \"agent-run:dev\" } }");
    assert!(named.starts_with("agent-run-dev:"));
    assert_eq!(built, Some(named));
    let own = below(", build: { args: { BASE: \"node:22-bookworm\" } }");
    assert_eq!(own, ("node:22-bookworm".to_owned(), None));
    let itself = below(", build: { args: { BASE: \"agent-run:claude-code\" } }");
    assert_eq!(itself.1, None);
}

#[test]
fn an_agent_is_granted_one_secret_and_reaches_its_hosts() {
    let claude = task("agent: claude-code, egress: { allow: [example.com] }");
    assert_eq!(
        granted(&claude),
        [("anthropic_key", Some("ANTHROPIC_API_KEY"))]
    );
    assert_eq!(reached(&claude), ["api.anthropic.com", "example.com"]);
    let without_list = task("agent: claude-code");
    assert_eq!(without_list.egress, None);
    let named = task("agent: claude-code, secrets: [claude_login], egress: { allow: [] }");
    assert_eq!(granted(&named), [("claude_login", None)]);
    assert_eq!(
        reached(&named),
        ["api.anthropic.com", "platform.claude.com"]
    );
    let named = task("agent: claude-code, secrets: [anthropic_key, team_key]");
    assert_eq!(
        granted(&named),
        [
            ("team_key", None),
            ("anthropic_key", Some("ANTHROPIC_API_KEY"))
        ]
    );
    let by_itself = "{ source: team_key, environment: ANTHROPIC_API_KEY }";
    let filled = task(&format!(
        "agent: claude-code, secrets: [{by_itself}], egress: {{ allow: [] }}"
    ));
    assert_eq!(granted(&filled), [("team_key", Some("ANTHROPIC_API_KEY"))]);
    assert_eq!(reached(&filled), ["api.anthropic.com"]);
}

#[test]
fn the_provider_of_a_model_chooses_the_secret() {
    let of = |model: &str| {
        task(&format!(
            "agent: aider, model: {model}, egress: {{ allow: [] }}"
        ))
    };
    let openai = of("openai/gpt-5");
    assert_eq!(granted(&openai), [("openai_key", Some("OPENAI_API_KEY"))]);
    assert_eq!(reached(&openai), ["api.openai.com"]);
    assert_eq!(
        granted(&of("gemini/x")),
        [("gemini_key", Some("GEMINI_API_KEY"))]
    );
    assert_eq!(
        granted(&of("sonnet")),
        [("anthropic_key", Some("ANTHROPIC_API_KEY"))]
    );
    // Agent-run knows no secret of that one.
    assert_eq!(granted(&of("deepseek/chat")), []);
}

#[test]
fn an_own_agent_stands_on_others() {
    let tasks = tasks(
        "\
agents:
  top: { extends: middle, model: big, args: [--top] }
  middle: { extends: claude-code, max_turns: 7, environment: { MIDDLE: \"${task.id}\" } }
  claude-code: { timeout: 3m }
  own: { image: \"own:1\", command: [work], hosts: own.example }
defaults: { egress: { allow: [] } }
tasks:
  a: { agent: top, prompt: x }
  b: { agent: claude-code, prompt: x, model: small }
  c: { agent: own, prompt: x, args: \"-x y\" }
  d: { agent: \"${matrix.agent}\", prompt: x, matrix: { agent: [shell, top] } }
",
    );
    let agent = |at: usize| tasks[at].agent.as_ref().expect("an agent");
    assert_eq!(agent(0).name, "top");
    assert_eq!(agent(0).model.as_deref(), Some("big"));
    assert_eq!(
        (agent(0).max_turns, &agent(0).args[..]),
        (Some(7), &["--top".to_owned()][..])
    );
    assert_eq!(tasks[0].environment["MIDDLE"].expose(), "a");
    assert_eq!(tasks[0].timeout.as_secs(), 180);
    assert_eq!(tasks[1].timeout.as_secs(), 180);
    assert_eq!(tasks[0].work, tasks[1].work);
    assert_eq!(tasks[2].work, Work::Command(Some(vec!["work".into()])));
    assert_eq!(agent(2).args, ["-x", "y"]);
    assert_eq!(reached(&tasks[2]), ["own.example"]);
    assert_eq!((&agent(3).name[..], &agent(4).name[..]), ("shell", "top"));
}

#[test]
fn a_prompt_is_taken_as_it_is() {
    let prompt = "Say \"it's\" `$(id)` ${HOME} $$ \\ <<E\n%s";
    let yaml = serde_json::to_string(prompt).unwrap();
    let text = format!("{SECRETS}tasks: {{ t: {{ agent: shell, prompt: {yaml} }} }}");
    assert_eq!(
        planned(&good(&text)).tasks[0].prompt.as_deref(),
        Some(prompt)
    );
}

#[test]
fn a_prompt_file_is_read_up_to_a_mebibyte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.md");
    let text = "version: 1\ntasks: { t: { agent: shell, prompt_file: prompt.md } }";
    let read = |content: &str| {
        std::fs::write(&file, content).unwrap();
        let mut spec = super::read_in(text, folder.path()).expect("a spec");
        super::in_context(folder.path(), |context| {
            agent_run::spec::read_files(&mut spec, context).map(|()| spec)
        })
    };
    let whole = "$".repeat(1 << 20);
    let spec = read(&whole).expect("read");
    assert_eq!(planned(&spec).tasks[0].prompt.as_deref(), Some(&whole[..]));
    let told = |content: &str| read(content).expect_err("refused").to_string();
    assert!(told(&"x".repeat((1 << 20) + 1)).contains("is larger than 1 MiB"));
    assert!(told(" \n").contains("is empty"));
}

#[test]
fn what_is_wrong_is_told_where_the_spec_says_it() {
    assert_snapshot!(bad("\
version: 1
defaults: { model: x }
tasks:
  a: { agent: claude-cod, prompt: x }
  b: { agent: claude-code, prompt: x }
  c: { agent: claude-code, command: x, prompt: x }
  d: { agent: shell }
  e: { agent: shell, prompt: \" \" }
  f: { agent: aider, model: null, prompt: x, max_turns: 3 }
  g: { run: x, model: m, args: \"a 'b\", max_turns: 0 }
  h: { agent: shell, prompt: x, prompt_file: y }
  i: { run: x, build: \"agent-run:claud-code\" }
  j: { agent: nobody, prompt: x }
  k: { agent: codex, prompt: x, model: null, budget: { tokens: 9, usd: 1 } }
  l: { agent: shell, prompt: x, model: null, budget: {} }
  m: { agent: shell, prompt: x, model: null, budget: { tokens: 0, usd: free, eur: 1 } }
  n: { run: x, budget: { usd: 1 } }
  o: { agent: shell, prompt: x, model: null, session: keep }
  p: { agent: shell, prompt: x, model: null, session: always }
"));
}

#[test]
fn what_is_wrong_with_an_own_agent_is_told_where_nobody_has_it_too() {
    assert_snapshot!(bad("\
version: 1
agents:
  Upper: { run: x }
  a: { agent: codex }
  b: { extends: codx }
  c: { extends: c }
  d: { extends: e, mem_limit: lots }
  e: { description: nothing }
  f: { run: x, credentials: { k: { environment: 1X, host: a } }, hosts: \"a b\" }
  g: { run: x, needs: [t], branch: b }
tasks:
  t: { run: x }
"));
}

#[test]
fn a_secret_that_is_missing_is_told_by_the_name_of_its_variable() {
    for preset in PRESETS.iter().filter(|preset| preset.name != "shell") {
        let text = format!(
            "version: 1\ntasks: {{ t: {{ agent: {}, model: x, prompt: x }} }}",
            preset.name
        );
        let told = read(&text).expect_err("refused").to_string();
        assert!(told.contains("needs a secret"), "{told}");
        assert!(told.contains("environment: "), "{told}");
    }
}

#[test]
fn a_budget_is_of_whatever_has_an_agent() {
    let spec = good(
        "\
version: 1
secrets: { anthropic_key: { file: x } }
agents:
  own: { run: x, tells: usd }
defaults: { budget: { usd: 2.5 } }
tasks:
  a: { agent: claude-code, prompt: x }
  b: { agent: own, prompt: x }
  c: { run: x }
  d: { agent: shell, prompt: x, budget: { tokens: 1000 } }
",
    );
    let tasks = planned(&spec).tasks;
    let budget = |at: usize| tasks[at].agent.as_ref().and_then(|agent| agent.budget);
    let of = |tokens, micro_usd| Some(Budget { tokens, micro_usd });
    assert_eq!(budget(0), of(None, Some(2_500_000)));
    assert_eq!(budget(1), of(None, Some(2_500_000)));
    assert_eq!(budget(2), None);
    // Maps are merged, like all of `defaults`.
    assert_eq!(budget(3), of(Some(1000), Some(2_500_000)));
}
