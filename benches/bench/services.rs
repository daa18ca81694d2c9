//! What services cost: until the first process of a task that has a database, and with a database that is
//! seeded before, once or by each task.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::loops::{FILES, now, time_in};
use crate::rows::{Goal, Pair, Row, median};
use crate::scene::{Scene, command, run};

/// How many tasks have a database that is seeded.
const SEEDED: u32 = 10;
/// Fills a database with 100 MB.
const SEED: &str = "psql -v ON_ERROR_STOP=1 -qc \"CREATE TABLE item AS SELECT i, repeat(md5(i::text), 3) AS text FROM generate_series(1, 780000) AS i\"";
/// Says whether that is there.
const BEGUN: &str = "test \"$(psql -Atc \"SELECT pg_table_size('item') > 100000000\")\" = t";
/// How long a database may take.
const READY: Duration = Duration::from_secs(60);

pub fn first(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("services", FILES)?;
    let script = ["date +%s.%N".to_owned()];
    let mut pairs = Vec::new();
    for _ in 0..=rounds {
        let spec = scene.spec(&repository, &script, &json!({ "services": ["postgres"] }))?;
        let began = now()?;
        let ran = scene.run(&spec, 1)?;
        pairs.push(Pair {
            ours: time_in(&ran.printed)? - began,
            theirs: by_hand(scene)?,
        });
    }
    Ok(vec![Row::ratio(
        "the first process of a task with a PostgreSQL, which is ready",
        "`docker run` of both, and `pg_isready` every 50 ms between",
        Goal::AtMost(1.3),
        &pairs,
    )])
}

pub fn seeded(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("seeded", 1000)?;
    let begin = vec![BEGUN.to_owned(); SEEDED as usize];
    let all = vec![format!("{SEED}\n{BEGUN}"); SEEDED as usize];
    let service = |snapshot| {
        let database = json!({ "template": "postgres", "snapshot": snapshot });
        json!({ "image": "postgres:15", "services": { "db": database } })
    };
    let (mut pairs, mut anew) = (Vec::new(), Vec::new());
    // Ten times 100 MB take their time.
    for round in 0..=rounds.min(1) {
        let spec = scene.spec(&repository, &all, &service(json!(null)))?;
        let theirs = scene.run(&spec, SEEDED)?.took;
        // Another script each time: the snapshot is made.
        let script = format!("{SEED} # {round}");
        let spec = scene.spec(&repository, &begin, &service(json!({ "script": script })))?;
        anew.push(scene.run(&spec, SEEDED)?.took);
        let ours = scene.run(&spec, SEEDED)?.took;
        pairs.push(Pair { ours, theirs });
    }
    let what = format!("{SEEDED} tasks with a PostgreSQL of 100 MB by `snapshot`");
    let mut row = Row::ratio(&what, "seeded by each of them", Goal::AtMost(0.33), &pairs);
    row.detail = format!(
        "{}; {:.1} s with the snapshot itself",
        row.detail,
        median(anew)
    );
    Ok(vec![row])
}

/// The same image with the same limits, and a container in its network once it is ready, in seconds.
fn by_hand(scene: &Scene) -> Result<f64> {
    let began = Instant::now();
    let label = ["--label", &scene.label];
    let limits =
        "--init --cpus 1 --memory 512m --memory-swap 512m --pids-limit 256 --shm-size 128m";
    let variables =
        "-e POSTGRES_USER=app -e POSTGRES_PASSWORD=app -e POSTGRES_DB=app -e PGDATA=/srv/postgres";
    let server =
        "postgres:15 postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off";
    let mut serve = command("docker");
    serve.args(["run", "-d"]).args(label);
    serve.args(
        [limits, variables, server]
            .iter()
            .flat_map(|words| words.split(' ')),
    );
    let server = run(&mut serve)?.stdout;
    let server = server.trim();
    loop {
        let mut ask = command("docker");
        ask.args([
            "exec",
            server,
            "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            "app",
            "-d",
            "app",
        ]);
        if ask.stdout(Stdio::null()).status()?.success() {
            break;
        }
        ensure!(began.elapsed() < READY, "the database is not ready");
        sleep(Duration::from_millis(50));
    }
    let mut client = command("docker");
    client.args(["run", "--rm", "--network", &format!("container:{server}")]);
    run(client.args(label).args([&scene.image, "true"]))?;
    let took = began.elapsed().as_secs_f64();
    run(command("docker").args(["rm", "-f", "-v", server]))?;
    Ok(took)
}
