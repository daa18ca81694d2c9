//! Looking at runs while they go on, after they were killed, and once they have ended; and going in.

use std::io::Write as _;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::scene::{Ended, Scene, expect, interrupt, start};

/// Runs the command in the repository, as people do.
fn in_repo(scene: &Scene, arguments: &[&str]) -> Ended {
    let mut command = scene.command(arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

/// The same, which must go well; gives what it printed.
#[track_caller]
fn good(scene: &Scene, arguments: &[&str]) -> String {
    let ended = in_repo(scene, arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended}");
    ended.stdout
}

#[track_caller]
fn json(scene: &Scene, arguments: &[&str]) -> Value {
    let text = good(scene, arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

const LIVE: &str = r"
version: 1
name: the night's work
max_parallel: 1
defaults: { mem_limit: 64m, stop_grace_period: 1s }
tasks:
  long: { run: 'echo half > half.txt; echo ready; sleep 600' }
  later: { run: 'true' }
";

/// A run whose first task has said that it is ready, and whose second waits.
fn live(scene: &Scene) -> (Child, impl Iterator<Item = String> + use<>) {
    let spec = scene.spec(LIVE);
    let (child, mut lines) = start(scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    (child, lines)
}

fn end(mut child: Child, lines: impl Iterator<Item = String>) {
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
}

#[test]
fn a_live_run_is_listed_and_shown_and_gone_into() {
    let scene = Scene::new();
    let (child, lines) = live(&scene);
    let run = scene.runs().pop().expect("a run");
    let listed = good(&scene, &["ps"]);
    contains(
        &listed,
        &[
            &run,
            "live",
            "2 tasks: 0 passed, 1 running, 1 waiting",
            "the night's work",
        ],
    );
    contains(&listed, &["     running long  ", "     waiting later\n"]);
    let columns: Vec<&str> = listed.split_whitespace().take(4).collect();
    for (column, units) in [(columns[2], "smh"), (columns[3], "bkm")] {
        let number = column.trim_end_matches(|c| units.contains(c));
        assert!(
            number != column && number.parse::<f64>().is_ok(),
            "its age and disk: {listed}"
        );
    }
    let listed = json(&scene, &["ps", "--format", "json"]);
    assert_eq!(listed["runs"][0]["state"], "live", "{listed:#}");
    assert_eq!(
        listed["runs"][0]["tasks"][0]["phase"], "running",
        "{listed:#}"
    );
    assert_eq!(
        listed["runs"][0]["tasks"][1]["phase"], "waiting",
        "{listed:#}"
    );
    assert!(
        listed["runs"][0]["disk_bytes"].as_u64() > Some(4096),
        "{listed:#}"
    );
    let shown = good(&scene, &["show", "long"]);
    let exec = format!("agent-run exec long --run {run}");
    contains(
        &shown,
        &[
            "running long of run",
            "1h, 64m of memory",
            "long.1.log",
            &exec,
        ],
    );
    let shown = json(&scene, &["show", "later", "--format", "json"]);
    assert_eq!(shown["report"], Value::Null, "{shown:#}");
    assert_eq!(shown["plan"]["id"], "later", "{shown:#}");

    let script =
        "test \"$(id -u)\" = \"$(stat -c %u .)\" && touch mine && pwd && echo err >&2; exit 7";
    let ended = in_repo(&scene, &["exec", "long", "sh", "-c", script]);
    assert_eq!(ended.code, Some(7), "{ended}");
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("/workspace\n", "err\n")
    );
    let nothing = in_repo(
        &scene,
        &["exec", "--run", &run, "long", "--", "no-such-command"],
    );
    assert!(matches!(nothing.code, Some(126 | 127)), "{nothing}");
    let waits = in_repo(&scene, &["exec", "later"]);
    assert_eq!(waits.code, Some(96), "{waits}");
    contains(
        &waits.stderr,
        &["task later of run", "does not run: it is waiting"],
    );
    let unknown = in_repo(&scene, &["exec", "lon"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    contains(
        &unknown.stderr,
        &["has no task `lon`", "did you mean `long`?"],
    );
    end(child, lines);
    let over = in_repo(&scene, &["exec", "long"]);
    assert_eq!(over.code, Some(96), "{over}");
    contains(
        &over.stderr,
        &["does not run: its run has finished", "agent-run show long"],
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_is_typed_goes_in_and_comes_out() {
    let scene = Scene::new();
    let (child, lines) = live(&scene);
    // More than any buffer holds, both ways at once.
    let text = "a line of some length\n".repeat(100_000);
    let mut command = scene.command(&["exec", "long", "cat"]);
    let mut cat = command
        .current_dir(scene.repo())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent-run");
    let mut stdin = cat.stdin.take().expect("standard input");
    let typed = text.clone();
    let typist = std::thread::spawn(move || stdin.write_all(typed.as_bytes()));
    let ended: Ended = cat.wait_with_output().expect("an end").into();
    typist.join().expect("a thread").expect("all of it");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout == text,
        "{} of {} bytes",
        ended.stdout.len(),
        text.len()
    );
    end(child, lines);
}

/// Runs a script of the host's on a terminal of 33 lines and 77 columns, and types into it.
fn on_a_terminal(scene: &Scene, script: &str, keys: &str) -> Ended {
    let script = format!("stty rows 33 cols 77; {script}");
    let mut command = std::process::Command::new("script");
    let mut child = command
        .args(["-qec", &script, "/dev/null"])
        .current_dir(scene.repo())
        .env("AGENT_RUN_STATE_DIR", scene.state())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all(keys.as_bytes()).expect("keys");
    let ended = child.wait_with_output().expect("an end").into();
    drop(stdin);
    ended
}

#[test]
fn a_shell_has_the_terminal_and_gives_it_back() {
    let scene = Scene::new();
    let (child, lines) = live(&scene);
    let own = env!("CARGO_BIN_EXE_agent-run");
    let script = format!(
        "stty -g > ../before; {own} exec long; echo code $?; stty -g > ../after; \
         {own} exec long sh -c 'test -t 0 || echo no terminal' > ../file; \
         {own} exec long sh -c 'kill -TERM $$'; stty -g > ../killed"
    );
    let ended = on_a_terminal(&scene, &script, "echo size $(stty size)\nexit 9\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    contains(&ended.stdout, &["size 33 77\r\n", "code 9\r\n"]);
    let read = |name: &str| std::fs::read_to_string(scene.path().join(name)).expect("a file");
    assert_eq!(read("before"), read("after"));
    assert_eq!(read("before"), read("killed"));
    assert_eq!(read("file"), "no terminal\n");
    end(child, lines);
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    let scene = Scene::new();
    let (child, lines) = live(&scene);
    let own = env!("CARGO_BIN_EXE_agent-run");
    // The task inside says when it is there, by a file that both see.
    let worktree = scene.state().join("runs").join(&scene.runs()[0]);
    let sign = worktree.join("tasks/long/1/worktree/inside");
    let script = format!(
        "stty -g > ../before; (until test -e {0}; do :; done; stty -g > ../during; kill -TERM $(cat ../pid)) & \
         sh -c 'echo $$ > ../pid; exec {own} exec long sh -c \"touch inside; sleep 600\"'; \
         echo code $?; stty -g > ../after",
        sign.display()
    );
    let ended = on_a_terminal(&scene, &script, "");
    contains(
        &ended.stdout,
        &["code 143\r\n", "left; the command may go on"],
    );
    let read = |name: &str| std::fs::read_to_string(scene.path().join(name)).expect("a file");
    assert_ne!(read("before"), read("during"));
    assert_eq!(read("before"), read("after"));
    end(child, lines);
}

#[test]
fn a_run_that_was_killed_is_interrupted_until_it_is_cleaned() {
    let scene = Scene::new();
    let (mut child, _lines) = live(&scene);
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let run = scene.runs().pop().expect("a run");
    // What a disk that was full, or a power cut, leaves.
    let journal = scene.state().join("runs").join(&run).join("journal");
    let mut journal = std::fs::OpenOptions::new()
        .append(true)
        .open(journal)
        .expect("the journal");
    journal
        .write_all(b"128 0123abcd {\"seq\": 99, \"at\": \"20")
        .expect("half a record");
    let listed = good(&scene, &["ps"]);
    contains(
        &listed,
        &[
            "interrupted",
            "2 tasks: 0 passed, 1 cut off, 1 not begun",
            "agent-run clean\n",
        ],
    );
    let shown = good(&scene, &["show", "long"]);
    contains(
        &shown,
        &[
            "cut off long of run",
            &format!("agent-run clean --run {run}"),
        ],
    );
    // Its container is an orphan, and still there to look into.
    let inside = in_repo(&scene, &["exec", "long", "cat", "half.txt"]);
    assert_eq!(
        (inside.code, inside.stdout.as_str()),
        (Some(0), "half\n"),
        "{inside}"
    );
    // A later version may mean something else by its plan: its work stays where it is.
    let plan = scene.state().join("runs").join(&run).join("plan.json");
    let text = std::fs::read_to_string(&plan).expect("a plan");
    let later = text.replace("\"version\": 1", "\"version\": 2");
    std::fs::write(&plan, later).expect("a plan");
    let refused = in_repo(&scene, &["clean"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    contains(&refused.stdout, &["left alone: ", "is of version 2"]);
    std::fs::write(&plan, text).expect("a plan");
    good(&scene, &["clean"]);
    let half = format!("agent/{run}/long:half.txt");
    assert_eq!(scene.git(&["show", &half]), "half\n");
    let listed = good(&scene, &["ps"]);
    assert!(!listed.contains("agent-run clean"), "{listed}");
    let gone = in_repo(&scene, &["exec", "long"]);
    contains(&gone.stderr, &["does not run: its run has finished"]);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_finished_run_tells_what_became_of_each_task() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
defaults: { mem_limit: 64m }
tasks:
  bad: { run: 'echo half > half.txt; echo no idea >&2; exit 3' }
  good:
    run: |
      printf 'a\n' > a.txt
      mkdir -p .github/workflows && echo 'on: push' > .github/workflows/ci.yml
      git add -A && git commit -qm "$(printf 'add \033[31mtwo\033[2J files')"
      git commit -q --allow-empty -m second
  idle: { run: 'true' }
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let shown = good(&scene, &["show", "good"]);
    contains(
        &shown,
        &[
            "        PASS good of run",
            "2 commits, 2 files",
            " second\n",
        ],
    );
    contains(
        &shown,
        &[" a.txt  +1 −0\n", "     look at .github/workflows/ci.yml: "],
    );
    contains(
        &shown,
        &[&format!("git merge agent/{run}/good\n"), "logs/good.1.log"],
    );
    assert!(shown.contains(" add two files\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = good(&scene, &["show", "bad"]);
    contains(
        &shown,
        &[
            "        FAIL bad of run",
            "       cause exit code 3\n",
            "| no idea\n",
        ],
    );
    contains(&shown, &["the newest holds what was left uncommitted"]);
    assert!(!shown.contains("git merge"), "{shown}");
    // What to type next works as it stands.
    let next = format!("agent-run logs bad --run {run}");
    contains(&shown, &[&format!("  {next}\n")]);
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    assert_eq!(good(&scene, &words), "no idea\n");
    contains(
        &good(&scene, &["show", "idle"]),
        &["        PASS idle", "no change"],
    );
    let shown = json(&scene, &["show", "good", "--run", run, "--format", "json"]);
    assert_eq!(shown["commits"][0]["subject"], "second", "{shown:#}");
    assert_eq!(
        shown["report"]["outcome"]["outcome"], "succeeded",
        "{shown:#}"
    );
    let listed = good(&scene, &["ps"]);
    contains(&listed, &[run, "finished", "3 tasks: 2 passed, 1 failed"]);
    contains(&listed, &["        FAIL bad: exit code 3"]);
    // Its branch may be gone since: what it was is still told.
    scene.git(&["branch", "-D", &format!("agent/{run}/good")]);
    contains(&good(&scene, &["show", "good"]), &["2 commits, 2 files"]);
    // A later run is the latest; the earlier one is told of in a line.
    scene.run("version: 1\ntasks:\n  other: { run: 'true' }\n");
    let listed = good(&scene, &["ps"]);
    contains(&listed, &["PASS other", "3 tasks: 2 passed, 1 failed"]);
    assert!(!listed.contains("FAIL bad"), "{listed}");
    contains(
        &good(&scene, &["ps", "--limit", "1"]),
        &["1 older run not shown: --limit 2\n"],
    );
    let unknown = in_repo(&scene, &["show", "good"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    contains(&unknown.stderr, &["has no task `good`", "its tasks: other"]);
}

#[test]
fn a_diff_is_a_patch_for_programs_and_harmless_for_people() {
    let scene = Scene::new();
    let (ended, _) = scene.run(
        r#"
version: 1
defaults: { mem_limit: 64m }
tasks:
  good: { run: "printf '::error::\\033[2Jx\\000\\n' > a.txt; printf '::error::\\033[2Jx\\n' >> readme.md" }
  idle: { run: 'true' }
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(good(&scene, &["diff", "idle"]), "");
    let patch = good(&scene, &["diff", "good"]);
    contains(&patch, &["+::error::\u{1b}[2Jx\n", "GIT binary patch"]);
    std::fs::write(scene.repo().join("../patch"), &patch).expect("a file");
    scene.git(&["apply", "../patch"]);
    let made = std::fs::read(scene.repo().join("a.txt")).expect("a file");
    assert_eq!(made, b"::error::\x1b[2Jx\0\n");
    let mut command = scene.command(&["diff", "good"]);
    let on_github = command
        .current_dir(scene.repo())
        .env("GITHUB_ACTIONS", "true");
    let shown: Ended = on_github.output().expect("agent-run").into();
    contains(&shown.stdout, &["::error::x"]);
    assert!(!shown.stdout.contains("\u{1b}[2J"), "{shown}");
}

#[test]
fn runs_that_are_not_there_or_not_readable_are_told_of() {
    let scene = Scene::new();
    let none = in_repo(&scene, &["ps"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""), "{none}");
    contains(&none.stderr, &["there is no run of "]);
    assert_eq!(
        json(&scene, &["ps", "--format", "json"]),
        serde_json::json!({ "version": 1, "runs": [] })
    );
    for arguments in [&["show", "a"] as &[&str], &["diff", "a"], &["exec", "a"]] {
        let none = in_repo(&scene, arguments);
        assert_eq!(none.code, Some(2), "{none}");
        contains(&none.stderr, &["no run of ", "agent-run ps --all"]);
        let nowhere = scene.agent_run(arguments);
        assert_eq!(nowhere.code, Some(96), "{nowhere}");
        contains(&nowhere.stderr, &["is in no repository", "--run"]);
        let with_run = [arguments, &["--run", "260101-000000-aaaa"]].concat();
        if arguments[0] != "exec" {
            let missing = in_repo(&scene, &with_run);
            assert_eq!(missing.code, Some(2), "{missing}");
            contains(&missing.stderr, &["there is no run 260101-000000-aaaa in "]);
        }
        let mistyped = in_repo(&scene, &[&arguments[..1], &["--run", "x", "a"]].concat());
        assert_eq!(mistyped.code, Some(2), "{mistyped}");
    }
    let (_, result) = scene.run("version: 1\ntasks:\n  a: { run: echo a > a }\n");
    let run = result["run"].as_str().expect("a run");
    let file = |name: &str| scene.state().join("runs").join(run).join(name);
    let plan = std::fs::read_to_string(file("plan.json")).expect("a plan");
    let cases: [(&str, &str, &str); 4] = [
        ("result.json", "{\"run\": \"26", "result.json is not whole"),
        ("result.json", "", "result.json is not whole"),
        (
            "plan.json",
            &plan.replace("\"version\": 1", "\"version\": 2"),
            "of version 2",
        ),
        (
            "plan.json",
            &plan[..plan.len() / 2],
            "plan.json is not whole",
        ),
    ];
    for (name, text, words) in cases {
        let whole = std::fs::read(file(name)).expect("a file");
        std::fs::write(file(name), text).expect("a file");
        let shown = in_repo(&scene, &["show", "a", "--run", run]);
        assert_eq!(shown.code, Some(96), "{name}: {shown}");
        contains(&shown.stderr, &[words, "hint:"]);
        // It is listed all the same, among all runs if nobody knows whose it is.
        contains(&good(&scene, &["ps", "--all"]), &[run, words]);
        std::fs::write(file(name), whole).expect("a file");
    }
    contains(&good(&scene, &["show", "a"]), &["PASS a of run"]);
}

#[test]
fn a_config_is_a_spec() {
    let scene = Scene::new();
    let yaml = "version: 1\nrepo: repo\nx-a: &a { cpus: 1 }\ndefaults: { <<: *a, mem_limit: 64m }\n\
                tasks:\n  hello: { run: echo hi, image: '${IMAGE:-alpine}', env: [TOKEN] }\n  other: { run: 'true' }\n";
    let spec = scene.spec(yaml);
    let mut command = scene.command(&["config", spec.to_str().expect("a path"), "hello"]);
    let ended: Ended = command
        .env("TOKEN", "sesame")
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    contains(
        &ended.stdout,
        &["image: alpine", "cpus: 1", "mem_limit: 64m", "${TOKEN}"],
    );
    contains(
        &ended.stdout,
        &[&format!("repo: {}", scene.repo().display())],
    );
    for gone in ["sesame", "other", "defaults", "x-a"] {
        assert!(!ended.stdout.contains(gone), "{gone}: {ended}");
    }
    let again = scene.path().join("again.yaml");
    std::fs::write(&again, &ended.stdout).expect("a spec");
    let mut command = scene.command(&["plan", "-f", again.to_str().expect("a path")]);
    let planned: Ended = command
        .env("TOKEN", "x")
        .output()
        .expect("agent-run")
        .into();
    contains(
        &planned.stdout,
        &["image     alpine, pulled where missing", "sets      TOKEN"],
    );
    let mut command = scene.command(&["config", again.to_str().expect("a path")]);
    let same: Ended = command
        .env("TOKEN", "x")
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(same.stdout, ended.stdout);
    let wrong = scene.spec("version: 1\ntasks:\n  a: { runn: x }\n");
    let refused = scene.agent_run(&["config", wrong.to_str().expect("a path")]);
    assert_eq!(refused.code, Some(94), "{refused}");
}
