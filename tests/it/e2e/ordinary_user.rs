//! A whole run by an ordinary user who may use the engine: all else here runs as root.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::scene::{Ended, Scene, task};

/// Nobody on any machine that tests run on.
const USER: &str = "31337";

/// What the tasks do: files and directories of their own, some closed, some of the base's deleted.
/// The first ends by a kill, so that its work comes by a collector.
const TASKS: &str = r#"
tasks:
  killed: { run: "rm readme.md; mkdir -p new/deep; echo x > new/deep/x; kill -9 -1" }
  deletes: { run: "rm -rf src; echo x > src; git add -A; git commit -qm gone" }
  closes: { run: "for at in ~ /agent/git /agent/out; do mkdir -p $at/shut/in; echo x > $at/shut/in/x; chmod 0 $at/shut/in $at/shut; done; echo x > x" }
  is-root: { user: '0:0', run: echo x > x }
"#;

fn chown(owner: &str, path: &Path) {
    let done = Command::new("chown").args(["-R", owner]).arg(path).status();
    assert!(done.expect("chown").success(), "run this test as root");
}

/// The command as that user, with the engine's group.
fn by_user(scene: &Scene, arguments: &[&str]) -> Ended {
    let engine = std::fs::metadata("/var/run/docker.sock").expect("the engine's socket");
    let own = scene.command(arguments);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", USER, "--regid", USER])
        .args(["--groups", &engine.gid().to_string()])
        .arg(scene.path().join("agent-run"))
        .args(own.get_args())
        .current_dir(scene.path())
        .env("HOME", scene.path());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().expect("setpriv, of util-linux").into()
}

/// Runs the tasks in worktrees of this kind; gives the run's id.
fn run(scene: &Scene, workspace: &str) -> (Ended, Value) {
    let spec = scene.spec(&format!(
        "version: 1\ndefaults: {{ workspace: {workspace}, network_mode: none, mem_limit: 64m }}{TASKS}"
    ));
    let ended = by_user(scene, &["run", spec.to_str().expect("a path")]);
    let result = scene.checked_result(&ended);
    (ended, result)
}

#[test]
fn worktrees_of_both_kinds_come_back_and_go() {
    let scene = Scene::new();
    // Where this binary lies, others may not look.
    let binary = env!("CARGO_BIN_EXE_agent-run");
    std::fs::copy(binary, scene.path().join("agent-run")).expect("a copy");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scene.path(), open).expect("a mode");
    for workspace in ["checkout", "overlay"] {
        chown(&format!("{USER}:{USER}"), scene.path());
        let (ended, result) = run(&scene, workspace);
        let cleaned = by_user(&scene, &["clean"]);
        chown("0:0", scene.path());
        assert!(!ended.stderr.contains("warning"), "{ended}");
        assert_eq!(ended.code, Some(100), "{ended}");
        let id = result["run"].as_str().expect("a run");
        for (name, outcome, files) in [
            ("killed", "killed", "new/deep/x\nsrc/lib.rs\n"),
            ("deletes", "succeeded", "readme.md\nsrc\n"),
            ("closes", "succeeded", "readme.md\nsrc/lib.rs\nx\n"),
        ] {
            let report = task(&result, name);
            assert_eq!(report["outcome"]["outcome"], outcome, "{ended}");
            assert_eq!(report["branch"]["result"], "created", "{ended}");
            let branch = format!("agent/{id}/{name}");
            let names = scene.git(&["ls-tree", "-r", "--name-only", &branch]);
            assert_eq!(names, files, "{ended}");
        }
        // Its files could not be removed.
        let refused = &task(&result, "is-root")["outcome"];
        assert_eq!(refused["outcome"], "infra", "{ended}");
        assert_eq!(cleaned.code, Some(0), "{cleaned}");
        assert_eq!(scene.left(), Vec::<String>::new(), "{ended}");
    }
}
