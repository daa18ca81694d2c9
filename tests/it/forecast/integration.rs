//! Results merged in memory, and the branch that is moved to them.

use std::fs;
use std::path::Path;

use agent_run::event::Fit;
use agent_run::forecast::{
    Candidate, ForecastRequest, Integrated, IntegrationEnd, Merging, integrate,
};

use super::{branch, candidate};
use crate::git::fixture::{Scratch, commit, git};

fn merged(
    scratch: &Scratch,
    dir: &Path,
    base: &str,
    candidates: &[Candidate],
    squash: bool,
) -> Integrated {
    let repository = scratch.open(dir);
    let request = ForecastRequest {
        repository: &repository,
        base: ("main", &base.parse().unwrap()),
        candidates,
        patience: None,
    };
    let merging = Merging {
        author: ("A", "a@example.org"),
        squash,
        message: &|candidate| format!("Merge {}\n", candidate.branch),
    };
    integrate(&request, &merging).unwrap()
}

fn ends(integrated: &Integrated) -> Vec<(&str, &IntegrationEnd)> {
    let results = integrated.results.iter();
    results
        .map(|result| (result.branch.as_str(), &result.end))
        .collect()
}

#[test]
fn a_conflict_leaves_one_out_and_the_rest_goes_on() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let now = branch(&dir, &base, &[("base", "\n")]);
    let one = branch(&dir, &base, &[("x", "1\n"), ("one", "\n")]);
    let two = branch(&dir, &base, &[("x", "2\n")]);
    let on_two = branch(&dir, &two, &[("on", "\n")]);
    let three = branch(&dir, &base, &[("three", "\n")]);
    let there = branch(&dir, &base, &[("base", "\n")]);
    git(&dir, &["checkout", "-qf", "main"]);
    let refs = git(&dir, &["for-each-ref"]);
    let candidates = [
        candidate("one", &one, &[]),
        candidate("two", &two, &[]),
        candidate("on-two", &on_two, &[1]),
        candidate("three", &three, &[]),
        candidate("there", &there, &[]),
    ];
    let integrated = merged(&scratch, &dir, &now, &candidates, false);
    let told = ends(&integrated);
    // Two and what needs it are more than the one with which both conflict.
    assert_eq!(told[0], ("three", &IntegrationEnd::Merged));
    assert_eq!(told[1], ("two", &IntegrationEnd::Merged));
    assert_eq!(told[2], ("on-two", &IntegrationEnd::Merged));
    let left = told.iter().find(|(branch, _)| *branch == "one").unwrap().1;
    let IntegrationEnd::LeftOut {
        why: Fit::Conflict {
            files: 1,
            conflicts,
        },
    } = left
    else {
        panic!("{left:?}");
    };
    assert_eq!(
        (&*conflicts[0].path, &*conflicts[0].kind),
        ("x", "contents")
    );
    assert!(told.contains(&("there", &IntegrationEnd::Same)), "{told:?}");
    let tip = integrated.commit.as_str();
    let files = git(&dir, &["ls-tree", "-r", "--name-only", tip]);
    assert_eq!(files, "a.txt\nbase\non\nsrc/b.txt\nthree\nx");
    let subjects = git(
        &dir,
        &[
            "log",
            "--first-parent",
            "--format=%s %an",
            &format!("{now}..{tip}"),
        ],
    );
    assert_eq!(subjects, "Merge on-two A\nMerge two A\nMerge three A");
    // Nobody's refs or files were touched.
    assert_eq!(git(&dir, &["for-each-ref"]), refs);
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
}

#[test]
fn what_needs_a_result_that_is_left_out_is_left_out() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let now = branch(&dir, &base, &[("x", "now\n")]);
    let first = branch(&dir, &base, &[("x", "1\n")]);
    let second = branch(&dir, &base, &[("second", "\n")]);
    let candidates = [
        candidate("second", &second, &[1]),
        candidate("first", &first, &[]),
    ];
    let integrated = merged(&scratch, &dir, &now, &candidates, false);
    assert_eq!(integrated.commit.as_str(), now);
    let told = ends(&integrated);
    assert!(
        matches!(told[0], ("first", IntegrationEnd::LeftOut { .. })),
        "{told:?}"
    );
    let needs = "first".to_owned();
    assert_eq!(told[1], ("second", &IntegrationEnd::NeedsLeftOut { needs }));
}

#[test]
fn a_squash_is_a_commit_for_each_result() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let one = branch(&dir, &base, &[("x", "1\n"), ("x", "2\n")]);
    let on_one = branch(&dir, &one, &[("y", "\n")]);
    let candidates = [candidate("one", &one, &[]), candidate("on", &on_one, &[0])];
    let integrated = merged(&scratch, &dir, &base, &candidates, true);
    let log = git(
        &dir,
        &[
            "log",
            "--format=%s %P",
            integrated.commit.as_str(),
            "--not",
            &base,
        ],
    );
    let parents: Vec<usize> = log
        .lines()
        .map(|line| line.split(' ').count() - 2)
        .collect();
    assert_eq!(parents, [1, 1], "{log}");
    let changed = git(
        &dir,
        &[
            "show",
            "--name-only",
            "--format=",
            integrated.commit.as_str(),
        ],
    );
    assert_eq!(changed, "y");
}

#[test]
fn a_branch_moves_only_from_where_it_was_seen() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
    let next = commit(&dir, "next", "\n");
    let repository = scratch.open(&dir);
    repository.move_branch("new", None, &base).unwrap();
    repository.move_branch("new", None, &next).unwrap_err();
    repository
        .move_branch("new", Some(&next), &next)
        .unwrap_err();
    assert_eq!(repository.branch("new").unwrap().unwrap().commit, base);
    repository.move_branch("new", Some(&base), &next).unwrap();
    assert_eq!(repository.branch("new").unwrap().unwrap().commit, next);
    repository.move_branch("a/b", None, &next).unwrap();
    assert_eq!(repository.branch("a").unwrap(), None);
}

#[test]
fn files_come_with_a_branch_that_is_checked_out_and_hooks_do_not_run() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let next = branch(&dir, &base, &[("next", "\n")]).parse().unwrap();
    git(&dir, &["checkout", "-qf", "main"]);
    let hook = dir.join(".git/hooks/post-merge");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\ntouch ran\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hook, executable).unwrap();
    let repository = scratch.open(&dir);
    let place = repository.branch("main").unwrap().unwrap();
    assert!(!repository.has_changes(&dir).unwrap());
    // A file of the user's is in the way: nothing is done.
    fs::write(dir.join("next"), "mine\n").unwrap();
    repository.fast_forward("main", &place, &next).unwrap_err();
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), base);
    assert_eq!(fs::read_to_string(dir.join("next")).unwrap(), "mine\n");
    fs::remove_file(dir.join("next")).unwrap();
    repository.fast_forward("main", &place, &next).unwrap();
    assert_eq!(git(&dir, &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), next.to_string());
    assert!(dir.join("next").exists() && !dir.join("ran").exists());
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    assert!(repository.has_changes(&dir).unwrap());
}

#[test]
fn a_branch_that_is_checked_out_moves_only_from_where_it_was_seen() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let seen = branch(&dir, &base, &[("seen", "\n")]);
    let next = branch(&dir, &seen, &[("next", "\n")]).parse().unwrap();
    git(&dir, &["checkout", "-qf", "main"]);
    git(&dir, &["merge", "-q", &seen]);
    let repository = scratch.open(&dir);
    let place = repository.branch("main").unwrap().unwrap();
    let refused = |what: &str| {
        let refs = git(&dir, &["for-each-ref"]);
        let error = repository
            .fast_forward("main", &place, &next)
            .expect_err(what);
        assert!(error.to_string().contains("meanwhile"), "{error}");
        assert_eq!(git(&dir, &["for-each-ref"]), refs, "{what}");
    };
    git(&dir, &["reset", "-q", "--hard", &base]);
    refused("the user took a commit back");
    git(&dir, &["reset", "-q", "--hard", &seen]);
    git(&dir, &["checkout", "-q", "-b", "another"]);
    refused("the user went to another branch");
    git(&dir, &["checkout", "-q", "main"]);
    fs::write(dir.join("a.txt"), "changed\n").unwrap();
    refused("the user changed a file");
    git(&dir, &["checkout", "-q", "--", "a.txt"]);
    // Not as the user's configuration has it.
    git(&dir, &["config", "branch.main.mergeOptions", "--squash"]);
    repository.fast_forward("main", &place, &next).unwrap();
    assert_eq!(git(&dir, &["rev-parse", "main"]), next.to_string());
}
