//! The command line: which spec, which tasks, flags and variables, exit codes, streams.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::scene::{Ended, Scene, task};

const TWO: &str =
    "version: 1\ntasks:\n  hello:\n    run: echo a > a\n  other:\n    run: echo b > b\n";

/// Runs the command with these arguments in the repository and these variables.
fn in_repo(scene: &Scene, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = scene.command(arguments);
    command
        .current_dir(scene.repo())
        .envs(variables.iter().copied());
    command.output().expect("agent-run").into()
}

/// A scene whose repository holds a spec of two tasks.
fn with_spec() -> Scene {
    let scene = Scene::new();
    scene.write("agent-run.yaml", TWO);
    scene.commit("add a spec");
    scene
}

#[test]
fn a_spec_is_found_in_every_way() {
    let scene = with_spec();
    scene.write("deep/down/keep", "");
    let root = scene.repo();
    let root = root.to_str().expect("a path");
    let forms: [&[&str]; 7] = [
        &["plan"],
        &["plan", "agent-run.yaml"],
        &["plan", "./agent-run.yaml", "hello", "other"],
        &["plan", "-f", "agent-run.yaml", "hello", "other"],
        &["plan", "-C", "deep/down"],
        &["-C", "deep", "plan", "other", "hello"],
        &["plan", "-C", root, "agent-run.yaml"],
    ];
    for form in forms {
        let ended = in_repo(&scene, form, &[]);
        assert_eq!(ended.code, Some(0), "{form:?}: {ended}");
        assert!(ended.stdout.contains("of 2 tasks"), "{form:?}: {ended}");
    }
    let one = in_repo(&scene, &["plan", "other"], &[]);
    assert!(one.stdout.contains("\nother\n"), "{one}");
    assert!(!one.stdout.contains("hello"), "{one}");
    let nowhere = scene.agent_run(&["plan"]);
    assert_eq!(nowhere.code, Some(2), "{nowhere}");
    assert!(nowhere.stderr.contains("agent-run.yaml"), "{nowhere}");
    assert!(nowhere.stderr.contains("`agent-run init`"), "{nowhere}");
}

#[test]
fn standard_input_is_a_spec_and_the_directory_its_repository() {
    let scene = Scene::new();
    let mut command = scene.command(&["-", "other", "--progress", "quiet"]);
    let mut child = command
        .current_dir(scene.repo())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent-run");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all(TWO.as_bytes()).expect("a spec");
    drop(stdin);
    let ended: Ended = child.wait_with_output().expect("an end").into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(ended.stderr, "");
    let result = scene.result();
    assert_eq!(result["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(task(&result, "other")["branch"]["result"], "created");
}

#[test]
fn what_is_wrong_on_the_command_line_is_usage() {
    let scene = with_spec();
    let cases: [(&[&str], &str); 11] = [
        (&["run", "helo"], "did you mean `hello`?"),
        (&["validate", "helo"], "did you mean `hello`?"),
        (&["plna", "agent-run.yaml"], "did you mean `plan`?"),
        (&["run", "no/such/spec.yaml", "--bogus"], "--bogus"),
        (&["agent-run.yaml", "quite-another"], "hello, other"),
        (&["agent-run.yaml", "a@{0}"], "a@{0}"),
        (&["agent-run.yaml", "plan"], "the command comes first"),
        (&["plan", "-j", "0"], "--jobs"),
        (&["-j", "2", "plan"], "--jobs stands before `plan`"),
        (&["plan", "-C", "no/such/directory"], "no/such/directory"),
        (&["run", "--network-pool", "10.0.0.0/33"], "8 to 24 bits"),
    ];
    for (arguments, words) in cases {
        let ended = in_repo(&scene, arguments, &[]);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended}");
        assert!(ended.stderr.contains(words), "{arguments:?}: {ended}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert!(scene.runs().is_empty());
}

#[test]
fn flags_win_over_variables() {
    let scene = with_spec();
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let ended = in_repo(&scene, arguments, variables);
        assert_eq!(ended.code, Some(0), "{arguments:?} {variables:?}: {ended}");
        ended
    };
    let jobs = [("AGENT_RUN_JOBS", "1")];
    assert!(shown(&["plan"], &jobs).stdout.contains("1 of 2 tasks"));
    assert!(
        shown(&["plan", "-j", "2"], &jobs)
            .stdout
            .contains("2 of 2 tasks")
    );
    let file = [("AGENT_RUN_FILE", "agent-run.yaml")];
    assert!(
        shown(&["validate", "hello"], &file)
            .stdout
            .contains("valid")
    );
    let missing = [("AGENT_RUN_FILE", "missing.yaml")];
    shown(&["validate", "agent-run.yaml"], &missing);
    shown(&["validate", "-f", "agent-run.yaml"], &missing);
    assert_eq!(in_repo(&scene, &["validate"], &missing).code, Some(94));
    let json = shown(&["plan"], &[("AGENT_RUN_FORMAT", "json")]).stdout;
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    shown(&["clean"], &[("AGENT_RUN_DRY_RUN", "yes")]);
    let quiet = shown(
        &["run", "-q", "hello"],
        &[
            ("AGENT_RUN_PROGRESS", "plain"),
            ("AGENT_RUN_COLOR", "always"),
        ],
    );
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains('\u{1b}'), "{quiet}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let scene = with_spec();
    let help = in_repo(&scene, &["help", "run"], &[]).stdout;
    let flags = help.split("[env: ").skip(1);
    let names: Vec<&str> = flags
        .filter_map(|flag| flag.split(['=', ']']).next())
        .collect();
    assert!(names.contains(&"AGENT_RUN_JOBS"), "{help}");
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    let mut command = scene.command(&["plan"]);
    command
        .current_dir(scene.repo())
        .env("XDG_STATE_HOME", scene.path().join("home"))
        .envs(variables);
    let ended: Ended = command.output().expect("agent-run").into();
    assert_eq!(ended.code, Some(0), "{names:?}: {ended}");
    assert!(scene.path().join("home/agent-run").is_dir(), "{ended}");
    let spaces = in_repo(&scene, &["plan"], &[("AGENT_RUN_JOBS", " ")]);
    assert_eq!(spaces.code, Some(2), "{spaces}");
}

#[test]
fn validate_and_schema_need_nothing() {
    let scene = with_spec();
    let home = [("HOME", ""), ("AGENT_RUN_HOST", "unix:///nonexistent")];
    let spec = scene.repo().join("agent-run.yaml");
    std::fs::rename(&spec, scene.path().join("agent-run.yaml")).expect("a rename");
    for arguments in [&["validate", "agent-run.yaml"] as &[&str], &["schema"]] {
        let mut command = scene.command(arguments);
        command.envs(home).env_remove("AGENT_RUN_STATE_DIR");
        let ended: Ended = command.output().expect("agent-run").into();
        assert_eq!(ended.code, Some(0), "{ended}");
        assert!(!ended.stdout.is_empty(), "{ended}");
    }
    assert!(!scene.state().exists());
    for (what, file) in [
        ("spec", include_str!("../../../schema/agent-run.v1.json")),
        (
            "events",
            include_str!("../../../schema/agent-run-events.v1.json"),
        ),
        (
            "result",
            include_str!("../../../schema/agent-run-result.v1.json"),
        ),
    ] {
        assert_eq!(scene.agent_run(&["schema", what]).stdout, file);
    }
}

#[test]
fn help_and_version_say_what_there_is() {
    let scene = Scene::empty();
    let help = scene.agent_run(&["--help"]);
    assert_eq!(help.code, Some(0), "{help}");
    for command in ["run", "plan", "validate", "clean", "schema"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{help}");
        let own = scene.agent_run(&["help", command]);
        assert_eq!(own.code, Some(0), "{own}");
        assert!(own.stdout.contains("Usage: agent-run"), "{own}");
    }
    let version = scene.agent_run(&["--version"]);
    assert_eq!(
        version.stdout,
        concat!("agent-run ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn a_plan_tells_what_would_be_done_and_no_value() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("image")).expect("a directory");
    std::fs::write(scene.path().join("image/Dockerfile"), "FROM scratch\n").expect("a file");
    let spec = scene.spec(
        r#"
version: 1
history: { depth: 5 }
timeout: 1h
author: Ann Author <ann@example.org>
secrets:
  key: { environment: THE_KEY }
  token: { environment: NOT_THERE }
tasks:
  one:
    image: node:22
    pull_policy: always
    command: npm test -- --name 'a b'
    secrets: [key, { source: token, environment: TOKEN }]
    environment: { LEVEL: secret-level, CI: true }
    prompt: "Fix this.\nAnd that."
    user: 1000:1000
    network_mode: none
    cpus: 1
    mem_limit: 64m
    timeout: 90s
  two:
    build: image
    branch: bot/two
    cpus: 0.5
    mem_limit: 64m
"#,
    );
    let mut command = scene.command(&["plan", spec.to_str().expect("a path")]);
    command.env("THE_KEY", "sesame");
    let ended: Ended = command.output().expect("agent-run").into();
    assert_eq!(ended.code, Some(0), "{ended}");
    for words in [
        ", the newest 5 commits of its history\n",
        "commits by  Ann Author <ann@example.org>\n",
        "time limit  1h\n",
        "runs      npm test -- --name 'a b'\n",
        "prompt    Fix this. (and 1 more line)\n",
        "image     node:22, pulled\n",
        "user      1000:1000\n",
        "limits    1 CPU, 64m memory, 512 processes, 1m30s\n",
        "network   none\n",
        "sets      CI, LEVEL\n",
        "secret    key as /run/secrets/key\n",
        "secret    token as $TOKEN\n",
        "branch    agent/<run>/one\n",
        "/image\n",
        "limits    0.5 CPUs,",
        "branch    bot/two\n",
        "warning: secret token: the variable NOT_THERE is not set\n",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended}");
    }
    for value in ["sesame", "secret-level"] {
        assert!(!ended.stdout.contains(value), "{ended}");
    }
    assert!(scene.runs().is_empty());
    assert_eq!(scene.git(&["for-each-ref", "refs/agent-run"]), "");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  red:
    mem_limit: 64m
    run: printf '\033[31mred\n'; exit 1
";
    let spec = scene.spec(yaml);
    let run = |variables: &[(&str, &str)], more: &[&str]| -> Ended {
        let mut arguments = vec!["run", spec.to_str().expect("a path")];
        arguments.extend(more);
        let mut command = scene.command(&arguments);
        let ended: Ended = command
            .envs(variables.iter().copied())
            .output()
            .expect("agent-run")
            .into();
        assert_eq!(ended.code, Some(100), "{ended}");
        ended
    };
    for plain in [
        run(&[], &[]),
        run(&[("NO_COLOR", "1"), ("GITHUB_ACTIONS", "true")], &[]),
    ] {
        assert!(plain.stderr.contains("| red\n"), "{plain}");
        assert!(!plain.stderr.contains('\u{1b}'), "{plain}");
        assert!(!plain.stdout.contains('\u{1b}'), "{plain}");
    }
    let colored = run(&[], &["--color", "always", "--progress", "tty"]);
    assert!(colored.stderr.contains("\u{1b}[31mred"), "{colored}");
    assert!(colored.stdout.contains("\u{1b}[31mred"), "{colored}");
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  fails:
    mem_limit: 64m
    run: echo work > work; for n in $(seq 2000); do echo line $n; done; exit 1
  good:
    mem_limit: 64m
    run: echo work > work
";
    let spec = scene.spec(yaml);
    let mut command = scene.command(&["run", "-j", "1", spec.to_str().expect("a path")]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent-run");
    drop(child.stdout.take());
    let mut stderr = BufReader::new(child.stderr.take().expect("standard error"));
    let mut first = String::new();
    stderr.read_line(&mut first).expect("a line");
    assert!(first.contains("Starting"), "{first}");
    drop(stderr);
    assert_eq!(child.wait().expect("an end").code(), Some(100));
    let result = scene.result();
    for id in ["fails", "good"] {
        assert_eq!(task(&result, id)["branch"]["result"], "created", "{id}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn completions_and_pages_for_every_command() {
    let scene = Scene::empty();
    let help = scene.agent_run(&["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").expect("the commands");
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"plan"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scene.agent_run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{script}");
        for command in &commands {
            assert!(script.stdout.contains(command), "{shell}: {command}");
        }
    }
    let script = scene.path().join("complete.bash");
    std::fs::write(&script, scene.agent_run(&["completions", "bash"]).stdout).expect("a file");
    let complete = format!(
        ". {}; COMP_WORDS=(agent-run pl); COMP_CWORD=1; \
         $(complete -p agent-run | sed 's/.*-F \\([^ ]*\\).*/\\1/') agent-run pl agent-run; echo ${{COMPREPLY[@]}}",
        script.display()
    );
    let shell = std::process::Command::new("bash")
        .args(["-c", &complete])
        .output();
    let completed: Ended = shell.expect("bash").into();
    assert_eq!(completed.stdout, "plan\n", "{completed}");
    let whole = scene.agent_run(&["man"]);
    assert!(whole.stdout.starts_with(".ie"), "{whole}");
    for command in &commands {
        let page = scene.agent_run(&["man", command]);
        assert_eq!(page.code, Some(0), "{page}");
        let title = format!(".TH agent-run-{command} 1");
        assert!(page.stdout.contains(&title), "{command}: {page}");
        assert!(page.stdout.contains("AGENT_RUN_STATE_DIR"), "{page}");
    }
    let unknown = scene.agent_run(&["man", "plna"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    assert!(unknown.stderr.contains("did you mean `plan`?"), "{unknown}");
}
