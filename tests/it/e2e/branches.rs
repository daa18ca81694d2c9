//! The example of `docs/branches.md`, run as it is: what fits together, and merging it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::scene::{Ended, Scene, expect, interrupt, spawn, task, until};

const PAGE: &str = include_str!("../../../docs/branches.md");

/// What the page's run is called, and its commits in the order in which they are told: the base, and
/// what was merged.
const RUN: &str = "261130-170751-kuqf";
const COMMITS: [&str; 2] = ["1a33c401dd", "7c05e2f19b"];

/// The `nth` block of the page in a language.
fn block(language: &str, nth: usize) -> &'static str {
    let fence = format!("```{language}\n");
    let rest = PAGE.split(fence.as_str()).nth(nth + 1).expect("a block");
    rest.split_once("```").expect("an end").0
}

/// Runs the command in the repository.
fn agent_run(scene: &Scene, arguments: &[&str]) -> Ended {
    let mut command = scene.command(arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

/// Takes out what differs from run to run: ids of runs and commits. `seen` are the commits so far.
fn normal(text: &str, run: &str, seen: &mut Vec<String>) -> String {
    let is_commit = |word: &str| word.len() == 10 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let lines = text.replace(run, RUN);
    let lines = lines.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(['(', ')']);
            if !is_commit(bare) {
                return word.to_owned();
            }
            if !seen.iter().any(|commit| commit == bare) {
                seen.push(bare.to_owned());
            }
            let at = seen.iter().position(|commit| commit == bare);
            word.replace(bare, COMMITS[at.expect("a commit")])
        });
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The page's run, and what it was called.
fn scene() -> (Scene, String, Ended, Value) {
    let scene = Scene::new();
    let (ended, result) = scene.run(block("yaml", 0));
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run").to_owned();
    (scene, run, ended, result)
}

#[test]
fn what_fits_together_is_told_and_merged_as_the_page_says() {
    let (scene, run, ended, result) = scene();
    let told = "     Merging 2 of 3 merge cleanly into HEAD\n";
    assert!(ended.stdout.contains(told), "{ended}");
    let forecast = &result["forecast"];
    assert_eq!(
        forecast["together"].as_array().map(Vec::len),
        Some(2),
        "{forecast:#}"
    );
    assert_eq!(
        forecast["pairs"][0]["conflicts"][0]["path"], "readme.md",
        "{forecast:#}"
    );
    let ended = agent_run(&scene, &["forecast"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let mut seen = Vec::new();
    assert_eq!(
        normal(&ended.stdout, &run, &mut seen),
        block("text", 0).trim_end(),
        "{ended}"
    );
    let json = agent_run(&scene, &["forecast", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["order"], forecast["order"]);

    let before = scene.git(&["rev-parse", "HEAD"]);
    let ended = agent_run(&scene, &["merge"]);
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(
        normal(&ended.stdout, &run, &mut seen),
        block("text", 1).trim_end(),
        "{ended}"
    );
    assert_eq!(scene.git(&["rev-parse", "HEAD"]), before);
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    let merged = format!("agent/{run}-merged");
    let files = scene.git(&["ls-tree", "-r", "--name-only", &merged]);
    assert_eq!(files, "notes.md\nreadme.md\nsrc/lib.rs\n");
    // Again there is nothing to do for what is there.
    let tip = scene.git(&["rev-parse", &merged]);
    assert_eq!(agent_run(&scene, &["merge", "notes"]).code, Some(0));
    assert_eq!(scene.git(&["rev-parse", &merged]), tip);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_branch_of_the_users_is_merged_into_only_where_its_files_are_clean() {
    let (scene, run, _, _) = scene();
    let before = scene.git(&["rev-parse", "HEAD"]);
    scene.write("src/lib.rs", "fn main() { todo!() }\n");
    let ended = agent_run(&scene, &["merge", "--into", "main", "notes"]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(ended.stderr.contains("not committed"), "{ended}");
    assert_eq!(scene.git(&["rev-parse", "HEAD"]), before);
    scene.git(&["checkout", "-q", "--", "src/lib.rs"]);
    let squash = [
        "merge",
        "--into",
        "main",
        "--strategy",
        "squash",
        "notes",
        "title",
    ];
    let ended = agent_run(&scene, &squash);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(scene.git(&["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    assert_eq!(scene.git(&["show", "HEAD:readme.md"]), "# A better title\n");
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    let commits = format!("{}..main", before.trim());
    assert_eq!(scene.git(&["rev-list", "--count", &commits]), "2\n");
    assert_eq!(
        scene.git(&["rev-list", "--count", "--merges", &commits]),
        "0\n"
    );
    let subjects = scene.git(&["log", "--format=%s|%b", &commits]);
    let titled = |id: &str| format!("|Task {id} of run {run}.");
    for id in ["notes", "title"] {
        assert!(subjects.contains(&titled(id)), "{subjects}");
    }
    assert!(!subjects.starts_with('|'), "{subjects}");
    // What was squashed is there.
    let ended = agent_run(&scene, &["forecast", "notes"]);
    assert!(
        ended.stdout.contains("nothing is left to merge into HEAD"),
        "{ended}"
    );
    let ended = agent_run(&scene, &["refresh", "title"]);
    assert!(ended.stdout.contains("is in HEAD already"), "{ended}");
    let ended = agent_run(&scene, &["refresh", "name"]);
    assert_eq!(ended.code, Some(100), "{ended}");
    assert!(
        ended.stderr.contains("conflicts with HEAD: readme.md:1"),
        "{ended}"
    );
}

#[test]
fn a_branch_that_is_checked_out_is_left_alone_unless_it_is_named() {
    let (scene, run, _, result) = scene();
    assert_eq!(agent_run(&scene, &["merge", "notes"]).code, Some(0));
    let merged = format!("agent/{run}-merged");
    let notes = task(&result, "notes")["branch"]["branch"].clone();
    let notes = notes.as_str().expect("a branch");
    scene.write("more.md", "more\n");
    scene.commit("more");
    let refs = scene.git(&["for-each-ref"]);
    for (branch, words) in [
        (&*merged, &["merge", "title"][..]),
        (notes, &["refresh", "notes"]),
    ] {
        scene.git(&["checkout", "-q", branch]);
        let ended = agent_run(&scene, words);
        assert_eq!(ended.code, Some(96), "{ended}");
        let told = format!("{branch} is checked out in ");
        assert!(ended.stderr.contains(&told), "{ended}");
        assert_eq!(scene.git(&["for-each-ref"]), refs);
    }
}

#[test]
fn branches_that_the_user_moved_or_deleted_count_as_they_are() {
    let (scene, run, _, result) = scene();
    let branch = |id: &str| {
        task(&result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch")
            .to_owned()
    };
    scene.git(&["branch", "-q", "-D", &branch("name")]);
    let tree = scene.git(&["rev-parse", "HEAD^{tree}"]);
    let tree = tree.trim();
    let empty = scene.git(&["commit-tree", tree, "-p", "HEAD", "-m", "nothing"]);
    scene.git(&[
        "update-ref",
        &format!("refs/heads/{}", branch("title")),
        empty.trim(),
    ]);
    let ended = agent_run(&scene, &["forecast", "--run", &run, "--format", "json"]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let fits: Vec<&str> = json["branches"]
        .as_array()
        .expect("branches")
        .iter()
        .map(|branch| branch["fit"].as_str().expect("a fit"))
        .collect();
    assert_eq!(fits, ["same", "clean"], "{json:#}");
    // A branch that is named twice is one.
    let twice = ["forecast", "main", "notes", "main", "--format", "json"];
    let json: Value = serde_json::from_str(&agent_run(&scene, &twice).stdout).expect("JSON");
    assert_eq!(
        json["branches"].as_array().map(Vec::len),
        Some(2),
        "{json:#}"
    );
    // A base that moved counts as it is, and a result can be brought onto it.
    scene.write("more.md", "more\n");
    scene.commit("more");
    let ended = agent_run(&scene, &["refresh", "notes"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let parent = scene.git(&["rev-parse", &format!("{}^", branch("notes"))]);
    assert_eq!(parent, scene.git(&["rev-parse", "HEAD"]));
    let ended = agent_run(&scene, &["merge", "name"]);
    assert_eq!(ended.code, Some(96), "{ended}");
}

/// A git that does not go on with a merge before the file `merging` is gone; gives that file, and the
/// `PATH` with it.
fn stuck_git(scene: &Scene) -> (PathBuf, String) {
    let path = std::env::var("PATH").expect("a PATH");
    let merging = scene.path().join("merging");
    let programs = scene.path().join("programs");
    std::fs::create_dir(&programs).expect("a directory");
    let git = programs.join("git");
    let mark = merging.display();
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' merge-tree '*) : > {mark}; while [ -e {mark} ]; do sleep 0.1; \
         done; exit 1 ;; esac\nPATH='{path}' exec git \"$@\"\n"
    );
    std::fs::write(&git, text).expect("a program");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&git, executable).expect("a mode");
    (merging, format!("{}:{path}", programs.display()))
}

#[test]
fn a_run_that_is_to_end_at_once_does_not_wait_for_its_forecast() {
    let scene = Scene::new();
    let (merging, path) = stuck_git(&scene);
    let spec = scene.spec(block("yaml", 0));
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    command.env("PATH", path).env("TMPDIR", scene.path());
    let (mut child, mut lines) = spawn(command);
    until("a merge has begun", || merging.exists());
    interrupt(&child);
    expect(&mut lines, "again to kill them now");
    interrupt(&child);
    let told: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{told:?}");
    assert!(merging.exists(), "the merge goes on no more");
    std::fs::remove_file(&merging).expect("a mark");
    let is_of_it = |line: &String| line.contains("fit together");
    assert!(!told.iter().any(is_of_it), "{told:?}");
    let result = scene.result();
    assert_eq!(result["forecast"], Value::Null, "{result:#}");
    assert_eq!(task(&result, "notes")["branch"]["result"], "created");
    assert_eq!(scene.left(), Vec::<String>::new());
}
