//! The action, the GitLab template and every example of `docs/ci.md`, run as their systems run them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::scene::{Ended, Scene, interrupt, spawn, until};
use crate::ci::github;
use crate::docker::BASE_IMAGE;

const DOCUMENT: &str = include_str!("../../../docs/ci.md");
const ACTION: &str = include_str!("../../../action.yml");
const GITLAB: &str = include_str!("../../../ci/gitlab.yml");

const SPEC: &str = "version: 1
tasks:
  good: { run: echo good > good.txt }
  bad: { run: echo bad > bad.txt; exit 3 }
";

/// The code blocks in a language, in a section of the document.
fn block(section: &str, language: &str) -> &'static str {
    let (_, rest) = DOCUMENT
        .split_once(&format!("\n## {section}\n"))
        .expect(section);
    let rest = rest.split("\n## ").next().expect("a section");
    let (_, rest) = rest
        .split_once(&format!("```{language}\n"))
        .expect(language);
    rest.split_once("```").expect("an end").0
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The lines of a list of commands.
fn script(value: &Value) -> String {
    let lines = value.as_array().expect("a list").iter().map(text);
    lines.collect::<Vec<_>>().join("\n")
}

/// A repository with a spec, cloned from another.
fn project() -> Scene {
    let scene = Scene::new();
    scene.write("agent-run.yaml", SPEC);
    scene.commit("add a spec");
    let origin = scene.path().join("origin.git");
    let origin = origin.to_str().expect("a path");
    scene.git(&["clone", "-q", "--bare", ".", origin]);
    scene.git(&["remote", "add", "origin", origin]);
    scene
}

/// The directory of the command, for `PATH`.
fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_agent-run"))
        .parent()
        .expect("a directory")
}

/// A shell with a script in the repository, with these in its environment and its `PATH`.
fn shell(
    scene: &Scene,
    words: &[&str],
    script: &str,
    set: &[(&str, String)],
    path: &[PathBuf],
) -> Command {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let own = path.iter().cloned();
    let path = std::env::join_paths(own.chain(std::env::split_paths(&inherited)));
    let mut shell = Command::new(words[0]);
    // As the command of a scene has it, but for what the system itself sets.
    for (name, value) in scene.command(&[]).get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
        .args(&words[1..])
        .arg(script)
        .current_dir(scene.repo())
        .stdin(Stdio::null())
        .env_remove("AGENT_RUN_STATE_DIR")
        .env("PATH", path.expect("a path"))
        .envs(set.iter().map(|(name, value)| (name, value)));
    shell
}

fn ended(mut command: Command) -> Ended {
    command.output().expect("a shell").into()
}

/// A script passes the checker of scripts.
#[track_caller]
pub fn shellcheck(dialect: &str, script: &str) {
    let mut child = Command::new("shellcheck")
        .args(["--shell", dialect, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("shellcheck");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("written");
    drop(stdin);
    let ended: Ended = child.wait_with_output().expect("an end").into();
    assert_eq!(ended.code, Some(0), "{ended}\n{script}");
}

/// A job of GitHub's: what steps leave for later ones, and what expressions stand for.
struct Job {
    scene: Scene,
    values: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    path: Vec<PathBuf>,
    step: usize,
}

impl Job {
    fn new(scene: Scene) -> Self {
        let server = format!("file://{}", scene.path().join("server").display());
        let values = [
            ("github.action_repository", "OWNER/agent-run"),
            ("secrets.ANTHROPIC_API_KEY", "a-key-of-some-length"),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let temporary = scene.path().join("temp");
        std::fs::create_dir(&temporary).expect("a directory");
        let environment = [
            ("CI", "true".to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_ACTION_PATH", env!("CARGO_MANIFEST_DIR").to_owned()),
            ("GITHUB_SERVER_URL", server),
            ("GITHUB_WORKSPACE", scene.repo().display().to_string()),
            ("RUNNER_TEMP", temporary.display().to_string()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Self {
            scene,
            values: values.into(),
            environment: environment.into(),
            path: Vec::new(),
            step: 0,
        }
    }

    /// Puts values for `${{ … }}`; those of steps that gave none are empty.
    fn expanded(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut expanded = parts.next().expect("a part").to_owned();
        for part in parts {
            let (expression, rest) = part.split_once("}}").expect("an end");
            let expression = expression.trim();
            let value = self.values.get(expression).cloned();
            let empty = || expression.starts_with("steps.").then(String::new);
            expanded += &value
                .or_else(empty)
                .unwrap_or_else(|| panic!("no value: {expression}"));
            expanded += rest;
        }
        expanded
    }

    /// Runs a step, and takes what it leaves in its files.
    fn run(&mut self, step: &Value, more: &Value) -> Ended {
        let (command, directory) = self.start(step, more);
        let ended = ended(command);
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("a file");
        self.environment.extend(github::outputs(&read("env")));
        self.path.extend(read("path").lines().map(PathBuf::from));
        let id = text(&step["id"]);
        for (name, value) in github::outputs(&read("outputs")) {
            self.values
                .insert(format!("steps.{id}.outputs.{name}"), value);
        }
        ended
    }

    /// A step's script as the runner starts it, and the directory of its files.
    fn start(&mut self, step: &Value, more: &Value) -> (Command, PathBuf) {
        self.step += 1;
        let directory = self.scene.path().join(format!("step-{}", self.step));
        std::fs::create_dir(&directory).expect("a directory");
        let script = directory.join("script.sh");
        std::fs::write(
            &script,
            self.expanded(step["run"].as_str().expect("a script")),
        )
        .expect("written");
        let file = |name: &str| directory.join(name);
        let mut set = self.environment.clone();
        for (variable, name) in [
            ("GITHUB_ENV", "env"),
            ("GITHUB_OUTPUT", "outputs"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_STEP_SUMMARY", "summary"),
        ] {
            std::fs::write(file(name), "").expect("written");
            set.insert(variable.into(), file(name).display().to_string());
        }
        for environment in [more, &step["env"]] {
            for (name, value) in environment.as_object().into_iter().flatten() {
                set.insert(name.clone(), self.expanded(&text(value)));
            }
        }
        let set: Vec<(&str, String)> = set.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let words = ["bash", "--noprofile", "--norc", "-eo", "pipefail"];
        let script = script.to_str().expect("a path");
        let command = shell(&self.scene, &words, script, &set, &self.path);
        (command, directory)
    }

    /// Runs the action's steps with a step's inputs; gives the end of the last that ran.
    fn action(&mut self, step: &Value) -> Ended {
        let action = yaml(ACTION);
        for (name, input) in action["inputs"].as_object().expect("inputs") {
            let given = &step["with"][name];
            let value = if given.is_null() {
                &input["default"]
            } else {
                given
            };
            self.values.insert(format!("inputs.{name}"), text(value));
        }
        let given = step["with"].as_object().into_iter().flatten();
        for (name, _) in given {
            assert!(!action["inputs"][name].is_null(), "no input: {name}");
        }
        let mut last = None;
        for inner in action["runs"]["steps"].as_array().expect("steps") {
            assert_eq!(inner["shell"], "bash");
            let ended = self.run(inner, &step["env"]);
            let failed = ended.code != Some(0);
            last = Some(ended);
            if failed {
                break;
            }
        }
        let id = text(&step["id"]);
        for (name, output) in action["outputs"].as_object().expect("outputs") {
            let value = self.expanded(output["value"].as_str().expect("an expression"));
            self.values
                .insert(format!("steps.{id}.outputs.{name}"), value);
        }
        last.expect("a step")
    }

    /// Puts a release of this build where the action looks for one.
    fn release(&self) {
        let path = "server/OWNER/agent-run/releases/download/v0.1.0";
        let directory = self.scene.path().join(path);
        std::fs::create_dir_all(&directory).expect("a directory");
        let script = "archive=\"agent-run-$(uname -m)-unknown-linux-musl.tar.gz\"
            tar -czf \"$archive\" -C \"$1\" agent-run && sha256sum \"$archive\" > SHA256SUMS";
        let mut make = Command::new("sh");
        make.args(["-ec", script, "sh"])
            .arg(bin())
            .current_dir(directory);
        let ended: Ended = make.output().expect("sh").into();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
}

/// The steps of the workflow in the document.
fn workflow() -> Vec<Value> {
    let workflow = yaml(block("GitHub", "yaml"));
    let steps = workflow["jobs"]["agents"]["steps"].as_array();
    steps.expect("steps").clone()
}

#[test]
fn the_workflow_runs_the_action_and_pushes_what_came_of_it() {
    let mut job = Job::new(project());
    job.release();
    let mut failed = false;
    for mut step in workflow() {
        let uses = text(&step["uses"]);
        if uses.starts_with("actions/checkout@") {
            continue;
        }
        assert!(!failed || step["if"] == "always()", "{step}");
        if uses.starts_with("OWNER/agent-run@") {
            step["with"]["version"] = "v0.1.0".into();
            let ended = job.action(&step);
            assert_eq!(ended.code, Some(100), "{ended}");
            failed = true;
        } else {
            let ended = job.run(&step, &Value::Null);
            assert_eq!(ended.code, Some(0), "{step}: {ended}");
        }
    }
    let branches: Value =
        serde_json::from_str(&job.values["steps.agents.outputs.branches"]).expect("JSON");
    let pushed = job
        .scene
        .git(&["ls-remote", "origin", "refs/heads/agent/*"]);
    for branch in branches.as_array().expect("an array") {
        let (name, commit) = (text(&branch["branch"]), text(&branch["commit"]));
        assert!(
            pushed.contains(&format!("{commit}\trefs/heads/{name}\n")),
            "{pushed}"
        );
    }
    assert_eq!(pushed.lines().count(), 2, "{pushed}");
    let run = &job.values["steps.agents.outputs.run"];
    let state = job.scene.path().join("temp/agent-run-state/runs");
    assert!(state.join(run).join("result.json").is_file());
    assert!(
        state
            .join(run)
            .join("tasks")
            .read_dir()
            .expect("tasks")
            .next()
            .is_none()
    );
}

#[test]
fn the_action_takes_no_release_that_is_not_what_it_says() {
    let mut job = Job::new(project());
    job.release();
    let path = "server/OWNER/agent-run/releases/download/v0.1.0";
    let sums = job.scene.path().join(path).join("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).expect("sums");
    let (_, name) = text.split_once("  ").expect("a name");
    for wrong in [format!("{}  {name}", "0".repeat(64)), String::new()] {
        std::fs::write(&sums, wrong).expect("written");
        let ended = job.action(&serde_json::json!({ "with": { "version": "v0.1.0" } }));
        assert_eq!(ended.code, Some(1), "{ended}");
        assert_eq!(job.path, Vec::<PathBuf>::new());
        assert!(
            !job.scene
                .path()
                .join("temp/agent-run/bin/agent-run")
                .exists()
        );
    }
}

#[test]
fn a_cancellation_of_the_actions_step_reaches_agent_run() {
    let scene = project();
    let spec = "version: 1\ntasks:\n  long: { run: echo half > half.txt; sleep 600 }\n";
    scene.write("agent-run.yaml", spec);
    scene.commit("a long task");
    let mut job = Job::new(scene);
    job.path.push(bin().to_owned());
    let state = job.scene.state();
    let value = state.display().to_string();
    job.environment.insert("AGENT_RUN_STATE_DIR".into(), value);
    for name in ["spec", "args"] {
        job.values.insert(format!("inputs.{name}"), String::new());
    }
    let action = yaml(ACTION);
    let steps = action["runs"]["steps"].as_array().expect("steps");
    let (command, _) = job.start(steps.last().expect("a step"), &Value::Null);
    let (mut child, lines) = spawn(command);
    until("the task has begun", || {
        let run = job.scene.runs().pop();
        run.is_some_and(|run| {
            let task = state.join("runs").join(run).join("tasks/long/1/worktree");
            task.join("half.txt").exists()
        })
    });
    interrupt(&child);
    until("it has ended", || {
        child.try_wait().expect("a child").is_some()
    });
    let rest: Vec<String> = lines.collect();
    let code = child.wait().expect("an end").code();
    assert_eq!(code, Some(130), "{rest:#?}");
    let steps = workflow();
    let clean = steps.iter().find(|step| step["run"] == "agent-run clean");
    let cleaned = job.run(clean.expect("a step that cleans"), &Value::Null);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let branch = format!("agent/{}/long", job.scene.runs()[0]);
    let half = job.scene.git(&["show", &format!("{branch}:half.txt")]);
    assert_eq!(half, "half\n");
    assert_eq!(job.scene.left(), Vec::<String>::new());
}

#[test]
#[ignore = "slow: builds agent-run as a release"]
fn the_action_builds_from_source() {
    let mut job = Job::new(project());
    let ended = job.action(&serde_json::json!({ "id": "agents", "with": { "args": "good" } }));
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(job.values["steps.agents.outputs.branches"].contains("/good"));
}

#[test]
fn the_gitlab_template_runs_collects_and_keeps_the_logs() {
    let scene = project();
    let template = yaml(GITLAB);
    let example = yaml(block("GitLab", "yaml"));
    assert_eq!(example["include"][0]["local"], "ci/gitlab.yml");
    let job = &template[text(&example["agents"]["extends"])];
    let builds = scene.path().join("builds").display().to_string();
    let mut set = vec![("GITLAB_CI".to_owned(), "true".to_owned())];
    for variables in [&job["variables"], &example["agents"]["variables"]] {
        for (name, value) in variables.as_object().expect("variables") {
            let value = text(value).replace("$CI_BUILDS_DIR", &builds);
            set.push((name.clone(), value.replace("$CI_JOB_ID", "77")));
        }
    }
    let set: Vec<(&str, String)> = set.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    let path = [bin().to_owned()];
    let bash = ["bash", "-eo", "pipefail", "-c"];
    let ended = ended(shell(&scene, &bash, &script(&job["script"]), &set, &path));
    assert_eq!(ended.code, Some(100), "{ended}");
    assert!(ended.stderr.contains("section_start:"), "{ended}");
    let after = self::ended(shell(
        &scene,
        &bash,
        &script(&job["after_script"]),
        &set,
        &path,
    ));
    assert_eq!(after.code, Some(0), "{after}");
    let kept = text(&job["artifacts"]["paths"][0]);
    let logs = scene.repo().join(kept).join("logs");
    assert_eq!(logs.read_dir().expect("logs").count(), 2);
    assert_eq!(job["artifacts"]["when"], "always");
    let junit = text(&job["artifacts"]["reports"]["junit"]);
    let junit = std::fs::read_to_string(scene.repo().join(junit)).expect("a report");
    assert!(junit.contains("<testsuite"), "{junit}");
}

#[test]
fn the_examples_for_jenkins_and_buildkite_run() {
    let jenkins = block("Jenkins", "groovy").lines().filter_map(|line| {
        let (_, script) = line.split_once("sh '")?;
        Some(script.strip_suffix('\'').expect("an end").to_owned())
    });
    let buildkite = yaml(block("Buildkite", "yaml"));
    let step = &buildkite["steps"][0];
    assert!(step["env"]["AGENT_RUN_STATE_DIR"].is_string());
    let hook = block("Buildkite", "sh").to_owned();
    let systems = [
        jenkins.collect::<Vec<_>>(),
        vec![text(&step["command"]), hook],
    ];
    for scripts in systems {
        let scene = project();
        let state = scene.state().display().to_string();
        let set = [("CI", "true".to_owned()), ("AGENT_RUN_STATE_DIR", state)];
        let path = [bin().to_owned()];
        let [run, clean] = &scripts[..] else {
            panic!("{scripts:?}");
        };
        let run = ended(shell(&scene, &["sh", "-ec"], run, &set, &path));
        assert_eq!(run.code, Some(100), "{run}");
        assert!(run.stdout.contains("1 passed, 1 failed"), "{run}");
        let clean = ended(shell(&scene, &["sh", "-ec"], clean, &set, &path));
        assert_eq!(clean.code, Some(0), "{clean}");
        assert_eq!(scene.left(), Vec::<String>::new(), "{clean}");
    }
}

#[test]
fn the_container_with_the_hosts_engine_runs() {
    let scene = project();
    let state = scene.state();
    std::fs::create_dir(&state).expect("a directory");
    let binary = format!(
        "{}:/usr/local/bin/agent-run:ro",
        env!("CARGO_BIN_EXE_agent-run")
    );
    // What the reader puts in: a directory of the host's, and an image that has agent-run.
    let image = format!("--user 0:0 -e HOME=/root -v {binary} {BASE_IMAGE}");
    let text = block("In a container with the host's engine", "sh");
    let text = text.replace("/var/lib/agent-run", &state.display().to_string());
    let ended = ended(shell(
        &scene,
        &["sh", "-ec"],
        &text.replace("IMAGE", &image),
        &[],
        &[],
    ));
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(
        scene.git(&["branch", "--list", "agent/*"]).lines().count(),
        2,
        "{ended}"
    );
}

#[test]
fn scripts_are_sound() {
    let action = yaml(ACTION);
    for step in action["runs"]["steps"].as_array().expect("steps") {
        let script = step["run"].as_str().expect("a script");
        assert!(!script.contains("${{"), "inputs are no code: {script}");
        shellcheck("bash", script);
    }
    for step in workflow() {
        if let Some(script) = step["run"].as_str() {
            assert!(!script.contains("${{"), "{script}");
            shellcheck("bash", script);
        }
    }
    let template = yaml(GITLAB);
    shellcheck("bash", &script(&template[".agent-run"]["script"]));
    shellcheck("bash", &script(&template[".agent-run"]["after_script"]));
    shellcheck("sh", block("In a container with the host's engine", "sh"));
}
