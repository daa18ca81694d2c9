//! Errors of `services`, in a spec and in a compose file.

use std::path::Path;

use agent_run::plan::check_snapshots;
use agent_run::spec::read_files;
use insta::assert_snapshot;

use super::super::{bad, good, in_context, read_in, with_task};

#[test]
fn templates_and_forms() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { services: [postgress] }
  b: { services: [kafka, redis, redis] }
  c: { services: postgres }
  d: { services: { db: postgres } }
  e: { services: { Db: { template: redis }, localhost: { template: redis }, a.b: { template: redis } } }
  f: { services: { db: { template: redis, image: 7 7 } } }
  g: { services: { db: {} } }
  h: { services: { compose: [x] } }
  i: { services: { compose: x.yaml, onyl: [db] } }
  j: { services: { db: { template: postgres, environment: { POSTGRES_DB: null, 'A B': x } } } }
"));
}

#[test]
fn what_breaks_isolation_and_what_is_not_taken_over() {
    assert_snapshot!(bad(&with_task(
        "\
services:
  db:
    image: postgres:16
    privileged: true
    network_mode: host
    pid: host
    cap_add: [SYS_ADMIN]
    devices: [/dev/kvm]
    security_opt: [seccomp:unconfined]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock
      - ./data:/data
      - ~/data:/data
      - { type: bind, source: /, target: /host }
      - data:/data:ro
    build: .
    restart: always
    container_name: db
    deploy: {}
    labels: {}
    comand: [x]
"
    )));
}

#[test]
fn values() {
    assert_snapshot!(bad(&with_task(
        "\
services:
  db:
    image: x
    pull_policy: build
    mem_limit: 1k
    expose: [0, 53/udp, http]
    ports: ['127.0.0.1::99999', '8080-8090']
    healthcheck: { test: [pg_isready], interval: 10, retries: 0 }
    depends_on: { cache: { condition: service_completed_successfully } }
  web:
    image: x
    healthcheck: { test: [CMD-SHELL, a, b], when: never }
    depends_on: [Db]
"
    )));
}

#[test]
fn services_that_do_not_go_together() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { services: { one: { template: redis }, two: { template: redis } } }
  b: { services: { one: { image: x, depends_on: [two] }, two: { image: x, depends_on: [three] }, three: { image: x, depends_on: [one] } } }
  c: { services: { one: { image: x, depends_on: [tow] }, two: { image: x } } }
  d: { services: { one: { image: x, depends_on: [one] } } }
  e: { services: [redis], runtime: runsc }
  f: { services: { proxy: { image: squid, expose: [3128] } }, egress: { allow: [] } }
"));
}

#[test]
fn snapshots() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { services: { db: { template: postgres, snapshot: { file: seed.sql } } } }
  b: { services: { db: { template: postgres, snapshot: { script: ' ', files: [/seed.sql] } } } }
  c: { services: { db: { image: x, read_only: true, snapshot: { script: x } } } }
  d: { services: { db: { image: x, depends_on: [of], snapshot: { script: x } }, of: { image: y } } }
  e: { services: { db: { image: x, snapshot: psql } } }
  f: { services: { db: { template: postgres, tmpfs: [/run/postgresql, '/var/lib/postgresql:size=1g'], snapshot: { script: x } } } }
"));
}

#[test]
fn the_base_has_what_a_snapshot_depends_on() {
    let of = |files| {
        let snapshot = format!("{{ script: x, files: {files} }}");
        format!(
            "version: 1\ntasks:\n  a: {{ run: x, services: {{ db: {{ image: y, snapshot: {snapshot} }} }} }}\n"
        )
    };
    let base = ["db/1.sql", "readme.md"];
    let spec = good(&of("['db/**', '*.sql', seed.sql]"));
    let refused = check_snapshots(&spec, &[], &base.into_iter()).expect_err("accepted");
    assert_snapshot!(refused.to_string());
    let spec = good(&of("[db, '*.md']"));
    check_snapshots(&spec, &[], &base.into_iter()).expect("accepted");
}

#[test]
fn ports_of_a_task() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { ports: [0, 70000, http, 53/udp, '8080:3000', '127.0.0.1:8080:3000', 'localhost::3000', '1.2.3.4::'] }
  b: { ports: [3000, '3000/tcp'] }
  c: { ports: [3000], network_mode: none }
  d: { ports: [3000], egress: { allow: [] } }
  e: { ports: [3000], runtime: runsc }
  f: { ports: 3000 }
"));
}

#[test]
fn previews() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { preview: npm start }
  b: { preview: {} }
  c: { preview: { run: ' ', port: [3000] } }
  d: { preview: { run: x, prot: 3000 } }
  e: { preview: { run: x, port: '8080:3000' } }
  f: { preview: { run: x, port: 3000 }, network_mode: none, runtime: runsc-own }
  g: { preview: { run: x, port: 3000 }, egress: { allow: [] } }
  h: { preview: { run: x, port: 3000 }, runtime: runsc }
"));
}

#[test]
fn names_of_services() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x, working_dir: '/${services.db.host}' }
tasks:
  a: { services: [postgres], environment: { A: '${services.postgres.prot}', B: '${services.postgre.host}' } }
  b: { services: { db: { image: x } }, environment: { A: '${services.db.port}', B: '${services.db.host:-x}' } }
  c: { services: { compose: x.yaml }, environment: { A: '${services.db.port}' } }
"));
}

fn bad_file(spec: &str, compose: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    std::fs::write(path.join("compose.yaml"), compose).expect("a file");
    let mut spec = read_in(&with_task(spec), path).unwrap_or_else(|e| panic!("{e}"));
    let read = in_context(Path::new("/project"), |context| {
        read_files(&mut spec, context)
    });
    let message = read.expect_err("it is wrong").to_string();
    message.replace(&path.display().to_string(), "DIR")
}

#[test]
fn a_compose_file_that_is_wrong() {
    let all = "services: { compose: compose.yaml }";
    assert_snapshot!(bad_file(
        all,
        "\
version: '3.9'
services:
  db:
    image: postgres:${UNSET}
    volumes: [./data:/var/lib/postgresql/data]
    command: --name ${SET}
  cache:
    image: redis:7
    privileged: true
    depends_on: [bd]
    template: redis
networks: { back: {} }
secrets: {}
"
    ));
    assert_snapshot!(bad_file(all, "services: [\n"));
    assert_snapshot!(bad_file(all, "x: 1\n"));
    let absent = "services: { compose: absent.yaml }";
    assert_snapshot!(bad_file(absent, ""));
    let trust = "services: { compose: compose.yaml, trust: [db] }";
    assert_snapshot!(bad_file(
        trust,
        "services: { db: { image: x, pid: host, trust: true, cap_add: [sys] }, cache: { image: x, pid: host } }\n"
    ));
    let only = "services: { compose: compose.yaml, only: [db, chace] }";
    assert_snapshot!(bad_file(
        only,
        "services: { db: { image: x }, cache: { image: x } }\n"
    ));
}
