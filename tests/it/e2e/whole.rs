//! The main way through: branches, logs, secrets, networks, many tasks.

use std::sync::atomic::{AtomicBool, Ordering};

use super::scene::{Scene, docker, expect, interrupt, start, task};

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
        for file in ["plan.json", "journal", "result.json", "logs/granted.1.log"] {
            let text = std::fs::read_to_string(run.join(file)).expect(file);
            assert!(!text.contains(secret), "{secret} is in {file}");
        }
    }
}

/// Not in one run, not in two, and not while the engine makes and removes networks, when it opens
/// the way between others for some milliseconds.
#[test]
fn tasks_cannot_reach_each_other() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
max_parallel: 2
defaults: { stop_grace_period: 1s }
tasks:
  server:
    run: |
      echo "address $(hostname -I)"
      exec python3 -u -m http.server 8000
  client:
    run: echo waiting; sleep 600
"#;
    let spec = scene
        .spec(yaml)
        .into_os_string()
        .into_string()
        .expect("a path");
    let (mut first, mut lines) = start(&scene, &["run", &spec]);
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
    let (mut second, mut other_lines) = start(&scene, &["run", &spec, "client"]);
    expect(&mut other_lines, "| waiting");
    let address = address.expect("an address");
    let runs = scene.runs();
    let script = format!(
        "import socket\nreached = 0\nfor _ in range(40):\n s = socket.socket()\n s.settimeout(0.05)\n \
         reached += s.connect_ex(('{address}', 8000)) == 0\nprint(reached)"
    );
    let reached = |run: &str, task: &str| {
        let name = format!("agent-run-{run}-1-{task}");
        let tried = docker(&["exec", &name, "python3", "-c", &script]);
        assert_eq!(tried.code, Some(0), "{tried}");
        tried.stdout.trim().parse::<u32>().expect("a number")
    };
    let own = reached(&runs[0], "server");
    let done = AtomicBool::new(false);
    let (same_run, other_run) = std::thread::scope(|threads| {
        threads.spawn(|| {
            let name = format!("agent-run-it-{}", scene.network());
            while !done.load(Ordering::Relaxed) {
                for what in [["network", "create"], ["network", "rm"]] {
                    docker(&[&what[..], &[&name]].concat());
                }
            }
        });
        let reached = (reached(&runs[0], "client"), reached(&runs[1], "client"));
        done.store(true, Ordering::Relaxed);
        reached
    });
    for (child, lines) in [
        (&mut first, &mut lines as &mut dyn Iterator<Item = String>),
        (&mut second, &mut other_lines),
    ] {
        interrupt(child);
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    }
    assert!(own > 0, "the server serves");
    assert_eq!((same_run, other_run), (0, 0));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn network_mode_none_has_loopback_only() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
tasks:
  alone:
    network_mode: none
    run: |
      ls /sys/class/net | tr '\n' ' '
      python3 -c "
      import socket
      listener = socket.create_server(('localhost', 0))
      socket.create_connection(listener.getsockname()).close()"
"#;
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
