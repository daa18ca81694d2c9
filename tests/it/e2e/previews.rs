//! `preview` on a real engine: what a task has made is served again, with a database of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::scene::{Scene, expect, interrupt, start, task};
use super::services::example;

/// Answers with what is in a table of the database, for ever.
const SERVER: &str = r#"
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 3000, Listen => 5) or die $!;
$| = 1;
print "serving\n";
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?$/ }
    my $names = `psql -Atc "SELECT string_agg(name, ' ' ORDER BY name) FROM item"`;
    print $client "HTTP/1.0 200 OK\r\n\r\n$names";
    close $client;
}
"#;

const YAML: &str = r#"
version: 1
secrets: { token: { environment: PATH } }
defaults:
  image: 'postgres:15'
  services: [postgres]
  preview:
    run: |
      test ! -e /run/secrets/token
      psql -v ON_ERROR_STOP=1 -q < schema.sql
      echo 'nobody sees this' > left.txt
      exec perl server.pl
    port: 3000
tasks:
  web:
    secrets: [token]
    run: echo "INSERT INTO item VALUES ('of-the-task');" >> schema.sql
"#;

/// A scene with the application, and a run of its task.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("server.pl", SERVER);
    scene.write("schema.sql", "CREATE TABLE item (name text);\n");
    scene.commit("the application");
    scene
}

/// What the host answers on a port.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The port of the link that a line tells.
fn link(line: &str, task: &str) -> Option<u16> {
    let (_, port) = line.split_once(&format!("preview of {task} at http://127.0.0.1:"))?;
    Some(port.trim().parse().expect("a port"))
}

/// The port of the link that is told.
fn told(lines: &mut impl Iterator<Item = String>, task: &str) -> u16 {
    let mut seen = Vec::new();
    for line in lines {
        if let Some(port) = link(&line, task) {
            return port;
        }
        seen.push(line);
    }
    panic!("no link:\n{}", seen.join("\n"));
}

#[test]
fn the_result_of_a_task_is_served_with_a_database_of_its_own() {
    let scene = scene();
    let (ended, result) = scene.run(YAML);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stdout.contains("\n  agent-run preview web\n"),
        "{ended}"
    );
    let run = result["run"].as_str().expect("a run");
    let branch = task(&result, "web")["branch"]["branch"].as_str();
    let branch = branch.expect("a branch");
    // Somebody adds to it.
    scene.git(&["switch", "-q", branch]);
    let schema = std::fs::read_to_string(scene.repo().join("schema.sql")).expect("a schema");
    let added = schema + "INSERT INTO item VALUES ('by-hand');\n";
    scene.write("schema.sql", &added);
    scene.commit("mine");
    scene.git(&["switch", "-q", "main"]);
    let branches = scene.git(&["for-each-ref", "refs/heads"]);
    scene.write("beside.txt", "of no result\n");

    let mut command = scene.command(&["-C", "repo", "preview", "web"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("agent-run");
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let mut lines = stderr.lines().map(|line| line.expect("a line"));
    // Its port may be seen to be open before the line is.
    let (mut port, mut is_shown) = (None, false);
    while port.is_none() || !is_shown {
        let line = lines.next().expect("a line");
        assert!(!line.contains("not committed"), "{line}");
        is_shown |= line.contains("web | serving");
        port = port.or_else(|| link(&line, "web"));
    }
    let port = port.expect("a link");
    let answer = get(port, "/").expect("an answer");
    assert!(
        answer.ends_with("\r\n\r\nby-hand of-the-task\n"),
        "{answer}"
    );
    let listed = scene.agent_run(&["ps", "--all"]);
    let of = format!("preview of {run}");
    assert!(listed.stdout.contains(&of), "{listed}");
    assert!(
        listed
            .stdout
            .contains(&format!("port 3000 at http://127.0.0.1:{port}")),
        "{listed}"
    );
    // The task is still that of the run.
    let shown = scene.agent_run(&["-C", "repo", "show", "web"]);
    let hint = format!("  agent-run preview web --run {run}\n");
    assert!(shown.stdout.contains(&hint), "{shown}");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let mut link = String::new();
    let stdout = child.stdout.as_mut().expect("stdout");
    stdout.read_to_string(&mut link).expect("text");
    assert_eq!(link, format!("http://127.0.0.1:{port}\n"));
    assert!(get(port, "/").is_err());
    assert_eq!(scene.left(), Vec::<String>::new());
    assert_eq!(scene.git(&["for-each-ref", "refs/heads"]), branches);
}

#[test]
fn the_guide_shows_a_result() {
    let scene = Scene::new();
    scene.write("app.py", example("python", 0));
    scene.write("migrate.py", example("python", 1));
    let table = "CREATE TABLE item (id serial, name text);\n";
    scene.write("migrations/1.sql", table);
    scene.commit("the application");
    let (ended, _) = scene.run(example("yaml", 2));
    assert_eq!(ended.code, Some(0), "{ended}");
    let (mut child, mut lines) = start(&scene, &["-C", "repo", "preview", "price"]);
    let port = told(&mut lines, "price");
    let answer = get(port, "/").expect("an answer");
    assert!(
        answer.ends_with("\r\n\r\nvisitor 1: id name price\n"),
        "{answer}"
    );
    interrupt(&child);
    lines.for_each(drop);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_has_no_network_is_reached_as_well() {
    let scene = Scene::new();
    let (ended, _) = scene.run(
        r#"
version: 1
defaults:
  run: |
    echo of-$AGENT_TASK > index.html
    head -c 3000000 /dev/zero | tr '\0' x > large.txt
  preview:
    run: |
      test "$(ls /sys/class/net)" = lo
      exec python3 -m http.server 3000 --bind 127.0.0.1
    port: 3000
tasks:
  listed: { egress: { allow: [] } }
  alone: { network_mode: none, services: [redis] }
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    for id in ["listed", "alone"] {
        let (mut child, mut lines) = start(&scene, &["-C", "repo", "preview", id]);
        let port = told(&mut lines, id);
        let answer = get(port, "/").expect("an answer");
        assert!(answer.ends_with(&format!("\r\n\r\nof-{id}\n")), "{answer}");
        // As a browser asks: at the same time.
        let large = |_| std::thread::spawn(move || get(port, "/large.txt"));
        let answers: Vec<_> = (0..8).map(large).collect();
        for answer in answers {
            let answer = answer.join().expect("no panic").expect("an answer");
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            assert_eq!(body.len(), 3_000_000);
        }
        // Somebody who has said all still hears the answer.
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("a request");
        stream.shutdown(Shutdown::Write).expect("a shutdown");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.ends_with(&format!("of-{id}\n")), "{text}");
        interrupt(&child);
        lines.for_each(drop);
        assert_eq!(child.wait().expect("an end").code(), Some(130));
        assert!(get(port, "/").is_err());
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn one_that_is_terminated_or_killed_leaves_nothing_for_good() {
    let scene = scene();
    let (ended, _) = scene.run(YAML);
    assert_eq!(ended.code, Some(0), "{ended}");
    let branches = scene.git(&["for-each-ref", "refs/heads"]);
    let preview = || {
        let (child, mut lines) = start(&scene, &["-C", "repo", "preview", "web", "--for", "1h"]);
        let port = told(&mut lines, "web");
        assert!(get(port, "/").is_ok_and(|text| text.ends_with("\r\n\r\nof-the-task\n")));
        (child, lines, port)
    };
    let (mut child, lines, _) = preview();
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
    lines.for_each(drop);
    assert_eq!(child.wait().expect("an end").code(), Some(143));
    assert_eq!(scene.left(), Vec::<String>::new());

    let (mut child, lines, port) = preview();
    child.kill().expect("a kill");
    child.wait().expect("an end");
    lines.for_each(drop);
    assert!(get(port, "/").is_ok(), "it goes on without agent-run");
    let resumed = scene.agent_run(&["-C", "repo", "resume"]);
    assert_eq!(resumed.code, Some(4), "{resumed}");
    let run = scene.runs().into_iter().max().expect("a run");
    let resumed = scene.agent_run(&["resume", &run]);
    assert_eq!(resumed.code, Some(96), "{resumed}");
    assert!(resumed.stderr.contains("was a preview"), "{resumed}");
    let cleaned = scene.agent_run(&["-C", "repo", "clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(get(port, "/").is_err());
    assert_eq!(scene.left(), Vec::<String>::new());
    assert_eq!(scene.git(&["for-each-ref", "refs/heads"]), branches);
}

#[test]
fn what_cannot_be_shown_is_told_with_the_reason() {
    let scene = Scene::new();
    let (ended, _) = scene.run(
        "version: 1
tasks:
  bare: { run: 'echo x > x.txt' }
  same: { run: 'true', preview: { run: x, port: 3000 } }
  ends: { run: 'echo x > x.txt', preview: { run: 'echo no such module; exit 3', port: 3000 } }
  shut: { run: 'echo x > x.txt', startup_timeout: 20s, preview: { run: 'echo begun; sleep 600', port: 3000 } }
  local:
    run: echo x > x.txt
    preview: { run: 'exec python3 -m http.server 3000 --bind 127.0.0.1', port: 3000 }
",
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    for (id, code, words) in [
        (
            "bare",
            96,
            &[
                "it has no `preview`",
                "preview: { run: npm start, port: 3000 }",
            ][..],
        ),
        ("same", 96, &["its work has no branch"]),
        ("none", 2, &["has no task `none`"]),
        (
            "ends",
            100,
            &[
                "preview of ends: exit code 3",
                "| no such module",
                "agent-run logs ends --run ",
            ],
        ),
        (
            "shut",
            100,
            &[
                "nothing listens on port 3000, 20 s (startup_timeout)",
                "| begun",
            ],
        ),
    ] {
        let ended = scene.agent_run(&["-C", "repo", "preview", id]);
        assert_eq!(ended.code, Some(code), "{ended}");
        for words in words {
            assert!(ended.stderr.contains(words), "{words}: {ended}");
        }
        assert_eq!(ended.stdout, "", "{ended}");
    }
    let (mut child, mut lines) = start(&scene, &["-C", "repo", "preview", "local"]);
    let warning = "local: nobody can reach it: port 3000 is open on its loopback alone";
    expect(&mut lines, warning);
    interrupt(&child);
    lines.for_each(drop);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let branches = scene.git(&[
        "for-each-ref",
        "--format=%(refname:short)",
        "refs/heads/agent",
    ]);
    let ends = branches.lines().find(|name| name.ends_with("/ends"));
    scene.git(&["branch", "-D", ends.expect("a branch")]);
    let gone = scene.agent_run(&["-C", "repo", "preview", "ends"]);
    assert_eq!(gone.code, Some(96), "{gone}");
    assert!(gone.stderr.contains("is not there any more"), "{gone}");
    let none = scene.agent_run(&["-C", "repo", "preview", "ends", "--for", "0s"]);
    assert_eq!(none.code, Some(2), "{none}");
    assert_eq!(scene.left(), Vec::<String>::new());
}
