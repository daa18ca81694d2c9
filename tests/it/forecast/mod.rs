//! The forecast, against real repositories and the git command.

mod histories;
mod integration;
mod refresh;

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_run::event::{ConflictLines, FileConflict, Fit, Forecast};
use agent_run::forecast::{Candidate, ForecastRequest, forecast};
use agent_run::git::GitError;

use crate::git::fixture::{Scratch, commit, git};

fn candidate(branch: &str, tip: &str, needs: &[usize]) -> Candidate {
    Candidate {
        branch: branch.into(),
        task: None,
        commit: tip.parse().unwrap(),
        needs: needs.to_vec(),
    }
}

fn forecast_of(scratch: &Scratch, dir: &Path, base: &str, candidates: &[Candidate]) -> Forecast {
    let repository = scratch.open(dir);
    let request = ForecastRequest {
        repository: &repository,
        base: ("main", &base.parse().unwrap()),
        candidates,
        patience: None,
    };
    forecast(&request).unwrap()
}

/// A branch on `from` in which each file has this content; its tip.
fn branch(dir: &Path, from: &str, files: &[(&str, &str)]) -> String {
    git(dir, &["checkout", "-qf", "--detach", from]);
    for (file, text) in files {
        commit(dir, file, text);
    }
    git(dir, &["rev-parse", "HEAD"])
}

fn fit_of<'a>(forecast: &'a Forecast, one: &str, other: &str) -> &'a Fit {
    let mut pairs = forecast.pairs.iter();
    let pair = pairs.find(|pair| pair.one == one && pair.other == other);
    pair.map_or(&Fit::Clean, |pair| &pair.fit)
}

const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

#[test]
fn a_conflict_names_its_files_and_lines() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = commit(&dir, "x", LINES).to_string();
    let one = branch(&dir, &base, &[("x", "0\n1\n2\n3\n4\nfive\n6\n7\n8\n9\n")]);
    let other = branch(&dir, &base, &[("x", "1\n2\n3\n4\n5a\n5b\n6\n7\n8\n9\n")]);
    let more = [("y", ""), ("x", "0\n1\n2\n3\n4\nfive\n6\n7\n8\n9\n")];
    let same = branch(&dir, &base, &more);
    let candidates = [
        candidate("one", &one, &[]),
        candidate("other", &other, &[]),
        candidate("more", &same, &[]),
    ];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    let lines = ConflictLines {
        one: 6,
        one_count: 1,
        other: 6,
        other_count: 2,
    };
    let conflict = FileConflict {
        path: "x".into(),
        kind: "contents".into(),
        lines: vec![lines],
    };
    let expected = Fit::Conflict {
        files: 1,
        conflicts: vec![conflict],
    };
    assert_eq!(fit_of(&forecast, "one", "other"), &expected);
    assert_eq!(fit_of(&forecast, "one", "more"), &Fit::Same);
    assert_eq!(forecast.together, ["one", "more"]);
    assert_eq!(forecast.order, ["one", "more", "other"]);
    assert!(forecast.is_largest && !forecast.is_clean());
}

#[test]
fn a_directory_that_went_to_two_others_is_named() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = branch(&dir, "HEAD", &[("d/1", "first\n"), ("d/2", "second\n")]);
    for (file, to) in [("d/1", "e"), ("d/2", "f")] {
        fs::create_dir(dir.join(to)).unwrap();
        git(&dir, &["mv", file, to]);
    }
    git(&dir, &["commit", "-qm", "split"]);
    let split = git(&dir, &["rev-parse", "HEAD"]);
    let new = branch(&dir, &base, &[("d/3", "third\n")]);
    let candidates = [candidate("split", &split, &[]), candidate("new", &new, &[])];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    let Fit::Conflict { conflicts, .. } = fit_of(&forecast, "split", "new") else {
        panic!("{forecast:?}");
    };
    let told: Vec<_> = conflicts.iter().map(|c| (&*c.path, &*c.kind)).collect();
    assert_eq!(told, [("d", "directory rename unclear split")]);
}

#[test]
fn what_is_squashed_into_the_base_is_there_already() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let tip = branch(&dir, &base, &[("new", "1\n"), ("new", "2\n")]);
    let now = branch(&dir, &base, &[("new", "2\n"), ("other", "\n")]);
    let forecast = forecast_of(&scratch, &dir, &now, &[candidate("done", &tip, &[])]);
    assert_eq!(forecast.branches[0].fit, Fit::Same);
    assert!(forecast.order.is_empty() && forecast.is_clean());
}

#[test]
fn what_another_needs_comes_before_it_and_goes_without_it() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let now = branch(&dir, &base, &[("a.txt", "mine\n")]);
    let first = branch(&dir, &base, &[("a.txt", "its\n")]);
    let second = branch(&dir, &base, &[("second", "\n")]);
    let third = branch(&dir, &base, &[("third", "\n")]);
    // The second needs the first, which conflicts with what the base has become.
    let candidates = [
        candidate("third", &third, &[2]),
        candidate("first", &first, &[]),
        candidate("free", &second, &[]),
        candidate("second", &second, &[1]),
    ];
    let forecast = forecast_of(&scratch, &dir, &now, &candidates);
    assert_eq!(forecast.order, ["free", "third"]);
}

/// Three of which no two conflict, and all three do: two empty a directory into another one together, and
/// the third adds to it.
fn three(dir: &Path, base: &str, from: &str) -> [String; 3] {
    let moved = ["1", "2"].map(|file| {
        git(dir, &["checkout", "-qf", "--detach", base]);
        let to = format!("{from}-moved");
        fs::create_dir(dir.join(&to)).unwrap();
        git(dir, &["mv", &format!("{from}/{file}"), &to]);
        git(dir, &["commit", "-qm", "move"]);
        git(dir, &["rev-parse", "HEAD"])
    });
    let third = branch(dir, base, &[(&*format!("{from}/3"), "third\n")]);
    let [one, two] = moved;
    [one, two, third]
}

#[test]
fn three_that_fit_in_pairs_and_not_together_are_not_said_to() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let files = ["d/1", "d/2", "e/1", "e/2"];
    let files = files.map(|file| {
        (
            file,
            if file.ends_with('1') {
                "first\n"
            } else {
                "second\n"
            },
        )
    });
    let base = branch(&dir, "HEAD", &files);
    let named = |names: [&str; 3], tips: &[String; 3]| {
        let named = names.into_iter().zip(tips);
        let made = named.map(|(name, tip)| candidate(name, tip, &[]));
        made.collect::<Vec<_>>()
    };
    let mut candidates = named(["x", "y", "z"], &three(&dir, &base, "d"));
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    assert_eq!(forecast.pairs, []);
    assert_eq!(forecast.together, ["x", "y"]);
    assert!(!forecast.is_largest && !forecast.is_clean());
    // Others that have nothing to do with them do not fit either, and what needs one goes with it.
    candidates.extend(named(["u", "v", "w"], &three(&dir, &base, "e")));
    let free = branch(&dir, &base, &[("free", "\n")]);
    candidates.push(candidate("needs-z", &free, &[2]));
    candidates.push(candidate("free", &free, &[]));
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    assert_eq!(forecast.together, ["x", "y", "u", "v", "free"]);
    assert!(!forecast.is_largest);
}

#[test]
fn histories_without_a_common_commit_are_said_to_be_so() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    git(&dir, &["checkout", "-q", "--orphan", "pages"]);
    let pages = commit(&dir, "index.html", "\n").to_string();
    let tip = branch(&dir, &base, &[("new", "\n")]);
    let candidates = [candidate("pages", &pages, &[]), candidate("new", &tip, &[])];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    assert_eq!(forecast.branches[0].fit, Fit::Unrelated);
    assert_eq!(fit_of(&forecast, "pages", "new"), &Fit::Unrelated);
    assert_eq!(forecast.together, ["new"]);
}

#[test]
fn names_that_a_terminal_would_obey_are_told_as_text() {
    let scratch = Scratch::odd();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let file = "src/\u{1b}[2J\n<!-- @everyone fixes #1.txt";
    let tips = ["1\n", "2\n"].map(|text| branch(&dir, &base, &[(file, text)]));
    let candidates = [
        candidate("a", &tips[0], &[]),
        candidate("b\u{7}", &tips[1], &[]),
    ];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    let Fit::Conflict { conflicts, .. } = &forecast.pairs[0].fit else {
        panic!("{forecast:?}");
    };
    assert_eq!(conflicts[0].path, "src/\u{fffd}<!-- @everyone fixes #1.txt");
    assert_eq!(forecast.pairs[0].other, "b\u{fffd}");
}

#[test]
fn no_merge_driver_of_the_users_configuration_runs() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = branch(
        &dir,
        "HEAD",
        &[(".gitattributes", "*.d merge=own\n"), ("x.d", "1\n")],
    );
    let mark = scratch.path("mark");
    let driver = format!("touch '{}'; exit 0", mark.display());
    git(&dir, &["config", "merge.own.driver", &driver]);
    let tips = ["2\n", "3\n"].map(|text| branch(&dir, &base, &[("x.d", text)]));
    let candidates = [candidate("a", &tips[0], &[]), candidate("b", &tips[1], &[])];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    assert!(fit_of(&forecast, "a", "b").is_conflict());
    assert!(!mark.exists());
}

#[test]
fn nothing_of_the_users_is_written() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = branch(&dir, "HEAD", &[("x", LINES)]);
    let one = branch(&dir, &base, &[("x", &LINES.replace('2', "two"))]);
    let other = branch(&dir, &base, &[("x", &LINES.replace('8', "eight"))]);
    let before = git(&dir, &["count-objects", "-v"]);
    let candidates = [candidate("a", &one, &[]), candidate("b", &other, &[])];
    let forecast = forecast_of(&scratch, &dir, &base, &candidates);
    assert_eq!(forecast.together, ["a", "b"]);
    assert_eq!(git(&dir, &["count-objects", "-v"]), before);
}

#[test]
fn git_is_given_only_the_time_that_is_left() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let tip = branch(&dir, &base, &[("x", "\n")]);
    let repository = scratch.open(&dir);
    let request = ForecastRequest {
        repository: &repository,
        base: ("main", &base.parse().unwrap()),
        candidates: &[candidate("x", &tip, &[])],
        patience: Some(Duration::ZERO),
    };
    let error = forecast(&request).unwrap_err();
    assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
}

/// Makes commits and branches of what git-fast-import(1) reads.
fn import(scratch: &Scratch, dir: &Path, input: &str) {
    let file = scratch.path("import");
    fs::write(&file, input).unwrap();
    let import = format!("git fast-import --quiet < '{}'", file.display());
    let done = crate::git::fixture::program("sh")
        .args(["-c", &import])
        .current_dir(dir)
        .status();
    assert!(done.unwrap().success());
}

/// The branches `t0` and so on.
fn imported(dir: &Path, count: usize) -> Vec<Candidate> {
    let tip = |task: usize| git(dir, &["rev-parse", &format!("t{task}")]);
    let tasks = (0..count).map(|task| candidate(&format!("t{task}"), &tip(task), &[]));
    tasks.collect()
}

#[test]
fn two_hundred_results_and_one_of_ten_thousand_files() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let mut input = String::new();
    for task in 0..200 {
        input +=
            &format!("commit refs/heads/t{task}\ncommitter U <u@x> 1 +0000\ndata 0\nfrom {base}\n");
        // Each one shares a file with one other, in the same line.
        input += &format!("M 644 inline p{}\ndata 2\n{}\n", task / 2, task % 2);
        let files = if task == 7 { 10_000 } else { 1 };
        for file in 0..files {
            input += &format!("M 644 inline big{task}/{file}\ndata 0\n\n");
        }
    }
    import(&scratch, &dir, &input);
    let forecast = forecast_of(&scratch, &dir, &base, &imported(&dir, 200));
    assert_eq!(forecast.pairs.len(), 100);
    assert!(forecast.pairs.iter().all(|pair| pair.fit.is_conflict()));
    assert_eq!((forecast.order.len(), forecast.together.len()), (200, 100));
    assert!(forecast.is_largest);
}

#[test]
fn fewer_files_of_each_pair_are_told_where_many_conflict() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]);
    let mut input = String::new();
    for task in 0..33 {
        input +=
            &format!("commit refs/heads/t{task}\ncommitter U <u@x> 1 +0000\ndata 0\nfrom {base}\n");
        for file in 0..10 {
            input += &format!("M 644 inline p{file}\ndata 3\n{task:02}\n");
        }
    }
    import(&scratch, &dir, &input);
    let forecast = forecast_of(&scratch, &dir, &base, &imported(&dir, 33));
    assert_eq!(forecast.pairs.len(), 33 * 32 / 2);
    for pair in &forecast.pairs {
        let Fit::Conflict { files, conflicts } = &pair.fit else {
            panic!("{pair:?}");
        };
        // Of 528 pairs at most 4000 files, and the first of each.
        assert_eq!((*files, conflicts.len()), (10, 8), "{pair:?}");
    }
}
