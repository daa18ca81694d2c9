//! A repository, a state directory and the command, each test with its own.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use agent_run::event::{events_schema, result_schema};
use agent_run::id::hex_hash;
use serde_json::Value;
use tempfile::TempDir;

use crate::formats::Validator;

/// The place of one test. Everything below it is deleted when it is dropped.
pub struct Scene {
    directory: TempDir,
}

/// A command that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

impl Scene {
    /// A scene with a repository of two commits on `main`.
    pub fn new() -> Self {
        let scene = Self::empty();
        std::fs::create_dir(scene.repo()).expect("a directory");
        scene.git(&["init", "-q", "-b", "main"]);
        scene.write("readme.md", "one\n");
        scene.commit("first");
        scene.write("src/lib.rs", "fn main() {}\n");
        scene.commit("second");
        scene
    }

    /// A scene whose repository has the submodule `lib`, with the user's clone of it.
    pub fn with_submodule() -> Self {
        let scene = Self::new();
        let library = scene.path().join("library");
        let at = library.to_str().expect("a path");
        scene.git(&["clone", "-q", ".", at]);
        let allow = "protocol.file.allow=always";
        scene.git(&["-c", allow, "submodule", "add", "-q", at, "lib"]);
        scene.commit("add a submodule");
        scene
    }

    /// A scene without a repository.
    pub fn empty() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn repo(&self) -> PathBuf {
        self.path().join("repo")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a file of the repository.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.repo().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    pub fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
    }

    /// Runs git in the repository, as its user; gives what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        let ended: Ended = Command::new("git")
            .args([
                "-c",
                "user.name=Tester",
                "-c",
                "user.email=tester@example.org",
            ])
            .args(arguments)
            .current_dir(self.repo())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git")
            .into();
        assert_eq!(ended.code, Some(0), "git {arguments:?}: {ended}");
        ended.stdout
    }

    /// Writes a spec beside the repository, so that the working tree stays clean.
    pub fn spec(&self, yaml: &str) -> PathBuf {
        let path = self.path().join("spec.yaml");
        let text = if yaml.contains("\nrepo:") {
            yaml.to_owned()
        } else {
            format!("repo: repo\n{yaml}")
        };
        std::fs::write(&path, text).expect("a spec");
        self.has_tried_the_bridge();
        path
    }

    /// Notes that nothing is reached from the bridge, so that no run of the scene tries it beside its tasks.
    fn has_tried_the_bridge(&self) {
        let engine = docker(&["info", "--format", "{{.ID}}"]).stdout;
        let host = std::env::var("DOCKER_HOST");
        let host = host.unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let key = format!("{} {host} {}/24", engine.trim(), self.subnet());
        let notes = self.state().join("reach");
        // As agent-run itself makes it.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&notes).expect("a directory");
        let note = notes.join(hex_hash(key.as_bytes(), 32));
        std::fs::write(&note, "tried\n").expect("a note");
        // Whoever the scene is given to has the state too.
        let owner = std::fs::metadata(self.path()).expect("the scene");
        let (uid, gid) = (Some(owner.uid()), Some(owner.gid()));
        for path in [&self.state(), &notes, &note] {
            std::os::unix::fs::chown(path, uid, gid).expect("an owner");
        }
    }

    /// The command, to be started in this scene.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-run"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("AGENT_RUN_STATE_DIR", self.state())
            .env("AGENT_RUN_NETWORK_POOL", format!("{}/24", self.subnet()))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(std::process::Stdio::null());
        let ci = ["CI", "GITHUB_ACTIONS", "GITLAB_CI"];
        let files = ["GITHUB_WORKSPACE", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"];
        for name in ci.into_iter().chain(files).chain(["NO_COLOR"]) {
            command.env_remove(name);
        }
        command
    }

    /// A /24 that hardly another scene has at the same time, so that each has a network of its own.
    fn subnet(&self) -> String {
        let hash = hex_hash(self.path().as_os_str().as_encoded_bytes(), 8);
        let slot = u32::from_str_radix(&hash, 16).expect("a number");
        format!("10.{}.{}.0", 215 + slot / 256 % 39, slot % 256)
    }

    /// The network of the tasks of this scene's runs.
    pub fn network(&self) -> String {
        format!("agent-run-net-{}-24", self.subnet())
    }

    /// Runs the command to its end.
    pub fn agent_run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().expect("agent-run").into()
    }

    /// Runs a spec to its end and gives its result as well. What it wrote must follow the schemas.
    pub fn run(&self, yaml: &str) -> (Ended, Value) {
        let spec = self.spec(yaml);
        let ended = self.agent_run(&["run", spec.to_str().expect("a path")]);
        let result = self.checked_result(&ended);
        (ended, result)
    }

    /// The result of the newest run, which must follow the schemas like its events.
    pub fn checked_result(&self, ended: &Ended) -> Value {
        let result = self.result();
        assert!(!result.is_null(), "no result: {ended}");
        Validator::new(result_schema()).expect_valid(&result);
        let events = Validator::new(events_schema());
        for event in self.events() {
            events.expect_valid(&event);
        }
        result
    }

    /// The result of the newest run; null if there is none.
    pub fn result(&self) -> Value {
        let Some(run) = self.runs().pop() else {
            return Value::Null;
        };
        let file = self.state().join("runs").join(run).join("result.json");
        match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).expect("JSON"),
            Err(_) => Value::Null,
        }
    }

    /// The events of the newest run.
    pub fn events(&self) -> Vec<Value> {
        let run = self.runs().pop().expect("a run");
        let file = self.state().join("runs").join(run).join("journal");
        let text = std::fs::read_to_string(file).expect("a journal");
        let json = |record: &str| {
            let json = record.splitn(3, ' ').nth(2).expect("an event");
            serde_json::from_str(json).expect("JSON")
        };
        text.lines().map(json).collect()
    }

    /// The ids of all runs, oldest first.
    pub fn runs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state().join("runs")) else {
            return Vec::new();
        };
        let mut runs: Vec<String> = entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect();
        // Ids of one second are in no order; a lock is written when its run begins, and never again.
        let lock = |run: &str| self.state().join("runs").join(run).join("lock");
        let began = |run: &str| std::fs::metadata(lock(run)).and_then(|lock| lock.modified());
        runs.sort_by_key(|run| (began(run).ok(), run.clone()));
        runs
    }

    /// What is left on the engine, on disk and in the repository of this scene's runs.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for run in self.runs() {
            let filter = format!("label=agent-run.run={run}");
            let containers = docker(&["ps", "-aq", "--filter", &filter]);
            assert_eq!(containers.code, Some(0), "{containers}");
            left.extend(
                containers
                    .stdout
                    .lines()
                    .map(|id| format!("container {id}")),
            );
            let volumes = docker(&["volume", "ls", "-q", "--filter", &filter]);
            assert_eq!(volumes.code, Some(0), "{volumes}");
            left.extend(volumes.stdout.lines().map(|name| format!("volume {name}")));
            let views = self.state().join("runs").join(&run).join("views");
            left.extend(views.exists().then(|| views.display().to_string()));
            let tasks = self.state().join("runs").join(&run).join("tasks");
            for entry in std::fs::read_dir(tasks).expect("tasks") {
                left.push(entry.expect("an entry").path().display().to_string());
            }
        }
        let filter = format!("name=^{}$", self.network());
        let networks = docker(&["network", "ls", "-q", "--filter", &filter]);
        assert_eq!(networks.code, Some(0), "{networks}");
        let networks = networks.stdout.lines().filter(|id| !is_held(id));
        left.extend(networks.map(|id| format!("network {id}")));
        let trash = self.state().join("trash");
        if let Ok(entries) = std::fs::read_dir(trash) {
            left.extend(entries.map(|e| e.expect("an entry").path().display().to_string()));
        }
        if self.repo().exists() {
            let refs = self.git(&["for-each-ref", "--format=%(refname)", "refs/agent-run"]);
            let own = |name: &&str| !name.starts_with("refs/agent-run/attempts/");
            left.extend(refs.lines().filter(own).map(str::to_owned));
        }
        left
    }
}

/// Whether the engine keeps a network for nobody until it is restarted, as Docker 20.10 may do.
fn is_held(network: &str) -> bool {
    let filter = format!("network={network}");
    let on_it = docker(&["ps", "-aq", "--filter", &filter]).stdout;
    let refused = docker(&["network", "rm", network]).stderr;
    on_it.is_empty() && refused.contains("has active endpoints")
}

/// A test that fails while agent-run is dead, or still at work, leaves no container behind.
impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for run in self.runs() {
            let filter = format!("label=agent-run.run={run}");
            let found = docker(&["ps", "-aq", "--filter", &filter]).stdout;
            let containers: Vec<&str> = found.lines().collect();
            if !containers.is_empty() {
                docker(&[&["rm", "-f"][..], &containers].concat());
            }
        }
    }
}

/// Runs the docker command.
pub fn docker(arguments: &[&str]) -> Ended {
    let output = Command::new("docker").args(arguments).output();
    output
        .expect("the docker command; make engine installs it")
        .into()
}

/// A task's report out of a result.
pub fn task<'a>(result: &'a Value, id: &str) -> &'a Value {
    let tasks = result["tasks"].as_array().expect("tasks");
    let found = tasks.iter().find(|task| task["task"] == id);
    found.unwrap_or_else(|| panic!("no task {id} in {result:#}"))
}

/// Starts the command and gives the lines of its standard error.
pub fn start(scene: &Scene, arguments: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    spawn(scene.command(arguments))
}

pub fn spawn(mut command: Command) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("agent-run");
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    (child, stderr.lines().map(|line| line.expect("a line")))
}

/// Looks again and again until it is so, but not for ever.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(
            began.elapsed().as_secs() < 60,
            "not within a minute: {what}"
        );
    }
}

pub fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
}

/// Reads lines until one has these words; where none comes, says what came.
pub fn expect(lines: &mut impl Iterator<Item = String>, words: &str) {
    let mut seen = Vec::new();
    for line in lines {
        if line.contains(words) {
            return;
        }
        seen.push(line);
    }
    panic!("no line has {words:?}:\n{}", seen.join("\n"));
}
