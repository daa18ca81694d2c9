//! `doctor --firewall`, and what a run tells of the bridge: with an engine of the test's own in a network
//! namespace of its own, which is its host here. No rule of the machine is looked at or changed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::faults::daemon::Daemon;
use super::scene::{Ended, Scene, until};

/// Addresses of another machine, behind the engine's host: they stand for the internet (RFC 5737), a private
/// network and its name server.
const INTERNET: &str = "203.0.113.7";
const PRIVATE: &str = "192.168.77.7";
const RESOLVER: &str = "192.168.77.53";
/// An address of the host itself, and where it has a metadata service.
const HOST: &str = "198.51.100.9";
const METADATA: &str = "169.254.169.254";

const LISTEN: &str = "
import socket, sys
places = [place.split(':') for place in sys.argv[1:]]
servers = [socket.create_server((host, int(port))) for host, port in places]
print('ready', flush=True)
sys.stdin.read()
";
/// Tries everything, says what it reached, and goes on when it is told to.
const LOOK: &str = "
      python3 - <<'END' >reached.txt
      import socket, threading
      def reach(name, host, port):
          try: socket.create_connection((host, port), 3).close()
          except OSError: return
          found.append(name)
      found = []
      places = [('internet', 'INTERNET', 80), ('private', 'PRIVATE', 80), ('names', 'RESOLVER', 53),
                ('resolver', 'RESOLVER', 80), ('host', 'HOST', 80), ('metadata', 'METADATA', 80)]
      tries = [threading.Thread(target=reach, args=place) for place in places]
      for one in tries: one.start()
      for one in tries: one.join()
      print(' '.join(sorted(found)))
      END
";

fn addresses(text: &str) -> String {
    let all = [
        ("INTERNET", INTERNET),
        ("PRIVATE", PRIVATE),
        ("RESOLVER", RESOLVER),
        ("HOST", HOST),
        ("METADATA", METADATA),
    ];
    let replace = |text: String, (name, address): (&str, &str)| text.replace(name, address);
    all.into_iter().fold(text.to_owned(), replace)
}

/// Children that are ended with the test.
struct World {
    daemon: Daemon,
    children: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl World {
    /// An engine, its host's addresses, and the machine behind it.
    fn new() -> Self {
        let mut world = Self {
            daemon: Daemon::with_networks(),
            children: Vec::new(),
        };
        world.host(&addresses(
            "ip link set lo up; ip addr add HOST/32 dev lo; ip addr add METADATA/32 dev lo",
        ));
        let mut elsewhere = world.daemon.inside("unshare");
        elsewhere.args(["--net", "sh", "-c", "echo ready; exec cat"]);
        let elsewhere = world.ready(elsewhere);
        world.host(&format!(
            "ip link add out type veth peer name there netns {elsewhere}; ip link set out up
             ip addr add 203.0.113.1/24 dev out; ip addr add 192.168.77.1/24 dev out"
        ));
        let there = |program: &str| {
            let mut command = Command::new("nsenter");
            command.args([&format!("--net=/proc/{elsewhere}/ns/net"), "--", program]);
            command
        };
        let mut setup = there("sh");
        setup.args(["-ec", &addresses(
            "ip link set there up; ip addr add INTERNET/24 dev there; ip addr add PRIVATE/24 dev there
             ip addr add RESOLVER/24 dev there; ip route add default via 203.0.113.1",
        )]);
        let setup: Ended = setup.output().expect("ip, as root").into();
        assert_eq!(setup.code, Some(0), "{setup}");
        let places = ["INTERNET:80", "PRIVATE:80", "RESOLVER:53", "RESOLVER:80"].map(addresses);
        let mut behind = there("python3");
        behind.args(["-c", LISTEN]).args(places);
        world.ready(behind);
        let mut own = world.daemon.inside("python3");
        own.args(["-c", LISTEN])
            .args(["HOST:80", "METADATA:80"].map(addresses));
        world.ready(own);
        world
    }

    /// Runs commands on the host.
    fn host(&self, script: &str) -> String {
        let mut command = self.daemon.inside("sh");
        let ended: Ended = command.args(["-ec", script]).output().expect("sh").into();
        assert_eq!(ended.code, Some(0), "{script}: {ended}");
        ended.stdout
    }

    /// Starts what goes on until the test ends, once it has said that it is ready.
    fn ready(&mut self, mut command: Command) -> u32 {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        self.children.push(started.expect("a program"));
        let child = self.children.last_mut().expect("it was pushed");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        child.id()
    }

    /// agent-run on the host.
    fn agent_run(&self, scene: &Scene, arguments: &[&str]) -> Command {
        let inner = scene.command(arguments);
        let mut command = self.daemon.inside("sh");
        // The engine and the command see the same name server.
        let resolv_conf = scene.path().join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {RESOLVER}\n")).expect("a file");
        command.args(["-c", "exec unshare --mount sh -ec 'mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"' \"$@\"", "sh"]);
        command
            .arg(resolv_conf)
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("AGENT_RUN_HOST", self.daemon.url());
        command.current_dir(scene.path()).stdin(Stdio::null());
        command
    }

    /// Runs the task until `done`, and gives what it reached.
    fn run(&self, scene: &Scene, done: impl FnMut() -> bool) -> (String, String) {
        let script = addresses(LOOK) + "      until [ -e go ]; do sleep 0.1; done; rm go\n";
        let spec = scene.spec(&format!("version: 1\ntasks:\n  look:\n    run: |{script}"));
        let spec = spec.to_str().expect("a path");
        let before = scene.runs();
        let mut command = self.agent_run(scene, &["run", spec]);
        let child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let child = child.expect("agent-run");
        let worktree = || {
            let run = scene.runs().into_iter().find(|run| !before.contains(run))?;
            let tasks = scene.state().join("runs").join(run).join("tasks");
            let worktree = tasks.join("look/1/worktree");
            worktree.join("reached.txt").exists().then_some(worktree)
        };
        until("it has looked", || worktree().is_some());
        let worktree = worktree().expect("it is there");
        until("it is enough", done);
        std::fs::write(worktree.join("go"), "").expect("a file");
        let ended: Ended = child.wait_with_output().expect("an end").into();
        assert_eq!(ended.code, Some(0), "{ended}");
        let run = scene.runs().into_iter().find(|run| !before.contains(run));
        let reached = scene.git(&[
            "show",
            &format!("agent/{}/look:reached.txt", run.expect("a run")),
        ]);
        (reached, ended.stderr)
    }
}

#[test]
fn what_the_bridge_leaves_open_is_told_once_and_closed_by_the_rules_that_are_printed() {
    let (scene, world) = (Scene::new(), World::new());
    let notes = || {
        let notes = std::fs::read_dir(scene.state().join("reach")).expect("a directory");
        notes.count()
    };
    // Beside the one of the machine's own engine.
    let (reached, said) = world.run(&scene, || notes() == 2);
    assert_eq!(
        reached, "host internet metadata names private resolver\n",
        "{said}"
    );
    let warning = "warning: tasks on the bridge can reach what listens on the engine's machine, and the cloud \
                   metadata service 169.254.169.254: `agent-run doctor --firewall --network-pool ";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    assert_eq!(world.daemon.docker(&["ps", "-aq"]).stdout, "");
    let (_, said) = world.run(&scene, || true);
    assert_eq!(said.matches(warning).count(), 1, "it is known: {said}");

    let before = world.host("iptables -S");
    let printed = world.agent_run(&scene, &["doctor", "--firewall"]).output();
    let printed: Ended = printed.expect("agent-run").into();
    assert_eq!(printed.code, Some(0), "{printed}");
    assert_eq!(world.host("iptables -S"), before, "it only prints");
    let mut shell = world.daemon.inside("sh");
    let shell = shell
        .arg("-e")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut shell = shell.expect("sh");
    let mut input = shell.stdin.take().expect("its input");
    input
        .write_all(printed.stdout.as_bytes())
        .expect("the commands");
    drop(input);
    let applied: Ended = shell.wait_with_output().expect("an end").into();
    assert_eq!(applied.code, Some(0), "{applied}\n{printed}");

    let report = world
        .agent_run(&scene, &["doctor", "--format", "json"])
        .output();
    let report: Ended = report.expect("agent-run").into();
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    for check in ["host", "metadata", "isolation"] {
        let found = findings.iter().find(|found| found["check"] == check);
        assert_eq!(found.expect("a finding")["verdict"], "ok", "{report:#}");
    }
    for line in report["trust"]["reach"].as_array().expect("lines") {
        let expected = match line["what"].as_str().expect("words") {
            // No name server answers in this world.
            "other tasks" | "the engine's host" | "cloud metadata" | "the internet" => "no",
            "private networks" => "not tried",
            other => panic!("{other}"),
        };
        assert_eq!(line["bridge"], expected, "{report:#}");
    }
    let (reached, said) = world.run(&scene, || true);
    assert_eq!(reached, "internet names\n", "{said}");
    assert!(
        !said.contains("on the bridge"),
        "doctor has looked anew: {said}"
    );

    let undo: Vec<&str> = printed
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("#   iptables "))
        .collect();
    assert_eq!(undo.len(), 4, "{printed}");
    for command in undo {
        world.host(&format!("iptables {command}"));
    }
    assert_eq!(world.host("iptables -S"), before);
}
