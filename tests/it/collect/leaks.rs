//! Results that hold the value of a secret: taken as they are, and told.

use std::fs;

use agent_run::event::{BranchReport, BranchResult};
use agent_run::id::CommitId;
use agent_run::secrets::{Needles, SecretString};

use super::{Asked, collect_with};
use crate::git::fixture::git;
use crate::workspace::{Inside, Site};

const VALUE: &str = "t0ken/of-great+worth";

fn collected(site: &Site, inside: &Inside, task: &str) -> BranchReport {
    inside.hand_off();
    let (secrets, _) = Needles::new([&SecretString::new(VALUE.into())]);
    let asked = Asked {
        secrets,
        ..Asked::default()
    };
    let report = collect_with(site, inside, task, &asked);
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    report
}

fn told(report: &BranchReport, why: &str) -> Vec<String> {
    let told = report.risky_paths.iter().filter(|(_, said)| said == why);
    told.map(|(path, _)| path.clone()).collect()
}

/// Adds a commit with this file, whose message does not name it.
fn add(inside: &Inside, name: &str, text: impl AsRef<[u8]>) {
    let path = inside.tree().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    inside.git(&["add", "-A"]);
    inside.git(&["commit", "-qm", "work"]);
}

const IN_NAME: &str = "has the value of a secret in its name";
const IN_FILE: &str = "holds the value of a secret";

#[test]
fn names_and_contents_of_files_are_told() {
    let site = Site::new();
    let inside = site.workspace("t");
    add(&inside, "fine.txt", "t0ken/of\n");
    add(&inside, &format!("in/{VALUE}/name.txt"), "x\n");
    add(&inside, "plain.env", format!("TOKEN={VALUE}\n"));
    // Uncommitted, in base64, behind much else.
    let mut text = vec![b'x'; 500_000];
    text.extend_from_slice(b" dDBrZW4vb2YtZ3JlYXQrd29ydGg=\n");
    fs::write(inside.tree().join("coded.txt"), text).unwrap();
    let report = collected(&site, &inside, "t");
    assert_eq!(told(&report, IN_NAME), [format!("in/{VALUE}/name.txt")]);
    let mut holding = told(&report, IN_FILE);
    holding.sort();
    assert_eq!(holding, ["coded.txt", "plain.env"]);
    assert!(
        report.notes.is_empty() && report.secret_commits.is_empty(),
        "{report:?}"
    );
    // Told, not changed.
    let held = git(&site.dir, &["show", "agent/t:plain.env"]);
    assert_eq!(held, format!("TOKEN={VALUE}"));
}

#[test]
fn messages_and_authors_of_commits_are_told() {
    let site = Site::new();
    let inside = site.workspace("t");
    let empty = ["commit", "-q", "--allow-empty", "-m"];
    inside.git(&[&empty[..], &[&format!("with {VALUE} in it")]].concat());
    inside.git(&[&empty[..], &["harmless"]].concat());
    inside.git(&[&empty[..], &[&format!("harmless\n\nwith {VALUE}")]].concat());
    let author = format!("--author={VALUE} <a@example.org>");
    inside.git(&[&empty[..], &["harmless", &author]].concat());
    let ids = inside.git(&["rev-list", "-4", "HEAD"]);
    let ids: Vec<&str> = ids.lines().collect();
    let report = collected(&site, &inside, "t");
    let commits: Vec<&str> = report.secret_commits.iter().map(CommitId::as_str).collect();
    assert_eq!(commits, [ids[0], ids[1], ids[3]]);
    assert!(
        report.notes[0].contains("in their message or author (3)"),
        "{report:?}"
    );
    assert_eq!(report.notes.len(), 1, "{report:?}");
    assert!(report.risky_paths.is_empty(), "{report:?}");
}

#[test]
fn what_only_the_history_holds_is_told() {
    let site = Site::new();
    let inside = site.workspace("t");
    add(&inside, "was.env", VALUE);
    add(&inside, "was.env", "nothing\n");
    let report = collected(&site, &inside, "t");
    assert!(report.risky_paths.is_empty(), "{report:?}");
    assert!(
        report.notes[0].contains("in files that its tip does not have (1)"),
        "{report:?}"
    );

    let inside = site.workspace("u");
    add(&inside, "t0ken/of-great+worth", "x\n");
    fs::create_dir_all(inside.tree().join("elsewhere")).unwrap();
    inside.git(&["mv", "t0ken/of-great+worth", "elsewhere/x"]);
    inside.git(&["commit", "-qm", "moved"]);
    let report = collected(&site, &inside, "u");
    // The name is spread over two directories, and in no tip: that is not looked for.
    assert!(
        report.risky_paths.is_empty() && report.notes.is_empty(),
        "{report:?}"
    );

    let (secrets, _) = Needles::new([&SecretString::new("of-great+worth".into())]);
    let asked = Asked {
        secrets,
        ..Asked::default()
    };
    let report = collect_with(&site, &inside, "u", &asked);
    assert!(
        report.notes[0].contains("has a file with the value"),
        "{report:?}"
    );
}

#[test]
fn large_files_are_not_searched_and_nothing_is_where_there_are_no_secrets() {
    let site = Site::new();
    let inside = site.workspace("t");
    let mut large = vec![b'x'; 1 << 20];
    large.extend_from_slice(VALUE.as_bytes());
    add(&inside, "large.txt", large);
    add(&inside, "small.txt", VALUE);
    let report = collected(&site, &inside, "t");
    assert_eq!(told(&report, IN_FILE), ["small.txt"]);
    let report = collect_with(&site, &inside, "t", &Asked::default());
    assert!(
        report.risky_paths.is_empty() && report.notes.is_empty(),
        "{report:?}"
    );
}

#[test]
fn many_files_are_searched_in_parts_up_to_a_limit() {
    let site = Site::new();
    let inside = site.workspace("t");
    // 70 files of about 1 MiB, each of its own; git lists them in the order of their names.
    for number in 0..70 {
        let mut text = format!("{number} ").repeat(1 << 19);
        text.truncate((1 << 20) - 100);
        let text = format!("{text}{VALUE}");
        fs::write(inside.tree().join(format!("{number:02}.txt")), text).unwrap();
    }
    add(&inside, "more.txt", "x");
    let report = collected(&site, &inside, "t");
    let holding = told(&report, IN_FILE);
    assert_eq!(holding.len(), 64, "{holding:?}");
    assert!(holding.contains(&"00.txt".to_owned()) && !holding.contains(&"69.txt".to_owned()));
}
