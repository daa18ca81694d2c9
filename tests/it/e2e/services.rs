//! Services that are real servers, on a real engine.

use std::process::Command;

use super::scene::{Ended, Scene, docker, expect, start, task};
use crate::docker::BASE_IMAGE;

/// Asks a Redis by name; bash has connections of its own.
const PING: &str = "ping() { exec 3<>/dev/tcp/$1/$2 && printf 'PING\\r\\n' >&3 && read -r -t 20 pong <&3 && echo \"${pong%?}\"; }";

/// A spec whose tasks have these lines; their scripts know how to ping.
fn spec(tasks: &[(&str, &str, &str)]) -> String {
    let mut text = "version: 1\ntasks:\n".to_owned();
    for (id, keys, script) in tasks {
        text += &format!(
            "  {id}:\n    {keys}\n    run: |\n      #!/bin/bash\n      set -eu\n      {PING}\n"
        );
        for line in script.lines() {
            text += &format!("      {line}\n");
        }
    }
    text
}

fn inspect(container: &str, format: &str) -> String {
    let ended = docker(&["inspect", "--format", format, container]);
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.stdout.trim().to_owned()
}

fn bash(container: &str, script: &str) -> Ended {
    docker(&["exec", container, "bash", "-c", script])
}

#[test]
fn every_task_has_a_database_and_a_cache_of_its_own() {
    let scene = Scene::new();
    let keys = "services: { postgres: { template: postgres, environment: { POSTGRES_DB: '${task.slug}', POSTGRES_PASSWORD: 'a b&c' } }, redis: { template: redis } }\n    image: postgres:15";
    let script = "\
psql -v ON_ERROR_STOP=1 -qc \"CREATE TABLE who (name text); INSERT INTO who VALUES ('$AGENT_TASK')\"
psql \"$DATABASE_URL\" -Atc 'SELECT name, current_database() FROM who' > who.txt
ping redis 6379 >> who.txt
echo \"$REDIS_URL\" >> who.txt";
    let (ended, result) = scene.run(&spec(&[("one", keys, script), ("two", keys, script)]));
    assert_eq!(ended.code, Some(0), "{ended}");
    for id in ["one", "two"] {
        let branch = task(&result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        let text = scene.git(&["show", &format!("{branch}:who.txt")]);
        assert_eq!(text, format!("{id}|{id}\n+PONG\nredis://redis:6379/0\n"));
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn services_open_nothing_where_a_task_has_no_network() {
    let scene = Scene::new();
    let script = "\
ping redis 6379
ls /sys/class/net
if timeout 5 bash -c 'exec 4<>/dev/tcp/1.1.1.1/53' 2>/dev/null; then echo out; fi
echo \"without ${NO_PROXY:-}\"";
    let (ended, _) = scene.run(&spec(&[
        ("none", "services: [redis]\n    network_mode: none", script),
        (
            "listed",
            "services: [redis]\n    egress: { allow: [] }",
            script,
        ),
    ]));
    assert_eq!(ended.code, Some(0), "{ended}");
    let lines = |id: &str| {
        let prefix = format!("{id:<6} | ");
        let lines = ended.stderr.lines();
        let lines = lines.filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(lines("none"), ["+PONG", "lo", "without "]);
    let listed = ["+PONG", "lo", "without localhost,127.0.0.1,::1,redis"];
    assert_eq!(lines("listed"), listed);
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn mail_is_caught() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
tasks:
  t:
    services: [mail]
    run: |
      #!/usr/bin/env python3
      import json, os, smtplib, urllib.request
      with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])) as smtp:
          smtp.sendmail("a@example.org", ["b@example.org"], "Subject: Hello\r\n\r\nYou.\r\n")
      with urllib.request.urlopen(os.environ["MAIL_URL"]) as answer:
          [message] = json.load(answer)
      with open("mail.txt", "w") as file:
          print(message["from"], *message["to"], message["subject"], message["text"].strip(), file=file)
"#;
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let branch = task(&result, "t")["branch"]["branch"]
        .as_str()
        .expect("a branch");
    let mail = scene.git(&["show", &format!("{branch}:mail.txt")]);
    assert_eq!(mail, "a@example.org b@example.org Hello You.\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn no_task_reaches_the_services_of_another_and_nothing_stays_after_a_kill() {
    let scene = Scene::new();
    let wait = "echo ready; sleep 600";
    let yaml = spec(&[
        (
            "one",
            "services: { db: { template: redis, command: [redis-server, --dir, /tmp] } }",
            wait,
        ),
        ("two", "services: [redis]", wait),
    ]);
    let path = scene.spec(&yaml);
    let (mut child, mut lines) = start(&scene, &["run", path.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    expect(&mut lines, "| ready");
    let run = scene.runs().pop().expect("a run");
    let name = |role: &str, task: &str| format!("agent-run-{run}-1{role}-{task}");
    let networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let other = inspect(&name("-pod", "one"), networks);
    let ping = |host: &str| {
        let script = format!(
            "{PING}; timeout 10 bash -c 'exec 3<>/dev/tcp/{host}/6379' && ping {host} 6379"
        );
        bash(&name("", "two"), &script)
    };
    let own = ping("redis");
    assert_eq!(
        (own.code, own.stdout.as_str()),
        (Some(0), "+PONG\n"),
        "{own}"
    );
    let foreign = ping(&other);
    assert!(
        foreign.code != Some(0) && foreign.stdout.is_empty(),
        "{foreign}"
    );
    let unknown = ping("db");
    assert!(unknown.code != Some(0), "{unknown}");
    // The image has a VOLUME.
    let service = format!("agent-run-{run}-1-service-redis.two");
    let volume = inspect(&service, "{{range .Mounts}}{{.Name}}{{end}}");
    assert_eq!(volume.len(), 64, "{volume}");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new());
    let gone = docker(&["volume", "inspect", &volume]);
    assert_eq!(gone.code, Some(1), "{gone}");
}

#[test]
fn one_that_is_not_ready_fails_its_task_with_its_last_words() {
    let scene = Scene::new();
    let yaml = "\
version: 1
tasks:
  option: { run: echo never, services: { db: { template: postgres, command: [postgres, --nonsense] } } }
  never: { run: echo never, services: { cache: { template: redis, healthcheck: { test: 'echo not yet >&2; exit 3', interval: 1s, retries: 2, start_period: 1s } } } }
";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(100), "{ended}");
    let message = |id: &str| {
        let outcome = &task(&result, id)["outcome"];
        assert_eq!(outcome["stage"], "services", "{outcome}");
        outcome["message"].as_str().expect("a message").to_owned()
    };
    let option = message("option");
    assert!(
        option.contains("service `db` ended before it was ready: exit code"),
        "{option}"
    );
    let last = task(&result, "option")["last_lines"].to_string();
    assert!(last.contains("nonsense"), "{last}");
    let never = message("never");
    assert!(
        never.contains("the check ended with exit code 3, its output: not yet"),
        "{never}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn one_that_dies_is_told_while_its_task_goes_on() {
    let scene = Scene::new();
    let script = "\
exec 3<>/dev/tcp/redis/6379; printf 'SHUTDOWN NOSAVE\\r\\n' >&3
until [ -e /home/agent/go ]; do sleep 0.1; done
echo on > on.txt";
    let path = scene.spec(&spec(&[("t", "services: [redis]", script)]));
    let (mut child, mut lines) = start(&scene, &["run", path.to_str().expect("a path")]);
    expect(
        &mut lines,
        "service `redis` has ended while its task goes on: exit code 0",
    );
    let run = scene.runs().pop().expect("a run");
    let told = bash(&format!("agent-run-{run}-1-t"), "touch /home/agent/go");
    assert_eq!(told.code, Some(0), "{told}");
    lines.for_each(drop);
    assert!(child.wait().expect("an end").success());
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_resumed_run_goes_on_with_the_services_that_run() {
    let scene = Scene::new();
    let script = "\
echo ready
until [ -e /home/agent/go ]; do sleep 0.1; done
ping redis 6379 > pong.txt";
    let path = scene.spec(&spec(&[(
        "t",
        "services: [redis]\n    verify: test -s pong.txt",
        script,
    )]));
    let (mut child, mut lines) = start(&scene, &["run", path.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let run = scene.runs().pop().expect("a run");
    let (mut child, mut lines) = start(&scene, &["resume", &run]);
    expect(&mut lines, "| ready");
    bash(&format!("agent-run-{run}-1-t"), "touch /home/agent/go");
    let rest: Vec<String> = lines.collect();
    assert!(
        child.wait().expect("an end").success(),
        "{}",
        rest.join("\n")
    );
    let branch = format!("agent/{run}/t:pong.txt");
    assert_eq!(scene.git(&["show", &branch]), "+PONG\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
#[ignore = "heavy servers, whose images make test-all builds"]
fn the_other_servers_serve() {
    let scene = Scene::new();
    let maria = "\
mariadb -e \"CREATE TABLE who (name text); INSERT INTO who VALUES ('x')\" \"$MYSQL_DATABASE\" -u \"$MYSQL_USER\"
mariadb \"$MYSQL_DATABASE\" -u \"$MYSQL_USER\" -Ne 'SELECT name FROM who' > out.txt
echo \"$DATABASE_URL\" >> out.txt";
    // The beginning of what a server of AMQP 0-9-1 says first: Connection.Start.
    let rabbit = "\
exec 3<>/dev/tcp/$RABBITMQ_HOST/$RABBITMQ_PORT; printf 'AMQP\\x00\\x00\\x09\\x01' >&3
head -c 11 <&3 | od -An -tx1 > out.txt
echo \"$AMQP_URL\" >> out.txt";
    let (ended, result) = scene.run(&spec(&[
        (
            "maria",
            "services: [mariadb]\n    image: mariadb:10.11",
            maria,
        ),
        ("rabbit", "services: { mq: { template: rabbitmq } }", rabbit),
    ]));
    assert_eq!(ended.code, Some(0), "{ended}");
    let out = |id: &str| {
        let branch = task(&result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        scene.git(&["show", &format!("{branch}:out.txt")])
    };
    assert_eq!(out("maria"), "x\nmysql://app:app@mariadb:3306/app\n");
    let rabbit = out("rabbit");
    assert!(
        rabbit.starts_with(" 01 00 00 ") && rabbit.contains(" 00 0a 00 0a\n"),
        "{rabbit}"
    );
    assert!(rabbit.ends_with("amqp://app:app@mq:5672/\n"), "{rabbit}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn compose_accepts_every_template() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("compose-templates");
    let entries = std::fs::read_dir(directory).expect("the templates");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert_eq!(files.len(), 5);
    for file in files {
        let mut command = Command::new("docker-compose");
        let ended = command.arg("-f").arg(&file).args(["config", "-q"]).output();
        let ended: Ended = ended
            .expect("docker-compose, which scripts/test.sh installs")
            .into();
        assert_eq!(ended.code, Some(0), "{}: {ended}", file.display());
        let text = std::fs::read_to_string(&file).expect("a file");
        assert!(
            text.starts_with("# ") && text.contains("healthcheck:") && text.contains("mem_limit:")
        );
        assert!(
            !text.contains("ports:") && !text.contains("volumes:"),
            "{}",
            file.display()
        );
    }
}

const GUIDE: &str = include_str!("../../../docs/services.md");

/// The `nth` example in a language.
pub fn example(language: &str, nth: usize) -> &'static str {
    let fence = format!("```{language}\n");
    let rest = GUIDE.split(fence.as_str()).nth(nth + 1);
    let (example, _) = rest
        .and_then(|rest| rest.split_once("```"))
        .expect("an example");
    example
}

#[test]
fn six_tasks_migrate_one_database_and_serve_one_port() {
    let scene = Scene::new();
    scene.write("app.py", example("python", 0));
    scene.write("migrate.py", example("python", 1));
    scene.write(
        "migrations/1.sql",
        "CREATE TABLE item (id serial, name text);\n",
    );
    scene.commit("the application");
    let (ended, result) = scene.run(example("yaml", 0));
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    for column in ["price", "weight", "colour", "size", "stock", "origin"] {
        let id = format!("column[name={column}]");
        let branch = task(&result, &id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        let seen = scene.git(&["show", &format!("{branch}:seen.txt")]);
        assert_eq!(seen, format!("visitor 2: id name {column}\n"), "{run}");
        let files = scene.git(&["diff", "--name-only", "main", branch]);
        assert_eq!(files, format!("migrations/2-{column}.sql\nseen.txt\n"));
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn what_a_service_wrote_is_shown() {
    let scene = Scene::new();
    let says = |id: &str, rest: &str| {
        let words = format!("entrypoint: [/bin/sh, -c, 'echo \"$WHO\"; {rest}']");
        let service = format!("image: '{BASE_IMAGE}', environment: {{ WHO: of-{id} }}, {words}");
        format!(
            "  {id}: {{ run: 'true', verify: 'true', services: {{ web: {{ {service}, healthcheck: {{ disable: true }} }} }} }}\n"
        )
    };
    let yaml = format!(
        "version: 1\ntasks:\n{}{}  bare: {{ run: 'true' }}\n",
        says("one", "exec sleep infinity"),
        says("two", "exec sleep infinity"),
    );
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let logs =
        |rest: &[&str]| scene.agent_run(&[&["logs", "--run", run, "--service"], rest].concat());
    // That of the task, and that of its check.
    let shown = logs(&["web", "one"]);
    assert_eq!(shown.stdout, "of-one\nof-one\n", "{shown}");
    let both = logs(&["web"]);
    for line in ["one | of-one\n", "two | of-two\n"] {
        assert_eq!(both.stdout.matches(line).count(), 2, "{both}");
    }
    // The task that has no such service is none of those.
    assert_eq!(both.stderr, "", "{both}");
    let slip = logs(&["wbe"]);
    assert_eq!(slip.code, Some(2), "{slip}");
    assert!(
        slip.stderr.contains("has a service `wbe`") && slip.stderr.contains("did you mean `web`?"),
        "{slip}"
    );
}

#[test]
fn the_guide_fills_a_database_once() {
    let scene = Scene::new();
    let seed = "CREATE TABLE item (name text); INSERT INTO item VALUES ('bolt'), ('nut');\n";
    scene.write("seed.sql", seed);
    scene.commit("a seed");
    let (ended, result) = scene.run(example("yaml", 1));
    assert_eq!(ended.code, Some(0), "{ended}");
    for (id, count) in [("grow", "3\n"), ("shrink", "1\n")] {
        let branch = task(&result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        assert_eq!(scene.git(&["show", &format!("{branch}:count.txt")]), count);
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_trusted_one_has_of_the_host_what_the_spec_says_and_everybody_is_told() {
    let scene = Scene::new();
    let place = scene.path().join("shared");
    std::fs::create_dir(&place).expect("a directory");
    std::fs::write(place.join("mark"), "").expect("a file");
    let place = place.display();
    let yaml = format!(
        "version: 1\ntasks:\n  t:\n    run: echo ran\n    services:\n      \
         all: {{ template: redis, trust: true, pid: host, volumes: ['{place}:/host:ro'], \
         healthcheck: {{ test: 'test -e /host/mark && test -d /proc/{me}' }} }}\n      \
         some: {{ template: redis, trust: true, cap_add: [SYS_PTRACE], devices: ['/dev/null:/dev/own'], expose: [7000], \
         command: [redis-server, --port, '7000', --dir, /tmp], healthcheck: {{ test: test -c /dev/own }} }}\n      \
         most: {{ image: '{BASE_IMAGE}', trust: true, privileged: true, command: sleep infinity, healthcheck: {{ test: test -e /dev/kmsg }} }}\n",
        me = std::process::id()
    );
    let (ended, _) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    for told in [
        format!(
            "service `all` of task `t` is trusted with pid: host, {place}: what reaches it may reach this machine"
        ),
        "service `some` of task `t` is trusted with SYS_PTRACE, /dev/null:/dev/own".to_owned(),
        "service `most` of task `t` is trusted with privileged".to_owned(),
    ] {
        assert!(ended.stderr.contains(&told), "{told}: {ended}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}
