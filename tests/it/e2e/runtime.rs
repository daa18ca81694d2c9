//! `runtime`, with an engine of the test's own that has further ones: which containers it runs, and what
//! becomes of one that lies about what it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::faults::daemon::Daemon;
use super::scene::{Ended, Scene, task};

/// Runs containers as `runc` does, and notes what each is started with.
const RUNC: &str = "#!/bin/sh
for word; do
  if [ -f \"$word/config.json\" ]; then
    grep -o '\"args\":\\[[^]]*\\]' \"$word/config.json\" >>\"$0.log\"
  fi
done
exec runc \"$@\"
";
/// gVisor as the distribution packages it, below a directory of the test's own; without what the engine of
/// the test has not got: networks, and limits of its own.
fn gvisor(directory: &Path) -> String {
    let fetch = "get() { apt-get download -q runsc; }; get || { apt-get update -qq && get; } \
                 && dpkg-deb -x runsc_*.deb .";
    let mut command = Command::new("sh");
    command.args(["-c", fetch]).current_dir(directory);
    let ended: Ended = command.output().expect("a shell").into();
    assert_eq!(ended.code, Some(0), "this test is for Debian: {ended}");
    let runsc = directory.join("usr/bin/runsc");
    assert!(runsc.is_file(), "{ended}");
    let runsc = runsc.display();
    format!("#!/bin/sh\nexec {runsc} --network=none --ignore-cgroups \"$@\"\n")
}

/// How often each of our programs was started by a runtime.
fn started(daemon: &Daemon, runtime: &str) -> BTreeMap<String, usize> {
    let log = std::fs::read_to_string(daemon.path(&format!("{runtime}.log"))).unwrap_or_default();
    let mut programs = BTreeMap::new();
    for line in log.lines() {
        let words = line.split('"').filter(|word| word.starts_with("/agent/"));
        if let Some(program) = words.map(str::to_owned).next() {
            *programs.entry(program).or_default() += 1;
        }
    }
    programs
}

fn run(scene: &Scene, daemon: &Daemon, yaml: &str) -> Ended {
    let spec = scene.spec(yaml);
    let spec = spec.to_str().expect("a path");
    scene.agent_run(&["run", "--host", &daemon.url(), spec])
}

#[test]
fn a_task_its_check_and_its_collector_are_run_by_what_the_spec_names() {
    let (scene, daemon) = (Scene::new(), Daemon::with_runtimes(&[("other", RUNC)]));
    let ended = run(
        &scene,
        &daemon,
        "version: 1\ndefaults: { network_mode: none, mem_limit: 128m }\ntasks:\n  \
        a:\n    runtime: other\n    run: echo a >a.txt\n    verify: grep a a.txt\n  \
        killed:\n    runtime: other\n    run: 'echo b >b.txt; kill -KILL -1'\n  \
        c: { run: 'echo c >c.txt' }\n",
    );
    let result = scene.result();
    assert_eq!(
        task(&result, "a")["outcome"]["outcome"],
        "succeeded",
        "{ended}"
    );
    assert_eq!(
        task(&result, "c")["outcome"]["outcome"],
        "succeeded",
        "{ended}"
    );
    let run = result["run"].as_str().expect("a run");
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/killed:b.txt")]),
        "b\n"
    );
    let expected = [("/agent/entry", 3), ("/agent/handoff", 1)];
    let expected = expected.map(|(program, times)| (program.to_owned(), times));
    assert_eq!(
        started(&daemon, "other"),
        BTreeMap::from(expected),
        "{ended}"
    );
}

#[test]
fn a_runtime_that_only_bears_the_name_of_gvisor_starts_no_task() {
    let (scene, daemon) = (Scene::new(), Daemon::with_runtimes(&[("runsc", RUNC)]));
    let yaml = "version: 1\ntasks:\n  a: { run: 'touch x', runtime: runsc, network_mode: none }\n";
    let ended = run(&scene, &daemon, yaml);
    assert_eq!(ended.code, Some(96), "{ended}");
    for words in [
        "`runtime: runsc`",
        "is not gVisor: its containers run on Linux version ",
        "hint: ",
    ] {
        assert!(ended.stderr.contains(words), "no {words:?} in {ended}");
    }
    assert_eq!(started(&daemon, "runsc"), BTreeMap::new());
    assert_eq!(daemon.docker(&["ps", "-aq"]).stdout, "");
}

#[test]
fn a_runtime_that_the_engine_does_not_have_is_an_error_of_the_spec() {
    let scene = Scene::new();
    let spec = scene.spec("version: 1\ntasks:\n  a: { run: x, runtime: runsc-nowhere }\n");
    let spec = spec.to_str().expect("a path");
    for command in ["plan", "run"] {
        let ended = scene.agent_run(&[command, spec]);
        assert_eq!(ended.code, Some(94), "{ended}");
        for words in [
            "the engine has no runtime `runsc-nowhere`",
            "spec.yaml:4:25",
            "runc",
            "runsc install",
        ] {
            assert!(ended.stderr.contains(words), "no {words:?} in {ended}");
        }
    }
    assert_eq!(scene.runs(), [] as [&str; 0]);
}

#[test]
#[ignore = "fetches gVisor: make test-all"]
fn a_task_in_gvisor_sees_its_kernel_and_its_work_is_collected() {
    let scene = Scene::new();
    let place = scene.path().join("gvisor");
    std::fs::create_dir(&place).expect("a directory");
    let daemon = Daemon::with_runtimes(&[("runsc", &gvisor(&place))]);
    let ended = run(
        &scene,
        &daemon,
        "version: 1\ndefaults: { network_mode: none, mem_limit: 512m, runtime: runsc }\ntasks:\n  \
        a:\n    run: dmesg >kernel.txt\n    verify: grep 'Starting gVisor' kernel.txt\n",
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let result = scene.result();
    let run = result["run"].as_str().expect("a run");
    let kernel = scene.git(&["show", &format!("agent/{run}/a:kernel.txt")]);
    assert!(kernel.contains("Starting gVisor"), "{kernel}");
}
