//! Submodules: there and clean inside without a network, from the user's own clones and nowhere
//! else, and what a task does in them is told.

use super::*;

type Work = fn(&Path);

/// Shows the submodules as git sees them, and fails where git would have to fetch.
fn status(inside: &Inside) -> String {
    inside.git(&["submodule", "status", "--recursive"])
}

#[test]
fn submodules_are_there_and_clean_without_a_network() {
    let site = Site::with_submodules();
    assert!(site.store.notes().is_empty(), "{:?}", site.store.notes());
    for name in ["library", "inner", "made", "repo"] {
        fs::rename(
            site.scratch.path(name),
            site.scratch.path(&format!("{name}-gone")),
        )
        .unwrap();
    }
    let inside = site.workspace("t");
    let one = inside.tree().join("libs/one");
    assert_eq!(fs::read_to_string(one.join("a.txt")).unwrap(), "four\n");
    assert_eq!(
        fs::read_to_string(one.join("inner/src/b.txt")).unwrap(),
        "two\n"
    );
    for dir in [inside.tree(), one.clone(), one.join("inner")] {
        assert_eq!(git(&dir, &["diff-files", "--name-only"]), "", "{dir:?}");
        assert_eq!(git(&dir, &["status", "--porcelain"]), "", "{dir:?}");
        git(&dir, &["fsck", "--strict"]);
    }
    let before = status(&inside);
    assert_eq!(before.lines().count(), 2, "{before}");
    assert!(before.lines().all(|l| l.starts_with(' ')), "{before}");
    inside.git(&["submodule", "update", "--init", "--recursive"]);
    // Back to an older commit and forth again.
    git(&one, &["checkout", "-q", "HEAD~1"]);
    assert!(status(&inside).starts_with('+'));
    inside.git(&["submodule", "update", "--recursive"]);
    fs::remove_dir_all(&one).unwrap();
    fs::create_dir(&one).unwrap();
    inside.git(&["submodule", "update", "--recursive"]);
    assert_eq!(status(&inside), before);
    assert_eq!(
        inside.git(&["status", "--porcelain", "--ignore-submodules=none"]),
        ""
    );
    let said = inside.hand_off();
    assert!(
        said.ends_with("changed=0\n") && !said.contains("submodule"),
        "{said}"
    );
}

#[test]
fn a_submodules_store_holds_only_what_its_commit_reaches() {
    let site = Site::with_submodules();
    let clone = site.dir.join("libs/one");
    let secret = commit(&clone, "secret.txt", "secret");
    let site = site.again();
    let mounts = site.workspace("t").workspace.mounts();
    let stores = mounts
        .iter()
        .filter(|m| m.target.starts_with("/agent/base/modules/"));
    let mut count = 0;
    for mount in stores {
        assert!(mount.read_only, "{mount:?}");
        let store = mount.source.parent().unwrap();
        let found = try_git(store, &["--git-dir=.", "cat-file", "-e", secret.as_str()]);
        assert!(!found.status.success(), "{mount:?}");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn on_the_host_a_submodules_gitfile_points_nowhere() {
    let site = Site::with_submodules();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    let output = try_git(&workspace.worktree().join("libs/one"), &["status"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(128), "{said}");
    assert!(
        said.contains("not a git repository: /agent/git/modules/"),
        "{said}"
    );
}

#[test]
fn without_the_clones_directories_stay_empty_and_a_note_says_so() {
    let scratch = Scratch::new();
    let dir = superproject(&scratch);
    let site = Site::of(scratch, dir, None);
    let notes = site.store.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("submodule libs/one is empty: its commit"),
        "{notes:?}"
    );
    assert!(
        notes[0].contains("git submodule update --init"),
        "{notes:?}"
    );
    let inside = site.workspace("t");
    let entries = fs::read_dir(inside.tree().join("libs/one")).unwrap();
    assert_eq!(entries.count(), 0);
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    // The outer one alone: the inner is noted by its whole path.
    git(&site.dir, &["submodule", "update", "-q", "--init"]);
    let site = site.again();
    let notes = site.store.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("submodule libs/one/inner is empty"),
        "{notes:?}"
    );
}

#[test]
fn a_linked_worktree_has_clones_of_its_own() {
    let scratch = Scratch::new();
    let dir = superproject(&scratch);
    let linked = scratch.path("linked");
    git(&dir, &["worktree", "add", "-q", linked.to_str().unwrap()]);
    git(
        &linked,
        &["submodule", "update", "-q", "--init", "--recursive"],
    );
    let site = Site::of(scratch, linked, None);
    assert!(site.store.notes().is_empty(), "{:?}", site.store.notes());
    assert!(
        site.workspace("t")
            .tree()
            .join("libs/one/inner/a.txt")
            .is_file()
    );
}

#[test]
fn hostile_names_and_paths_are_refused_with_a_note() {
    let site = Site::with_submodules();
    let gitlink = git(&site.dir, &["rev-parse", "HEAD:libs/one"]);
    git(&site.dir, &["rm", "-rqf", "libs/one"]);
    let own = site.dir.join(".git/modules");
    let outside = site.scratch.path("outside");
    fs::rename(own.join("vendor"), &outside).unwrap();
    symlink(&outside, own.join("linked")).unwrap();
    let clone = outside.join("#one \"1\"");
    let mut text = String::new();
    for (n, name) in [
        "../../outside",
        "-x",
        "a/.GIT",
        "a/../b",
        "bell\u{7}x",
        "/abs",
        "a//b",
        "ok/objects",
    ]
    .iter()
    .enumerate()
    {
        text += &format!("[submodule \"{name}\"]\n\tpath = sub{n}\n\turl = /x\n");
        let entry = format!("160000,{gitlink},sub{n}");
        git(&site.dir, &["update-index", "--add", "--cacheinfo", &entry]);
    }
    text += "[submodule \"ok\"]\n\tpath = ../ok\n[submodule \"linked/#one \\\"1\\\"\"]\n\tpath = led-out\n";
    text += "[submodule \"no-path\"]\n\turl = /x\n[submodule \"a-file\"]\n\tpath = a.txt\n";
    let entry = format!("160000,{gitlink},led-out");
    git(&site.dir, &["update-index", "--add", "--cacheinfo", &entry]);
    fs::write(site.dir.join(".gitmodules"), text).unwrap();
    git(&site.dir, &["add", ".gitmodules"]);
    git(&site.dir, &["commit", "-qm", "hostile"]);
    assert!(clone.is_dir());
    let site = site.again();
    let notes = site.store.notes();
    let refused = notes.iter().filter(|n| n.contains("is refused")).count();
    assert_eq!((refused, notes.len()), (9, 10), "{notes:?}");
    assert!(
        notes
            .iter()
            .any(|n| n.starts_with("submodule led-out is empty")),
        "{notes:?}"
    );
    assert!(
        notes.iter().all(|n| !n.contains(char::is_control)),
        "{notes:?}"
    );
    assert_eq!(site.store.submodule_stores().count(), 0);
    assert!(
        !site
            .workspace("t")
            .workspace
            .git_dir()
            .join("modules")
            .exists()
    );
}

#[test]
fn what_a_task_does_in_a_submodule_is_told_by_every_shell() {
    let site = Site::with_submodules();
    let works: [(&str, Work, &str); 9] = [
        (
            "edit",
            |d| fs::write(d.join("a.txt"), "x").unwrap(),
            "libs/one",
        ),
        (
            "new-file",
            |d| fs::write(d.join("new"), "x").unwrap(),
            "libs/one",
        ),
        ("commit", |d| drop(commit(d, "new", "x")), "libs/one"),
        (
            "inner",
            |d| drop(commit(&d.join("inner"), "new", "x")),
            "libs/one/inner",
        ),
        (
            "branch",
            |d| {
                git(d, &["switch", "-qc", "idea"]);
                commit(d, "new", "x");
                git(d, &["checkout", "-q", "--detach", "refs/agent-run/base"]);
            },
            "libs/one",
        ),
        (
            "stash",
            |d| {
                fs::write(d.join("a.txt"), "x").unwrap();
                git(d, &["stash", "-q"]);
            },
            "libs/one",
        ),
        (
            "replaced",
            |d| {
                fs::remove_file(d.join(".git")).unwrap();
                fs::create_dir(d.join(".git")).unwrap();
            },
            "libs/one",
        ),
        (
            "no-gitfile",
            |d| fs::remove_file(d.join(".git")).unwrap(),
            "libs/one",
        ),
        (
            "wiped",
            |d| {
                let git_dir = git(d, &["rev-parse", "--absolute-git-dir"]);
                fs::remove_dir_all(git_dir).unwrap();
            },
            "libs/one",
        ),
    ];
    for (task, work, told) in works {
        let inside = site.workspace(task);
        work(&inside.tree().join("libs/one"));
        fs::write(inside.tree().join("beside"), "x").unwrap();
        for shell in SHELLS {
            let said = inside.hand_off_with(shell, &[]);
            assert!(
                said.contains(&format!("submodule={told}\n")),
                "{task} {shell:?}: {said}"
            );
            let broken = matches!(task, "replaced" | "wiped");
            let incomplete = said.contains("leftovers_incomplete=1\n");
            assert_eq!(incomplete, broken, "{shell:?}: {said}");
            let files = inside.files_of(&inside.bundle()[0].1);
            assert!(files.contains("beside"), "{task} {shell:?}: {files}");
        }
    }
}

#[test]
fn a_submodule_that_is_removed_or_taken_over_is_no_loss() {
    let site = Site::with_submodules();
    let inside = site.workspace("removed");
    inside.git(&["rm", "-q", "libs/one"]);
    let said = inside.hand_off();
    assert!(!said.contains("submodule="), "{said}");
    let inside = site.workspace("own");
    let one = inside.tree().join("libs/one");
    inside.git(&["rm", "-q", "--cached", "libs/one"]);
    for gitfile in [".git", "inner/.git"] {
        fs::remove_file(one.join(gitfile)).unwrap();
    }
    let said = inside.hand_off();
    assert!(!said.contains("submodule="), "{said}");
    let files = inside.files_of(&inside.bundle()[0].1);
    assert!(files.contains("libs/one/inner/a.txt"), "{files}");
}

#[test]
fn names_that_shells_and_git_quote_are_told_whole() {
    let site = Site::with_submodules();
    let inside = site.workspace("t");
    let nested = inside.tree().join("n\\n \n\u{fc}");
    git(&inside.tree(), &["init", "-q", nested.to_str().unwrap()]);
    commit(&nested, "file", "x");
    fs::write(nested.join("more"), "x").unwrap();
    for shell in SHELLS {
        let said = inside.hand_off_with(shell, &[]);
        let told = "submodule=\"n\\\\n \\n\\303\\274\"\n";
        assert!(said.contains(told), "{shell:?}: {said}");
    }
}

#[test]
fn a_submodules_history_is_cut_like_the_bases() {
    let scratch = Scratch::new();
    let dir = superproject(&scratch);
    git(
        &dir,
        &["submodule", "update", "-q", "--init", "--recursive"],
    );
    let site = Site::of(scratch, dir, Some(2));
    let one = site.workspace("t").tree().join("libs/one");
    assert_eq!(git(&one, &["rev-list", "--count", "HEAD"]), "2");
    git(&one, &["fsck", "--strict"]);
}

#[test]
fn a_clone_serves_also_where_its_files_are_gone() {
    let site = Site::with_submodules();
    git(&site.dir, &["submodule", "deinit", "-q", "-f", "--all"]);
    fs::remove_dir_all(site.dir.join("libs")).unwrap();
    fs::remove_dir_all(site.scratch.path("state/repos")).unwrap();
    let site = site.again();
    assert!(site.store.notes().is_empty(), "{:?}", site.store.notes());
    assert!(site.store.cold_cost().is_some());
    assert_eq!(site.store.submodule_stores().count(), 2);
}

#[test]
fn a_submodule_that_went_back_gets_another_store() {
    let site = Site::with_submodules();
    let stores =
        |site: &Site| -> Vec<_> { site.store.submodule_stores().map(Path::to_owned).collect() };
    let first = stores(&site);
    let site = site.again();
    assert_eq!(
        (stores(&site), site.store.cold_cost()),
        (first.clone(), None)
    );
    git(&site.dir.join("libs/one"), &["checkout", "-q", "HEAD~1"]);
    git(&site.dir, &["commit", "-qam", "back"]);
    let site = site.again();
    assert_ne!(stores(&site)[0], first[0]);
    let one = site.workspace("t").tree().join("libs/one");
    let newer = git(&site.dir.join("libs/one"), &["rev-parse", "main"]);
    let found = try_git(&one, &["cat-file", "-e", &newer]);
    assert!(!found.status.success(), "newer history is not the base's");
}

#[test]
fn a_commit_that_moves_a_submodule_is_not_undone_by_its_stale_files() {
    let site = Site::with_submodules();
    let inside = site.workspace("t");
    let older = git(&inside.tree().join("libs/one"), &["rev-parse", "HEAD~1"]);
    let entry = format!("160000,{older},libs/one");
    inside.git(&["update-index", "--cacheinfo", &entry]);
    inside.git(&["commit", "-qm", "move"]);
    fs::write(inside.tree().join("left"), "x").unwrap();
    for shell in SHELLS {
        let said = inside.hand_off_with(shell, &[]);
        assert!(said.contains("leftovers=committed"), "{shell:?}: {said}");
        let tip = format!("{}:libs/one", inside.bundle()[0].1);
        assert_eq!(inside.git(&["rev-parse", &tip]), older, "{shell:?}");
    }
}
