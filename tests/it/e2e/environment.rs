//! Repositories of every shape, and specs of none: what works, and what gets which exit code.

use super::scene::{Scene, task};

const HELLO: &str = "version: 1\ntasks:\n  hello:\n    run: echo hello > hello.txt\n";

/// Runs `HELLO` and expects that its branch is there.
fn works(scene: &Scene) -> String {
    let (ended, result) = scene.run(HELLO);
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let shown = scene.git(&["show", &format!("agent/{run}/hello:hello.txt")]);
    assert_eq!(shown, "hello\n");
    assert_eq!(scene.left(), Vec::<String>::new());
    ended.stderr
}

/// Runs a spec and expects this exit code and these words, and that nothing was created.
fn refused(scene: &Scene, yaml: &str, code: i32, words: &[&str]) {
    let spec = scene.spec(yaml);
    let ended = scene.agent_run(&["run", spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(code), "{ended}");
    for word in words {
        assert!(ended.stderr.contains(word), "no `{word}` in {ended}");
    }
    assert_eq!(scene.runs(), Vec::<String>::new(), "{ended}");
}

#[test]
fn detached_head() {
    let scene = Scene::new();
    scene.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    works(&scene);
}

#[test]
fn bare() {
    let scene = Scene::new();
    let bare = scene.path().join("bare.git");
    scene.git(&["clone", "-q", "--bare", ".", bare.to_str().expect("a path")]);
    std::fs::remove_dir_all(scene.repo()).expect("a removal");
    std::fs::rename(bare, scene.repo()).expect("a rename");
    works(&scene);
}

#[test]
fn shallow() {
    let scene = Scene::new();
    let url = format!("file://{}", scene.repo().display());
    let clone = scene.path().join("clone");
    scene.git(&[
        "clone",
        "-q",
        "--depth",
        "1",
        &url,
        clone.to_str().expect("a path"),
    ]);
    std::fs::remove_dir_all(scene.repo()).expect("a removal");
    std::fs::rename(clone, scene.repo()).expect("a rename");
    works(&scene);
}

#[test]
fn reftable() {
    let scene = Scene::empty();
    std::fs::create_dir(scene.repo()).expect("a directory");
    let made = std::process::Command::new("git")
        .args(["init", "-q", "-b", "main", "--ref-format=reftable"])
        .arg(scene.repo())
        .output()
        .expect("git");
    if made.status.success() {
        scene.write("readme.md", "one\n");
        scene.commit("first");
        assert_eq!(scene.git(&["rev-parse", "--show-ref-format"]), "reftable\n");
        works(&scene);
        return;
    }
    // A git before 2.45 cannot read what a newer one made; that must be said.
    scene.git(&["init", "-q", "-b", "main"]);
    scene.git(&["config", "core.repositoryFormatVersion", "1"]);
    scene.git(&["config", "extensions.refStorage", "reftable"]);
    refused(&scene, HELLO, 96, &["refstorage"]);
}

#[test]
fn linked_worktree() {
    let scene = Scene::new();
    let linked = scene.path().join("linked");
    scene.git(&["worktree", "add", "-q", linked.to_str().expect("a path")]);
    let spec = scene.spec(&format!("repo: linked\n{HELLO}").replacen("repo: linked\n", "", 1));
    std::fs::write(&spec, format!("repo: linked\n{HELLO}")).expect("a spec");
    let ended = scene.agent_run(&["run", spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(
        scene.git(&["branch", "--list", "agent/*"]).lines().count(),
        1
    );
}

#[test]
fn a_dirty_tree_is_named_and_left_as_it_is() {
    let scene = Scene::new();
    scene.write("readme.md", "changed\n");
    scene.write("new.txt", "new\n");
    let before = scene.git(&["status", "--porcelain"]);
    let stderr = works(&scene);
    assert!(stderr.contains("not committed"), "{stderr}");
    assert_eq!(scene.git(&["status", "--porcelain"]), before);
}

#[test]
fn a_repository_of_another_user() {
    let scene = Scene::new();
    let status = std::process::Command::new("chown")
        .args(["-R", "4321:4321"])
        .arg(scene.repo())
        .status()
        .expect("chown");
    assert!(
        status.success(),
        "this test must run as root: it gives a repository away"
    );
    refused(&scene, HELLO, 96, &["safe.directory"]);
    let config = scene.path().join("gitconfig");
    std::fs::write(
        &config,
        format!("[safe]\n\tdirectory = {}\n", scene.repo().display()),
    )
    .expect("a file");
    let spec = scene.spec(HELLO);
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    let ended: super::scene::Ended = command
        .env("GIT_CONFIG_GLOBAL", &config)
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("belongs to user 4321"), "{ended}");
}

#[test]
fn no_repository_and_no_commit_and_no_base() {
    let scene = Scene::empty();
    std::fs::create_dir(scene.repo()).expect("a directory");
    refused(&scene, HELLO, 96, &["git repository", "hint: ", "`repo`"]);
    scene.git(&["init", "-q"]);
    refused(&scene, HELLO, 96, &["no commit"]);
    let scene = Scene::new();
    let yaml = format!("base: no-such-branch\n{HELLO}");
    refused(&scene, &yaml, 96, &["no-such-branch"]);
}

#[test]
fn a_branch_that_is_taken_is_refused_before_the_start() {
    let scene = Scene::new();
    scene.git(&["branch", "taken"]);
    let yaml = "version: 1\ntasks:\n  hello:\n    branch: taken\n    run: echo x > x\n";
    refused(&scene, yaml, 94, &["taken"]);
    scene.git(&["branch", "agent"]);
    refused(&scene, HELLO, 94, &["`agent`"]);
}

#[test]
fn two_tasks_with_one_branch_are_refused_before_the_start() {
    let yaml = "version: 1\ndefaults: { run: make }\ntasks:\n  a: { branch: same }\n  b: { branch: same }\n";
    refused(&Scene::new(), yaml, 94, &["spec.yaml:6:16", "`same`"]);
}

#[test]
fn a_branch_that_is_taken_meanwhile_is_never_overwritten() {
    let scene = Scene::new();
    let spec = scene.spec("version: 1\ntasks:\n  hello:\n    branch: late\n    run: echo ready; sleep 4; echo x > x\n");
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    let child = command
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("agent-run");
    let own = loop {
        if scene.state().join("runs").exists() && !scene.runs().is_empty() {
            break scene.git(&["rev-parse", "HEAD~1"]);
        }
        std::thread::yield_now();
    };
    scene.git(&["branch", "late", own.trim()]);
    let ended: super::scene::Ended = child.wait_with_output().expect("an end").into();
    assert_eq!(ended.code, Some(100), "{ended}");
    assert_eq!(scene.git(&["rev-parse", "late"]), own);
    let result = scene.result();
    let branch = &task(&result, "hello")["branch"];
    assert_eq!(branch["result"], "taken", "{branch:#}");
    let kept = branch["kept_ref"].as_str().expect("a ref");
    scene.git(&["show", &format!("{kept}:x")]);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_spec_that_is_wrong_creates_nothing() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  hello:\n    timout: 3m\n    mem_limit: -1\n    run: echo x\n";
    refused(
        &scene,
        yaml,
        94,
        &[
            "timout",
            "did you mean `timeout`",
            "mem_limit",
            "spec.yaml:5",
        ],
    );
}

#[test]
fn what_can_never_fit_is_an_error_and_too_many_cpus_are_a_warning() {
    let scene = Scene::new();
    refused(
        &scene,
        &HELLO.replace("run:", "mem_limit: 900g\n    run:"),
        94,
        &["mem_limit"],
    );
    let spec = scene.spec(&HELLO.replace("run:", "cpus: 900\n    run:"));
    let ended = scene.agent_run(&["plan", spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stdout.contains("warning:") && ended.stdout.contains("900 CPUs"),
        "{ended}"
    );
    assert_eq!(scene.runs(), Vec::<String>::new());
}

#[test]
fn a_state_directory_inside_the_repository_is_refused() {
    let scene = Scene::new();
    let spec = scene.spec(HELLO);
    let inside = scene.repo().join("state");
    let ended = scene.agent_run(&[
        "run",
        spec.to_str().expect("a path"),
        "--state-dir",
        inside.to_str().expect("a path"),
    ]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(!inside.exists(), "{ended}");
}
