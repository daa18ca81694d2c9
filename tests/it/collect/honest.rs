//! Work that is taken, and what the report says of it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use agent_run::collect::limits::CollectLimits;
use agent_run::collect::{needs_collector, release_packs, remove_unused};
use agent_run::event::BranchResult;
use agent_run::workspace::{BaseStore, remove};

use super::{collect_as, collected, snapshot};
use crate::git::fixture::{attempt, commit, git, program};
use crate::workspace::Site;

#[test]
fn commits_and_leftovers_become_a_branch_with_numbers() {
    let site = Site::new();
    let inside = site.workspace("t");
    assert!(needs_collector(&inside.workspace));
    commit(&inside.tree(), "a.txt", "one\ntwo\nthree\n");
    commit(&inside.tree(), "new/b.txt", "b\n");
    fs::remove_file(inside.tree().join("src/b.txt")).unwrap();
    inside.hand_off();
    assert!(!needs_collector(&inside.workspace));
    let report = collected(&site, &inside, "t");
    let BranchResult::Created { branch, commit } = &report.result else {
        panic!("{report:?}")
    };
    assert_eq!(branch.as_str(), "agent/t");
    assert_eq!(
        git(&site.dir, &["rev-parse", "refs/heads/agent/t"]),
        commit.as_str()
    );
    assert_eq!(
        (
            report.commits,
            report.files,
            report.insertions,
            report.deletions
        ),
        (3, 3, 3, 1)
    );
    assert!(
        report.leftovers_committed && !report.content_left_behind,
        "{report:?}"
    );
    assert_eq!(report.diffstat[0].path, "a.txt");
    assert_eq!(git(&site.dir, &["show", "agent/t:new/b.txt"]), "b");
    git(&site.dir, &["fsck", "--strict"]);
    assert_eq!(git(&site.dir, &["for-each-ref", "refs/agent-run"]), "");
    let keeps = fs::read_dir(site.dir.join(".git/objects/pack")).unwrap();
    assert!(
        keeps
            .map(|e| e.unwrap().file_name())
            .all(|n| !n.to_string_lossy().ends_with(".keep"))
    );
    // Told again, it says the same.
    assert_eq!(collected(&site, &inside, "t").result, report.result);
    let left: Vec<_> = fs::read_dir(inside.workspace.directory())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|n| n.to_string_lossy().starts_with("quarantine"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn directories_that_move_or_come_back_are_the_bases() {
    let site = Site::new();
    commit(&site.dir, "src/deep/er/c.txt", "c\n");
    git(&site.dir, &["rm", "-rq", "src/deep"]);
    git(&site.dir, &["commit", "-qm", "remove"]);
    let site = site.again();
    let inside = site.workspace("t");
    inside.git(&["checkout", "-q", "HEAD~1", "--", "src/deep"]);
    inside.git(&["mv", "src", "moved"]);
    inside.git(&["commit", "-qm", "move"]);
    inside.hand_off();
    let limits = CollectLimits {
        paths: 2,
        ..CollectLimits::default()
    };
    let report = collect_as(&site, &inside, "t", limits);
    assert!(
        matches!(&report.result, BranchResult::Rejected { check, .. } if check == "paths"),
        "{report:?}"
    );
    let limits = CollectLimits { paths: 3, ..limits };
    let report = collect_as(&site, &inside, "t", limits);
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    assert_eq!((report.commits, report.files), (1, 3), "{report:?}");
}

#[test]
fn nothing_done_changes_nothing() {
    let site = Site::new();
    let inside = site.workspace("t");
    inside.hand_off();
    let before = snapshot(&site.dir);
    let report = collected(&site, &inside, "t");
    assert_eq!(report.result, BranchResult::NoChange);
    assert!(!report.content_left_behind);
    assert_eq!(snapshot(&site.dir), before);
}

#[test]
fn a_taken_name_is_never_overwritten() {
    let site = Site::new();
    for (task, existing) in [("t", "agent/t"), ("u", "agent/u/below")] {
        git(&site.dir, &["branch", existing, "HEAD~1"]);
        let inside = site.workspace(task);
        let tip = commit(&inside.tree(), "c.txt", "c");
        inside.hand_off();
        let report = collected(&site, &inside, task);
        let BranchResult::Taken {
            kept_ref, commit, ..
        } = &report.result
        else {
            panic!("{report:?}")
        };
        assert_eq!(
            (kept_ref.as_str(), commit),
            (attempt(task, 1).kept_ref(0).as_str(), &tip)
        );
        assert_eq!(git(&site.dir, &["rev-parse", kept_ref]), tip.as_str());
        assert_eq!(
            git(&site.dir, &["rev-parse", existing]),
            git(&site.dir, &["rev-parse", "HEAD~1"])
        );
    }
}

#[test]
fn other_branches_and_work_in_progress_are_kept_beside() {
    let site = Site::new();
    let inside = site.workspace("t");
    let tip = commit(&inside.tree(), "c.txt", "c");
    inside.git(&["switch", "-qc", "idea", site.base().as_str()]);
    let idea = commit(&inside.tree(), "idea.txt", "i");
    inside.git(&["switch", "-q", "agent/x"]);
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(&report.result, BranchResult::Created { commit, .. } if *commit == tip),
        "{report:?}"
    );
    assert_eq!(
        report.side_refs,
        [(attempt("t", 1).kept_ref(1), "branch idea".to_owned())]
    );
    assert_eq!(
        git(&site.dir, &["rev-parse", &attempt("t", 1).kept_ref(1)]),
        idea.as_str()
    );
    assert_eq!(report.commits, 1);
}

#[test]
fn a_branch_whose_name_is_no_utf_8_spoils_nothing() {
    let site = Site::new();
    let inside = site.workspace("t");
    let tip = commit(&inside.tree(), "c.txt", "c");
    let name = std::ffi::OsStr::from_bytes(b"refs/heads/caf\xe9");
    let mut update = program("git");
    update
        .current_dir(inside.tree())
        .arg("update-ref")
        .arg(name);
    let other = inside.git(&[
        "commit-tree",
        "HEAD^{tree}",
        "-p",
        site.base().as_str(),
        "-m",
        "x",
    ]);
    assert!(update.arg(other.trim()).status().unwrap().success());
    inside.hand_off();
    assert!(!needs_collector(&inside.workspace));
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(&report.result, BranchResult::Created { commit, .. } if *commit == tip),
        "{report:?}"
    );
    assert_eq!(report.side_refs[0].1, "branch caf\u{fffd}");
}

#[test]
fn only_another_branch_moved() {
    let site = Site::new();
    let inside = site.workspace("t");
    inside.git(&["switch", "-qc", "idea"]);
    commit(&inside.tree(), "idea.txt", "i");
    inside.git(&["switch", "-q", "agent/x"]);
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert_eq!(report.result, BranchResult::NoChange);
    assert_eq!(report.side_refs.len(), 1);
}

#[test]
fn risky_paths_and_nested_repositories_are_told() {
    let site = Site::new();
    let inside = site.workspace("t");
    let tree = inside.tree();
    for path in [
        ".github/workflows/ci.yml",
        "sub/.gitattributes",
        ".claude/settings.json",
        "fine.txt",
        "bell\u{7}",
    ] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), "x").unwrap();
    }
    symlink("../../etc/passwd", tree.join("sub/out")).unwrap();
    symlink("../fine.txt", tree.join("sub/in")).unwrap();
    symlink("/etc", tree.join("abs")).unwrap();
    git(&tree, &["init", "-q", "app"]);
    commit(&tree.join("app"), "file", "x");
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    let paths: Vec<_> = report
        .risky_paths
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            ".claude/settings.json",
            ".github/workflows/ci.yml",
            "abs",
            "app",
            "bell\u{fffd}",
            "sub/.gitattributes",
            "sub/out"
        ]
    );
    assert!(
        report.content_left_behind,
        "the nested repository's content"
    );
}

#[test]
fn a_cut_history_comes_back_too() {
    let site = Site::cut(1);
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c\n");
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    assert_eq!((report.commits, report.insertions), (1, 1));
    assert_eq!(git(&site.dir, &["rev-list", "--count", "agent/t"]), "4");
}

#[test]
fn a_broken_git_directory_comes_back_as_one_commit() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c\n");
    fs::remove_dir_all(inside.workspace.git_dir().join("refs")).unwrap();
    fs::write(inside.workspace.git_dir().join("config"), "[broken").unwrap();
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    assert_eq!(git(&site.dir, &["show", "agent/t:c.txt"]), "c");
    assert!(
        report.content_left_behind,
        "its own history is still in the directory"
    );
}

#[test]
fn sixteen_at_once() {
    let site = Site::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let site = &site;
                scope.spawn(move || {
                    let task = format!("t{n}");
                    let inside = site.workspace(&task);
                    commit(&inside.tree(), &format!("{n}.txt"), "x");
                    inside.hand_off();
                    collected(site, &inside, &task)
                })
            })
            .collect();
        for thread in threads {
            let report = thread.join().unwrap();
            assert!(
                matches!(report.result, BranchResult::Created { .. }),
                "{report:?}"
            );
            assert_eq!(report.files, 1);
        }
    });
    assert_eq!(
        git(&site.dir, &["for-each-ref", "refs/heads/agent"])
            .lines()
            .count(),
        16
    );
    assert_eq!(git(&site.dir, &["for-each-ref", "refs/agent-run"]), "");
    git(&site.dir, &["fsck", "--strict"]);
}

#[test]
fn odd_paths_of_the_host_do_no_harm() {
    let site = Site::odd();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c\n");
    inside.hand_off();
    let report = collected(&site, &inside, "t");
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    assert_eq!((report.commits, report.insertions), (1, 1));
    remove(&site.scratch.state(), inside.workspace.directory()).unwrap();
}

#[test]
fn unused_stores_go_with_their_results_and_nothing_else() {
    let site = Site::new();
    let (state, key) = (site.scratch.state(), site.repository.key().clone());
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c\n");
    inside.hand_off();
    collected(&site, &inside, "t");
    git(&site.dir, &["switch", "-qc", "other"]);
    let base = commit(&site.dir, "d.txt", "d");
    let other = BaseStore::ensure(&site.repository, &state, &base, None).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let stamp = site.store.path().join("agent-run-last-used");
    let stamp = fs::File::options().write(true).open(stamp).unwrap();
    stamp.set_modified(old).unwrap();
    let prune = |age, dry| remove_unused(&state, &key, Duration::from_secs(age), dry).unwrap();
    let results = state.results(&key, site.store.key());
    assert_eq!(prune(7200, false), [] as [PathBuf; 0]);
    assert_eq!(prune(1800, true), [&results, site.store.path()]);
    assert!(results.exists() && site.store.path().exists());
    assert_eq!(prune(1800, false), [&results, site.store.path()]);
    assert!(other.objects().exists());
    assert!(!results.exists() && !site.store.path().exists());
    git(&site.dir, &["fsck", "--strict"]);
    // The next run makes the store anew, and results go on.
    let site = site.again();
    let inside = site.workspace("u");
    commit(&inside.tree(), "e.txt", "e\n");
    inside.hand_off();
    assert_eq!(collected(&site, &inside, "u").insertions, 1);
}

#[test]
fn marks_of_a_killed_promotion_are_removed_and_no_others() {
    let site = Site::new();
    let packs = site.dir.join(".git/objects/pack");
    fs::create_dir_all(&packs).unwrap();
    fs::write(packs.join("pack-1.keep"), "agent-run\n").unwrap();
    fs::write(packs.join("pack-2.keep"), "mine\n").unwrap();
    fs::write(packs.join("pack-3.keep"), "").unwrap();
    release_packs(&site.scratch.state(), &site.repository).unwrap();
    let left = |name: &str| packs.join(name).exists();
    assert_eq!(
        ["pack-1.keep", "pack-2.keep", "pack-3.keep"].map(left),
        [false, true, true]
    );
}
