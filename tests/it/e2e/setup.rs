//! Setups and caches on the real engine: prepared once, seen by all, changed by none.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::scene::{Ended, Scene, docker, expect, start, task, until};

const DEPS: &str = r"
version: 1
max_parallel: 4
defaults:
  network_mode: none
  mem_limit: 128m
  setup:
    run: |
      date +%N > deps/stamp 2>/dev/null || { mkdir deps; date +%N > deps/stamp; }
      mkdir deps/folder; echo base > deps/folder/file
      echo changed > readme.md; git config --get core.bare; id -u
    files: [readme.md]
    paths: [deps]
";

/// The prepared directories, caches and locks of a scene.
fn kept(scene: &Scene, prefix: &str) -> Vec<PathBuf> {
    let repos = fs::read_dir(scene.state().join("repos")).expect("repos");
    let entries = repos.flat_map(|repo| fs::read_dir(repo.expect("a repo").path()).expect("it"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found: Vec<PathBuf> = paths
        .filter(|p| name(p).starts_with(prefix) && p.is_dir())
        .collect();
    found.sort();
    found
}

/// The images that setups of this scene made.
fn images(scene: &Scene) -> Vec<Value> {
    let listed = scene.agent_run(&["images", "--format", "json"]);
    assert_eq!(listed.code, Some(0), "{listed}");
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let all = listed["images"].as_array().expect("images").iter();
    let is_image = |image: &&Value| {
        let name = image["name"].as_str().expect("a name");
        image["kind"] == "prepared" && name.starts_with("agent-run-prepared-")
    };
    all.filter(is_image).cloned().collect()
}

/// What is in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("a name")).collect();
    names.sort();
    names
}

/// Makes it look as if no run had used it for 31 days.
fn grow_old(kept: &Path) {
    let stamp = fs::File::create(kept.join("last-used")).expect("a stamp");
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 3600);
    stamp.set_modified(then).expect("a time");
}

fn how_often(scene: &Scene) -> usize {
    let is_run =
        |event: &&Value| event["kind"]["type"] == "setup" && event["kind"]["status"] == "runs";
    scene.events().iter().filter(is_run).count()
}

#[track_caller]
fn good(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended}");
}

fn clean_cache(scene: &Scene) {
    let dry = scene.agent_run(&["clean", "--cache", "--dry-run"]);
    good(&dry);
    assert!(dry.stdout.contains("would remove "), "{dry}");
    let cleaned = scene.agent_run(&["clean", "--cache"]);
    good(&cleaned);
    let would = dry
        .stdout
        .lines()
        .filter(|line| line.starts_with("would remove what a setup"));
    for line in would {
        assert!(
            cleaned
                .stdout
                .contains(&line.replace("would remove", "removed")),
            "{cleaned}"
        );
    }
    assert_eq!(kept(scene, "prepared-"), Vec::<PathBuf>::new());
    assert_eq!(kept(scene, "cache-"), Vec::<PathBuf>::new());
    assert_eq!(images(scene), Vec::<Value>::new());
}

#[test]
fn what_one_task_does_to_it_no_other_sees() {
    let scene = Scene::new();
    let tasks = "\
tasks:
  reader: { run: 'cat deps/stamp readme.md; cat deps/folder/file; git status --porcelain; ls deps > seen.txt' }
  writer: { run: 'echo mine > deps/folder/file; mv deps/folder deps/moved; cat deps/moved/file > seen.txt' }
  wrecker: { run: 'rm -rf deps/* deps/.[a-z]* ; ls -A deps > seen.txt' }
  root: { user: '0:0', run: 'rm -rf deps/*; chmod 0 deps; echo root > seen.txt' }
  view: { workspace: overlay, run: 'cat deps/folder/file > seen.txt; git add -A; git commit -qm view' }
";
    let (ended, result) = scene.run(&format!("{DEPS}{tasks}"));
    good(&ended);
    // Root has other files, so that its setup is another one.
    assert_eq!(how_often(&scene), 2, "{ended}");
    let prepared = kept(&scene, "prepared-");
    assert_eq!(prepared.len(), 2);
    for path in &prepared {
        let file = path.join("paths/0/folder/file");
        assert_eq!(fs::read_to_string(file).expect("a file"), "base\n");
        assert_eq!(names(path), ["last-used", "paths", "record.json"]);
    }
    let run = result["run"].as_str().expect("a run");
    for (name, seen) in [
        ("reader", "folder\nstamp\n"),
        ("writer", "mine\n"),
        ("wrecker", ""),
        ("root", "root\n"),
        ("view", "base\n"),
    ] {
        let branch = format!("agent/{run}/{name}");
        assert_eq!(
            scene.git(&["show", &format!("{branch}:seen.txt")]),
            seen,
            "{name}"
        );
        let changed = scene.git(&["diff", "--name-only", "main", &branch]);
        assert_eq!(
            changed, "seen.txt\n",
            "{name}: nothing of deps, and no tracked file"
        );
    }
    let said = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("reader"));
    let said: Vec<&str> = said
        .map(|line| line.split("| ").nth(1).unwrap_or_default())
        .collect();
    assert!(said.ends_with(&["one", "base"]), "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());

    // The next run finds it, and another content of the file does not.
    let (ended, _) = scene.run(&format!(
        "{DEPS}tasks:\n  next: {{ run: cat deps/folder/file }}\n"
    ));
    good(&ended);
    assert_eq!(how_often(&scene), 0, "{ended}");
    scene.write("readme.md", "two\n");
    scene.commit("third");
    let (ended, _) = scene.run(&format!(
        "{DEPS}tasks:\n  next: {{ run: cat deps/folder/file }}\n"
    ));
    good(&ended);
    assert_eq!(how_often(&scene), 1, "{ended}");
    clean_cache(&scene);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn root_installs_into_an_image_without_variables_and_secrets() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
secrets: { token: { file: token }, key: { file: key } }
defaults:
  network_mode: none
  environment: { PLAIN: plain-value-0815 }
  setup:
    run: |
      test "$TOKEN" = "hunter2-in-setup" && test "$(cat /run/secrets/key)" = "key-in-setup" && test "$PLAIN"
      printf '#!/bin/sh\necho installed\n' > /usr/local/bin/tool; chmod +x /usr/local/bin/tool
      useradd -m service; touch /home/service/x; chown service /home/service/x
      mkdir -p web/deps; echo dep > web/deps/file; ln -s file web/deps/link
    paths: [web/deps]
    user: root
    secrets: [{ source: token, environment: TOKEN }, key]
tasks:
  a: { run: "tool > out.txt; cat web/deps/link >> out.txt; echo more >> web/deps/file; id -un; test -z \"${TOKEN:-}\"; grep service /etc/passwd" }
  b: { command: [tool] }
"#;
    fs::write(scene.path().join("token"), "hunter2-in-setup").expect("a secret");
    fs::write(scene.path().join("key"), "key-in-setup").expect("a secret");
    let (ended, result) = scene.run(yaml);
    good(&ended);
    assert_eq!(how_often(&scene), 1);
    let run = result["run"].as_str().expect("a run");
    let out = scene.git(&["show", &format!("agent/{run}/a:out.txt")]);
    assert_eq!(out, "installed\ndep\n");
    let made = images(&scene);
    assert_eq!(made.len(), 1, "{made:?}");
    let name = made[0]["name"].as_str().expect("a name");
    let base = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
    let inspect =
        |name: &str, what: &str| docker(&["image", "inspect", name, "--format", what]).stdout;
    for what in [
        "{{json .Config.Cmd}}",
        "{{json .Config.User}}",
        "{{json .Config.Env}}",
        "{{json .Config.WorkingDir}}",
    ] {
        assert_eq!(inspect(name, what), inspect(&base, what), "{what}");
    }
    let all = docker(&["image", "inspect", name]).stdout
        + &docker(&["history", "--no-trunc", name]).stdout;
    for value in ["hunter2", "key-in-setup", "plain-value"] {
        assert!(!all.contains(value), "{value} in {all}");
    }
    // Somebody's own container of it is none of ours.
    let stranger = docker(&["create", "--label", "x=y", name, "true"]).stdout;
    let cleaned = scene.agent_run(&["clean"]);
    good(&cleaned);
    assert!(!cleaned.stdout.contains("removed container"), "{cleaned}");
    let removed = docker(&["rm", stranger.trim()]);
    assert_eq!(removed.code, Some(0), "{removed}");
    // An image that was removed is made again.
    docker(&["rmi", name]);
    let (ended, _) = scene.run(yaml);
    good(&ended);
    assert_eq!((how_often(&scene), images(&scene).len()), (1, 1));
    // Directories have what the script wrote, and no value; unused for 30 days, all of it goes.
    let prepared = kept(&scene, "prepared-").pop().expect("a directory");
    assert_eq!(names(&prepared.join("paths/0")), ["file", "link"]);
    let record = fs::read_to_string(prepared.join("record.json")).expect("a record");
    for value in ["hunter2", "key-in-setup", "plain-value"] {
        assert!(!record.contains(value), "{value} in {record}");
    }
    good(&scene.agent_run(&["clean"]));
    assert_eq!(
        (kept(&scene, "prepared-").len(), images(&scene).len()),
        (1, 1)
    );
    grow_old(&prepared);
    good(&scene.agent_run(&["clean"]));
    assert_eq!(
        (kept(&scene, "prepared-").len(), images(&scene).len()),
        (0, 0)
    );
    let (ended, _) = scene.run(yaml);
    good(&ended);
    assert_eq!((how_often(&scene), images(&scene).len()), (1, 1));
    clean_cache(&scene);
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// A check has what the setup made, whatever the agent made of its own view and put into its cache; and so
/// has the attempt that goes on.
#[test]
fn checks_and_further_attempts_have_what_was_prepared() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
defaults:
  network_mode: none
  mem_limit: 128m
  cache: [{ key: c, path: ~/.c }]
  feedback: 1
  run: |
    test "$(cat deps/tool)" = "$AGENT_TASK"; test "$(tool)" = installed
    echo evil > deps/tool; echo evil > ~/.c/tool; echo x > work-$AGENT_ATTEMPT
  verify: |
    test "$(cat deps/tool)" = "$AGENT_TASK"; test "$(tool)" = installed
    test ! -e ~/.c; test "$(git status --porcelain)" = ""
    rm -rf deps/*; test -e work-2
tasks:
  one:
    setup:
      run: |
        mkdir deps; echo one > deps/tool
        printf '#!/bin/sh\necho installed\n' > /usr/local/bin/tool; chmod +x /usr/local/bin/tool
      paths: [deps]
      user: root
  two:
    setup:
      run: |
        mkdir deps; echo two > deps/tool
        printf '#!/bin/sh\necho installed\n' > /usr/local/bin/tool; chmod +x /usr/local/bin/tool
      paths: [deps]
      user: root
"#;
    let (ended, result) = scene.run(yaml);
    good(&ended);
    assert_eq!(how_often(&scene), 2, "{ended}");
    for name in ["one", "two"] {
        let report = task(&result, name);
        assert_eq!(report["attempt"], 2, "{report:#}");
        let branch = report["branch"]["branch"].as_str().expect("a branch");
        let changed = scene.git(&["diff", "--name-only", "main", branch]);
        assert_eq!(changed, "work-1\nwork-2\n");
    }
    assert_eq!(kept(&scene, "prepared-").len(), 2);
    clean_cache(&scene);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn two_runs_at_once_prepare_once() {
    let scene = Scene::new();
    let yaml = "\
version: 1
defaults:
  network_mode: none
  setup: { run: 'sleep 2; mkdir deps; echo x > deps/x', paths: [deps] }
tasks:
  t: { run: cat deps/x }
";
    let spec = scene.spec(yaml);
    let spec = spec.to_str().expect("a path");
    let (mut first, mut lines) = start(&scene, &["run", spec]);
    expect(&mut lines, "setup of t runs");
    let second = scene.agent_run(&["run", spec]);
    good(&second);
    assert!(!second.stderr.contains("setup of t runs"), "{second}");
    lines.for_each(drop);
    assert!(first.wait().expect("an end").success());
    assert_eq!(kept(&scene, "prepared-").len(), 1);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn nothing_outside_of_the_worktree_is_kept() {
    let scene = Scene::new();
    let outside = scene.path().join("outside");
    fs::create_dir_all(outside.join("deps")).expect("a directory");
    let at = outside.display();
    let yaml = format!(
        "\
version: 1
defaults: {{ network_mode: none }}
tasks:
  link: {{ run: 'true', setup: {{ run: 'ln -s {at}/deps deps', paths: [deps] }} }}
  parent: {{ run: 'true', setup: {{ run: 'ln -s {at} web', paths: [web/deps] }} }}
  git: {{ run: 'true', setup: {{ run: 'rm -rf readme.md src; ln -s /etc src', paths: [src-deps] }} }}
  exit: {{ run: 'true', setup: {{ run: 'mkdir deps; exit 7', paths: [deps] }} }}
  many: {{ run: 'ls deps | wc -l', setup: {{ run: 'mkdir deps; cd deps; seq 100000 | xargs touch', paths: [deps] }} }}
"
    );
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(100), "{ended}");
    for (name, why) in [
        ("link", "a symbolic link is there"),
        ("parent", "a symbolic link is there"),
        ("git", "nothing is there"),
        ("exit", "the setup ended with exit code 7"),
    ] {
        let outcome = &task(&result, name)["outcome"];
        let message = outcome["message"].as_str().expect("a message");
        assert_eq!(outcome["stage"], "setup", "{ended}");
        assert!(message.contains(why), "{name}: {message}");
        let log = task(&result, name)["log"].as_str().expect("a log");
        assert!(
            message.ends_with(log) && Path::new(log).is_file(),
            "{message}"
        );
    }
    assert_eq!(
        task(&result, "many")["outcome"]["outcome"],
        "succeeded",
        "{ended}"
    );
    assert!(ended.stderr.contains("many   | 100000"), "{ended}");
    assert!(outside.join("deps").is_dir());
    assert_eq!(kept(&scene, "prepared-").len(), 1);
    clean_cache(&scene);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn after_kill_9_the_next_run_prepares_anew() {
    let scene = Scene::new();
    let yaml = "\
version: 1
defaults:
  network_mode: none
  setup: { run: 'mkdir deps; echo half > deps/x; echo begun; test -e src/lib.rs && sleep SECONDS; echo whole > deps/x', paths: [deps] }
tasks:
  t: { run: cat deps/x }
";
    let spec = scene.spec(&yaml.replace("SECONDS", "600"));
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| begun");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    assert_eq!(kept(&scene, "prepared-").len(), 1, "what was begun");
    let cleaned = scene.agent_run(&["clean"]);
    good(&cleaned);
    assert!(
        cleaned.stdout.contains("-setup-"),
        "its container: {cleaned}"
    );
    let cleaned = scene.agent_run(&["clean", "--cache"]);
    good(&cleaned);
    assert_eq!(kept(&scene, "prepared-"), Vec::<PathBuf>::new());
    let (ended, _) = scene.run(&yaml.replace("SECONDS", "0"));
    good(&ended);
    assert!(ended.stderr.contains("t | whole"), "{ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_the_base_lacks_is_told_before_anything_starts() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\ntasks:\n  t: { run: x, setup: { run: x, files: [missing.lock], paths: [src] } }\n",
    );
    let ended = scene.agent_run(&["run", spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(94), "{ended}");
    assert!(
        ended.stderr.contains("the base has no file `missing.lock`"),
        "{ended}"
    );
    assert!(ended.stderr.contains("`src` is tracked by git"), "{ended}");
    assert!(ended.stderr.contains("spec.yaml:4:"), "{ended}");
    assert_eq!(scene.runs(), Vec::<String>::new());
}

#[test]
fn the_example_of_the_reference_is_true() {
    let scene = Scene::new();
    scene.write("vendor.lock", "1\n");
    scene.write("install.sh", "mkdir $1; echo 'echo 1.0' > $1/check\n");
    scene.commit("an install script");
    let reference = include_str!("../../../docs/spec.md");
    let section = reference
        .split("## Prepared worktrees\n")
        .nth(1)
        .expect("the section");
    let example = section.split("```yaml\n").nth(1).expect("an example");
    let example = example.split("```").next().expect("its end");
    let (ended, result) = scene.run(example);
    good(&ended);
    assert_eq!(how_often(&scene), 1);
    let run = result["run"].as_str().expect("a run");
    let file = |task: &str| scene.git(&["show", &format!("agent/{run}/{task}:{task}.txt")]);
    assert_eq!(
        (file("one").as_str(), file("two").as_str()),
        ("mine\n", "1.0\n")
    );
    let listed = scene.agent_run(&["images"]);
    assert!(listed.stdout.contains("prepared "), "{listed}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_setup_that_fills_the_disk_is_ended_wherever_it_writes() {
    let scene = Scene::new();
    let yaml = "\
version: 1
defaults: { network_mode: none, disk_limit: 64m, startup_timeout: 2m, read_only: true }
tasks:
  worktree: { run: 'true', setup: { run: 'mkdir deps; head -c 300M /dev/zero > deps/zeros; sleep 600', paths: [deps] } }
  home: { run: 'true', setup: { run: 'mkdir deps; head -c 300M /dev/zero > ~/zeros; sleep 600', paths: [deps] } }
  image: { run: 'true', setup: 'head -c 300M /dev/zero > /var/zeros; sleep 600' }
";
    let (ended, result) = scene.run(yaml);
    for name in ["worktree", "home", "image"] {
        let outcome = &task(&result, name)["outcome"];
        let message = outcome["message"].as_str().expect("a message");
        let told = "the setup used more than `disk_limit`; its log: ";
        assert!(message.starts_with(told), "{name}: {message} {ended}");
    }
    assert_eq!(kept(&scene, "prepared-"), Vec::<PathBuf>::new());
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_a_task_adds_to_its_caches_counts_for_its_disk_and_what_was_there_does_not() {
    let scene = Scene::new();
    let yaml = "\
version: 1
defaults:
  network_mode: none
  disk_limit: 64m
  cache: [{ key: large, path: ~/large }]
tasks:
  fills: { run: 'cat /dev/zero > ~/large/zeros', timeout: 5m, allow_failure: true }
  later: { run: 'test -s ~/large/zeros; echo done > done.txt; sleep 3', needs: [fills] }
";
    let (ended, result) = scene.run(yaml);
    let outcome = |id| task(&result, id)["outcome"]["outcome"].clone();
    assert_eq!(outcome("fills"), "out_of_disk", "{ended}");
    assert_eq!(outcome("later"), "succeeded", "{ended}");
    clean_cache(&scene);
    until("nothing is left", || scene.left().is_empty());
}

#[test]
fn caches_stay_from_run_to_run_and_go_with_clean() {
    let scene = Scene::new();
    let yaml = "\
version: 1
max_parallel: MANY
defaults:
  network_mode: none
  cache: [{ key: shared, path: ~/.cache/deep/er }, { key: own, path: /var/cache/own, mode: private }]
  run: |
    echo $AGENT_TASK >> ~/.cache/deep/er/all; echo $AGENT_TASK >> /var/cache/own/list
    touch ~/.cache/deep/mine; until [ $(wc -l < ~/.cache/deep/er/all) -ge LINES ]; do sleep 0.1; done
    cat /var/cache/own/list
tasks: { a: {}, b: {} }
";
    let (ended, _) = scene.run(&yaml.replace("MANY", "2").replace("LINES", "2"));
    good(&ended);
    let caches = kept(&scene, "cache-");
    assert_eq!(caches.len(), 2, "{caches:?}");
    let names = names(&caches[0]);
    assert_eq!(names.len(), 3, "two private ones and a stamp: {names:?}");
    assert!(
        ended.stderr.contains("a | a") && ended.stderr.contains("b | b"),
        "{ended}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
    let (ended, _) = scene.run(&yaml.replace("MANY", "1").replace("LINES", "3"));
    good(&ended);
    let lines = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("b | "))
        .count();
    assert_eq!(lines, 3, "one after the other they have the same: {ended}");
    assert_eq!(scene.left(), Vec::<String>::new());
    // Unused for 30 days they go by themselves.
    let (shared, own) = (&caches[1], &caches[0]);
    grow_old(shared);
    let run = scene.runs().pop().expect("a run");
    good(&scene.agent_run(&["clean", "--run", &run]));
    assert!(shared.exists(), "that is of one run");
    let both = scene.agent_run(&["clean", "--run", &run, "--cache"]);
    assert_eq!(both.code, Some(2), "{both}");
    let cleaned = scene.agent_run(&["clean"]);
    good(&cleaned);
    assert!(!shared.exists() && own.exists(), "{cleaned}");
    clean_cache(&scene);
    until("nothing is left", || scene.left().is_empty());
}
