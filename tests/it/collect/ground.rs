//! Results that leave the ground that their task was given.

use std::fs;

use agent_run::collect::Ground;
use agent_run::event::{BranchReport, BranchResult};
use agent_run::id::PathPattern;

use super::{Asked, collect_with, snapshot};
use crate::git::fixture::{commit, git};
use crate::workspace::{Inside, Site};

/// What becomes of a task that changes, adds and deletes files, where it may touch `patterns`.
fn collected(site: &Site, task: &str, patterns: &[&str], strict: bool) -> BranchReport {
    let inside = site.workspace(task);
    commit(&inside.tree(), "a.txt", "changed\n");
    commit(&inside.tree(), "new/deep/file.txt", "added\n");
    fs::remove_file(inside.tree().join("src/b.txt")).unwrap();
    inside.hand_off();
    collect_on(site, &inside, task, (patterns, strict))
}

fn collect_on(
    site: &Site,
    inside: &Inside,
    task: &str,
    (patterns, strict): (&[&str], bool),
) -> BranchReport {
    let paths: Vec<PathPattern> = patterns.iter().map(|p| p.parse().unwrap()).collect();
    let paths = &paths;
    let asked = Asked {
        ground: Some(Ground { paths, strict }),
        ..Asked::default()
    };
    collect_with(site, inside, task, &asked)
}

fn outside(report: &BranchReport) -> Vec<&str> {
    let told = report.risky_paths.iter();
    let told = told.filter(|(_, why)| why.contains("touches"));
    told.map(|(path, _)| path.as_str()).collect()
}

#[test]
fn what_is_changed_outside_is_told_and_the_work_is_taken() {
    let site = Site::new();
    let cases: [(&[&str], &[&str]); 5] = [
        (&["**"], &[]),
        (&["a.txt", "new", "src"], &[]),
        (&["new/**/*.txt", "*.txt"], &["src/b.txt"]),
        (&["src"], &["a.txt", "new/deep/file.txt"]),
        (&["docs"], &["a.txt", "new/deep/file.txt", "src/b.txt"]),
    ];
    for (number, (patterns, wanted)) in cases.into_iter().enumerate() {
        let report = collected(&site, &format!("t{number}"), patterns, false);
        assert!(
            matches!(report.result, BranchResult::Created { .. }),
            "{report:?}"
        );
        assert_eq!(outside(&report), wanted, "{patterns:?}");
    }
}

#[test]
fn a_strict_ground_refuses_what_leaves_it_and_names_that() {
    let site = Site::new();
    let report = collected(&site, "stays", &["a.txt", "new", "src/b.txt"], true);
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    let before = snapshot(&site.dir);
    let report = collected(&site, "leaves", &["new"], true);
    let BranchResult::Rejected {
        check,
        detail,
        path,
    } = &report.result
    else {
        panic!("{report:?}")
    };
    assert_eq!(check, "touches");
    assert!(detail.ends_with("name: a.txt, src/b.txt"), "{detail}");
    assert!(path.join("worktree/new/deep/file.txt").is_file());
    assert_eq!(snapshot(&site.dir), before);
}

#[test]
fn a_file_that_becomes_a_directory_and_one_that_becomes_a_file_are_both_seen() {
    let site = Site::new();
    let inside = site.workspace("t");
    fs::remove_file(inside.tree().join("a.txt")).unwrap();
    fs::remove_file(inside.tree().join("src/b.txt")).unwrap();
    fs::remove_dir(inside.tree().join("src")).unwrap();
    fs::write(inside.tree().join("src"), "a file\n").unwrap();
    commit(&inside.tree(), "a.txt/inner", "a directory\n");
    inside.hand_off();
    let report = collect_on(&site, &inside, "t", (&["docs"], false));
    assert_eq!(
        outside(&report),
        ["a.txt", "a.txt/inner", "src", "src/b.txt"]
    );
    git(&site.dir, &["fsck", "--strict"]);
}

#[test]
fn thousands_outside_are_counted_to_a_bound() {
    let site = Site::new();
    let inside = site.workspace("t");
    fs::create_dir(inside.tree().join("many")).unwrap();
    for number in 0..1500 {
        fs::write(inside.tree().join(format!("many/{number}")), "").unwrap();
    }
    git(&inside.tree(), &["add", "-A"]);
    git(&inside.tree(), &["commit", "-qm", "many"]);
    inside.hand_off();
    let report = collect_on(&site, &inside, "t", (&["docs"], false));
    let outside = outside(&report);
    assert_eq!(outside.len(), 21, "{outside:?}");
    assert!(outside[20].contains("1000"), "{}", outside[20]);
}
