//! The example of `docs/branches.md`, run as it is: what fits together, and merging it.

use serde_json::Value;

use super::scene::{Ended, Scene, task};

const PAGE: &str = include_str!("../../../docs/branches.md");

/// What the page's run and a commit of it are called.
const RUN: &str = "261130-170751-kuqf";
const COMMIT: &str = "1a33c401dd";

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

/// Takes out what differs from run to run: ids of runs and commits.
fn normal(text: &str, run: &str) -> String {
    let is_commit = |word: &str| word.len() == 10 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let lines = text.replace(run, RUN);
    let lines = lines.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(['(', ')']);
            if is_commit(bare) {
                word.replace(bare, COMMIT)
            } else {
                word.to_owned()
            }
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
    assert_eq!(
        normal(&ended.stdout, &run),
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
        normal(&ended.stdout, &run),
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
    let (scene, _, _, _) = scene();
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
