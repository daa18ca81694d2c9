//! Hostile tasks beside honest ones, by the real command on the real engine.
//!
//! An attack is a script and what must become of it: imported, refused by a named check, or kept.
//! All attacks of a test share one run. [`Hostile::run`] holds what must be so after any of them:
//! nothing of theirs ran on the host, the repository is whole, the siblings passed, nothing is left.

mod after;
mod bundles;
mod canary;
mod files;
mod files_of_git;
mod git_config;
mod hand_off;
mod names;
mod nested;
mod reach;
mod objects;
mod users_config;
mod snapshot;
mod strangers;
mod verify;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::scene::{Ended, Scene};
pub use canary::Canary;
use snapshot::Snapshot;

/// More is wrong even on a busy machine.
const BOUND: Duration = Duration::from_secs(900);
/// What agent-run itself may take at most, in KiB: a test's build, many tasks.
const MEMORY: u64 = 150 * 1024;

/// What must become of an attack's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is on its branch, and the attempt's directory is gone.
    Imported,
    /// It is on its branch, and what no branch can hold is kept.
    ImportedInPart,
    /// There was nothing to import.
    Unchanged,
    /// There was nothing to import, and what no branch can hold is kept.
    LeftBehind,
    /// This check refused it, and the attempt's directory is kept.
    Refused(&'static str),
    /// It could not be collected, and the attempt's directory is kept.
    Kept,
}

const MUST_FAIL: &str = "\
must_fail() { if \"$@\" 2>/dev/null; then echo \"worked: $*\"; exit 1; fi; }
";

/// One hostile task.
pub struct Attack {
    name: String,
    expected: Expected,
    outcome: &'static str,
    settings: Map<String, Value>,
}

impl Attack {
    /// A task `name` that runs `script`. The script stops at the first command that fails, and must
    /// come to its end: an attack that does not take place proves nothing. What must not work is
    /// said by `must_fail COMMAND…`.
    pub fn new(name: &str, expected: Expected, script: &str) -> Self {
        let script = format!("set -eu\n{MUST_FAIL}{script}");
        Self {
            name: name.to_owned(),
            expected,
            outcome: "succeeded",
            settings: Map::from_iter([("run".to_owned(), json!(script))]),
        }
    }

    /// With another outcome than `succeeded`.
    pub fn ends(mut self, outcome: &'static str) -> Self {
        self.outcome = outcome;
        self
    }

    /// With one more key of the spec.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }
}

/// The end of a script that leaves /agent/out as it made it: the wrapper's own hand-off never runs.
/// The task's outcome is `killed`.
pub const NO_HAND_OFF: &str = "\nkill -9 $PPID; sleep 60\n";

/// A script whose `plant` decides what is in /agent/out: it runs within every hand-off, that of the
/// wrapper and that of the collector, and kills them. The task's outcome is `killed`.
pub fn in_every_hand_off(plant: &str) -> String {
    format!(
        "cat > /agent/git/plant <<'END'\n\
        #!/bin/sh\n\
        rm -rf /agent/out/* /agent/out/.handoff\n\
        {plant}\n\
        kill -9 -1\n\
        END\n\
        chmod +x /agent/git/plant\n\
        git config filter.plant.clean /agent/git/plant\n\
        echo '* filter=plant' > .gitattributes\n\
        echo work > work.txt\n"
    )
}

/// A repository, and around it what no task may touch or see.
pub struct Hostile {
    pub scene: Scene,
    pub canary: Canary,
}

/// A run with hostile tasks that left nothing behind.
pub struct Done {
    pub ended: Ended,
    pub result: Value,
    pub run: String,
}

impl Done {
    /// The branch of a task.
    pub fn branch(&self, task: &str) -> String {
        format!("agent/{}/{task}", self.run)
    }
}

impl Hostile {
    pub fn new() -> Self {
        Self::of(Scene::new())
    }

    pub fn of(scene: Scene) -> Self {
        let canary = Canary::new(scene.path());
        Self { scene, canary }
    }

    /// Runs the attacks between two honest tasks, and then what a user runs afterwards.
    pub fn run(&self, attacks: &[Attack]) -> Done {
        let before = Snapshot::of(&self.scene.repo());
        let began = Instant::now();
        let (ended, memory) = self.run_measured(&spec(attacks));
        assert!(began.elapsed() < BOUND, "took {:?}", began.elapsed());
        assert!((1..MEMORY).contains(&memory), "{memory} KiB: {ended}");
        let result = self.scene.checked_result(&ended);
        let run = result["run"].as_str().expect("a run").to_owned();
        let done = Done { ended, result, run };
        self.assert_after(&done, attacks, &before);
        done
    }

    /// Runs a spec; gives also the most memory that agent-run itself held, in KiB.
    fn run_measured(&self, yaml: &str) -> (Ended, u64) {
        let spec = self.scene.spec(yaml);
        let mut command = self.scene.command(&["run", spec.to_str().expect("a path")]);
        let streams = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("agent-run");
        let pid = child.id();
        let stdout = child.stdout.take().expect("standard output");
        let stderr = child.stderr.take().expect("standard error");
        let reader = std::thread::spawn(move || measured(stdout, pid));
        let (stderr, high) = measured(stderr, pid);
        let (stdout, higher) = reader.join().expect("a reader");
        let code = child.wait().expect("an end").code();
        let ended = Ended {
            code,
            stdout,
            stderr,
        };
        (ended, high.max(higher))
    }

    /// The directory of a task's attempt.
    pub fn attempt(&self, done: &Done, task: &str) -> PathBuf {
        let run = self.scene.state().join("runs").join(&done.run);
        run.join("tasks").join(task).join("1")
    }
}

/// The attacks as tasks, between two honest ones.
fn spec(attacks: &[Attack]) -> String {
    let honest = |name: &str, network: &str, more: &str| {
        let script = format!("echo fine > {name}.txt{more}");
        let task = json!({ "run": script, "network_mode": network });
        (name.to_owned(), task)
    };
    let commit = "; git add .; git commit -qm fine";
    let hostile = attacks
        .iter()
        .map(|a| (a.name.clone(), Value::Object(a.settings.clone())));
    let tasks = [honest("honest-first", "bridge", commit)]
        .into_iter()
        .chain(hostile)
        .chain([honest("honest-last", "none", "")]);
    // JSON is YAML; the order of the tasks is that of the text.
    let mut text = String::from(
        "version: 1\nmax_parallel: 4\ndefaults: { mem_limit: 256m, timeout: 60s, network_mode: none }\ntasks:\n",
    );
    for (name, task) in tasks {
        let _ = writeln!(text, "  {name}: {task}");
    }
    text
}

/// The tasks that must have a branch.
fn imported(attacks: &[Attack]) -> impl Iterator<Item = &str> {
    let has_branch =
        |a: &&Attack| matches!(a.expected, Expected::Imported | Expected::ImportedInPart);
    let hostile = attacks.iter().filter(has_branch).map(|a| &*a.name);
    ["honest-first", "honest-last"].into_iter().chain(hostile)
}

/// Reads lines to their end, and at each of them how much memory the process has held at most.
fn measured(stream: impl Read, pid: u32) -> (String, u64) {
    let (mut text, mut high) = (String::new(), 0);
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).expect("a line") > 0 {
        text.push_str(&String::from_utf8_lossy(&line));
        line.clear();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|l| l.trim().split(' ').next()?.parse().ok());
        high = high.max(peak.unwrap_or(0));
    }
    (text, high)
}

/// That `docs/security.md` names no test, and no module of tests, that is not there.
#[test]
fn the_documentation_names_tests_that_are_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(top.join("docs/security.md")).expect("the documentation");
    let is_path = |word: &&str| {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b':';
        word.contains("::") && !word.starts_with(':') && word.bytes().all(allowed)
    };
    let mut named = 0;
    for test in text.split('`').skip(1).step_by(2).filter(is_path) {
        let (module, name) = test.rsplit_once("::").expect("a path");
        let is_test = source_of(module).is_some_and(|s| s.contains(&format!("fn {name}()")));
        assert!(is_test || source_of(test).is_some(), "{test}");
        named += 1;
    }
    assert!(named > 50, "{named}");
}

/// The text of a module, named from here, from the top of the tests, or from that of the crate.
fn source_of(module: &str) -> Option<String> {
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["tests/it/e2e/hostile", "tests/it", "src"];
    let files = places.iter().flat_map(|place| {
        let names = [format!("{path}.rs"), format!("{path}/mod.rs")];
        names.map(|name| root.join(place).join(name))
    });
    files
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok())
}
