//! What people reach of tasks, on a real engine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::scene::{Scene, docker, start, task};

/// A server of one file on port 3000, until it is told to end.
const SERVE: &str = r#"
    run: |
      mkdir /tmp/www && echo "$AGENT_TASK at $AGENT_PORT_3000" > /tmp/www/index.html
      python3 -m http.server 3000 --directory /tmp/www & server=$!
      until [ -e /home/agent/go ]; do sleep 0.1; done
      kill $server
"#;

/// What the host answers on a port.
fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The port of the host in `port     of TASK 3000 at http://127.0.0.1:PORT`.
fn told(line: &str, task: &str) -> Option<u16> {
    let (_, rest) = line.split_once(&format!(" of {task} 3000 at http://127.0.0.1:"))?;
    rest.trim().parse().ok()
}

#[test]
fn two_tasks_serve_one_port_and_people_reach_both() {
    let scene = Scene::new();
    let tasks = format!(
        "  one:\n    ports: [3000]{SERVE}  two:\n    ports: ['3000/tcp', '0.0.0.0::4000']\n    services: [redis]{SERVE}"
    );
    let path = scene.spec(&format!("version: 1\nmax_parallel: 2\ntasks:\n{tasks}"));
    let (mut child, lines) = start(&scene, &["run", path.to_str().expect("a path")]);
    let mut ports: [Option<u16>; 2] = [None; 2];
    let mut waiting = lines;
    while ports.contains(&None) {
        let line = waiting.next().expect("a line with a port");
        for (task, port) in ["one", "two"].into_iter().zip(&mut ports) {
            *port = port.or_else(|| told(&line, task));
        }
    }
    let ports = ports.map(|port| port.expect("a port"));
    assert_ne!(ports[0], ports[1]);
    let run = scene.runs().pop().expect("a run");
    for (id, port) in ["one", "two"].into_iter().zip(ports) {
        let wanted = format!("{id} at {port}\n");
        super::scene::until("an answer", || {
            get(port).is_ok_and(|text| text.ends_with(&wanted))
        });
        let shown = scene.agent_run(&["show", id, "--run", &run]);
        let line = format!("3000 at http://127.0.0.1:{port}\n");
        assert!(shown.stdout.contains(&line), "{shown}");
    }
    // Nobody else does: the bridge keeps tasks apart.
    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let pod = format!("agent-run-{run}-1-pod-one");
    let pod = docker(&["inspect", "--format", address, &pod]).stdout;
    let connect = format!("exec 3<>/dev/tcp/{}/3000", pod.trim());
    let within = |id: &str| {
        let container = format!("agent-run-{run}-1-{id}");
        docker(&["exec", &container, "timeout", "5", "bash", "-c", &connect])
    };
    assert_eq!(within("one").code, Some(0), "{}", within("one"));
    assert_eq!(within("two").code, Some(124), "{}", within("two"));
    let listed = scene.agent_run(&["ps", "--all"]);
    assert!(
        listed.stdout.contains("  port 4000 at http://127.0.0.1:"),
        "{listed}"
    );
    for id in ["one", "two"] {
        let name = format!("agent-run-{run}-1-{id}");
        let told = docker(&["exec", &name, "touch", "/home/agent/go"]);
        assert_eq!(told.code, Some(0), "{told}");
    }
    waiting.for_each(drop);
    assert!(child.wait().expect("an end").success());
    let result = std::fs::read_to_string(scene.state().join("runs").join(&run).join("result.json"));
    let result: Value = serde_json::from_str(&result.expect("a result")).expect("JSON");
    let two = &task(&result, "two")["ports"];
    assert_eq!(two[0]["host_port"], ports[1], "{two}");
    assert_eq!(two[0]["address"], "127.0.0.1", "{two}");
    assert_eq!(two[1]["address"], "0.0.0.0", "{two}");
    assert!(get(ports[0]).is_err() && get(ports[1]).is_err());
    assert_eq!(scene.left(), Vec::<String>::new());
}
