//! Files that are no work: as artifacts, as what removal meets, and where a run was killed over them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::scene::{expect, start, task};
use super::{Attack, Done, Expected, Hostile};

/// A directory of which nothing is work: git ignores what is in it.
const OUT: &str = "mkdir out; echo '*' > out/.gitignore; cd out\n";

fn attack(name: &str, script: &str) -> Attack {
    let attack = Attack::new(name, Expected::Unchanged, &format!("{OUT}{script}"));
    attack.with("artifacts", json!(["out"]))
}

fn artifacts<'a>(done: &'a Done, name: &str) -> &'a Value {
    let report = &task(&done.result, name)["artifacts"];
    assert_eq!(report["incomplete"], Value::Null, "{report:#}");
    report
}

/// The copy of a file in a task's `out`.
fn copied(done: &Done, name: &str, file: &str) -> PathBuf {
    let directory = artifacts(done, name)["directory"].as_str();
    Path::new(directory.expect("a directory"))
        .join("out")
        .join(file)
}

/// What was skipped for this reason, sorted.
fn skipped<'a>(done: &'a Done, name: &str, why: &str) -> Vec<&'a str> {
    let report = artifacts(done, name);
    let pairs = report["skipped_paths"].as_array().expect("a list").iter();
    let of_reason = pairs.filter(|pair| pair[1].as_str().expect("a reason").starts_with(why));
    of_reason
        .map(|pair| pair[0].as_str().expect("a path"))
        .collect()
}

/// Makes names of all kinds with the contents of `x`; python because no shell has such names.
const NAMES: &str = r#"python3 - <<'END'
import os
for name in [b"x" * 255, b"\xff\xfe", b"two\nlines", b"\x1b]0;title\x07\x1b[2J", b"--option", b"::error::x"]:
    with open(name, "w") as file:
        file.write("x")
END
"#;

/// Directories in each other, deeper than any path can name, with a file in the last.
const DEEP: &str = r#"python3 - <<'END'
import os
for n in range(2200):
    os.mkdir("d")
    os.chdir("d")
open("bottom", "w").close()
END
"#;

#[test]
fn artifacts_are_files_of_the_task_and_nothing_else() {
    let hostile = Hostile::new();
    let secret = hostile.canary.secret_file();
    let (secret, beside) = (
        secret.display(),
        secret.parent().expect("a directory").display(),
    );
    let links = format!(
        "ln -s {secret} file; ln -s {beside} directory; ln -s /etc/shadow shadow\n\
         ln -s /proc/self/environ environ; ln -s ../../../../honest-first/1/worktree sibling\n\
         ln -s {beside} ../whole; printf '/whole\\n/.gitignore\\n' > ../.gitignore\n"
    );
    let links = attack("links", &links).with(
        "artifacts",
        json!(["out", "whole/**", "out/directory/secret", "**/secret"]),
    );
    let special = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'\n\
         mkfifo pipe; cp /bin/true program; chmod 6777 program\n\
         ! mknod null c 1 3; ! mknod disk b 8 0; ! chattr +i program\n\
         for file in /etc/passwd /agent/entry /agent/git/HEAD /workspace/.git /proc/1/environ; do\n\
         ! ln $file stolen; done\n\
         truncate -s 1T sparse; ln program other-name\n\
         mkdir locked; echo x > locked/file; chmod 000 locked/file locked\n";
    let trap = hostile.canary.command("artifact");
    let repositories = format!(
        "for name in nested bare; do git init -q $name; echo x > $name/x; git -C $name add x\n\
         printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = ..\\n\\tfsmonitor = \"{trap}; :\"\\n' \
         > $name/.git/config; done\n\
         mv bare/.git/* bare; rmdir bare/.git\n"
    );
    let done = hostile.run(&[
        links,
        attack("special", special),
        attack("names", NAMES),
        attack("deep", DEEP),
        attack("repositories", &repositories),
    ]);
    let link = "is a symbolic link";
    let expected =
        ["directory", "environ", "file", "shadow", "sibling"].map(|l| format!("out/{l}"));
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.push("whole");
    assert_eq!(skipped(&done, "links", link), expected);
    assert_eq!(artifacts(&done, "links")["files"], 1);
    assert_eq!(
        skipped(&done, "special", "is not a regular file"),
        ["out/pipe", "out/socket"]
    );
    assert_eq!(
        skipped(&done, "special", "is larger than `collect.limits.file`"),
        ["out/sparse"]
    );
    for name in ["program", "other-name"] {
        let mode = fs::metadata(copied(&done, "special", name))
            .expect("a copy")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
    }
    assert_eq!(artifacts(&done, "names")["files"], 7);
    assert!(
        !done.ended.to_string().contains("\u{1b}]0;"),
        "{}",
        done.ended
    );
    let long = fs::read(copied(&done, "names", &"x".repeat(255)));
    assert_eq!(long.expect("a copy"), b"x");
    assert_eq!(skipped(&done, "deep", "lies deeper than").len(), 1);
    assert_eq!(
        skipped(&done, "repositories", "is a git repository"),
        ["out/bare"]
    );
    assert_eq!(
        skipped(&done, "repositories", "belongs to git"),
        ["out/nested/.git"]
    );
    // As a prompt does where somebody looks at the copies.
    let status = Command::new("git")
        .args(["-c", "safe.directory=*", "status"])
        .current_dir(copied(&done, "repositories", "nested"))
        .output();
    assert!(
        !status.expect("git").status.success(),
        "no repository is there"
    );
    hostile
        .canary
        .assert_alive("where somebody looks at artifacts");
}

/// Everything at once, in each of the directories that a task can write in.
fn litter(files: u32, hostile: &Hostile) -> String {
    let beside = hostile.canary.secret_file();
    let beside = beside.parent().expect("a directory").display().to_string();
    format!(
        "echo out > .gitignore\n\
         for place in /workspace /home/agent /agent/out /agent/git; do\n\
         mkdir $place/out; cd $place/out\n\
         ln -s {beside} link; mkfifo pipe; cp /bin/true s; chmod 6777 s\n\
         mkdir -p locked/in; echo x > locked/in/file; chmod 000 locked/in locked\n\
         {NAMES}done\n\
         for place in /workspace /home/agent; do cd $place/out\n{DEEP}done\n\
         cd /workspace/out; mkdir many; cd many\n\
         python3 -c 'for n in range({files}): open(str(n), \"w\").close()'\n"
    )
}

fn removed_beside_honest_tasks(files: u32, limit: &str) {
    let hostile = Hostile::new();
    let attack = Attack::new("litter", Expected::Imported, &litter(files, &hostile));
    hostile.run(&[attack.with("timeout", json!(limit))]);
}

#[test]
fn what_a_task_leaves_is_removed_and_no_link_followed() {
    removed_beside_honest_tasks(2_000, "110s");
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_million_files_of_a_task_are_removed() {
    removed_beside_honest_tasks(1_000_000, "1h");
}

/// What the next attempt writes would go where the links lead, were its directories the same.
#[test]
fn links_that_an_attempt_left_are_not_met_by_the_next() {
    let hostile = Hostile::new();
    let secret = hostile.canary.secret_file();
    let beside = secret.parent().expect("a directory").display().to_string();
    let script = format!(
        "if [ $AGENT_ATTEMPT = 1 ]; then\n\
         printf '/d\\n/f\\n' > /agent/git/info/exclude\n\
         for place in /workspace /home/agent /agent/out /agent/git; do\n\
         cd $place; ln -s {beside} d; ln -s {} f; done\n\
         ln -sf {beside} /agent/git/objects/info; exit 7; fi\n\
         for place in /workspace /home/agent /agent/out /agent/git; do\n\
         cd $place; test ! -L d; test ! -L f; mkdir d; echo work > d/secret; echo work > f; done\n",
        secret.display()
    );
    let attack = Attack::new("again", Expected::Imported, &script).with("retry", json!(1));
    let done = hostile.run(&[attack]);
    assert_eq!(task(&done.result, "again")["attempt"], 2, "{}", done.ended);
    let work = format!("{}:d/secret", done.branch("again"));
    assert_eq!(hostile.scene.git(&["show", &work]), "work\n");
}

#[test]
fn clean_removes_what_a_killed_run_left() {
    let hostile = Hostile::new();
    let scene = &hostile.scene;
    let script = format!(
        "set -eu\n{}\necho planted; exec sleep 600\n",
        litter(100, &hostile)
    );
    let task = json!({ "run": script, "network_mode": "none", "stop_grace_period": "1s" });
    let spec = scene.spec(&format!("version: 1\ntasks:\n  litter: {task}\n"));
    let (mut child, mut lines) = start(scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| planted");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    drop(lines);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
    hostile.canary.assert_alive("after clean");
}
