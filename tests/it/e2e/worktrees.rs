//! Linked worktrees of results: made, listed, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::scene::{Ended, Scene, task};

const YAML: &str = r#"
version: 1
defaults: { mem_limit: 64m }
tasks:
  one: { run: "mkdir d; echo 1 > d/one.txt; git add .; git commit -qm one; echo 2 >> d/one.txt" }
  two: { run: "echo 2 > two.txt" }
  three: { run: "echo 3 > three.txt" }
  idle: { run: "true" }
"#;

struct Results {
    scene: Scene,
    result: Value,
}

impl Results {
    fn new() -> Self {
        let scene = Scene::new();
        let (ended, result) = scene.run(YAML);
        assert_eq!(ended.code, Some(0), "{ended}");
        Self { scene, result }
    }

    fn branch(&self, id: &str) -> String {
        let branch = &task(&self.result, id)["branch"]["branch"];
        branch.as_str().expect("a branch").to_owned()
    }

    /// Runs the command in the repository.
    fn agent_run(&self, arguments: &[&str]) -> Ended {
        self.agent_run_in(&self.scene.repo(), arguments)
    }

    fn agent_run_in(&self, directory: &Path, arguments: &[&str]) -> Ended {
        let mut command = self.scene.command(arguments);
        command.current_dir(directory);
        command.output().expect("agent-run").into()
    }

    /// A worktree of a task, made at this place beside the repository.
    fn checkout(&self, id: &str, name: &str) -> PathBuf {
        let place = self.scene.path().join(name);
        let at = place.to_str().expect("a path");
        let ended = self.agent_run(&["checkout", id, at]);
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!(ended.stdout, format!("{at} is {}\n", self.branch(id)));
        place
    }

    /// What is listed: the names of the directories, and what is said of each.
    fn listed(&self) -> Vec<(String, String, bool)> {
        let ended = self.agent_run(&["worktrees", "--format", "json"]);
        assert_eq!(ended.code, Some(0), "{ended}");
        let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let mut listed: Vec<_> = json["worktrees"]
            .as_array()
            .expect("worktrees")
            .iter()
            .map(|one| {
                let path = Path::new(one["path"].as_str().expect("a path"));
                let name = path.file_name().expect("a name").to_string_lossy();
                let state = one["state"].as_str().expect("a state").to_owned();
                (name.into_owned(), state, one["is_merged"] == true)
            })
            .collect();
        listed.sort();
        listed
    }

    fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let at = directory.to_str().expect("a path");
        self.scene.git(&[&["-C", at][..], arguments].concat())
    }
}

fn said(name: &str, state: &str, is_merged: bool) -> (String, String, bool) {
    (name.into(), state.into(), is_merged)
}

#[test]
fn a_result_is_checked_out_without_hooks_and_once() {
    let results = Results::new();
    let scene = &results.scene;
    let hook = scene.repo().join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().expect("a directory")).expect("a directory");
    fs::write(
        &hook,
        "#!/bin/sh\ntouch \"$(git rev-parse --git-common-dir)/ran\"\n",
    )
    .expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    let place = results.checkout("one", "new place");
    let text = fs::read_to_string(place.join("d/one.txt")).expect("a file");
    assert_eq!(text, "1\n2\n");
    assert_eq!(results.git_in(&place, &["status", "--porcelain"]), "");
    let head = results.git_in(&place, &["symbolic-ref", "--short", "HEAD"]);
    assert_eq!(head.trim(), results.branch("one"));
    assert!(!scene.repo().join(".git/ran").exists(), "a hook ran");
    // It is a worktree like any other of git.
    let list = scene.git(&["worktree", "list", "--porcelain"]);
    assert!(!list.contains("locked"), "{list}");
    assert!(list.contains(place.to_str().expect("a path")), "{list}");

    let ended = results.agent_run(&["checkout", "one", "elsewhere"]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(ended.stderr.contains("is checked out in"), "{ended}");
    let ended = results.agent_run(&["checkout", "idle"]);
    assert_eq!(ended.code, Some(4), "{ended}");
    // A directory of the user's is left alone; an empty one is as good as none.
    let (full, empty) = (scene.path().join("full"), scene.path().join("empty"));
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("mine"), "mine\n").expect("a file");
    let ended = results.agent_run(&["checkout", "two", full.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(ended.stderr.contains("not empty"), "{ended}");
    assert_eq!(fs::read_dir(&full).expect("files").count(), 1);
    fs::create_dir(&empty).expect("a directory");
    results.checkout("two", "empty");
    // Where nothing is said it is beside the repository.
    let ended = results.agent_run(&["checkout", "three"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(scene.path().join("repo-three/three.txt").exists());
    // A deleted branch leaves the commit.
    scene.git(&["worktree", "remove", empty.to_str().expect("a path")]);
    scene.git(&["branch", "-q", "-D", &results.branch("two")]);
    let ended = results.agent_run(&["checkout", "two", "../two"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stdout.contains("on no branch"), "{ended}");
    assert_eq!(
        results.listed(),
        [
            said("new place", "clean", false),
            said("repo-three", "clean", false),
            said("two", "on_no_ref", false)
        ]
    );
}

#[test]
fn many_are_made_at_once() {
    let results = Results::new();
    let ids = ["one", "two", "three"];
    let children = ids.map(|id| {
        let mut command = results.scene.command(&["checkout", id]);
        command.current_dir(results.scene.repo());
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command.spawn().expect("agent-run")
    });
    // Two of one task: one of them gets it.
    let again = results.agent_run(&["checkout", "one", "../again"]);
    let mut ended: Vec<Ended> = children
        .into_iter()
        .map(|child| child.wait_with_output().expect("an end").into())
        .collect();
    let of_one = [ended.remove(0), again];
    let mut codes = of_one.each_ref().map(|ended| ended.code);
    codes.sort();
    assert_eq!(codes, [Some(0), Some(96)], "{} {}", of_one[0], of_one[1]);
    for ended in &ended {
        assert_eq!(ended.code, Some(0), "{ended}");
    }
    let listed = results.listed();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(
        listed.iter().all(|(_, state, _)| state == "clean"),
        "{listed:?}"
    );
}

#[test]
fn those_that_are_merged_or_squashed_are_removed_and_no_work_with_them() {
    let results = Results::new();
    let scene = &results.scene;
    let one = results.checkout("one", "one");
    let two = results.checkout("two", "two");
    let three = results.checkout("three", "three");
    // A worktree of the user's own is none of agent-run's business, nor is one that is gone.
    let own = scene.path().join("own");
    scene.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        own.to_str().expect("a path"),
    ]);
    fs::remove_dir_all(&own).expect("removed");

    scene.git(&["merge", "-q", "--no-edit", &results.branch("one")]);
    scene.git(&["merge", "-q", "--squash", &results.branch("two")]);
    scene.commit("two, squashed");
    fs::write(one.join("new.txt"), "not committed\n").expect("a file");
    assert_eq!(
        results.listed(),
        [
            said("one", "changed", true),
            said("three", "clean", false),
            said("two", "clean", true)
        ]
    );
    let text = results.agent_run(&["worktrees"]).stdout;
    assert!(
        text.contains("     CHANGED ") && text.contains("      merged "),
        "{text}"
    );
    let ended = results.agent_run(&["worktrees", "remove", "--merged", "-n"]);
    assert_eq!(ended.stdout.matches("would remove ").count(), 1, "{ended}");
    // Wherever it is said: the base is what the repository's own worktree is at.
    let ended = results.agent_run_in(&three, &["worktrees", "remove", "--merged"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stdout.contains("kept ") && ended.stdout.contains("not committed"),
        "{ended}"
    );
    assert!(
        one.join("new.txt").exists() && !two.exists() && three.exists(),
        "{ended}"
    );

    // By name only what can be done without; what is gone is unregistered, and nothing else.
    let ended = results.agent_run(&["worktrees", "remove", "one"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(one.join("new.txt").exists());
    fs::remove_dir_all(&three).expect("removed");
    assert_eq!(
        results.listed(),
        [said("one", "changed", true), said("three", "gone", false)]
    );
    let ended = results.agent_run(&["worktrees", "remove", three.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let list = scene.git(&["worktree", "list", "--porcelain"]);
    assert!(
        list.contains("/own\n") && !list.contains("/three\n"),
        "{list}"
    );
    fs::remove_file(one.join("new.txt")).expect("removed");
    let ended = results.agent_run_in(&one, &["worktrees", "remove", "one"]);
    assert!(ended.stdout.contains("you are in it"), "{ended}");
    let ended = results.agent_run(&["worktrees", "remove", "own"]);
    assert_eq!(ended.code, Some(2), "{ended}");
    let ended = results.agent_run(&["worktrees", "remove"]);
    assert_eq!(ended.code, Some(2), "{ended}");
}

#[test]
fn commits_on_no_branch_and_what_is_in_the_middle_are_work_too() {
    let results = Results::new();
    let scene = &results.scene;
    let (one, two) = (
        results.checkout("one", "one"),
        results.checkout("two", "two"),
    );
    results.git_in(&one, &["checkout", "-q", "--detach"]);
    results.git_in(&one, &["commit", "-q", "--allow-empty", "-m", "more"]);
    fs::write(one.join("more.txt"), "more\n").expect("a file");
    results.git_in(&one, &["add", "-A"]);
    results.git_in(&one, &["commit", "-q", "-m", "more"]);
    results.git_in(&two, &["bisect", "start"]);
    let ended = results.agent_run(&["worktrees", "remove", "one", "two"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert_eq!(
        results.listed(),
        [
            said("one", "on_no_ref", false),
            said("two", "changed", false)
        ]
    );
    let place = two.to_str().expect("a path");
    results.git_in(&two, &["bisect", "reset"]);
    scene.git(&["worktree", "lock", place]);
    let ended = results.agent_run(&["worktrees", "remove", "two"]);
    assert!(ended.stdout.contains("it is locked"), "{ended}");
    assert!(two.exists());
}

#[test]
fn what_cannot_be_checked_out_leaves_no_worktree() {
    let results = Results::new();
    let scene = &results.scene;
    // A filter that fails, as one of the user's may.
    scene.git(&["config", "filter.fails.smudge", "exit 1"]);
    scene.git(&["config", "filter.fails.required", "true"]);
    let attributes = scene.repo().join(".git/info/attributes");
    fs::create_dir_all(attributes.parent().expect("a directory")).expect("a directory");
    fs::write(&attributes, "two.txt filter=fails\n").expect("attributes");
    let ended = results.agent_run(&["checkout", "two"]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(!scene.path().join("repo-two").exists());
    assert_eq!(results.listed(), []);
    fs::remove_file(attributes).expect("removed");
    results.checkout("two", "two");
}
