//! What an allow-list costs: until a task's first process runs, and for requests that go by the proxy.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::loops::{FILES, now, time_in};
use crate::rows::{Goal, Pair, Row};
use crate::scene::{Scene, command, run};

/// What the server is called; its network has addresses of a range for measurements.
const HOST: &str = "server.bench.test";
const SUBNET: &str = "198.18.77.0/29";
const REQUESTS: u32 = 2000;
/// Answers each request after 10 ms.
const SERVER: &str = r#"
import socket, threading, time
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = c.recv(4096)
            if not piece: return
            data += piece
        data = data.split(b"\r\n\r\n", 1)[1]
        time.sleep(0.01)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
s = socket.create_server(("", 80))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"#;
/// Asks for so many pages in one connection, and prints the seconds that they took.
const CLIENT: &str = r#"
import os, socket, time
host, count, proxy = os.environ["HOST"], int(os.environ["COUNT"]), os.environ.get("https_proxy")
def connect():
    c = socket.create_connection(("127.0.0.1", 3128) if proxy else (host, 80))
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if proxy:
        c.sendall(f"CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n".encode())
        if b" 200 " not in c.recv(4096): return None
    return c
while not (c := connect()): time.sleep(0.1)
request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
began = time.monotonic()
for _ in range(count):
    c.sendall(request)
    data = b""
    while not data.endswith(b"ok"): data += c.recv(4096)
print("took", time.monotonic() - began, flush=True)
"#;

pub fn first(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("egress", FILES)?;
    let script = "date +%s.%N";
    let listed = json!({ "egress": { "allow": [] } });
    let once = |tasks: usize, defaults: &serde_json::Value| -> Result<(f64, f64)> {
        let scripts = vec![script.to_owned(); tasks];
        let spec = scene.spec(&repository, &scripts, defaults)?;
        let began = now()?;
        let ran = scene.run(&spec, 8)?;
        Ok((time_in(&ran.printed)? - began, ran.took))
    };
    let (mut single, mut many) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        single.push(Pair {
            ours: once(1, &listed)?.0,
            theirs: once(1, &json!({}))?.0,
        });
        many.push(Pair {
            ours: once(24, &listed)?.1,
            theirs: once(24, &json!({}))?.1,
        });
    }
    Ok(vec![
        Row::ratio(
            "the first process of a task with `egress`, which starts the proxy",
            "without",
            Goal::AtMost(1.3),
            &single,
        ),
        Row::ratio(
            "24 tasks with `egress`, 8 parallel, and their proxy",
            "without",
            Goal::AtMost(1.3),
            &many,
        ),
    ])
}

pub fn requests(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let network = format!("agent-run-bench-{}", std::process::id());
    let label = ["--label", &scene.label];
    let mut create = command("docker");
    create.args(["network", "create", "--subnet", SUBNET]);
    run(create.args(label).arg(&network))?;
    let mut serve = command("docker");
    serve.args(["run", "-d", "--network", &network, "--network-alias", HOST]);
    let server = run(serve
        .args(label)
        .args([&scene.image, "python3", "-c", SERVER]))?
    .stdout;
    let mut pairs = Vec::new();
    for _ in 0..=rounds {
        let mut direct = command("docker");
        direct
            .args(["run", "--rm", "--network", &network])
            .args(label);
        direct.args([
            "-e",
            &format!("HOST={HOST}"),
            "-e",
            &format!("COUNT={REQUESTS}"),
        ]);
        let direct = run(direct.args([&scene.image, "python3", "-c", CLIENT]))?;
        pairs.push(Pair {
            ours: by_proxy(scene, &network)?,
            theirs: took(&direct.stdout)?,
        });
    }
    run(command("docker").args(["rm", "-f", server.trim()]))?;
    run(command("docker").args(["network", "rm", &network]))?;
    let what = format!(
        "{REQUESTS} requests in one connection to a server that takes 10 ms, with `egress`"
    );
    Ok(vec![Row::ratio(
        &what,
        "without",
        Goal::AtMost(1.15),
        &pairs,
    )])
}

/// The same by a task whose proxy is put on the server's network.
fn by_proxy(scene: &Scene, network: &str) -> Result<f64> {
    let repository = scene.repository("requests", 1)?;
    let variables = format!("export HOST={HOST} COUNT={REQUESTS}");
    let script = format!("{variables}\npython3 - <<'END'\n{CLIENT}END\n");
    let spec = scene.spec(
        &repository,
        &[script],
        &json!({ "egress": { "allow": [HOST] } }),
    )?;
    let mut agent_run = scene.agent_run(&spec, 1);
    let agent_run = agent_run
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = agent_run.spawn()?;
    let connected = join(network);
    let output = child.wait_with_output()?;
    connected?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "agent-run failed:\n{printed}");
    scene.forget_runs()?;
    took(&printed)
}

/// Puts the one proxy that runs on the network.
fn join(network: &str) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let mut list = command("docker");
        let listed = run(list.args(["ps", "-q", "--filter", "label=agent-run.role=egress"]))?;
        if let [proxy] = listed.stdout.lines().collect::<Vec<_>>()[..] {
            run(command("docker").args(["network", "connect", network, proxy]))?;
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    anyhow::bail!("there is no proxy")
}

fn took(printed: &str) -> Result<f64> {
    let (_, rest) = printed
        .split_once("took ")
        .with_context(|| format!("no time in:\n{printed}"))?;
    Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
}
