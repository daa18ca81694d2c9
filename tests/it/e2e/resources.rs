//! Tasks that take all they can get of disk, memory, processes and sockets: their limits hold, their
//! work up to there is kept, and their siblings in the same run get their branches.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::scene::{Ended, Scene, task};

/// What every task does first, so that there is work to keep.
const COMMIT: &str = "echo work > work.txt; git add work.txt; git commit -qm work";

/// A run of hostile tasks, each after a commit, between two siblings.
fn spec(defaults: &str, hostile: &[(&str, &str, &str)]) -> String {
    let tasks = hostile.iter().map(|(id, limits, script)| {
        let script = script.replace('\n', "\n      ");
        format!("  {id}:\n    <<: {limits}\n    run: |\n      {COMMIT}\n      {script}\n")
    });
    let sibling = |id| format!("  {id}:\n    run: |\n      {COMMIT}\n");
    format!(
        "version: 1\nmax_parallel: 3\n\
         defaults: {{ network_mode: none, stop_grace_period: 1s, timeout: 5m, {defaults} }}\n\
         tasks:\n{}{}{}",
        sibling("first"),
        tasks.collect::<String>(),
        sibling("last")
    )
}

/// Runs it, and expects what all of them have in common.
fn run(scene: &Scene, yaml: &str) -> (Ended, Value) {
    let (ended, result) = scene.run(yaml);
    assert_collected(scene, &result);
    (ended, result)
}

/// Expects that every task's work is on its branch and that the siblings are well.
fn assert_collected(scene: &Scene, result: &Value) {
    let run = result["run"].as_str().expect("a run");
    for report in result["tasks"].as_array().expect("tasks") {
        let id = report["task"].as_str().expect("an id");
        assert_eq!(report["branch"]["result"], "created", "{report:#}");
        let work = scene.git(&["show", &format!("agent/{run}/{id}:work.txt")]);
        assert_eq!(work, "work\n", "{id}");
    }
    for id in ["first", "last"] {
        assert_eq!(outcome(result, id), "succeeded");
    }
}

fn outcome<'a>(result: &'a Value, id: &str) -> &'a str {
    let outcome = &task(result, id)["outcome"]["outcome"];
    outcome.as_str().expect("an outcome")
}

/// What a task wrote into a file of its branch.
fn written(scene: &Scene, result: &Value, id: &str, file: &str) -> String {
    let run = result["run"].as_str().expect("a run");
    scene.git(&["show", &format!("agent/{run}/{id}:{file}")])
}

#[test]
fn a_disk_is_filled_no_further_than_its_limit() {
    const FULL: [(&str, &str); 5] = [
        ("workspace", "fallocate -l 300m big; sleep 300"),
        ("git", "fallocate -l 300m /agent/git/big; sleep 300"),
        ("home", "fallocate -l 300m ~/big; sleep 300"),
        ("out", "fallocate -l 300m /agent/out/big; sleep 300"),
        ("own-files", "fallocate -l 300m /var/tmp/big; sleep 300"),
    ];
    let mut hostile = vec![
        (
            "as-fast-as-it-can",
            "{ disk_limit: 200m }",
            "trap '' TERM; head -c 4G /dev/zero >big; sleep 300",
        ),
        (
            "empty-files",
            "{ disk_limit: 16m }",
            "mkdir ~/flood; cd ~/flood; seq 5000 | xargs touch; sleep 300",
        ),
        (
            "temporary",
            "{ mem_limit: 256m }",
            "head -c 200M /dev/zero >/tmp/big || stat -c %s /tmp/big >size; rm /tmp/big",
        ),
    ];
    hostile.extend(FULL.map(|(id, script)| (id, "{ disk_limit: 64m }", script)));
    let scene = Scene::new();
    let (ended, result) = run(&scene, &spec("mem_limit: 512m", &hostile));
    assert_eq!(ended.code, Some(100), "{ended}");
    for (id, limits, _) in &hostile {
        let Some(limit) = limits.strip_prefix("{ disk_limit: ") else {
            continue;
        };
        let limit = limit.trim_end_matches(" }");
        assert_eq!(outcome(&result, id), "out_of_disk", "{id}: {ended}");
        let used = task(&result, id)["outcome"]["used_bytes"].as_u64();
        assert!(used > Some(16 << 20), "{id}: {used:?}");
        let told = format!("{id}: used ");
        let told = ended.stdout.lines().find(|line| line.contains(&told));
        let told = told.unwrap_or_else(|| panic!("{id}: {ended}"));
        assert!(told.trim_start().starts_with("DISK ["), "{told}");
        assert!(
            told.contains(&format!("(disk_limit: {limit}, spec.yaml:")),
            "{told}"
        );
    }
    // A file system of its own, a quarter of the memory.
    assert_eq!(written(&scene, &result, "temporary", "size"), "67108864\n");
    // What is too large for a commit is kept, and nothing else.
    let mut left = scene.left();
    left.sort();
    let names = left.iter().filter_map(|path| path.rsplit('/').next());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["as-fast-as-it-can", "workspace"],
        "{ended}"
    );
}

/// The wrapper's hand-off is a part of the task; a collector may write as much as a result may be.
#[test]
fn hand_offs_fill_a_disk_no_further_than_a_result_may_be() {
    const FILLS: &str = "git config filter.fills.clean 'head -c 4G /dev/zero >>/agent/out/big'
      echo '* filter=fills' >.gitattributes";
    let hostile = [
        (
            "by-the-wrapper",
            "{ disk_limit: 64m, handoff_timeout: 5m }",
            FILLS,
        ),
        (
            "by-the-collector",
            "{ disk_limit: 20g, handoff_timeout: 5m }",
            &format!("{FILLS}\n      kill -9 $PPID; sleep 60"),
        ),
    ];
    let scene = Scene::new();
    let limits = "collect: { limits: { leftovers: 16m, bundle: 48m } }\n";
    let (ended, result) = scene.run(&(spec("mem_limit: 256m", &hostile) + limits));
    assert_eq!(outcome(&result, "by-the-wrapper"), "out_of_disk", "{ended}");
    let run = result["run"].as_str().expect("a run");
    for (id, ..) in hostile {
        let branch = &task(&result, id)["branch"];
        assert_eq!(branch["result"], "kept", "{branch:#}");
        let told = "the collector was killed: it wrote more than 64 MiB";
        assert!(branch["notes"].to_string().contains(told), "{branch:#}");
        let attempt = scene.state().join(format!("runs/{run}/tasks/{id}/1"));
        let big = std::fs::metadata(attempt.join("out/big")).expect("the file");
        assert!(big.len() < 4 << 30, "{id}: {}", big.len());
        let work = std::fs::read_to_string(attempt.join("worktree/work.txt"));
        assert_eq!(work.expect("the work"), "work\n", "{id}");
    }
    for id in ["first", "last"] {
        assert_eq!(task(&result, id)["branch"]["result"], "created", "{ended}");
    }
    assert_eq!(scene.left().len(), 2, "{:?}", scene.left());
}

#[test]
fn memory_has_no_way_around_its_limit() {
    let hostile = [
        ("heap", "{}", "python3 -c 'x = bytearray(1 << 30)'"),
        (
            "tmpfs",
            "{ tmpfs: ['/cache:size=1g,mode=1777'] }",
            "head -c 500M /dev/zero >/cache/x",
        ),
        (
            "shm",
            "{ shm_size: 1g }",
            "head -c 500M /dev/zero >/dev/shm/x",
        ),
        // The kernel keeps of it what has room.
        (
            "page-cache",
            "{}",
            "head -c 300M /dev/zero >~/x; head -c 48M ~/x >~/y; for n in 1 2 3; do cat ~/y >/dev/null; done; sleep 3",
        ),
    ];
    let scene = Scene::new();
    let (ended, result) = run(&scene, &spec("mem_limit: 96m", &hostile));
    assert_eq!(ended.code, Some(100), "{ended}");
    for id in ["heap", "tmpfs", "shm"] {
        assert_eq!(outcome(&result, id), "out_of_memory", "{id}: {ended}");
    }
    let cache = task(&result, "page-cache");
    assert_eq!(cache["outcome"]["outcome"], "succeeded", "{ended}");
    assert_eq!(cache["child_oom_killed"], false, "{cache:#}");
    let shown = cache["usage"]["memory_bytes"].as_u64();
    assert!(shown < Some(32 << 20), "{cache:#}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn processes_and_sockets_are_bounded() {
    let bomb = r#"python3 - <<'END'
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError as error:
        open("limit", "a").write(error.strerror)
        time.sleep(0.1)
END"#;
    // 100 000 of them, no more than 10 000 in one process.
    let sockets = r#"python3 - <<'END'
import os, socket, time
pipes = []
for _ in range(10):
    reader, writer = os.pipe()
    if os.fork() == 0:
        held = []
        try:
            while len(held) < 10_000:
                held.append(socket.socket())
        except OSError as error:
            print(error.strerror)
        os.write(writer, b"%d\n" % len(held))
        time.sleep(600)
    os.close(writer)
    pipes.append(reader)
counts = [os.read(reader, 99) for reader in pipes]
open("sockets", "w").write(str(sum(map(int, counts))))
END"#;
    let hostile = [
        ("fork-bomb", "{ pids_limit: 100, timeout: 5s }", bomb),
        ("sockets", "{ ulimits: { nofile: 10100 } }", sockets),
        ("few-sockets", "{ ulimits: { nofile: 1000 } }", sockets),
        ("no-memory-for-sockets", "{ mem_limit: 64m }", sockets),
    ];
    let scene = Scene::new();
    let (ended, result) = run(&scene, &spec("mem_limit: 1g", &hostile));
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(outcome(&result, "fork-bomb"), "timed_out", "{ended}");
    let words = written(&scene, &result, "fork-bomb", "limit");
    assert!(
        words.starts_with("Resource temporarily unavailable"),
        "{words}"
    );
    let held = |id| {
        written(&scene, &result, id, "sockets")
            .parse::<u32>()
            .expect("a number")
    };
    assert_eq!(held("sockets"), 100_000);
    assert!(held("few-sockets") < 10_000);
    let starved = outcome(&result, "no-memory-for-sockets");
    assert_eq!(starved, "out_of_memory", "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Runs it; gives the most memory that agent-run had, in bytes.
fn peak_memory_of_a_run(scene: &Scene, yaml: &str) -> u64 {
    let spec = scene.spec(yaml);
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("agent-run");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        // The kernel keeps the highest; of one that has ended there is none.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = kibibytes.unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(50));
    }
    peak << 10
}

fn floods_cost_no_memory(seconds: u32, bytes: u64) {
    let yes = format!("timeout {seconds} yes || true");
    let line = format!("head -c {bytes} /dev/zero | tr '\\0' x");
    let hostile = [
        ("yes", "{ log_limit: 8m, timeout: 1h }", yes.as_str()),
        ("one-line", "{ log_limit: 8m, timeout: 1h }", line.as_str()),
    ];
    let scene = Scene::new();
    let peak = peak_memory_of_a_run(&scene, &spec("mem_limit: 64m", &hostile));
    assert!((1 << 20..128 << 20).contains(&peak), "{peak}");
    let result = scene.result();
    assert_collected(&scene, &result);
    for id in ["yes", "one-line"] {
        assert_eq!(outcome(&result, id), "succeeded");
        let log = task(&result, id)["log"].as_str().expect("a log");
        let size = std::fs::metadata(log).expect("the log").len();
        // Notes of what is not kept come on top.
        assert!((4 << 20..9 << 20).contains(&size), "{id}: {size}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn floods_of_output_cost_no_memory() {
    floods_cost_no_memory(3, 100_000_000);
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_minute_of_yes_and_a_line_of_five_gibibytes_cost_no_memory() {
    floods_cost_no_memory(60, 5 << 30);
}
