//! Worktrees that are copy-on-write views, on the real engine: the same work as in checkouts, apart
//! from each other, over files that nobody changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::scene::{Scene, docker, expect, start, task, until};

/// What tasks do to a worktree, each in its own way.
const WORK: &str = r#"
version: 1
defaults: { network_mode: none, mem_limit: 128m, workspace: MODE }
tasks:
  wrecker: { run: "rm -rf ./* .gitignore; echo only > only.txt; echo base:", branch: MODE/wrecker }
  mover: { run: "git mv src lib && git commit -qm moved && echo more >> lib/lib.rs", branch: MODE/mover }
  writer: { run: "echo two >> readme.md; chmod +x src/lib.rs; ln -s readme.md link; mkdir -p new/deep; echo x > new/deep/x", branch: MODE/writer }
  nested: { run: "pwd > here.txt; ls -a .. > there.txt", working_dir: /workspace/src/made/here, branch: MODE/nested }
  reader: { run: "cat readme.md; git status --porcelain; git diff-files --raw; test $(stat -c %Y readme.md) -lt $(stat -c %Y /agent/git/index)", branch: MODE/reader }
"#;
const TASKS: [&str; 5] = ["wrecker", "mover", "writer", "nested", "reader"];

/// The shared checkouts of a scene.
fn checkouts(scene: &Scene) -> Vec<PathBuf> {
    let repos = fs::read_dir(scene.state().join("repos")).expect("repos");
    let entries = repos.flat_map(|repo| fs::read_dir(repo.expect("a repo").path()).expect("it"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_one = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("checkout-")
    };
    paths.filter(is_one).collect()
}

/// Path, kind and mode, size, time and content of everything below.
fn digest(top: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let mut content = Vec::new();
        if metadata.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .expect("it")
                    .map(|e| e.expect("an entry").path()),
            );
        } else if metadata.is_file() {
            content = fs::read(&path).expect("a file");
        }
        found.insert(
            path,
            (metadata.mode(), metadata.size(), metadata.mtime(), content),
        );
    }
    found
}

#[test]
fn the_same_work_comes_back_and_the_shared_files_stay_as_they_are() {
    let scene = Scene::new();
    scene.write(".gitignore", "*.log\n");
    scene.commit("third");
    let (first, _) = scene.run("version: 1\ndefaults: { workspace: overlay, mem_limit: 64m, network_mode: none }\ntasks:\n  t: { run: \"grep ' /workspace ' /proc/mounts\" }\n");
    assert!(
        first
            .stderr
            .contains("t | overlay /workspace overlay rw,nosuid,nodev"),
        "{first}"
    );
    let shared = checkouts(&scene);
    assert_eq!(shared.len(), 1);
    let before = digest(&shared[0].join("files"));
    assert_eq!(before.len(), 5, "{before:?}");
    for mode in ["overlay", "checkout"] {
        let (ended, result) = scene.run(&WORK.replace("MODE", mode));
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!(
            task(&result, "reader")["branch"]["result"],
            "no_change",
            "{ended}"
        );
        assert!(!ended.stderr.contains("warning"), "{ended}");
        // Git finds nothing that it would have to look into.
        let said = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("reader"));
        assert_eq!(said.collect::<Vec<_>>(), ["reader  | one"], "{ended}");
    }
    for name in &TASKS[..4] {
        let tree = |mode| scene.git(&["rev-parse", &format!("{mode}/{name}^{{tree}}")]);
        assert_eq!(tree("overlay"), tree("checkout"), "{name}");
        let log = |mode| scene.git(&["log", "--format=%s", &format!("main..{mode}/{name}")]);
        assert_eq!(log("overlay"), log("checkout"), "{name}");
    }
    assert_eq!(scene.git(&["show", "overlay/wrecker:only.txt"]), "only\n");
    assert_eq!(digest(&shared[0].join("files")), before);
    assert_eq!(checkouts(&scene), shared);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn work_that_is_kept_says_where_its_files_are() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
defaults: { workspace: overlay, mem_limit: 128m, network_mode: none }
tasks:
  t: { run: "git checkout -q --orphan other; rm readme.md; echo x > x; git add -A; git commit -qm other" }
"#;
    let (ended, result) = scene.run(yaml);
    let branch = &task(&result, "t")["branch"];
    assert_eq!(branch["result"], "rejected", "{ended}");
    let notes = branch["notes"].to_string();
    assert!(
        notes.contains("only the files that the task wrote"),
        "{notes}"
    );
    let worktree = Path::new(branch["path"].as_str().expect("a path")).join("worktree");
    assert_eq!(
        fs::read_to_string(worktree.join("x")).expect("a file"),
        "x\n"
    );
    assert!(!worktree.join("src").exists());
    let left = scene.left();
    assert!(left.len() == 1 && left[0].ends_with("tasks/t"), "{left:?}");
}

#[test]
fn clean_after_kill_9_collects_through_the_view_and_removes_it() {
    let scene = Scene::new();
    let yaml = r"
version: 1
defaults: { workspace: overlay, mem_limit: 128m, network_mode: none }
tasks:
  orphan: { run: 'echo half > half.txt; rm readme.md; echo ready; sleep 600' }
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let run = scene.runs()[0].clone();
    let filter = format!("label=agent-run.run={run}");
    let volumes = || docker(&["volume", "ls", "-q", "--filter", &filter]).stdout;
    assert_eq!(volumes().trim(), format!("agent-run-{run}-1-view-orphan"));
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(
        cleaned.stdout.contains("removed volume agent-run-"),
        "{cleaned}"
    );
    let names = scene.git(&[
        "ls-tree",
        "-r",
        "--name-only",
        &format!("agent/{run}/orphan"),
    ]);
    assert_eq!(names, "half.txt\nsrc/lib.rs\n", "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn a_killed_task_is_collected_through_its_view() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
defaults: { workspace: overlay, mem_limit: 128m, network_mode: none }
tasks:
  t: { run: "echo half > half.txt; rm readme.md; kill -9 -1" }
"#;
    let (ended, result) = scene.run(yaml);
    let branch = &task(&result, "t")["branch"];
    assert_eq!(branch["result"], "created", "{ended}");
    let run = result["run"].as_str().expect("a run");
    let names = scene.git(&["ls-tree", "-r", "--name-only", &format!("agent/{run}/t")]);
    assert_eq!(names, "half.txt\nsrc/lib.rs\n", "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn where_a_path_cannot_be_mounted_a_checkout_is_made_and_told_of() {
    let scene = Scene::new();
    let spec = scene.spec("version: 1\ndefaults: { workspace: overlay, network_mode: none }\ntasks:\n  t: { run: echo x > x }\n");
    let odd = scene.path().join("with:colon");
    let arguments = ["--state-dir", odd.to_str().expect("a path"), "run"];
    let ended = scene.agent_run(&[&arguments[..], &[spec.to_str().expect("a path")]].concat());
    assert_eq!(ended.code, Some(0), "{ended}");
    let warning =
        "warning: `workspace: overlay` is not possible here, so that each task gets a checkout: ";
    assert!(ended.stderr.contains(warning), "{ended}");
    assert!(
        ended
            .stderr
            .contains("cannot be named in the options of a mount"),
        "{ended}"
    );
    until("the branch is there", || {
        scene
            .git(&["branch", "--list", "agent/*/t"])
            .lines()
            .count()
            == 1
    });
}

#[test]
fn a_checkout_that_is_unused_for_a_day_is_removed_unless_a_run_may_have_it() {
    let scene = Scene::new();
    let yaml = "version: 1\ndefaults: { workspace: overlay, network_mode: none }\ntasks:\n  t: { run: echo x > x }\n";
    let (ended, _) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let shared = checkouts(&scene).remove(0);
    let age = |hours: u64| {
        let stamp = fs::File::create(shared.join("last-used")).expect("a stamp");
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        stamp.set_modified(then).expect("a time");
    };
    age(23);
    assert_eq!(scene.agent_run(&["clean"]).code, Some(0));
    assert!(shared.exists());
    age(25);
    // A run that this command cannot clean: it may have the checkout mounted.
    let run = scene.state().join("runs/990101-000000-aaaa");
    let key = shared
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace("checkout-", "");
    fs::create_dir_all(run.join("views")).expect("directories");
    fs::create_dir_all(run.join("tasks")).expect("directories");
    fs::write(run.join("views").join(key), "").expect("a mark");
    fs::write(run.join("plan.json"), r#"{"version": 2}"#).expect("a plan");
    assert_eq!(scene.agent_run(&["clean"]).code, Some(1));
    assert!(shared.exists());
    fs::remove_dir_all(&run).expect("a removal");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("unused checkout"), "{cleaned}");
    assert!(!shared.exists());
    let (ended, _) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
}
