//! What is forecast of fifty branches of a large repository, against `git merge-tree` for each pair; and
//! merging twenty results that fit together.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use agent_run::forecast::{Candidate, ForecastRequest, Merging, integrate};
use agent_run::git::{Git, Repository};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::rows::{Goal, Pair, Row, median};
use crate::scene::{Scene, command, git, run, timed};

const FILES: u32 = 60_000;
const BRANCHES: usize = 50;
const MERGED: usize = 20;
/// Of those that share a file, every so many conflict there.
const CONFLICTS: usize = 10;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("branches", FILES)?;
    let sharing = branches(scene, &repository)?;
    let (all, mut lines) = (pairs(BRANCHES), String::new());
    for (one, other) in &all {
        writeln!(lines, "b{one} b{other}")?;
    }
    let list = scene.path("pairs");
    fs::write(&list, lines)?;
    let (mut both, mut merges) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        both.push(Pair {
            ours: forecast(scene, &repository, sharing)?,
            theirs: merge_trees(&repository, &list)?,
        });
        merges.push(merge(scene, &repository)?);
    }
    let (first, rest) = both.split_first().context("no round")?;
    let what = format!(
        "a forecast of {BRANCHES} branches of {FILES} files: {} pairs, {sharing} of which share a file",
        all.len()
    );
    let together = format!("merging {MERGED} of them that fit together, without verification");
    let absolute = |what: &str, measured: f64, first: f64| Row {
        what: what.into(),
        against: "–".into(),
        goal: Goal::AtMost(1.0),
        measured,
        unit: " s",
        detail: format!("first round {first:.2} s"),
    };
    let ours = median(rest.iter().map(|pair| pair.ours));
    let against = "a `git merge-tree` for each pair";
    Ok(vec![
        Row::ratio(&what, against, Goal::AtMost(0.1), &both),
        absolute("the same, the whole command", ours, first.ours),
        absolute(&together, median(merges[1..].iter().copied()), merges[0]),
    ])
}

/// All pairs of so many.
fn pairs(count: usize) -> Vec<(usize, usize)> {
    let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
    pairs.collect()
}

/// Makes the branches, of one commit each. Every fifth pair changes a file in common, mostly far apart;
/// how many do.
fn branches(scene: &Scene, repository: &Path) -> Result<usize> {
    let mut changes = vec![String::new(); BRANCHES];
    let sharing = pairs(BRANCHES).into_iter();
    let sharing: Vec<_> = sharing
        .filter(|(one, other)| (one + other).is_multiple_of(5))
        .collect();
    for (place, (one, other)) in sharing.iter().enumerate() {
        let file = place * 20;
        let path = format!("folder-{place}/file-{file}.txt");
        let far = if conflicts(place, *one, *other) {
            3
        } else {
            33
        };
        for (branch, line) in [(*one, 3), (*other, far)] {
            let mut lines = vec![format!("line of file {file}\n"); 40];
            lines[line] = format!("changed by {branch}\n");
            let text = lines.concat();
            let length = text.len();
            write!(
                changes[branch],
                "M 644 inline {path}\ndata {length}\n{text}\n"
            )?;
        }
    }
    let mut input = String::new();
    for (branch, changes) in changes.iter().enumerate() {
        write!(
            input,
            "commit refs/heads/b{branch}\ncommitter bench <bench@localhost> 1 +0000\ndata 4\nwork\n\
             from refs/heads/main^0\n{changes}M 644 inline new-{branch}.txt\ndata 2\n1\n\n"
        )?;
    }
    let file = scene.path("import");
    fs::write(&file, input)?;
    let mut import = command("git");
    import
        .arg("-C")
        .arg(repository)
        .args(["fast-import", "--quiet"]);
    run(import.stdin(File::open(file)?))?;
    // As a clone has it.
    git(repository, &["repack", "-a", "-d", "-q"])?;
    Ok(sharing.len())
}

/// The first ones, which are merged, all fit together.
fn conflicts(place: usize, one: usize, other: usize) -> bool {
    place.is_multiple_of(CONFLICTS) && one.max(other) >= MERGED
}

/// Seconds that the command takes.
fn forecast(scene: &Scene, repository: &Path, sharing: usize) -> Result<f64> {
    let mut forecast = command(env!("CARGO_BIN_EXE_agent-run"));
    forecast.current_dir(repository).arg("forecast");
    forecast.args((0..BRANCHES).map(|branch| format!("b{branch}")));
    forecast.args(["--base", "main", "--format", "json"]);
    forecast.arg("--state-dir").arg(scene.state());
    let began = Instant::now();
    let found = run(&mut forecast)?;
    let took = began.elapsed().as_secs_f64();
    let found: Value = serde_json::from_str(&found.stdout)?;
    let told = found["pairs"].as_array().map_or(0, Vec::len);
    ensure!(
        told > 0 && told <= sharing.div_ceil(CONFLICTS),
        "{told} pairs conflict"
    );
    Ok(took)
}

/// Seconds that one process for each pair takes; a conflict is no failure.
fn merge_trees(repository: &Path, pairs: &Path) -> Result<f64> {
    let script = "while read -r one other; do
        git merge-tree --write-tree \"$one\" \"$other\" >/dev/null || [ $? = 1 ]
    done";
    let mut shell = command("sh");
    shell.args(["-ec", script]).current_dir(repository);
    timed(shell.stdin(File::open(pairs)?))
}

/// Seconds that merging takes, by the function that the command `merge` does it with.
fn merge(scene: &Scene, directory: &Path) -> Result<f64> {
    let search_path = std::env::var_os("PATH").context("no PATH")?;
    let git = Git::new(&search_path, &scene.path("git"))?;
    let began = Instant::now();
    let repository = Repository::open(&git, directory)?;
    let base = repository.resolve_base("main")?;
    let candidates = (0..MERGED).map(|branch| {
        let branch = format!("b{branch}");
        let commit = repository.resolve_base(&branch)?;
        Ok(Candidate {
            branch,
            task: None,
            commit,
            needs: Vec::new(),
        })
    });
    let candidates = candidates.collect::<Result<Vec<_>>>()?;
    let request = ForecastRequest {
        repository: &repository,
        base: ("main", &base),
        candidates: &candidates,
        patience: None,
    };
    let merging = Merging {
        author: ("bench", "bench@localhost"),
        squash: false,
        message: &|candidate| format!("Merge {}\n", candidate.branch),
    };
    let merged = integrate(&request, &merging)?;
    let took = began.elapsed().as_secs_f64();
    let out = merged.results.iter().filter(|one| one.end.is_left_out());
    ensure!(out.count() == 0, "not all were merged: {merged:?}");
    Ok(took)
}
