//! Generated histories: what is forecast of two tips is what `git merge` does with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use agent_run::event::Fit;
use proptest::prelude::*;
use proptest::sample::select;

use super::{candidate, forecast_of};
use crate::git::fixture::{Scratch, git, try_git};

const TEXTS: [&str; 7] = [
    "a.txt",
    "d/b.txt",
    "d/e/c.txt",
    "f/g.txt",
    "crlf.txt",
    "keep/lines.uni",
    "keep/locked",
];
const PLACES: [&str; 8] = [
    "new.txt",
    "d/new.txt",
    "d/e/new.txt",
    "f/new.txt",
    "h/new.txt",
    "h",
    "d",
    "new.txt/below",
];
const DIRECTORIES: [&str; 3] = ["d", "d/e", "f"];
const TARGETS: [&str; 3] = ["h", "i", "f/moved"];

/// Something that somebody does to the files; nothing where it cannot be done.
#[derive(Debug, Clone)]
enum Op {
    Edit(&'static str, usize, u8),
    Append(&'static str, u8),
    Endings(&'static str),
    Delete(&'static str),
    Rename(&'static str, &'static str),
    RenameDirectory(&'static str, &'static str),
    DeleteDirectory(&'static str),
    Add(&'static str, u8),
    Mode(&'static str),
    Link(&'static str, u8),
    Binary(u8),
    Submodule(u8),
    Merge(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let text = || select(&TEXTS[..]);
    prop_oneof![
        4 => (text(), 0..12_usize, 0..3_u8).prop_map(|(f, l, w)| Op::Edit(f, l, w)),
        1 => (text(), 0..2_u8).prop_map(|(f, w)| Op::Append(f, w)),
        1 => text().prop_map(Op::Endings),
        1 => text().prop_map(Op::Delete),
        2 => (text(), select(&PLACES[..])).prop_map(|(f, t)| Op::Rename(f, t)),
        2 => (select(&DIRECTORIES[..]), select(&TARGETS[..])).prop_map(|(f, t)| Op::RenameDirectory(f, t)),
        1 => select(&DIRECTORIES[..]).prop_map(Op::DeleteDirectory),
        2 => (select(&PLACES[..]), 0..2_u8).prop_map(|(f, w)| Op::Add(f, w)),
        1 => text().prop_map(Op::Mode),
        1 => (text(), 0..2_u8).prop_map(|(f, w)| Op::Link(f, w)),
        1 => (0..3_u8).prop_map(Op::Binary),
        1 => (0..3_u8).prop_map(Op::Submodule),
        1 => (0..4_usize).prop_map(Op::Merge),
    ]
}

impl Op {
    /// Does it in a worktree. What cannot be done is not.
    fn act(&self, dir: &Path) -> Option<()> {
        let make = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent()?).ok()?;
            fs::write(path, bytes).ok()
        };
        let moved = |from: &str, to: &str| {
            let (from, to) = (dir.join(from), dir.join(to));
            if to.starts_with(&from) || to.exists() {
                return None;
            }
            fs::create_dir_all(to.parent()?).ok()?;
            fs::rename(from, to).ok()
        };
        match self {
            Self::Edit(file, line, word) => {
                let text = fs::read_to_string(dir.join(file)).ok()?;
                let mut lines: Vec<String> =
                    text.split_inclusive('\n').map(str::to_owned).collect();
                *lines.get_mut(*line)? = format!("edited {word}\n");
                fs::write(dir.join(file), lines.concat()).ok()
            }
            Self::Append(file, word) => {
                let text = fs::read_to_string(dir.join(file)).ok()?;
                fs::write(dir.join(file), text + &format!("appended {word}\n")).ok()
            }
            Self::Endings(file) => {
                let text = fs::read_to_string(dir.join(file)).ok()?;
                let text = if text.contains('\r') {
                    text.replace('\r', "")
                } else {
                    text.replace('\n', "\r\n")
                };
                fs::write(dir.join(file), text).ok()
            }
            Self::Delete(file) => fs::remove_file(dir.join(file)).ok(),
            Self::Rename(from, to) | Self::RenameDirectory(from, to) => moved(from, to),
            Self::DeleteDirectory(path) => fs::remove_dir_all(dir.join(path)).ok(),
            Self::Add(path, word) => make(
                &dir.join(path),
                format!("added {word}\nand more\n").as_bytes(),
            ),
            Self::Mode(file) => {
                let mode = fs::symlink_metadata(dir.join(file)).ok()?;
                let mode = mode.is_file().then(|| mode.permissions().mode() ^ 0o111)?;
                fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).ok()
            }
            Self::Link(file, word) => {
                fs::remove_file(dir.join(file)).ok()?;
                symlink(format!("target{word}"), dir.join(file)).ok()
            }
            Self::Binary(word) => make(&dir.join("data.bin"), &[0, 1, *word, 0, 7]),
            Self::Submodule(word) => {
                let entry = format!("160000,{:040x},sub", 1 + u32::from(*word));
                try_git(dir, &["update-index", "--add", "--cacheinfo", &entry])
                    .status
                    .success()
                    .then_some(())
            }
            Self::Merge(_) => None,
        }
    }
}

/// The base's branch, then others; each on the first commit, or on the one before.
#[derive(Debug, Clone)]
struct History {
    branches: Vec<(Vec<Op>, bool)>,
}

fn history() -> impl Strategy<Value = History> {
    let branch = (prop::collection::vec(op(), 1..4), prop::bool::weighted(0.2));
    prop::collection::vec(branch, 4..6).prop_map(|branches| History { branches })
}

fn base(dir: &Path) {
    fs::create_dir(dir).unwrap();
    git(dir, &["init", "-q"]);
    for file in TEXTS {
        let ending = if file == "crlf.txt" { "\r\n" } else { "\n" };
        let lines: String = (0..12)
            .map(|n| format!("{file} line {n}{ending}"))
            .collect();
        fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
        fs::write(dir.join(file), lines).unwrap();
    }
    fs::write(dir.join(".gitattributes"), "*.uni merge=union\n").unwrap();
    fs::write(dir.join("keep/.gitattributes"), "locked -merge\n").unwrap();
    fs::write(dir.join("data.bin"), [0, 1, 2, 3]).unwrap();
    let entry = format!("160000,{:040x},sub", 9);
    fs::create_dir(dir.join("sub")).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["update-index", "--add", "--cacheinfo", &entry]);
    git(dir, &["commit", "-qm", "base"]);
}

/// Makes the branches, and gives their tips.
fn make(dir: &Path, history: &History) -> Vec<String> {
    let first = git(dir, &["rev-parse", "HEAD"]);
    let mut tips: Vec<String> = Vec::new();
    for (ops, stacked) in &history.branches {
        let from = tips.last().filter(|_| *stacked).unwrap_or(&first);
        git(dir, &["checkout", "-qf", "--detach", from]);
        git(dir, &["clean", "-qfdx"]);
        for op in ops {
            match op {
                Op::Merge(other) if tips.len() > *other => {
                    let merged = try_git(dir, &["merge", "-q", "--no-edit", &tips[*other]]);
                    if !merged.status.success() {
                        git(dir, &["reset", "-q", "--hard"]);
                    }
                }
                op => {
                    let _ = fs::create_dir(dir.join("sub"));
                    let is_of_index = matches!(op, Op::Submodule(_));
                    let _ = op.act(dir);
                    if !is_of_index {
                        git(dir, &["add", "-A"]);
                    }
                    git(
                        dir,
                        &["commit", "-q", "--allow-empty", "-m", &format!("{op:?}")],
                    );
                }
            }
        }
        tips.push(git(dir, &["rev-parse", "HEAD"]));
    }
    tips
}

/// What the git command does with two tips: the files that conflict, or the tree.
fn really(dir: &Path, one: &str, other: &str) -> Result<String, BTreeSet<String>> {
    git(dir, &["checkout", "-qf", "--detach", one]);
    git(dir, &["clean", "-qfdx"]);
    let merged = try_git(dir, &["merge", "-q", "--no-ff", "--no-edit", other]);
    let tree = git(dir, &["rev-parse", "HEAD^{tree}"]);
    let unmerged = git(dir, &["ls-files", "-u", "-z"]);
    let _ = try_git(dir, &["merge", "--abort"]);
    git(dir, &["reset", "-q", "--hard"]);
    if merged.status.success() {
        return Ok(tree);
    }
    let paths = unmerged.split_terminator('\0');
    let paths = paths.map(|line| line.split_once('\t').unwrap().1);
    // What is in the way of a directory is put beside it.
    let own = |path: &str| {
        let beside = ["~HEAD".to_owned(), format!("~{other}")];
        let mut own = beside
            .iter()
            .filter_map(|end| path.strip_suffix(end.as_str()));
        own.next().unwrap_or(path).to_owned()
    };
    Err(paths.map(own).collect())
}

fn check(history: &History) {
    let scratch = Scratch::new();
    let dir = scratch.path("repository");
    base(&dir);
    let tips = make(&dir, history);
    let candidates = tips[1..].iter().zip(1..);
    let candidates = candidates.map(|(tip, at)| candidate(&format!("b{at}"), tip, &[]));
    let candidates: Vec<_> = candidates.collect();
    let forecast = forecast_of(&scratch, &dir, &tips[0], &candidates);
    let mut told: BTreeMap<(usize, usize), &Fit> = BTreeMap::new();
    for (at, branch) in forecast.branches.iter().enumerate() {
        told.insert((0, at + 1), &branch.fit);
    }
    for pair in &forecast.pairs {
        told.insert(
            (
                pair.one[1..].parse().unwrap(),
                pair.other[1..].parse().unwrap(),
            ),
            &pair.fit,
        );
    }
    let tree = |at: usize| git(&dir, &["rev-parse", &format!("{}^{{tree}}", tips[at])]);
    for one in 0..tips.len() {
        for other in one + 1..tips.len() {
            let told = told.get(&(one, other)).copied().unwrap_or(&Fit::Clean);
            let real = really(&dir, &tips[one], &tips[other]);
            let context = format!("{one} and {other} of {history:?} at {tips:?}");
            match (real, told) {
                // A directory that went to several others conflicts by itself, as does a file that is where
                // another one's directory went.
                (Err(paths), Fit::Conflict { conflicts, .. }) if paths.is_empty() => {
                    let mut kinds = conflicts.iter().map(|conflict| &conflict.kind);
                    assert!(
                        kinds.all(|kind| kind.contains("directory rename")),
                        "{context}"
                    );
                }
                (Err(paths), Fit::Conflict { files, conflicts }) => {
                    let told = conflicts.iter().map(|conflict| conflict.path.clone());
                    assert_eq!(told.collect::<BTreeSet<_>>(), paths, "{context}");
                    assert_eq!(*files, paths.len() as u64, "{context}");
                }
                (Ok(merged), Fit::Same) => {
                    let is_one = one > 0 && merged == tree(other);
                    assert!(merged == tree(one) || is_one, "{context}");
                }
                (Ok(merged), Fit::Clean) => {
                    assert!(merged != tree(0) || one > 0, "{context}");
                }
                (real, told) => panic!("{context}: git {real:?}, told {told:?}"),
            }
        }
    }
    // All that is said to fit together does.
    git(&dir, &["checkout", "-qf", "--detach", &tips[0]]);
    git(&dir, &["clean", "-qfdx"]);
    for branch in &forecast.together {
        let at: usize = branch[1..].parse().unwrap();
        git(&dir, &["merge", "-q", "--no-edit", &tips[at]]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_forecast_is_what_git_does(history in history()) {
        check(&history);
    }
}
