//! Services: what templates, inline ones and compose files come to, and what tasks are told.

use std::path::Path;
use std::time::Duration;

use agent_run::engine::config::{Healthcheck, Mount, Trusted};
use agent_run::id::ImageRef;
use agent_run::spec::{ServiceSpec, TaskSpec, read_files};

use super::{good, in_context, read_in, with_task};

/// The names of the templates.
const TEMPLATES: [&str; 5] = ["mail", "mariadb", "postgres", "rabbitmq", "redis"];

fn task(lines: &str) -> TaskSpec {
    good(&with_task(lines)).tasks.remove(0)
}

fn variable(task: &TaskSpec, name: &str) -> String {
    let variables = task.variables();
    let value = variables.get(name);
    value
        .unwrap_or_else(|| panic!("no {name}"))
        .expose()
        .to_owned()
}

fn names(services: &[ServiceSpec]) -> Vec<&str> {
    services.iter().map(|s| s.name.value.as_str()).collect()
}

#[test]
fn a_template_is_known_by_its_name() {
    let task = task(&format!("services: [{}]", TEMPLATES.join(", ")));
    let services = &task.services.list;
    assert_eq!(names(services), TEMPLATES);
    for service in services {
        let name = &service.name.value;
        assert!(service.healthcheck.test.is_some(), "{name}");
        assert!(
            service.mem_limit.is_some() && service.pids_limit.is_some(),
            "{name}"
        );
        assert!(!service.ports.is_empty(), "{name}");
    }
    // Both name a database: the first is meant.
    let url = variable(&task, "DATABASE_URL");
    assert_eq!(url, "mysql://app:app@mariadb:3306/app");
    assert_eq!(variable(&task, "REDIS_URL"), "redis://redis:6379/0");
    assert_eq!(variable(&task, "AMQP_URL"), "amqp://app:app@rabbitmq:5672/");
    assert_eq!(variable(&task, "PGHOST"), "postgres");
    assert_eq!(variable(&task, "SMTP_URL"), "smtp://mail:1025");
    assert_eq!(services[0].image.value, ImageRef::mail());
}

#[test]
fn what_stands_beside_a_template_is_merged_over_it_and_told() {
    let task = task(
        "\
services:
  db:
    template: postgres
    image: postgres:16
    environment: { POSTGRES_PASSWORD: 'a b/c', POSTGRES_DB: '${task.slug}', MORE: x }
    expose: [5433]
    healthcheck: { retries: 9 }
environment: { PGUSER: me, WHERE: '${services.db.host}:${services.db.port}' }",
    );
    let service = &task.services.list[0];
    assert_eq!(service.name.value.as_str(), "db");
    assert_eq!(service.image.value.as_str(), "postgres:16");
    assert_eq!(service.environment["POSTGRES_USER"].expose(), "app");
    assert_eq!(service.environment["MORE"].expose(), "x");
    assert_eq!(service.healthcheck.retries, Some(9));
    assert_eq!(service.healthcheck.interval, Some(Duration::from_secs(10)));
    assert_eq!(
        variable(&task, "DATABASE_URL"),
        "postgres://app:a%20b%2Fc@db:5433/t"
    );
    assert_eq!(variable(&task, "PGPASSWORD"), "a b/c");
    assert_eq!(variable(&task, "PGUSER"), "me");
    assert_eq!(variable(&task, "WHERE"), "db:5433");
}

#[test]
fn defaults_are_merged_by_name() {
    let spec = good(
        "\
version: 1
defaults: { run: x, services: { db: { template: postgres }, cache: { template: redis } } }
tasks:
  a: {}
  b: { services: { cache: null, db: { mem_limit: 1g } } }
  c: { services: null }
  d: { services: [rabbitmq] }
",
    );
    let of = |index: usize| names(&spec.tasks[index].services.list);
    assert_eq!(of(0), ["db", "cache"]);
    assert_eq!(of(1), ["db"]);
    assert_eq!(spec.tasks[1].services.list[0].mem_limit, Some(1 << 30));
    assert!(of(2).is_empty());
    assert_eq!(of(3), ["rabbitmq"]);
}

#[test]
fn a_test_is_a_line_words_or_none() {
    let check = |test: &str| {
        let lines = format!("services: {{ s: {{ image: x, healthcheck: {{ test: {test} }} }} }}");
        task(&lines).services.list.remove(0).healthcheck
    };
    let words = |healthcheck: Healthcheck| healthcheck.test.expect("a test");
    assert_eq!(
        words(check("'test -f $$HOME'")),
        ["/bin/sh", "-c", "test -f $HOME"]
    );
    assert_eq!(words(check("[CMD-SHELL, a b]")), ["/bin/sh", "-c", "a b"]);
    assert_eq!(words(check("[CMD, a, 'b c']")), ["a", "b c"]);
    let none = check("[NONE]");
    assert!(none.disable && none.test.is_none());
}

#[test]
fn ports_are_those_of_the_service() {
    let lines = "services: { s: { image: x, expose: [80, '81/tcp'], ports: [82, '8000:83', '127.0.0.1:8001:84', '80:80'] } }";
    let service = task(lines).services.list.remove(0);
    let ports: Vec<u16> = service.ports.iter().map(|port| port.value).collect();
    assert_eq!(ports, [80, 81, 82, 83, 84]);
}

#[test]
fn a_trusted_one_has_what_the_spec_says() {
    let service = task(
        "\
services:
  builder:
    image: x
    trust: true
    privileged: true
    cap_add: [CAP_SYS_PTRACE, NET_ADMIN]
    devices: [/dev/kvm, '/dev/a:/dev/b:r']
    pid: host
    volumes: ['/var/run/docker.sock:/var/run/docker.sock', './data:/data:ro', 'own:/own']",
    )
    .services
    .list
    .remove(0);
    let trusted = Trusted {
        privileged: true,
        cap_add: vec!["SYS_PTRACE".into(), "NET_ADMIN".into()],
        devices: vec!["/dev/kvm".into(), "/dev/a:/dev/b:r".into()],
        host_pid: true,
    };
    assert_eq!(service.trusted, trusted);
    let mount = |source: &str, target: &str, read_only| Mount {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    let socket = "/var/run/docker.sock";
    let mounts = [
        mount(socket, socket, false),
        mount("/project/data", "/data", true),
    ];
    assert_eq!(service.mounts, mounts);
}

const FILE: &str = "\
version: '3.9'
name: shop
x-common: &common { mem_limit: 64m }
services:
  web:
    image: shop/web:${SET}
    <<: *common
    environment: [A=1, 'B=${EMPTY:-none}']
    depends_on:
      db: { condition: service_healthy }
  db:
    image: postgres:16
    volumes: [data:/var/lib/postgresql/data]
    ports: ['5432:5432']
    healthcheck: { test: pg_isready }
  tracing:
    image: jaeger
    privileged: true
    volumes: [./traces:/traces]
volumes: { data: }
";

fn of_file(only: &str) -> Vec<ServiceSpec> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    std::fs::write(path.join("docker-compose.yml"), FILE).expect("a file");
    let lines = format!(
        "services: {{ compose: ./docker-compose.yml{only} }}\nenvironment: {{ H: '${{services.db.host}}' }}"
    );
    let mut spec = read_in(&with_task(&lines), path).unwrap_or_else(|e| panic!("{e}"));
    in_context(Path::new("/project"), |context| {
        read_files(&mut spec, context)
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(variable(&spec.tasks[0], "H"), "db");
    spec.tasks.remove(0).services.list
}

#[test]
fn only_what_is_meant_of_a_compose_file_is_read() {
    let services = of_file(", only: [web]");
    assert_eq!(names(&services), ["web", "db"]);
    assert_eq!(services[0].image.value.as_str(), "shop/web:value");
    assert_eq!(services[0].environment["B"].expose(), "none");
    assert_eq!(services[0].mem_limit, Some(64 << 20));
    assert!(services[0].depends_on[0].ready);
    assert_eq!(names(&of_file(", only: db")), ["db"]);
    let trusted = of_file(", only: tracing, trust: tracing").remove(0);
    assert!(trusted.trusted.privileged);
    // Relative to the file.
    assert!(trusted.mounts[0].source.ends_with("traces"));
    assert!(trusted.mounts[0].source.is_absolute());
}
