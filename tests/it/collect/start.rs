//! Work that starts from another task's result: what it sees, what it is measured against, and that
//! nothing but agent-run's own repositories must have kept the result.

use std::fs;

use agent_run::event::{BranchReport, BranchResult};
use agent_run::id::CommitId;

use super::collected;
use crate::git::fixture::{commit, git, try_git};
use crate::workspace::{Inside, Site};

fn tip(report: &BranchReport) -> CommitId {
    match &report.result {
        BranchResult::Created { commit, .. } => commit.clone(),
        other => panic!("{other:?}"),
    }
}

/// The result of a task that adds `one.txt`.
fn first(site: &Site) -> CommitId {
    let inside = site.workspace("first");
    commit(&inside.tree(), "one.txt", "one\n");
    inside.hand_off();
    tip(&collected(site, &inside, "first"))
}

/// What a task that starts from the first one's result makes of it.
fn second(site: &Site, from: &CommitId, work: impl FnOnce(&Inside)) -> BranchReport {
    let inside = site.workspace_from("second", from, from);
    work(&inside);
    inside.hand_off();
    collected(site, &inside, "second")
}

#[test]
fn it_sees_the_result_and_its_branch_stands_on_it() {
    let site = Site::new();
    let result = first(&site);
    // The user has no use for it: what builds on it needs nothing of his.
    git(&site.dir, &["branch", "-qD", "agent/first"]);
    git(&site.dir, &["reflog", "expire", "--expire=now", "--all"]);
    git(&site.dir, &["gc", "-q", "--prune=now"]);
    let object = format!("{result}^{{commit}}");
    assert!(
        !try_git(&site.dir, &["cat-file", "-e", &object])
            .status
            .success()
    );
    let report = second(&site, &result, |inside| {
        assert_eq!(inside.git(&["rev-parse", "HEAD"]), result.as_str());
        let base = inside.git(&["rev-parse", "refs/agent-run/base"]);
        assert_eq!(base, result.as_str());
        assert_eq!(inside.git(&["status", "--porcelain"]), "");
        let text = fs::read_to_string(inside.tree().join("one.txt"));
        assert_eq!(text.unwrap(), "one\n");
        commit(&inside.tree(), "two.txt", "two\n");
        fs::write(inside.tree().join("left.txt"), "left\n").unwrap();
    });
    let numbers = (report.commits, report.files, report.insertions);
    assert_eq!(numbers, (2, 2, 2), "{report:?}");
    assert!(report.notes.is_empty(), "{report:?}");
    let parent = format!("{}~2", tip(&report));
    assert_eq!(git(&site.dir, &["rev-parse", &parent]), result.as_str());
    git(&site.dir, &["fsck", "--strict"]);
    // Every task of the base could read it there.
    assert!(
        !try_git(site.store.path(), &["cat-file", "-e", &object])
            .status
            .success()
    );
}

#[test]
fn no_change_is_none_of_the_start() {
    let site = Site::new();
    let result = first(&site);
    let report = second(&site, &result, |_| {});
    assert_eq!(report.result, BranchResult::NoChange, "{report:?}");
}

#[test]
fn what_does_not_build_on_the_start_is_refused() {
    let site = Site::new();
    let result = first(&site);
    let report = second(&site, &result, |inside| {
        inside.git(&["reset", "-q", "--hard", "HEAD~1"]);
        commit(&inside.tree(), "two.txt", "two\n");
    });
    let BranchResult::Rejected { check, .. } = &report.result else {
        panic!("{report:?}")
    };
    assert_eq!(check, "descends-from-base");
}

#[test]
fn files_come_back_on_the_start_where_the_git_directory_is_broken() {
    let site = Site::new();
    let result = first(&site);
    let report = second(&site, &result, |inside| {
        fs::write(inside.tree().join("two.txt"), "two\n").unwrap();
        fs::remove_dir_all(inside.workspace.git_dir().join("objects")).unwrap();
    });
    let parent = format!("{}~1", tip(&report));
    assert_eq!(git(&site.dir, &["rev-parse", &parent]), result.as_str());
    assert_eq!((report.commits, report.files), (1, 1), "{report:?}");
}

#[test]
fn further_work_on_a_branch_is_measured_with_what_is_there() {
    let site = Site::new();
    let result = first(&site);
    for (task, further) in [("goes-on", true), ("stays", false)] {
        let inside = site.workspace_from(task, &result, site.base());
        assert_eq!(inside.git(&["rev-parse", "HEAD"]), result.as_str());
        let base = inside.git(&["rev-parse", "refs/agent-run/base"]);
        assert_eq!(base, site.base().as_str());
        if further {
            commit(&inside.tree(), "two.txt", "two\n");
        }
        inside.hand_off();
        let report = collected(&site, &inside, task);
        let expected = 1 + u64::from(further);
        assert_eq!((report.commits, report.files), (expected, expected));
        assert_eq!(tip(&report) == result, !further);
    }
}

#[test]
fn another_process_finds_the_start_again() {
    let site = Site::new();
    let result = first(&site);
    let inside = site.workspace_from("second", &result, &result);
    let found = site.found("second");
    assert_eq!(found, inside.workspace);
    assert_eq!(found.base(), &result);
    assert!(found.mounts().iter().all(|mount| mount.source.exists()));
    assert_eq!(site.found("first").base(), site.base());
}

#[test]
fn submodules_are_those_that_the_start_has_too() {
    let site = Site::with_submodules();
    let unmoved = first(&site);
    let inside = site.workspace_from("unmoved", &unmoved, &unmoved);
    assert!(inside.tree().join("libs/one/a.txt").is_file());
    assert!(inside.tree().join("libs/one/inner/a.txt").is_file());
    assert_eq!(inside.git(&["status", "--porcelain"]), "");

    let inside = site.workspace("moves");
    let one = inside.tree().join("libs/one");
    git(&one, &["checkout", "-q", "HEAD~1"]);
    inside.git(&["commit", "-qam", "back"]);
    inside.hand_off();
    let moved = tip(&collected(&site, &inside, "moves"));
    let inside = site.workspace_from("moved", &moved, &moved);
    assert!(!inside.tree().join("libs/one/a.txt").exists());
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    commit(&inside.tree(), "two.txt", "two\n");
    inside.hand_off();
    let report = collected(&site, &inside, "moved");
    assert_eq!((report.commits, report.files), (1, 1), "{report:?}");
    assert!(!report.content_left_behind, "{report:?}");
}
