//! What right specs mean: forms, merge order, anchors.

use std::path::Path;
use std::time::Duration;

use agent_run::engine::config::{PullPolicy, Ulimit};
use agent_run::spec::{
    BuildContext, History, HostCommand, Identity, NanoCpus, NetworkMode, Prompt, RunSpec,
    SecretGrant, SecretOrigin, TaskSpec, WorkspaceMode,
};

use super::{bad, good, with_task};

fn task<'a>(spec: &'a RunSpec, id: &str) -> &'a TaskSpec {
    let found = spec.tasks.iter().find(|t| t.id.value.as_str() == id);
    found.unwrap_or_else(|| panic!("no task {id}"))
}

fn variables(task: &TaskSpec) -> Vec<(&str, &str)> {
    let pairs = task.environment.iter();
    pairs.map(|(k, v)| (k.as_str(), v.expose())).collect()
}

#[test]
fn the_first_day() {
    let spec = good(
        "\
version: 1
tasks:
  hello:
    run: echo \"hello from $(hostname)\" > hello.txt
",
    );
    let run = &task(&spec, "hello").run.as_ref().unwrap().value;
    assert_eq!(run, "echo \"hello from $(hostname)\" > hello.txt");
}

#[test]
fn tasks_keep_their_order() {
    let spec = good("version: 1\ntasks: {b: {run: x}, a: {run: x}, x-no: {run: x}, c: {run: x}}");
    let ids: Vec<&str> = spec.tasks.iter().map(|t| t.id.value.as_str()).collect();
    assert_eq!(ids, ["b", "a", "c"]);
}

#[test]
fn maps_merge_lists_replace_null_resets() {
    let spec = good(
        "\
version: 1
secrets: { one: { environment: A }, two: { file: two } }
defaults:
  cpus: 2
  mem_limit: 4g
  command: make
  secrets: [one]
  tmpfs: [/a, /b]
  env: { A: 1, B: 1, C: 1 }
  ulimits: { nofile: 10, nproc: { soft: 1, hard: 2 } }
tasks:
  plain:
  other:
    cpus: null
    mem_limit: 1g
    command: ~
    run: x
    secrets: [two]
    tmpfs: []
    environment: { A: null, B: 2, D: 2 }
    ulimits: { nofile: 20 }
",
    );
    let (plain, other) = (task(&spec, "plain"), task(&spec, "other"));
    assert_eq!(variables(plain), [("A", "1"), ("B", "1"), ("C", "1")]);
    assert_eq!(variables(other), [("B", "2"), ("C", "1"), ("D", "2")]);
    assert_eq!(plain.cpus.as_ref().unwrap().value, NanoCpus(2_000_000_000));
    assert_eq!(other.cpus, None);
    assert_eq!(plain.mem_limit.as_ref().unwrap().value, 4 << 30);
    assert_eq!(other.mem_limit.as_ref().unwrap().value, 1 << 30);
    assert_eq!(plain.command.as_deref(), Some(&["make".to_owned()][..]));
    assert_eq!(other.command, None);
    assert_eq!(plain.secrets[0].name, "one");
    assert_eq!(other.secrets.len(), 1);
    assert_eq!(other.secrets[0].name, "two");
    assert_eq!(plain.tmpfs.len(), 2);
    assert!(other.tmpfs.is_empty());
    let both = |n| Ulimit { soft: n, hard: n };
    assert_eq!(other.ulimits["nofile"], both(20));
    assert_eq!(other.ulimits["nproc"], Ulimit { soft: 1, hard: 2 });
}

#[test]
fn anchors_and_merge_keys() {
    let spec = good(
        "\
version: 1
x-one: &one { cpus: 1, image: a }
x-two: &two { cpus: 2, mem_limit: 1g }
defaults: { env: { <<: { A: 1, B: 1 }, A: 2 } }
tasks:
  a: { <<: [*one, *two], image: b }
  b:
    <<: *two
    command: &words [make, test]
  c: { command: *words }
",
    );
    let a = task(&spec, "a");
    assert_eq!(a.image.as_ref().unwrap().value.as_str(), "b");
    assert_eq!(a.cpus.as_ref().unwrap().value, NanoCpus(1_000_000_000));
    assert_eq!(a.mem_limit.as_ref().unwrap().value, 1 << 30);
    assert_eq!(variables(a), [("A", "2"), ("B", "1")]);
    assert_eq!(task(&spec, "b").mem_limit.as_ref().unwrap().value, 1 << 30);
    assert_eq!(
        task(&spec, "c").command.as_ref().unwrap(),
        &["make", "test"]
    );
}

#[test]
fn scalars_are_texts_where_texts_belong() {
    let spec = good(&with_task(
        "env: { A: 1, B: 1.10, C: true, D: no, E: 0x1F, F: '', G: \"x\", H: 2001-01-01, I: !!str null }",
    ));
    let texts: Vec<&str> = variables(task(&spec, "t"))
        .iter()
        .map(|(_, v)| *v)
        .collect();
    let expected = [
        "1",
        "1.10",
        "true",
        "no",
        "0x1F",
        "",
        "x",
        "2001-01-01",
        "null",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn environment_lists_pass_through() {
    let spec = good(&with_task("env: [A=1, 'B=x=y', SET, C=]"));
    let expected = [("A", "1"), ("B", "x=y"), ("C", ""), ("SET", "value")];
    assert_eq!(variables(task(&spec, "t")), expected);
}

#[test]
fn commands_are_split_without_a_shell_and_values_stay_one_word() {
    let spec = good(&with_task(
        "command: agent --prompt 'a b' ${TWO} $HOME $$5 \"${TWO}\"\nentrypoint: [sh, -c, \"${TWO}\", 1]",
    ));
    let t = task(&spec, "t");
    let expected = [
        "agent",
        "--prompt",
        "a b",
        "two words",
        "$HOME",
        "$5",
        "two words",
    ];
    assert_eq!(t.command.as_ref().unwrap(), &expected);
    assert_eq!(
        t.entrypoint.as_ref().unwrap(),
        &["sh", "-c", "two words", "1"]
    );
}

#[test]
fn scripts_and_prompts_are_not_interpolated() {
    let spec = good(&with_task(
        "run: echo ${UNSET} $$ ${task.id}\nprompt: 'pay ${UNSET} $$'",
    ));
    let t = task(&spec, "t");
    assert_eq!(t.run.as_ref().unwrap().value, "echo ${UNSET} $$ ${task.id}");
    assert_eq!(t.prompt, Some(Prompt::Text("pay ${UNSET} $$".into())));
}

#[test]
fn every_form_of_the_top_level() {
    let text = "\
version: 1
name: nightly
repo: ../other
base: v1
history: { depth: 50 }
max_parallel: 3
timeout: 2h
author: Ann Author <ann@example.org>
secrets:
  a: { environment: A_TOKEN }
  b: { file: b.txt }
  c: { command: [gh, auth, token] }
  d:
    command: ./tool 'a b' ${SET}
tasks: { t: { run: x } }
";
    let spec = good(text);
    assert_eq!(spec.name.as_deref(), Some("nightly"));
    assert_eq!(spec.repo.unwrap().value, Path::new("/project/../other"));
    assert_eq!(spec.base.unwrap().value, "v1");
    assert_eq!(spec.history, Some(History::Depth(50)));
    assert_eq!(spec.max_parallel.unwrap().value, 3);
    assert_eq!(spec.timeout, Some(Duration::from_secs(7200)));
    let ann = Identity {
        name: "Ann Author".into(),
        email: "ann@example.org".into(),
    };
    assert_eq!(spec.author.as_ref(), Some(&ann));
    let long = text.replace(
        "Ann Author <ann@example.org>",
        "{ name: Ann Author, email: ann@example.org }",
    );
    assert_eq!(good(&long).author, Some(ann));
    assert_eq!(
        good(&text.replace("{ depth: 50 }", "full")).history,
        Some(History::Full)
    );
    let origins: Vec<&SecretOrigin> = spec.secrets.values().map(|s| &s.value).collect();
    assert_eq!(*origins[0], SecretOrigin::Environment("A_TOKEN".into()));
    assert_eq!(*origins[1], SecretOrigin::File("/project/b.txt".into()));
    let command = |words: &[&str]| {
        SecretOrigin::Command(HostCommand {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            directory: "/project".into(),
        })
    };
    assert_eq!(*origins[2], command(&["gh", "auth", "token"]));
    assert_eq!(*origins[3], command(&["./tool", "a b", "value"]));
}

#[test]
fn every_form_of_a_task() {
    let spec = good(
        "\
version: 1
secrets: { key: { environment: KEY } }
tasks:
  t:
    build: { context: image, dockerfile: Dev, target: dev, args: { V: 1.10 } }
    image: me/agent:1
    pull_policy: build
    prompt: { file: prompts/t.md }
    env_file: [a.env, { path: b.env, required: false }]
    secrets: [key, { source: key, environment: API_KEY }]
    cpus: '0.5'
    pids_limit: 100
    shm_size: 1g
    tmpfs: '/cache:size=1g,mode=1777,exec'
    working_dir: /workspace/web
    user: 1000:100
    workspace: overlay
    read_only: true
    network_mode: none
    timeout: 1h 30m
    branch: bot/${task.id}-${run.id}
  u: { build: image, user: 0, env_file: { path: c.env } }
",
    );
    let t = task(&spec, "t");
    let build = t.build.as_ref().unwrap();
    let BuildContext::Directory(context) = &build.context else {
        panic!("{build:?}");
    };
    assert_eq!(context.value, Path::new("/project/image"));
    assert_eq!(build.dockerfile.value, "Dev");
    assert_eq!(build.target.as_deref(), Some("dev"));
    assert_eq!(build.args["V"], "1.10");
    assert_eq!(t.pull_policy, Some(PullPolicy::Build));
    let Some(Prompt::File(prompt)) = &t.prompt else {
        panic!("{:?}", t.prompt);
    };
    assert_eq!(prompt.value, Path::new("/project/prompts/t.md"));
    let files: Vec<bool> = t.env_file.iter().map(|f| f.required).collect();
    assert_eq!(files, [true, false]);
    let grant = |environment: Option<&str>| SecretGrant {
        name: "key".into(),
        environment: environment.map(Into::into),
    };
    assert_eq!(t.secrets, [grant(None), grant(Some("API_KEY"))]);
    assert_eq!(t.cpus.as_ref().unwrap().value, NanoCpus(500_000_000));
    assert_eq!(t.tmpfs["/cache"], "size=1073741824,mode=1777,exec");
    assert_eq!(t.user.as_deref(), Some("1000:100"));
    assert_eq!(t.workspace, Some(WorkspaceMode::Overlay));
    assert_eq!(t.read_only, Some(true));
    assert_eq!(t.network_mode, Some(NetworkMode::None));
    assert_eq!(
        t.timeout.as_ref().map(|t| t.value),
        Some(Duration::from_secs(5400))
    );
    let branch = t.branch.as_ref().unwrap().value.as_str();
    assert_eq!(branch, format!("bot/t-{}", super::RUN));
    let u = task(&spec, "u");
    assert_eq!(u.build.as_ref().unwrap().dockerfile.value, "Dockerfile");
    assert_eq!(u.user.as_deref(), Some("0"));
}

#[test]
fn extensions_are_ignored_everywhere() {
    good(
        "\
version: 1
x-a: { anything: [1] }
history: { depth: 1, x-h: 1 }
author: { name: a, email: b, x-c: 1 }
secrets: { x-s: 1, a: { environment: A, x-b: 1 } }
defaults: { x-d: 1 }
tasks:
  x-e: nonsense
  t:
    x-f: 1
    run: x
    prompt: { file: p, x-g: 1 }
    build: { context: ., x-i: 1 }
    env_file: { path: p, x-j: 1 }
    secrets: [{ source: a, x-k: 1 }]
    ulimits: { x-l: 1, core: { soft: 1, hard: 1, x-m: 1 } }
",
    );
}

#[test]
fn json_is_yaml() {
    let spec =
        good(r#"{"version": 1, "tasks": {"t": {"run": "x", "cpus": 1.5, "read_only": false}}}"#);
    assert_eq!(task(&spec, "t").read_only, Some(false));
}

#[test]
fn positions_survive_crlf_marks_and_wide_characters() {
    let message = bad("\u{feff}version: 1\r\ntasks: {ä: {run: x}, t: {run: x, cpu: 1}}\r\n");
    assert!(message.contains("agent-run.yaml:2:9\n"), "{message}");
    assert!(message.contains("agent-run.yaml:2:34\n"), "{message}");
}
