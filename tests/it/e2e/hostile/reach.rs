//! What a task can reach of the host and of others, and that it is what docs/security.md says.
//!
//! The other tasks are in `whole::tasks_cannot_reach_each_other`.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use serde_json::{Value, json};

use super::super::scene::{Ended, docker, until};
use super::{Attack, Expected, Hostile};
use crate::docker::BASE_IMAGE;

/// Real listeners of the host, as long as it is there.
struct Listeners {
    everywhere: TcpListener,
    loopback: TcpListener,
    _abstract: UnixListener,
    name: String,
}

impl Listeners {
    fn new() -> Self {
        let name = format!("agent-run-it-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Self {
            everywhere: TcpListener::bind("0.0.0.0:0").expect("a port"),
            loopback: TcpListener::bind("127.0.0.1:0").expect("a port"),
            _abstract: UnixListener::bind_addr(&address).expect("a socket"),
            name,
        }
    }

    /// A python script that prints what it reaches, each as `reached WHAT`.
    fn probe(&self) -> String {
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let own: Ended = Command::new("hostname")
            .arg("-I")
            .output()
            .expect("hostname")
            .into();
        let addresses: Vec<&str> = own
            .stdout
            .split_whitespace()
            .filter(|a| a.contains('.'))
            .collect();
        format!(
            r#"python3 - <<'END'
import os, socket, struct
hosts = {addresses:?} + ["127.0.0.1"]
for line in open("/proc/net/route").readlines()[1:]:
    fields = line.split()
    if fields[1] == "00000000":
        hosts.append(socket.inet_ntoa(struct.pack("<L", int(fields[2], 16))))
ports = {{"everywhere": {}, "loopback": {}, "engine": 2375, "engine-tls": 2376}}
for host in hosts:
    for what, port in ports.items():
        s = socket.socket()
        s.settimeout(1)
        if s.connect_ex((host, port)) == 0:
            print("reached", what)
s = socket.socket(socket.AF_UNIX)
if s.connect_ex("\0{}") == 0:
    print("reached abstract")
for top, _, files in os.walk("/"):
    if top.startswith(("/proc", "/sys")):
        continue
    for name in files:
        path = os.path.join(top, name)
        s = socket.socket(socket.AF_UNIX)
        if len(path) < 100 and s.connect_ex(path) == 0:
            print("reached socket", path)
print("probed")
END
"#,
            port(&self.everywhere),
            port(&self.loopback),
            self.name
        )
    }
}

/// What the task of this name says that it reached.
fn reached<'a>(ended: &'a Ended, name: &str) -> Vec<&'a str> {
    let of_task = |line: &&'a str| line.trim_start().starts_with(name);
    let lines: Vec<&str> = ended.stderr.lines().filter(of_task).collect();
    assert!(lines.iter().any(|l| l.ends_with("| probed")), "{ended}");
    let mut reached: Vec<&str> = lines
        .iter()
        .filter_map(|line| Some(line.split_once("| reached ")?.1))
        .collect();
    reached.sort_unstable();
    reached.dedup();
    reached
}

/// What `doctor` finds of a thing, `ok` or `warn`.
fn doctors_verdict(hostile: &Hostile, check: &str) -> String {
    let doctor = hostile.scene.agent_run(&["doctor", "--format", "json"]);
    let found: Value =
        serde_json::from_str(&doctor.stdout).unwrap_or_else(|e| panic!("{e}: {doctor}"));
    let findings = found["findings"].as_array().expect("findings").iter();
    let mut of_check = findings.filter(|finding| finding["check"] == check);
    let verdict = of_check.next().expect("a finding")["verdict"].as_str();
    verdict.expect("a verdict").to_owned()
}

#[test]
fn the_hosts_listeners_are_reached_as_documented() {
    let hostile = Hostile::new();
    let listeners = Listeners::new();
    let probe = listeners.probe();
    let bridge = Attack::new("bridge", Expected::Unchanged, &probe);
    let done = hostile.run(&[
        Attack::new("alone", Expected::Unchanged, &probe),
        Attack::new("alone-root", Expected::Unchanged, &probe).with("user", json!("0:0")),
        bridge.with("network_mode", json!("bridge")),
    ]);
    assert_eq!(reached(&done.ended, "alone "), Vec::<&str>::new());
    assert_eq!(reached(&done.ended, "alone-root "), Vec::<&str>::new());
    let mut by_bridge = reached(&done.ended, "bridge ");
    // Somebody's engine that listens on TCP is a listener like others.
    by_bridge.retain(|what| !what.starts_with("engine"));
    match doctors_verdict(&hostile, "host").as_str() {
        "warn" => assert_eq!(by_bridge, ["everywhere"]),
        other => assert_eq!((other, by_bridge), ("ok", Vec::new())),
    }
}

/// Somebody's network with a server in it, until it is dropped.
struct Foreign {
    name: String,
    address: String,
}

impl Foreign {
    fn new() -> Self {
        let name = format!("agent-run-it-foreign-{}", std::process::id());
        let mut foreign = Self {
            name: name.clone(),
            address: String::new(),
        };
        let made = (0..64).any(|n| {
            let subnet = format!("10.254.{}.0/28", (std::process::id() + n) % 256);
            docker(&["network", "create", "--subnet", &subnet, &name]).code == Some(0)
        });
        assert!(made, "no subnet is free");
        let server = [
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            &name,
            "--entrypoint",
            "python3",
        ];
        let serve = [BASE_IMAGE, "-m", "http.server", "8000"];
        let started = docker(&[&server[..], &serve].concat());
        assert_eq!(started.code, Some(0), "{started}");
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = docker(&["inspect", "-f", format, &name]);
        foreign.address.push_str(address.stdout.trim());
        until("the server serves", || {
            let tried = ["exec", &name, "python3", "-c", &foreign.tries(1)];
            docker(&tried).stdout.trim() == "reached 1"
        });
        foreign
    }

    /// A python program that prints how often it reached the server.
    fn tries(&self, times: u32) -> String {
        format!(
            "import socket\ndef reach():\n s = socket.socket()\n s.settimeout(0.2)\n \
             return s.connect_ex(({:?}, 8000)) == 0\n\
             print(\"reached\", sum(reach() for _ in range({times})))",
            self.address
        )
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.name]);
        docker(&["network", "rm", &self.name]);
    }
}

#[test]
fn other_peoples_networks_are_not_reached() {
    let hostile = Hostile::new();
    let foreign = Foreign::new();
    let script = |times| {
        format!(
            "python3 - <<'END'\n{}\nEND\necho probed\n",
            foreign.tries(times)
        )
    };
    let bridge = Attack::new("bridge", Expected::Unchanged, &script(40));
    let done = hostile.run(&[
        Attack::new("alone", Expected::Unchanged, &script(5)),
        bridge.with("network_mode", json!("bridge")),
    ]);
    assert_eq!(reached(&done.ended, "alone "), ["0"]);
    // While anybody makes or removes a network, Docker 20.10 opens the way for some milliseconds.
    let times: u32 = reached(&done.ended, "bridge ")[0]
        .parse()
        .expect("a number");
    assert!(times < 20, "{times} of 40: {}", done.ended);
}

/// Tries to write and to see what is the host's, and stops at the first thing that can be.
fn host_probe(hostile: &Hostile, shm: &str, ipc: &str) -> String {
    let state = hostile.scene.state();
    let secret = hostile.canary.secret_file();
    let (state, secret) = (state.display(), secret.display());
    format!(
        r#"python3 - <<'END'
import glob, os, stat
def refuse(what):
    raise SystemExit(f"possible: {{what}}")
for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
             "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity", "/proc/1/mem",
             "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled",
             *glob.glob("/sys/fs/cgroup/**/release_agent", recursive=True),
             *glob.glob("/sys/fs/cgroup/*/cgroup.procs"), "/sys/fs/cgroup/cgroup.procs",
             *glob.glob("/sys/fs/cgroup/*/memory.limit_in_bytes"), "/sys/fs/cgroup/memory.max",
             *glob.glob("/sys/fs/cgroup/*/pids.max"), *glob.glob("/sys/fs/cgroup/*/devices.allow")]:
    if path == "/proc/1/mem" and os.getuid() == os.stat("/proc/1").st_uid:
        continue
    try:
        os.close(os.open(path, os.O_WRONLY))
        refuse("to write " + path)
    except OSError:
        pass
for path in ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"]:
    try:
        if open(path, "rb").read(64):
            refuse("to read " + path)
    except OSError:
        pass
for path in ["/sys/firmware", "/proc/scsi", "/proc/acpi"]:
    if os.path.isdir(path) and os.listdir(path):
        refuse("to look into " + path)
for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd", "{state}", "{secret}"]:
    if os.path.exists(path):
        refuse("to see " + path)
known = {{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}}
for top, _, files in os.walk("/dev"):
    for name in files:
        mode = os.lstat(os.path.join(top, name)).st_mode
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) and name not in known and top != "/dev/pts":
            refuse(f"to use {{top}}/{{name}}")
for kind, major, minor in [(stat.S_IFBLK, 8, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 10, 229)]:
    try:
        os.mknod("/tmp/node", kind | 0o666, os.makedev(major, minor))
        refuse(f"to make device {{major}}:{{minor}}")
    except OSError:
        pass
for place in ["/dev/shm", "/dev/mqueue"]:
    if os.path.isdir(place) and os.listdir(place):
        refuse(f"to see {{os.listdir(place)}} in {{place}}, such as {shm}")
if any("{ipc}" in line.split() for line in open("/proc/sysvipc/shm")):
    refuse("to see the host's shared memory")
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{{pid}}/cmdline", "rb").read()
    except OSError:
        continue
    if any(word in words for word in [b"dockerd", b"containerd", b"agent-run", b"honest"]):
        refuse(f"to see process {{words}}")
caps = {{line.split()[0]: line.split()[1] for line in open("/proc/self/status") if line.startswith(("Cap", "NoNew", "Seccomp:"))}}
wrong = [key for key in caps if key.startswith("Cap") and int(caps[key], 16)]
if wrong or caps["NoNewPrivs:"] != "1" or caps["Seccomp:"] != "2":
    refuse(f"with {{caps}}")
END
echo probed
"#
    )
}

/// Shared memory of the host's, until it is dropped.
struct SharedMemory {
    file: std::path::PathBuf,
    segment: String,
}

impl SharedMemory {
    fn new() -> Self {
        let file = format!("/dev/shm/agent-run-it-{}", std::process::id()).into();
        std::fs::write(&file, "the host's").expect("a file");
        let made: Ended = Command::new("ipcmk")
            .args(["-M", "4099"])
            .output()
            .expect("ipcmk")
            .into();
        let segment = made
            .stdout
            .trim()
            .rsplit(' ')
            .next()
            .expect("an id")
            .to_owned();
        assert!(segment.parse::<u32>().is_ok(), "{made}");
        Self { file, segment }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let _ = Command::new("ipcrm").args(["-m", &self.segment]).status();
    }
}

#[test]
fn the_hosts_kernel_files_devices_and_memory_are_out_of_reach() {
    let hostile = Hostile::new();
    let memory = SharedMemory::new();
    let shm = memory.file.display().to_string();
    // Of the size of the host's segment there is no other.
    let probe = host_probe(&hostile, &shm, "4099");
    let on_host = std::fs::read_to_string("/proc/sysvipc/shm").expect("a list");
    assert!(
        on_host.split_whitespace().any(|word| word == "4099"),
        "{on_host}"
    );
    let task = |name| Attack::new(name, Expected::Unchanged, &probe);
    let done = hostile.run(&[
        task("agent"),
        task("root").with("user", json!("0:0")),
        task("bridge").with("network_mode", json!("bridge")),
    ]);
    for name in ["agent ", "root ", "bridge "] {
        assert_eq!(reached(&done.ended, name), Vec::<&str>::new());
    }
}
