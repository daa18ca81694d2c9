//! `init`: what it writes for repositories of each kind runs, and nothing is ever overwritten.

use std::os::unix::ffi::OsStrExt as _;

use super::scene::{Ended, Scene};

fn in_repo(scene: &Scene, arguments: &[&str]) -> Ended {
    let mut command = scene.command(arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

/// Writes the spec, checks and runs it; gives the branches by task.
fn init_and_run(scene: &Scene, tasks: &[&str]) -> Ended {
    let written = in_repo(scene, &["init"]);
    assert_eq!(written.code, Some(0), "{written}");
    assert!(written.stdout.contains("agent-run run"), "{written}");
    let valid = in_repo(scene, &["validate"]);
    assert_eq!(valid.code, Some(0), "{valid}");
    let ended = in_repo(scene, &["run"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let count = format!("{0} tasks: {0} passed\n", tasks.len());
    assert!(ended.stdout.contains(&count), "{ended}");
    ended
}

/// What a task's branch has in its report.
fn report(scene: &Scene, task: &str, file: &str) -> String {
    let run = scene.runs().pop().expect("a run");
    scene.git(&["show", &format!("agent/{run}/{task}:agent-run-{file}")])
}

#[test]
fn a_repository_of_no_kind_gets_tasks_that_run() {
    let scene = Scene::new();
    init_and_run(&scene, &["inventory", "history"]);
    assert!(report(&scene, "inventory", "inventory.md").contains("| .rs | 1 | 1 |"));
    let history = report(&scene, "history", "history.md");
    assert!(
        history.contains("Tester") && history.contains("second"),
        "{history}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn repositories_of_every_kind_get_a_task_for_each() {
    let scene = Scene::new();
    scene.write(
        "Cargo.toml",
        "[package]\nname = \"a\"\n[dependencies]\nserde = \"1\"\n",
    );
    scene.write("sub/Cargo.toml", "no = TOML\n");
    scene.write(
        "package.json",
        r#"{"scripts": {"test": "x"}, "dependencies": {"left-pad": "1"}}"#,
    );
    scene.write("sub/package.json", r#"{"scripts": 7}"#);
    scene.write("pyproject.toml", "[project]\nname = \"a\"\n");
    scene.write("setup.py", "import setuptools\n");
    scene.write("broken.py", "def (:\n");
    scene.write(
        "go.mod",
        "module example.org/a\n\ngo 1.22\n\nrequire (\n\tgolang.org/x/text v0.14.0\n)\n",
    );
    scene.write("Makefile", "all: build\nbuild:\n\techo\n");
    scene.write(".github/workflows/ci.yml", "on: push\n");
    scene.commit("be of every kind");
    let tasks = [
        "inventory",
        "history",
        "crates",
        "packages",
        "syntax",
        "modules",
        "targets",
    ];
    let ended = init_and_run(&scene, &tasks);
    let spec = std::fs::read_to_string(scene.repo().join("agent-run.yaml")).expect("a spec");
    assert!(
        spec.contains("\n# base: main\n") && spec.contains(".github/workflows"),
        "{spec}"
    );
    for (task, file, words) in [
        (
            "crates",
            "crates.md",
            ["- 'serde' (dependencies)", "cannot be read"],
        ),
        (
            "packages",
            "packages.md",
            ["- 'left-pad' (dependencies)", "cannot be read"],
        ),
        ("syntax", "syntax.md", ["2 files", "- 'broken.py': "]),
        (
            "modules",
            "modules.md",
            ["- 'golang.org/x/text v0.14.0'", "## 'go.mod'"],
        ),
        ("targets", "targets.txt", ["all:", "build:"]),
    ] {
        let report = report(&scene, task, file);
        for words in words {
            assert!(
                report.contains(words),
                "{task}: no {words:?} in {report}\n{ended}"
            );
        }
    }
}

#[test]
fn hostile_names_change_neither_the_spec_nor_its_tasks() {
    let scene = Scene::new();
    scene.git(&["checkout", "-q", "-b", "${HOME}-#\u{2028}tasks"]);
    let names: [&[u8]; 5] = [
        b"a\nrun: rm.py",
        b"--help.py",
        b"\xff\xfe.py",
        b"${X}.rs",
        b"'\"`$(id)`.md",
    ];
    for name in names {
        std::fs::write(
            scene.repo().join(std::ffi::OsStr::from_bytes(name)),
            "x = 1\n",
        )
        .expect("a file");
    }
    std::os::unix::fs::symlink("/etc/passwd", scene.repo().join("link.py")).expect("a link");
    std::os::unix::fs::symlink("nowhere", scene.repo().join("package.json")).expect("a link");
    scene.write("requirements.txt", "");
    scene.write("Cargo.toml/inside", "a directory of that name\n");
    scene.commit("be hostile");
    let tasks = ["inventory", "history", "crates", "packages", "syntax"];
    init_and_run(&scene, &tasks);
    let inventory = report(&scene, "inventory", "inventory.md");
    assert!(inventory.contains("| .py | 3 | 3 |"), "{inventory}");
    assert!(report(&scene, "packages", "packages.md").contains("cannot be read"));
}

#[test]
fn a_spec_that_is_there_stays() {
    let scene = Scene::new();
    let printed = in_repo(&scene, &["init", "--stdout"]);
    assert_eq!(printed.code, Some(0), "{printed}");
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    for name in ["agent-run.yaml", "agent-run.yml"] {
        let path = scene.repo().join(name);
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        let refused = in_repo(&scene, &["init"]);
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(refused.stderr.contains("there already") && refused.stderr.contains("hint:"));
        std::fs::remove_file(&path).expect("the link");
    }
    assert!(!scene.repo().join("elsewhere").exists());
    // From below it is written at the top, where every command looks for it.
    let written: Ended = scene
        .command(&["init"])
        .current_dir(scene.repo().join("src"))
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(written.code, Some(0), "{written}");
    let spec = scene.repo().join("agent-run.yaml");
    assert_eq!(
        std::fs::read_to_string(spec).expect("a spec"),
        printed.stdout
    );
}

#[test]
fn where_there_is_nothing_to_start_from_it_says_what_to_do() {
    let nowhere = Scene::empty().agent_run(&["init"]);
    assert_eq!(nowhere.code, Some(96), "{nowhere}");
    assert!(nowhere.stderr.contains("`git init`"), "{nowhere}");
    let scene = Scene::empty();
    std::fs::create_dir(scene.repo()).expect("a directory");
    scene.git(&["init", "-q"]);
    let empty = in_repo(&scene, &["init"]);
    assert_eq!(empty.code, Some(96), "{empty}");
    assert!(
        empty.stderr.contains("has no commit yet: make one first"),
        "{empty}"
    );
    assert!(!scene.repo().join("agent-run.yaml").exists());
    let full = Scene::new();
    full.git(&["clone", "-q", "--bare", ".", "bare.git"]);
    let bare = in_repo(&full, &["init", "-C", "bare.git"]);
    assert_eq!(bare.code, Some(96), "{bare}");
    assert!(bare.stderr.contains("--stdout"), "{bare}");
    let printed = in_repo(&full, &["init", "-C", "bare.git", "--stdout"]);
    assert_eq!(printed.code, Some(0), "{printed}");
}

#[test]
fn the_agent_that_it_shows_is_a_valid_task() {
    let scene = Scene::new();
    let text = in_repo(&scene, &["init", "--stdout"]).stdout;
    let (tasks, agent) = text.split_once("# A coding agent").expect("the agent");
    let agent = agent.replace("\n#", "\n");
    let spec = format!("{tasks}# A coding agent{agent}");
    std::fs::write(scene.path().join("spec.yaml"), &spec).expect("a spec");
    let valid = scene.agent_run(&["validate", "spec.yaml"]);
    assert_eq!(valid.code, Some(0), "{valid}");
    assert!(valid.stdout.contains("3 tasks"), "{valid}\n{spec}");
}

#[test]
fn the_commands_that_it_names_work_where_it_was_started() {
    let scene = Scene::new();
    let ended = scene.agent_run(&["init", "-C", "repo"]);
    let mut lines = ended.stdout.lines();
    let plan = lines.find_map(|line| line.trim().strip_prefix("agent-run plan "));
    let spec = plan.and_then(|rest| rest.split_once("  "));
    let spec = spec.expect("a spec in the command").0;
    let planned = scene.agent_run(&["plan", spec]);
    assert_eq!(planned.code, Some(0), "{ended}\n{planned}");
}

#[test]
fn the_agent_in_the_comments_only_has_to_be_uncommented() {
    let scene = Scene::new();
    assert_eq!(in_repo(&scene, &["init"]).code, Some(0));
    let path = scene.repo().join("agent-run.yaml");
    let text = std::fs::read_to_string(&path).expect("the spec");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with("  ") || rest == "secrets:" => rest,
        _ => line,
    });
    let lines: Vec<&str> = lines.collect();
    std::fs::write(&path, lines.join("\n")).expect("the spec");
    let planned = in_repo(&scene, &["plan"]);
    assert_eq!(planned.code, Some(0), "{planned}");
    for part in [
        "agent     claude-code",
        "nothing but api.anthropic.com",
        "anthropic_key as $ANTHROPIC",
    ] {
        assert!(planned.stdout.contains(part), "{planned}");
    }
}
