//! The main way through: branches, logs, secrets, networks, many tasks, interrupts, clean.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};

use super::scene::{Scene, docker, task};

#[test]
fn tasks_become_branches_and_nothing_else_is_left() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
name: two
tasks:
  commits:
    run: |
      echo two >> readme.md
      git commit -qam "docs: say two"
      echo "done as $(whoami) in $(pwd)"
  leaves:
    run: echo "hello from $(hostname)" > hello.txt
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let commits = format!("agent/{run}/commits");
    let leaves = format!("agent/{run}/leaves");
    assert_eq!(
        scene.git(&["log", "--format=%s", &format!("main..{commits}")]),
        "docs: say two\n"
    );
    assert_eq!(
        scene.git(&["show", &format!("{leaves}:hello.txt")]),
        "hello from leaves\n"
    );
    assert_eq!(
        scene.git(&["log", "--format=%an", "-1", &commits]),
        "agent-run\n"
    );
    assert_eq!(task(&result, "commits")["branch"]["insertions"], 1);
    assert!(task(&result, "leaves")["branch"]["leftovers_committed"] == true);
    assert!(
        ended
            .stderr
            .contains("commits | done as agent in /workspace"),
        "{ended}"
    );
    assert!(ended.stdout.contains(&commits), "{ended}");
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    scene.git(&["fsck", "--strict"]);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_task_that_changes_nothing_gets_no_branch() {
    let scene = Scene::new();
    let (ended, result) = scene.run("version: 1\ntasks:\n  look:\n    run: git log --oneline\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(task(&result, "look")["branch"]["result"], "no_change");
    assert_eq!(
        scene.git(&["branch", "--format=%(refname:short)"]),
        "main\n"
    );
}

#[test]
fn git_works_inside_as_anywhere() {
    let scene = Scene::new();
    let (ended, _) = scene.run(
        r#"
version: 1
tasks:
  all:
    run: |
      set -x
      test -z "$(git status --porcelain)"
      git log --oneline | wc -l | grep -qx 2
      git checkout -q -b side
      echo a > a; git add a; git commit -qm a
      git checkout -q -
      echo b > b; git add b; git commit -qm b
      git merge -q --no-edit side
      git checkout -q side
      git rebase -q -
      echo stashed >> readme.md; git stash -q; git stash pop -q; git checkout -q readme.md
      git tag t; git cherry-pick --quit
      git gc -q; git fsck --strict
      git worktree add -q /tmp/other; git -C /tmp/other log -1 --format=%s
      git worktree remove /tmp/other
      git bundle create -q /tmp/all.bundle --all
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
}

#[test]
fn secrets_arrive_and_are_seen_nowhere() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
secrets:
  key: { environment: THE_KEY }
  token: { file: token.txt }
tasks:
  granted:
    secrets: [key, { source: token, environment: TOKEN }]
    run: |
      cat /run/secrets/key; echo; printf '%s' "$TOKEN"; echo
      stat -c '%a %u' /run/secrets/key
      test "$(wc -c < /run/secrets/key)" = 16
      head -c 7 /run/secrets/key; sleep 0.3; tail -c 9 /run/secrets/key; echo
      touch "$(cat /run/secrets/key).txt"
  refused:
    run: "! ls /run/secrets/key; test -z \"${TOKEN:-}\""
"#,
    );
    std::fs::write(scene.path().join("token.txt"), "tuvwxyz-token\n").expect("a file");
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    let ended: super::scene::Ended = command
        .env("THE_KEY", "sesame-open-1234")
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("granted | 400 "), "{ended}");
    assert!(ended.stderr.contains("granted | ***"), "{ended}");
    for secret in ["sesame-open-1234", "tuvwxyz-token"] {
        assert!(!ended.stdout.contains(secret), "{ended}");
        assert!(!ended.stderr.contains(secret), "{ended}");
        let run = scene.state().join("runs").join(&scene.runs()[0]);
        for file in [
            "plan.json",
            "events.ndjson",
            "result.json",
            "logs/granted.1.log",
        ] {
            let text = std::fs::read_to_string(run.join(file)).expect(file);
            assert!(!text.contains(secret), "{secret} is in {file}");
        }
    }
}

#[test]
fn tasks_cannot_reach_each_other() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
max_parallel: 2
defaults: { stop_grace_period: 1s }
tasks:
  server:
    run: |
      echo "address $(hostname -I)"
      exec python3 -u -m http.server 8000
  client:
    run: echo waiting; sleep 120
"#,
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    let mut address = None;
    let mut up = 0;
    while up < 3 {
        let line = lines.next().expect("the tasks say that they are up");
        if let Some((_, told)) = line.split_once("| address ") {
            address = Some(told.trim().to_owned());
        }
        let signs = ["| address ", "| waiting", "| Serving HTTP"];
        up += usize::from(signs.iter().any(|sign| line.contains(sign)));
    }
    let url = format!("http://{}:8000/", address.expect("an address"));
    let run = scene.runs()[0].clone();
    let fetch = |task: &str| {
        let name = format!("agent-run-{run}-1-{task}");
        docker(&[
            "exec",
            &name,
            "curl",
            "-sS",
            "--max-time",
            "3",
            "-o",
            "/dev/null",
            &url,
        ])
    };
    let (own, other) = (fetch("server"), fetch("client"));
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    assert_eq!(own.code, Some(0), "the server serves: {own}");
    // 7 is "could not connect", 28 is "no answer in time"; 6 or 127 would prove nothing.
    assert!(matches!(other.code, Some(7 | 28)), "{other}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn network_mode_none_has_loopback_only() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  alone:\n    network_mode: none\n    run: ls /sys/class/net | tr '\\n' ' '\n";
    let (ended, _) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stderr.contains("alone | lo \n") || ended.stderr.contains("alone | lo\n"),
        "{ended}"
    );
}

#[test]
fn twenty_tasks_on_a_real_repository_leave_nothing() {
    let scene = Scene::empty();
    let own = env!("CARGO_MANIFEST_DIR");
    let target = scene.repo();
    let cloned = std::process::Command::new("git")
        .args(["clone", "-q", "--no-hardlinks", own])
        .arg(&target)
        .output()
        .expect("git");
    assert!(cloned.status.success(), "{cloned:?}");
    let tasks: String = (0..20)
        .map(|n| {
            format!(
                "  t{n}:\n    mem_limit: 128m\n    run: |\n      wc -l src/*.rs > lines-{n}.txt\n      git add -A && git commit -qm 'count {n}'\n"
            )
        })
        .collect();
    let (ended, result) = scene.run(&format!("version: 1\nmax_parallel: 20\ntasks:\n{tasks}"));
    assert_eq!(ended.code, Some(0), "{ended}");
    let created = result["tasks"].as_array().expect("tasks").iter();
    assert_eq!(
        created
            .filter(|t| t["branch"]["result"] == "created")
            .count(),
        20
    );
    assert_eq!(
        scene.git(&["branch", "--list", "agent/*"]).lines().count(),
        20
    );
    assert_eq!(scene.left(), Vec::<String>::new());
    scene.git(&["fsck", "--strict"]);
}

#[test]
fn an_interrupt_keeps_the_work() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  obeys:
    run: |
      echo half > half.txt
      echo ready
      sleep 60
  waits:
    run: echo never
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", "-j", "1", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| ready")));
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let result = scene.result();
    assert_eq!(task(&result, "obeys")["outcome"]["outcome"], "cancelled");
    assert_eq!(task(&result, "obeys")["branch"]["result"], "created");
    assert_eq!(task(&result, "waits")["outcome"]["outcome"], "skipped");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn two_interrupts_kill_and_clean_collects_the_work() {
    let scene = Scene::new();
    let yaml = r"
version: 1
defaults: { stop_grace_period: 5m }
tasks:
  stubborn:
    run: |
      trap '' TERM
      echo half > half.txt
      echo ready
      while :; do sleep 1; done
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| ready")));
    interrupt(&child);
    assert!(lines.any(|line| line.contains("Stopping")));
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let result = scene.result();
    assert_eq!(task(&result, "stubborn")["branch"]["result"], "kept");
    let run = result["run"].as_str().expect("a run");
    let containers = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=agent-run.run={run}"),
    ]);
    assert_eq!(containers.stdout, "");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/stubborn:half.txt")]),
        "half\n",
        "{cleaned}"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn clean_after_kill_9_collects_and_removes_and_spares_live_runs() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  orphan:
    run: |
      echo half > half.txt
      echo ready
      sleep 600
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| ready")));
    let run = scene.runs()[0].clone();
    let spared = scene.agent_run(&["clean"]);
    assert_eq!(spared.code, Some(0), "{spared}");
    let refused = scene.agent_run(&["clean", "--run", &run]);
    assert_eq!(refused.code, Some(96), "{refused}");
    let filter = format!("label=agent-run.run={run}");
    let running = docker(&["ps", "-q", "--filter", &filter]);
    assert_eq!(running.stdout.lines().count(), 1, "{running}");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let shown = scene.agent_run(&["clean", "--dry-run"]);
    assert!(shown.stdout.contains(&run), "{shown}");
    assert!(!scene.left().is_empty());
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/orphan:half.txt")]),
        "half\n"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
    let again = scene.agent_run(&["clean"]);
    assert_eq!(again.code, Some(0), "{again}");
}

#[test]
fn clean_collects_also_where_a_collector_was_left_running() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
tasks:
  orphan:
    run: |
      echo half > half.txt
      git config filter.slow.clean 'sleep 5; cat'
      echo 'half.txt filter=slow' > .gitattributes
      kill -9 "$PPID"
      sleep 600
"#;
    let spec = scene.spec(yaml);
    let (mut child, _lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    let collectors = || {
        let runs = scene.runs();
        let filter = format!("label=agent-run.run={}", runs.first().map_or("", |r| r));
        let role = "label=agent-run.role=collector";
        docker(&["ps", "-q", "--filter", &filter, "--filter", role]).stdout
    };
    until("a collector runs", || !collectors().is_empty());
    child.kill().expect("a kill");
    child.wait().expect("an end");
    assert!(!collectors().is_empty(), "the collector ended too soon");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let run = scene.runs()[0].clone();
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/orphan:half.txt")]),
        "half\n",
        "{cleaned}"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn clean_removes_a_worktree_that_was_never_finished() {
    let scene = Scene::new();
    let (ended, result) = scene.run("version: 1\ntasks:\n  a: { run: echo a > a.txt }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let attempt = scene.state().join("runs").join(run).join("tasks/a/1");
    std::fs::create_dir_all(attempt.join("worktree/src")).expect("directories");
    let pin = format!("refs/agent-run/base/{run}/a");
    scene.git(&["update-ref", &pin, "main"]);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("unfinished worktree"), "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn an_interrupt_is_heard_while_another_run_holds_the_repository() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  a: { run: echo a > a.txt }\n";
    let (ended, _) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let mode = std::fs::metadata(scene.state())
        .expect("a directory")
        .mode();
    assert_eq!(
        mode & 0o777,
        0o700,
        "others may not read what is copied there"
    );
    let repositories = std::fs::read_dir(scene.state().join("repos")).expect("repositories");
    let place = repositories.map(|e| e.expect("an entry").path()).next();
    let lock = std::fs::File::open(place.expect("one").join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    let spec = scene.spec(yaml);
    let (mut child, _lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    until("it has a plan", || {
        let runs = scene.runs();
        let plan = |run| scene.state().join("runs").join(run).join("plan.json");
        runs.len() == 2 && plan(&runs[1]).exists()
    });
    interrupt(&child);
    let mut ended = None;
    until("it has left", || {
        ended = child.try_wait().expect("a state");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(130));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_hang_up_that_nohup_ignores_stays_ignored() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  a: { run: echo ready; sleep 3; echo a > a.txt }\n";
    let spec = scene.spec(yaml);
    let plain = scene.command(&[]);
    let mut nohup = Command::new("sh");
    nohup
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .arg("run")
        .arg(spec)
        .current_dir(scene.path())
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let (mut child, mut lines) = spawn(nohup);
    assert!(lines.any(|line| line.ends_with("| ready")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
}

#[test]
fn a_reader_that_has_stopped_reading_makes_no_signal_unheard() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  flood:
    run: |
      echo ready
      i=0; while [ $i -lt 20000 ]; do echo a line that nobody reads $i; i=$((i+1)); done
      sleep 600
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| ready")));
    let log = scene.state().join("runs").join(&scene.runs()[0]);
    let log = log.join("logs/flood.1.log");
    until("the log is whole", || {
        let text = std::fs::read_to_string(&log).expect("a log");
        text.contains(" 19999")
    });
    interrupt(&child);
    let filter = format!("label=agent-run.run={}", scene.runs()[0]);
    until("its container is gone", || {
        let left = docker(&["ps", "-aq", "--filter", &filter]);
        left.stdout.is_empty()
    });
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn the_whole_run_has_a_time_limit() {
    let scene = Scene::new();
    let yaml = "version: 1\ntimeout: 3s\ntasks:\n  long:\n    run: echo a > a.txt; sleep 60\n";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(124), "{ended}");
    assert_eq!(result["stopped"], "timed_out");
    assert_eq!(task(&result, "long")["branch"]["result"], "created");
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Starts the command and gives the lines of its standard error.
fn start(scene: &Scene, arguments: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    spawn(scene.command(arguments))
}

fn spawn(mut command: Command) -> (Child, impl Iterator<Item = String> + use<>) {
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
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(
            began.elapsed().as_secs() < 60,
            "not within a minute: {what}"
        );
    }
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
}

#[test]
fn a_working_dir_that_is_missing_is_the_agents_own() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  inside: { working_dir: /workspace/new/place, run: 'pwd; echo x > x.txt' }
  home: { working_dir: /home/agent/new, run: 'pwd; echo x > x.txt' }
";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("| /workspace/new/place"), "{ended}");
    assert!(ended.stderr.contains("| /home/agent/new"), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let file = format!("agent/{run}/inside:new/place/x.txt");
    assert_eq!(scene.git(&["show", &file]), "x\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn clean_tells_of_runs_that_it_does_not_know_and_leaves_them_alone() {
    let scene = Scene::new();
    let yaml =
        "version: 1\ntasks:\n  long: { run: 'echo ready; sleep 600', stop_grace_period: 1s }\n";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| ready")));
    let elsewhere = scene.path().join("elsewhere");
    let cleaned = scene.agent_run(&["clean", "--state-dir", elsewhere.to_str().expect("a path")]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("left alone: "), "{cleaned}");
    let filter = format!("label=agent-run.run={}", scene.runs()[0]);
    let running = docker(&["ps", "-q", "--filter", &filter]);
    assert_eq!(running.stdout.lines().count(), 1, "{running}");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
}
