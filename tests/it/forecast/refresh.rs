//! A result that is brought onto what the base has become.

use std::path::Path;

use agent_run::event::Fit;
use agent_run::forecast::{ForecastRequest, Refreshed, refresh};
use agent_run::id::CommitId;

use super::{LINES, branch, candidate};
use crate::git::fixture::{Scratch, git};

fn refreshed(scratch: &Scratch, dir: &Path, base: &str, tip: &str, merge: bool) -> Refreshed {
    let repository = scratch.open(dir);
    let request = ForecastRequest {
        repository: &repository,
        base: ("main", &base.parse().unwrap()),
        candidates: &[candidate("result", tip, &[])],
        patience: None,
    };
    let message = merge.then_some("Merge the base\n");
    refresh(&request, ("A", "a@example.org"), message).unwrap()
}

fn moved(refreshed: Refreshed) -> CommitId {
    match refreshed {
        Refreshed::Moved(commit) => commit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_commits_are_put_on_the_base_as_git_rebase_does() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = branch(&dir, "HEAD", &[("x", LINES)]);
    let now = branch(
        &dir,
        &base,
        &[("x", &LINES.replace('2', "two")), ("there", "\n")],
    );
    let changes = [
        ("x", &*LINES.replace('8', "eight")),
        ("there", "\n"),
        ("z", "\n"),
    ];
    let tip = branch(&dir, &base, &changes);
    let tip = moved(refreshed(&scratch, &dir, &now, &tip, false));
    let show = |range: &str| {
        git(
            &dir,
            &["log", "--format=%an %ad %B", "--name-status", range],
        )
    };
    let ours = show(&format!("{now}..{tip}"));
    git(
        &dir,
        &["checkout", "-q", "--detach", &branch(&dir, &base, &changes)],
    );
    git(&dir, &["rebase", "-q", &now]);
    // What is in the base already is no commit any more.
    assert_eq!(ours, show(&format!("{now}..HEAD")));
    assert_eq!(ours.matches("change ").count(), 2, "{ours}");
    let tree = |of: &str| git(&dir, &["rev-parse", &format!("{of}^{{tree}}")]);
    assert_eq!(tree(tip.as_str()), tree("HEAD"));
    assert_eq!(
        git(&dir, &["show", "-s", "--format=%cn", tip.as_str()]),
        "A"
    );
    let again = refreshed(&scratch, &dir, &now, tip.as_str(), false);
    assert_eq!(again, Refreshed::Same);
}

#[test]
fn the_base_is_merged_into_it_where_that_is_asked() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let now = branch(&dir, &base, &[("now", "\n")]);
    let tip = branch(&dir, &base, &[("x", "\n")]);
    let merged = moved(refreshed(&scratch, &dir, &now, &tip, true));
    let parents = git(&dir, &["show", "-s", "--format=%P", merged.as_str()]);
    assert_eq!(parents, format!("{tip} {now}"));
    // A merge cannot be put on another commit.
    let later = branch(&dir, &now, &[("later", "\n")]);
    let linear = refreshed(&scratch, &dir, &later, merged.as_str(), false);
    assert_eq!(linear, Refreshed::NotLinear);
}

#[test]
fn the_commit_that_conflicts_is_named() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = branch(&dir, "HEAD", &[("x", LINES)]);
    let now = branch(&dir, &base, &[("x", &LINES.replace('5', "now"))]);
    let first = branch(&dir, &base, &[("y", "\n")]);
    let second = branch(&dir, &first, &[("x", &LINES.replace('5', "its"))]);
    let tip = branch(&dir, &second, &[("z", "\n")]);
    for (merge, named) in [(false, &second), (true, &tip)] {
        let Refreshed::Conflict { commit, why } = refreshed(&scratch, &dir, &now, &tip, merge)
        else {
            panic!("no conflict");
        };
        assert_eq!(commit.as_str(), named);
        let Fit::Conflict { conflicts, .. } = why else {
            panic!("{why:?}");
        };
        assert_eq!(
            (conflicts[0].lines[0].one, conflicts[0].lines[0].other),
            (5, 5)
        );
    }
}

#[test]
fn what_is_in_the_base_is_said_to_be() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let tip = branch(&dir, &base, &[("x", "1\n"), ("x", "2\n")]);
    let squashed = branch(&dir, &base, &[("other", "\n"), ("x", "2\n")]);
    assert_eq!(
        refreshed(&scratch, &dir, &squashed, &tip, false),
        Refreshed::Merged
    );
}
