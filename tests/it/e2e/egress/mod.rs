//! Tasks with an allow-list, against hosts of the test's own: what is on the list is reached, nothing else
//! is, and everybody is told.

mod hosts;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use hosts::{Hosts, good};

use super::scene::{Scene, docker, expect, interrupt, start, until};

const SPEC: &str = r"
version: 1
max_parallel: 2
tasks:
  one:
    run: echo ready one; sleep 600
    egress: { allow: [allowed.test, '*.wild.test', 'other.test:8443', inside.test] }
  two:
    run: echo ready two; sleep 600
    egress: { allow: [other.test] }
";

/// A client of `WebSocket` (RFC 6455) at the hosts given as arguments, through the proxy that the environment
/// names, as such clients go through one: says a text frame, and prints what comes back.
const WEBSOCKET: &str = r#"
import base64, hashlib, os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["http_proxy"])
for host in sys.argv[1:]:
    s = socket.create_connection((proxy.hostname, proxy.port), 20)
    stream = s.makefile("rwb")
    def ask(lines):
        stream.write("\r\n".join([*lines, "", ""]).encode())
        stream.flush()
        head = [line.decode().strip() for line in iter(stream.readline, b"\r\n") if line]
        return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    code, _ = ask([f"CONNECT {host}:80 HTTP/1.1", f"Host: {host}:80"])
    if code != 200:
        print(host, "refused", code)
        continue
    key = base64.b64encode(os.urandom(16)).decode()
    code, head = ask(["GET /chat HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                      f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"])
    whole = (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
    accept = base64.b64encode(hashlib.sha1(whole).digest()).decode()
    assert (code, head["sec-websocket-accept"]) == (101, accept.lower()), (code, head)
    mask, said = os.urandom(4), b"hello"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(said))
    stream.write(bytes([0x81, 0x80 | len(said)]) + mask + masked)
    stream.flush()
    kind, length = stream.read(2)
    print(host, hex(kind), stream.read(length).decode())
"#;

/// A run of both tasks, and the names of its containers.
struct Tasks {
    run: String,
    proxy: String,
}

impl Tasks {
    fn container(&self, task: &str) -> String {
        format!("agent-run-{}-1-{task}", self.run)
    }

    fn of(scene: &Scene) -> Self {
        let run = scene.runs().pop().expect("a run");
        Self {
            proxy: format!("agent-run-{run}-egress-proxy"),
            run,
        }
    }

    /// The socket of a task.
    fn way(&self, scene: &Scene, task: usize) -> PathBuf {
        let run = scene.state().join("runs").join(&self.run);
        run.join(format!("egress/shared/way-{task}/proxy.sock"))
    }

    /// Runs a script of bash in a task's container; gives what it printed.
    fn sh(&self, task: &str, script: &str) -> String {
        good(&["exec", &self.container(task), "bash", "-c", script])
    }
}

fn begin(scene: &Scene, more: &[&str]) -> (Child, impl Iterator<Item = String> + use<>, Tasks) {
    let spec = scene.spec(SPEC);
    let mut arguments = vec!["run", spec.to_str().expect("a path")];
    arguments.extend(more);
    let (child, mut lines) = start(scene, &arguments);
    expect(&mut lines, "| ready");
    expect(&mut lines, "| ready");
    (child, lines, Tasks::of(scene))
}

/// Whether an answer has come to its end, where the connection goes on: a tunnel echoes what ends so.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    match length {
        Some(length) if !head.contains(" 200 ") => body.len() >= length.parse().expect("a length"),
        _ => body.ends_with("\0end"),
    }
}

/// What the proxy answers to these bytes within some seconds, or until it closes.
fn ask(way: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(way).expect("the proxy's socket");
    let limit = Duration::from_secs(20);
    stream.set_read_timeout(Some(limit)).expect("a limit");
    stream.write_all(request).expect("a request");
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    let began = Instant::now();
    while began.elapsed() < limit {
        if is_whole(&answer) {
            break;
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A tunnel to `target`, and what comes through it.
fn connect(way: &Path, target: &str) -> String {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nthrough\0end");
    ask(way, request.as_bytes())
}

fn get(way: &Path, url: &str, host: &str) -> String {
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(way, request.as_bytes())
}

#[track_caller]
fn refused(answer: &str, what: &str) {
    let is_refusal = ["HTTP/1.1 4", "HTTP/1.1 5"]
        .iter()
        .any(|s| answer.starts_with(s));
    let came_through = answer.contains("listed");
    // Or it hangs up.
    assert!(
        (is_refusal || answer.is_empty()) && !came_through,
        "{what}: {answer}"
    );
}

#[test]
fn no_request_gets_around_a_list() {
    let scene = Scene::new();
    let (child, lines, tasks) = begin(&scene, &[]);
    let hosts = Hosts::new(&scene, 0);
    hosts.join(&tasks.proxy);
    let (way, other) = (tasks.way(&scene, 0), tasks.way(&scene, 1));
    tunnels(&way, &hosts.address);
    requests(&way);
    connections(&way, &other);
    two_hundred_at_once(&way, &other);
    finish(&scene, child, lines);
    tallied(&scene.result());
}

/// Tunnels to what is on the list, and to nothing else however it is written.
fn tunnels(way: &Path, address: &str) {
    for target in [
        "allowed.test:443",
        "ALLOWED.Test:443",
        "www.wild.test:443",
        "other.test:8443",
    ] {
        let answer = connect(way, target);
        assert!(answer.contains("echo listed "), "{target}: {answer}");
    }
    let [a, b, c, d] = std::array::from_fn(|part| {
        let part = address.split('.').nth(part).expect("four parts");
        part.parse::<u32>().expect("a number")
    });
    let number = (a << 24) + (b << 16) + (c << 8) + d;
    for target in [
        "denied.test:443",
        "denied.test.:443",
        "DENIED.TEST:443",
        "wild.test:443",
        "xwild.test:443",
        "allowed.test.evil.test:443",
        "evilallowed.test:443",
        "allowed.test:22",
        "allowed.test:8443",
        "other.test:443",
        "inside.test:443",
        "denied.test\0.wild.test:443",
        "denied.test\0allowed.test:443",
        "allowed.test\0:22",
        "denied.test%00.wild.test:443",
        "allowed.test@denied.test:443",
        "denied.test#.wild.test:443",
        "denied.test/.wild.test:443",
        "denied.test?.wild.test:443",
        "denied.test\\.wild.test:443",
        "denied.test .wild.test:443",
        "denied.test\t.wild.test:443",
        "allowed.test:00000000000000000022",
        "allowed.test:65558",
        "allowed.test:-1",
        ".wild.test:443",
        &format!("{address}:443"),
        &format!("{number}:443"),
        &format!("0x{number:x}:443"),
        &format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}:443"),
        &format!("{a}.{b}.{}:443", (c << 8) + d),
        &format!("[::ffff:{address}]:443"),
        &format!("[::{address}]:443"),
        "[::1]:3128",
        "127.0.0.1:3128",
        "localhost:3128",
        "169.254.169.254:80",
        ":443",
        "",
    ] {
        refused(&connect(way, target), &format!("{target:?}"));
    }
    // Where a port is said twice, the allowed one is meant or none.
    for target in ["allowed.test:443:22", "allowed.test:443@denied.test:443"] {
        let answer = connect(way, target);
        assert!(
            answer.contains("echo listed 443 ") || !answer.contains("listed"),
            "{target}: {answer}"
        );
    }
}

/// Requests for URLs: the name in it counts, whatever else is said.
fn requests(way: &Path) {
    let served = |answer: &str| {
        answer
            .rsplit("listed as ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        served(&get(way, "http://allowed.test/", "allowed.test")),
        "allowed.test"
    );
    assert_eq!(
        served(&get(way, "http://allowed.test/", "denied.test")),
        "allowed.test"
    );
    for (url, host) in [
        ("http://denied.test/", "allowed.test"),
        ("http://allowed.test@denied.test/", "allowed.test"),
        ("http://allowed.test:x@denied.test/", "allowed.test"),
        ("http://denied.test\0.wild.test/", "allowed.test"),
        ("http://denied.test#@allowed.test/", "allowed.test"),
        ("http://inside.test/", "inside.test"),
        ("/", "allowed.test"),
        ("*", "allowed.test"),
        ("//denied.test/", "allowed.test"),
        ("ftp://allowed.test/", "allowed.test"),
        ("urn:allowed.test", "allowed.test"),
        ("cache_object://allowed.test/info", "allowed.test"),
        ("http://agent-run/squid-internal-mgr/info", "agent-run"),
        ("http://allowed.test/squid-internal-mgr/info", "denied.test"),
        (
            "http://127.0.0.1:3128/squid-internal-mgr/info",
            "allowed.test",
        ),
    ] {
        refused(&get(way, url, host), &format!("GET {url:?}"));
    }
    // Where an allowed host sends somebody on, he is refused.
    let moved = get(way, "http://allowed.test/redirect", "allowed.test");
    assert!(
        moved.starts_with("HTTP/1.1 302 ") && moved.contains("http://denied.test/"),
        "{moved}"
    );
}

/// What is said in one connection, and who may say it.
fn connections(way: &Path, other: &Path) {
    // Two requests of one connection are two questions.
    let both = "GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n\
                GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\n\r\n";
    let answer = ask(way, both.as_bytes());
    assert!(
        answer.contains("listed as allowed.test") && answer.contains("HTTP/1.1 403 "),
        "{answer}"
    );
    assert!(!answer.contains("unlisted"), "{answer}");
    // HTTP/2 is a matter of both ends of a tunnel; the proxy speaks none.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let tunnel = format!(
        "CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n{preface}\0end"
    );
    assert!(ask(way, tunnel.as_bytes()).ends_with(&format!("echo listed 443 {preface}\0end")));
    refused(&ask(way, preface.as_bytes()), "a preface of HTTP/2");
    // A list is one task's.
    refused(&connect(other, "allowed.test:443"), "of the other task");
    refused(&connect(way, "other.test:443"), "of the other task");
    assert!(connect(other, "other.test:443").contains("echo listed 443 through\0end"));
}

/// What the run tells of all that.
fn tallied(result: &serde_json::Value) {
    let of_one = &result["egress"][0];
    assert_eq!(of_one["task"], "one", "{result:#}");
    let hosts = of_one["hosts"].as_array().expect("hosts");
    let count = |host: &str, port: u16, what: &str| {
        let found = hosts
            .iter()
            .find(|used| used["host"] == host && used["port"] == port);
        found.map_or(0, |used| used[what].as_u64().expect("a number"))
    };
    assert!(count("allowed.test", 443, "passed") >= 200, "{of_one:#}");
    assert_eq!(count("allowed.test", 443, "denied"), 0, "{of_one:#}");
    assert_eq!(count("allowed.test", 22, "passed"), 0, "{of_one:#}");
    assert!(count("allowed.test", 22, "denied") >= 1, "{of_one:#}");
    assert_eq!(count("denied.test", 443, "passed"), 0, "{of_one:#}");
    assert!(count("denied.test", 443, "denied") >= 2, "{of_one:#}");
}

/// Connections of one task at once, all of which work, and none of which is in the other's way.
fn two_hundred_at_once(way: &Path, other: &Path) {
    let open = || {
        let mut stream = UnixStream::connect(way).expect("the proxy's socket");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a limit");
        let request = b"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
        stream.write_all(request).expect("a request");
        stream
    };
    let mut streams: Vec<UnixStream> = (0..200).map(|_| open()).collect();
    assert!(connect(other, "other.test:443").contains("echo listed 443 through\0end"));
    for stream in &mut streams {
        let mut answer = Vec::new();
        while !answer.ends_with(b"echo listed 443 ") {
            let mut piece = [0; 256];
            let read = stream.read(&mut piece).expect("an answer");
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

fn finish(scene: &Scene, mut child: Child, lines: impl Iterator<Item = String>) {
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:#?}");
    assert_eq!(scene.left(), Vec::<String>::new());
    let directory = scene
        .state()
        .join("runs")
        .join(scene.runs().pop().expect("a run"))
        .join("egress");
    assert!(!directory.exists());
}

#[test]
fn a_task_reaches_what_is_on_its_list_and_nothing_around_the_proxy() {
    let scene = Scene::new();
    let report = scene.path().join("hosts.yaml");
    let flag = format!("--egress-report={}", report.display());
    let (child, mut lines, tasks) = begin(&scene, &[&flag]);
    let hosts = Hosts::new(&scene, 1);
    hosts.join(&tasks.proxy);
    assert_eq!(
        tasks.sh("one", "curl -sS http://allowed.test/"),
        "listed as allowed.test"
    );
    let code = "curl -s -o /dev/null -w '%{http_code}' http://denied.test/";
    assert_eq!(tasks.sh("one", code), "403");
    expect(&mut lines, "one: egress denied denied.test:80");
    let websockets = format!("python3 - allowed.test denied.test <<'END'{WEBSOCKET}END");
    assert_eq!(
        tasks.sh("one", &websockets),
        "allowed.test 0x81 listed heard hello\ndenied.test refused 403\n"
    );
    let redirect =
        "curl -sL -o /dev/null -w '%{http_code} %{url_effective}' http://allowed.test/redirect";
    assert_eq!(tasks.sh("one", redirect), "403 http://denied.test/");
    let gateway = good(&[
        "network",
        "inspect",
        &scene.network(),
        "--format",
        "{{(index .IPAM.Config 0).Gateway}}",
    ]);
    let around = format!(
        r#"python3 - <<'END'
import errno, os, socket
print(sorted(os.listdir("/sys/class/net")))
print(len(open("/proc/net/route").readlines()))
for host in ["{}", "{}", "169.254.169.254"]:
    for kind, port in [(socket.SOCK_STREAM, 80), (socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 53)]:
        s = socket.socket(socket.AF_INET, kind)
        s.settimeout(5)
        try:
            s.connect((host, port))
            print("reached", host, port)
        except OSError as e:
            print(errno.errorcode.get(e.errno, e)) if e.errno != errno.ENETUNREACH else None
for name in ["allowed.test", "denied.test"]:
    try:
        print("resolved", name, socket.getaddrinfo(name, 80))
    except OSError:
        pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    print("raw")
except PermissionError:
    pass
try:
    open("/agent/egress/x", "w")
    print("written")
except OSError as e:
    print(errno.errorcode[e.errno])
END"#,
        hosts.address,
        gateway.trim()
    );
    assert_eq!(tasks.sh("one", &around), "['lo']\n1\nEROFS\n");
    // Without the proxy nothing is reached, and everybody is told; then it is there again.
    good(&["kill", &tasks.proxy]);
    let failed = "curl -s --max-time 20 -o /dev/null -w '%{http_code}' http://allowed.test/ || echo ' refused'";
    let told = tasks.sh("one", failed);
    assert!(["000 refused\n", "503"].contains(&told.as_str()), "{told}");
    expect(
        &mut lines,
        "the egress proxy does not run (it ended with exit code 137",
    );
    until("the proxy runs again", || {
        docker(&["inspect", &tasks.proxy, "--format", "{{.State.Running}}"]).stdout == "true\n"
    });
    hosts.join(&tasks.proxy);
    until("it answers", || {
        tasks.sh("one", "curl -s http://allowed.test/ || true") == "listed as allowed.test"
    });
    finish(&scene, child, lines);
    let report = std::fs::read_to_string(report).expect("a report");
    let lines: Vec<&str> = report.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "tasks:",
            "  one:",
            "    egress:",
            "      allow:",
            "        - allowed.test",
            "        # - denied.test  # refused"
        ]
    );
}

#[test]
fn after_kill_9_the_run_goes_on_with_a_proxy() {
    let scene = Scene::new();
    let (mut child, mut lines, tasks) = begin(&scene, &[]);
    tasks.sh("one", "curl -s http://denied.test/ -o /dev/null");
    expect(&mut lines, "one: egress denied denied.test:80");
    let running = || docker(&["ps", "-q", "--filter", &format!("name={}", tasks.proxy)]).stdout;
    let first = running();
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let (child, lines) = start(&scene, &["resume", &tasks.run]);
    let hosts = Hosts::new(&scene, 2);
    until("another proxy", || {
        !running().is_empty() && running() != first
    });
    hosts.join(&tasks.proxy);
    until("it answers", || {
        tasks.sh("one", "curl -s http://allowed.test/ || true") == "listed as allowed.test"
    });
    finish(&scene, child, lines);
    let hosts = &scene.result()["egress"][0]["hosts"];
    let told: Vec<_> = hosts
        .as_array()
        .expect("hosts")
        .iter()
        .map(|used| &used["host"])
        .collect();
    assert_eq!(told, ["allowed.test", "denied.test"]);
}

#[test]
fn a_list_holds_for_a_check_as_well() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  a:
    run: test $(ls /sys/class/net) = lo; echo x > x.txt
    verify: |
      test $(ls /sys/class/net) = lo
      test $(curl -s -o /dev/null -w '%{http_code}' http://denied.test/) = 403
    egress: { allow: [] }
";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stderr.contains("a: egress denied denied.test:80"),
        "{ended}"
    );
    assert!(
        ended.stdout.contains("egress denied denied.test:80"),
        "{ended}"
    );
    assert_eq!(result["egress"][0]["hosts"][0]["host"], "denied.test");
    assert_eq!(scene.left(), Vec::<String>::new());
}
