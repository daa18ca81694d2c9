//! Results that touch submodules: taken like any other, and what they lack is told and kept.

use std::fs;

use std::path::PathBuf;
use std::time::Duration;

use agent_run::collect::remove_unused;
use agent_run::event::{BranchReport, BranchResult};

use super::collected;
use crate::git::fixture::{commit, git};
use crate::workspace::{Inside, Site};

fn collect_after(site: &Site, task: &str, work: impl FnOnce(&Inside)) -> BranchReport {
    let inside = site.workspace(task);
    work(&inside);
    inside.hand_off();
    collected(site, &inside, task)
}

fn is_created(report: &BranchReport) -> bool {
    matches!(report.result, BranchResult::Created { .. })
}

fn why<'a>(report: &'a BranchReport, path: &str) -> Vec<&'a str> {
    let found = report.risky_paths.iter().filter(|(p, _)| p == path);
    found.map(|(_, why)| why.as_str()).collect()
}

#[test]
fn work_beside_a_submodule_is_a_normal_result() {
    let site = Site::with_submodules();
    let report = collect_after(&site, "t", |inside| {
        commit(&inside.tree(), "libs/new.txt", "x");
        fs::write(inside.tree().join("left"), "x").unwrap();
    });
    assert!(is_created(&report), "{report:?}");
    assert!(
        report.risky_paths.is_empty() && report.notes.is_empty(),
        "{report:?}"
    );
    assert!(!report.content_left_behind, "{report:?}");
}

#[test]
fn a_submodule_moved_to_a_commit_of_its_clone_is_a_normal_result() {
    let site = Site::with_submodules();
    let old = git(&site.dir.join("libs/one"), &["rev-parse", "HEAD~1"]);
    for (task, committed) in [("committed", true), ("leftover", false)] {
        let report = collect_after(&site, task, |inside| {
            git(
                &inside.tree().join("libs/one"),
                &["checkout", "-q", "HEAD~1"],
            );
            if committed {
                inside.git(&["commit", "-qam", "back"]);
            }
        });
        assert!(is_created(&report), "{report:?}");
        assert_eq!(
            why(&report, "libs/one"),
            ["moves a submodule"],
            "{report:?}"
        );
        assert!(
            !report.content_left_behind && report.notes.is_empty(),
            "{report:?}"
        );
        let moved = git(&site.dir, &["rev-parse", &format!("agent/{task}:libs/one")]);
        assert_eq!(moved, old);
    }
}

#[test]
fn commits_inside_a_submodule_are_told_and_kept() {
    let site = Site::with_submodules();
    let report = collect_after(&site, "t", |inside| {
        commit(&inside.tree().join("libs/one"), "new.txt", "x");
        commit(&inside.tree(), "beside.txt", "x");
    });
    assert!(is_created(&report), "{report:?}");
    assert_eq!(
        why(&report, "libs/one"),
        [
            "is a submodule moved to a commit that is not in the result",
            "is a submodule with work that is not in the branch",
        ],
        "{report:?}"
    );
    assert!(report.content_left_behind, "{report:?}");
    assert_eq!(report.notes.len(), 2, "{report:?}");
}

#[test]
fn a_hand_off_that_says_nothing_does_not_hide_a_moved_submodule() {
    let site = Site::with_submodules();
    let inside = site.workspace("t");
    commit(&inside.tree().join("libs/one"), "new.txt", "x");
    commit(&inside.tree(), "beside.txt", "x");
    let said = inside.hand_off();
    let lines = said.lines().filter(|line| !line.starts_with("submodule="));
    let silent: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(silent.len() < said.len(), "{said}");
    fs::write(inside.workspace.out().join("status"), silent).unwrap();
    let report = collected(&site, &inside, "t");
    assert!(
        is_created(&report) && report.content_left_behind,
        "{report:?}"
    );
}

#[test]
fn changes_inside_a_submodule_alone_are_told_and_kept() {
    let site = Site::with_submodules();
    let report = collect_after(&site, "t", |inside| {
        fs::write(inside.tree().join("libs/one/inner/a.txt"), "x").unwrap();
    });
    assert_eq!(report.result, BranchResult::NoChange, "{report:?}");
    assert!(report.notes[0].contains("(libs/one)"), "{report:?}");
    assert_eq!(
        why(&report, "libs/one"),
        ["is a submodule with work that is not in the branch"],
        "{report:?}"
    );
    assert!(report.content_left_behind, "{report:?}");
}

#[test]
fn a_gitlink_whose_commit_nobody_has_is_told_and_kept() {
    let site = Site::with_submodules();
    let report = collect_after(&site, "t", |inside| {
        let entry = format!("160000,{},libs/one", "1".repeat(40));
        inside.git(&["update-index", "--cacheinfo", &entry]);
        inside.git(&["commit", "-qm", "move"]);
    });
    assert!(
        is_created(&report) && report.content_left_behind,
        "{report:?}"
    );
    assert!(report.side_refs.is_empty(), "{report:?}");
}

#[test]
fn a_status_with_too_many_submodules_is_refused() {
    let site = Site::with_submodules();
    let inside = site.workspace("t");
    let said = inside.hand_off();
    let lines: String = (0..41).map(|n| format!("submodule={n}\n")).collect();
    fs::write(inside.workspace.out().join("status"), said + &lines).unwrap();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(report.result, BranchResult::Rejected { .. }),
        "{report:?}"
    );
}

#[test]
fn unused_stores_of_submodules_are_removed() {
    let site = Site::with_submodules();
    let stores: Vec<PathBuf> = site.store.submodule_stores().map(Into::into).collect();
    assert_eq!(stores.len(), 2);
    let (state, key) = (site.scratch.state(), site.repository.key());
    let remove = |age| remove_unused(&state, key, age, false).unwrap();
    assert!(remove(Duration::from_secs(3600)).is_empty());
    assert_eq!(remove(Duration::ZERO).len(), 3);
    assert!(stores.iter().all(|store| !store.exists()));
}
