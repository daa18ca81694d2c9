//! `clean --dry-run` changes nothing, and names exactly what a `clean` after it removes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::scene::{Scene, docker, expect, start};

const HOUR: Duration = Duration::from_secs(3600);

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|e| e.expect("an entry").path()).collect()
}

fn name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.expect("a name")
}

fn listed(arguments: &[&str], what: &str) -> Vec<String> {
    let ended = docker(arguments);
    assert_eq!(ended.code, Some(0), "{ended}");
    let names = ended.stdout.lines();
    names.map(|name| format!("{what} {name}")).collect()
}

/// All there is of a scene that `clean` may remove, in its words.
fn world(scene: &Scene) -> BTreeSet<String> {
    let mut world = BTreeSet::new();
    let mut add = |what: &str, path: &Path| world.insert(format!("{what} {}", path.display()));
    for bin in entries(&scene.state().join("trash")) {
        add("trash", &bin);
    }
    for repo in entries(&scene.state().join("repos")) {
        for path in entries(&repo) {
            match name(&path).split('-').next() {
                Some("base" | "results") => add("unused store", &path),
                Some("checkout") => add("unused checkout", &path),
                _ => false,
            };
        }
    }
    let mut runs = Vec::new();
    for run in entries(&scene.state().join("runs")) {
        if name(&run).starts_with(".new-") {
            add("unfinished run", &run);
            continue;
        }
        if run.join("views").exists() {
            add("directory", &run.join("views"));
        }
        for attempt in entries(&run.join("tasks")).iter().flat_map(|t| entries(t)) {
            let inside = attempt.strip_prefix(run.join("tasks")).expect("a part");
            add("worktree", &Path::new(name(&run)).join(inside));
        }
        runs.push(name(&run).to_owned());
    }
    for run in runs {
        let filter = format!("label=agent-run.run={run}");
        let format = ["--filter", &filter, "--format"];
        let containers = [&["ps", "-a"][..], &format, &["{{.Names}}"]].concat();
        world.extend(listed(&containers, "container"));
        let volumes = [&["volume", "ls"][..], &format, &["{{.Name}}"]].concat();
        world.extend(listed(&volumes, "volume"));
    }
    let filter = format!("name=^{}$", scene.network());
    let networks = [
        "network",
        "ls",
        "--filter",
        &filter,
        "--format",
        "{{.Name}}",
    ];
    world.extend(listed(&networks, "network"));
    let refs = scene.git(&["for-each-ref", "--format=%(refname)", "refs/agent-run"]);
    world.extend(refs.lines().map(|name| format!("ref {name}")));
    world
}

/// What a dry run names, but other scenes' networks.
fn named(scene: &Scene, said: &str) -> BTreeSet<String> {
    let names = said
        .lines()
        .filter_map(|line| line.split_once("would remove "));
    let names = names.map(|(_, name)| name.trim_end_matches(", if it is unused"));
    let names = names.map(|name| name.replace("work of ", "worktree "));
    let others = |name: &String| {
        let network = name.strip_prefix("network ");
        network.is_none_or(|network| network == scene.network())
    };
    names.filter(others).collect()
}

/// Makes a file as old as that.
fn age(file: &Path, by: Duration) {
    let stamp = fs::File::create(file).expect("a stamp");
    stamp.set_modified(SystemTime::now() - by).expect("a time");
}

#[test]
fn what_a_dry_run_names_is_what_goes() {
    let scene = Scene::new();
    let yaml = r"
version: 1
max_parallel: 1
defaults: { workspace: overlay }
tasks:
  done: { run: echo done > done.txt, claim: work }
  long:
    claim: more
    run: |
      echo ready
      sleep 600
";
    let (ended, _) =
        scene.run("version: 1\ntasks:\n  a: { run: echo a > a.txt, workspace: overlay }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    let old_store = |path: &PathBuf| name(path).starts_with("base-");
    let repo = entries(&scene.state().join("repos")).remove(0);
    let store = entries(&repo).into_iter().find(old_store).expect("a store");
    scene.write("new.txt", "new\n");
    scene.commit("third");
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    // Long ago; and cut off in a removal, and in the making of a run.
    age(&store.join("agent-run-last-used"), 31 * 24 * HOUR);
    for path in entries(&repo)
        .iter()
        .filter(|p| name(p).starts_with("checkout-"))
    {
        age(&path.join("last-used"), 25 * HOUR);
    }
    let run = scene.runs().pop().expect("a run");
    let state = scene.state();
    for directory in [
        state.join("runs").join(&run).join("tasks/done/1/worktree"),
        state.join("trash/bin-cut/0"),
        state.join("runs/.new-260101-000000-aaaa"),
    ] {
        fs::create_dir_all(directory).expect("a directory");
    }

    let before = world(&scene);
    let shown = scene.agent_run(&["clean", "--dry-run"]);
    assert_eq!(shown.code, Some(0), "{shown}");
    assert_eq!(world(&scene), before, "{shown}");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let after = world(&scene);
    let gone: BTreeSet<_> = before.difference(&after).cloned().collect();
    assert_eq!(named(&scene, &shown.stdout), gone, "{shown}\n{cleaned}");
    for what in [
        "container",
        "volume",
        "network",
        "worktree",
        "directory",
        "ref",
        "trash",
        "unfinished run",
        "unused store",
        "unused checkout",
    ] {
        let of_kind = |name: &String| name.starts_with(what);
        assert!(gone.iter().any(of_kind), "no {what} in {gone:#?}");
    }
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}
