//! Services that are filled once, on a real engine: every task has a branch of what they hold.

use serde_json::Value;

use super::scene::{Ended, Scene, docker, task};

/// Nothing but this test has it.
const PASSWORD: &str = "squeamish-ossifrage";

/// Tasks that change a database which was filled before.
fn seeded() -> String {
    let task = r#"
    run: |
      psql -v ON_ERROR_STOP=1 -qc "INSERT INTO item VALUES ('$AGENT_TASK')"
      psql -Atc 'SELECT string_agg(name, chr(32)) FROM item' > items.txt
    verify: |
      test "$(psql -Atc 'SELECT count(*) FROM item')" = 2
"#;
    format!(
        "version: 1\ndefaults:\n  image: postgres:15\n  services:\n    db:\n      template: postgres\n      \
         environment: {{ POSTGRES_PASSWORD: {PASSWORD} }}\n      snapshot:\n        \
         script: 'psql -v ON_ERROR_STOP=1 -q < seed.sql && touch seed.log'\n        \
         files: ['*.sql']\ntasks:\n  one:{task}  two:{task}"
    )
}

fn how_often(scene: &Scene) -> usize {
    let runs = |event: &&Value| {
        let status = event["kind"]["status"].as_str().unwrap_or_default();
        event["kind"]["type"] == "setup" && status == "(snapshot of service `db`) runs"
    };
    scene.events().iter().filter(runs).count()
}

/// The images that were made, by id.
fn images(scene: &Scene) -> Vec<String> {
    let listed = scene.agent_run(&["images", "--format", "json"]);
    assert_eq!(listed.code, Some(0), "{listed}");
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let images = listed["images"].as_array().expect("images").iter();
    let prepared = images.filter(|image| {
        let name = image["name"].as_str().expect("a name");
        name.starts_with("agent-run-prepared-")
    });
    let names = prepared.map(|image| image["name"].as_str().expect("a name").to_owned());
    names.collect()
}

#[track_caller]
fn has_items(scene: &Scene, (ended, result): &(Ended, Value), wanted: &[(&str, &str)]) {
    assert_eq!(ended.code, Some(0), "{ended}");
    for (id, items) in wanted {
        let branch = task(result, id)["branch"]["branch"]
            .as_str()
            .expect("a branch");
        let text = scene.git(&["show", &format!("{branch}:items.txt")]);
        assert_eq!(text.trim_end(), *items);
        // What the script wrote in its checkout is nobody's.
        let files = scene.git(&["diff", "--name-only", "main", branch]);
        assert_eq!(files, "items.txt\n");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_database_is_filled_once_and_every_task_has_a_branch_of_it() {
    let scene = Scene::new();
    let seed = "CREATE TABLE item (name text); INSERT INTO item VALUES ('bolt'), ('nut');\n";
    scene.write("seed.sql", seed);
    scene.commit("a seed");
    let wanted = [("one", "bolt nut one"), ("two", "bolt nut two")];
    has_items(&scene, &scene.run(&seeded()), &wanted);
    assert_eq!(how_often(&scene), 1);
    let made = images(&scene);
    assert_eq!(made.len(), 1, "{made:?}");
    let inspected = docker(&["image", "inspect", &made[0]]);
    let history = docker(&["history", "--no-trunc", &made[0]]);
    for said in [&inspected.stdout, &history.stdout] {
        assert!(!said.is_empty() && !said.contains(PASSWORD), "{said}");
    }

    has_items(&scene, &scene.run(&seeded()), &wanted);
    assert_eq!(how_often(&scene), 0, "again");

    let password = seeded().replace(PASSWORD, "another");
    has_items(&scene, &scene.run(&password), &wanted);
    assert_eq!(how_often(&scene), 1, "with another password");

    scene.write("seed.sql", &seed.replace("bolt", "axle"));
    scene.commit("another seed");
    let wanted = [("one", "axle nut one"), ("two", "axle nut two")];
    has_items(&scene, &scene.run(&seeded()), &wanted);
    assert_eq!(how_often(&scene), 1, "of another seed");

    let cleaned = scene.agent_run(&["clean", "--cache"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(images(&scene), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_cannot_be_made_says_why() {
    let scene = Scene::new();
    let failing = |id: &str, service: &str, script: &str| {
        format!(
            "  {id}:\n    run: 'true'\n    startup_timeout: 60s\n    services:\n      s: {{ {service}, snapshot: {{ script: '{script}' }} }}\n"
        )
    };
    let shell = |rest: &str| {
        format!(
            "image: 'agent-run-base:0.1.0', healthcheck: {{ disable: true }}, entrypoint: [/bin/sh, -c, '{rest}']"
        )
    };
    let in_volume = "template: postgres, environment: { PGDATA: /var/lib/postgresql/data }";
    let idle = shell("date > /srv.txt; exec sleep infinity");
    let mut yaml =
        "version: 1\nmax_parallel: 3\ndefaults: { image: 'postgres:15' }\ntasks:\n".to_owned();
    // Its healthcheck sees its variables, which its container's configuration does not have.
    let asked = idle.replace("{ disable: true }", "{ test: [CMD, printenv, READY] }");
    let asked = format!("{asked}, environment: {{ READY: 'yes' }}");
    yaml += &failing("fails", &asked, "echo no such table; exit 3");
    yaml += &failing(
        "volume",
        in_volume,
        "psql -qc \"CREATE TABLE item (name text)\"",
    );
    yaml += &failing("nothing", "template: redis", "true");
    yaml += &failing(
        "unclean",
        &shell("trap \"exit 5\" TERM; while :; do sleep 0.1; done"),
        "true",
    );
    yaml += &failing("hangs", &idle, "sleep 1000").replace("60s", "4s");
    yaml += &failing("dies", &shell("exit 7"), "true");
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(100), "{ended}");
    for (id, why) in [
        ("fails", "the script ended with exit code 3; its log: "),
        (
            "volume",
            "the service keeps its data in /var/lib/postgresql/data, which its image declares as a VOLUME",
        ),
        ("nothing", "the service wrote nothing in its file system"),
        (
            "unclean",
            "the service did not end cleanly, so that its data may not be whole: its exit code is 5, and not 0 as after SIGTERM",
        ),
        (
            "hangs",
            "the script did not end within startup_timeout (4 s)",
        ),
        ("dies", "its exit code is 7, and not 0 as after SIGTERM"),
    ] {
        let outcome = &task(&result, id)["outcome"];
        assert_eq!(outcome["stage"], "services", "{id}: {outcome}");
        let message = outcome["message"].as_str().expect("a message");
        assert!(
            message.starts_with("snapshot of service `s`: "),
            "{message}"
        );
        assert!(message.contains(why), "{id}: {message}");
    }
    let log = task(&result, "fails")["log"].as_str().expect("a log");
    let log = std::fs::read_to_string(log).expect("the log");
    assert!(log.contains("no such table"), "{log}");
    assert_eq!(scene.left(), Vec::<String>::new());
    assert_eq!(images(&scene), Vec::<String>::new());
}
