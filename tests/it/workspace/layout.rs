//! What a workspace consists of, and the base store that it borrows from.

use super::*;

#[test]
fn layout_modes_mounts_and_environment() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    let mode = |name: &str| {
        fs::metadata(workspace.directory().join(name))
            .unwrap()
            .mode()
            & 0o7777
    };
    for (name, expected) in [
        ("dotgit", 0o444),
        ("entry", 0o555),
        ("handoff", 0o444),
        ("prompt.md", 0o444),
        ("passwd", 0o444),
        ("worktree", 0o755),
        ("git", 0o755),
        ("git/index", 0o644),
        ("home", 0o755),
        ("out", 0o755),
    ] {
        assert_eq!(mode(name), expected, "{name}");
    }
    let run = site.scratch.state().run(&attempt("t", 1).run);
    assert_eq!(fs::metadata(run).unwrap().mode() & 0o777, 0o700);
    let mounts: Vec<_> = workspace
        .mounts()
        .into_iter()
        .map(|m| format!("{}{}", m.target, if m.read_only { " ro" } else { "" }))
        .collect();
    insta::assert_snapshot!(mounts.join("\n"), @r"
    /workspace
    /workspace/.git ro
    /agent/git
    /home/agent
    /agent/out
    /agent/base/objects ro
    /agent/entry ro
    /agent/handoff ro
    /agent/script ro
    /agent/prompt.md ro
    /etc/passwd ro
    /etc/group ro
    /etc/hosts ro
    ");
    assert!(workspace.mounts().iter().all(|m| m.source.exists()));
    let outside = try_git(&workspace.worktree(), &["status"]);
    assert!(
        !outside.status.success(),
        "host git fails closed in the worktree"
    );
    let again = site.try_workspace(&attempt("t", 1), None).unwrap_err();
    assert!(matches!(again, WorkspaceError::Exists { .. }), "{again}");
    site.try_workspace(&attempt("t", 2), None).unwrap();
}

#[test]
fn a_large_base_is_checked_out_whole() {
    let site = Site::new();
    // So many that git still writes when the first ones are dated and given away.
    for n in 0..20_000 {
        let directory = site.dir.join(format!("many/{}", n / 100));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{n}.txt")), format!("{}\n", n / 100)).unwrap();
    }
    symlink("many/0/1.txt", site.dir.join("link")).unwrap();
    git(&site.dir, &["add", "."]);
    git(&site.dir, &["commit", "-qm", "many"]);
    let site = site.again();
    let inside = site.workspace("t");
    // What the index says of a file is what the file system says: not even its times differ.
    assert_eq!(inside.git(&["diff-files", "--name-only"]), "");
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    let last = fs::read_to_string(inside.tree().join("many/199/19999.txt"));
    assert_eq!(last.unwrap(), "199\n");
    let link = fs::symlink_metadata(inside.tree().join("link")).unwrap();
    assert!(link.is_symlink());
}

#[test]
fn git_works_inside_as_anywhere() {
    let site = Site::new();
    let inside = site.workspace("t");
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    assert_eq!(inside.git(&["branch", "--show-current"]), "agent/x");
    assert_eq!(inside.git(&["rev-list", "--count", "HEAD"]), "3");
    fs::write(inside.tree().join("x.ignored"), "").unwrap();
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    commit(&inside.tree(), "c.txt", "c");
    inside.git(&["switch", "-qc", "other", "HEAD~1"]);
    commit(&inside.tree(), "d.txt", "d");
    inside.git(&["merge", "-q", "-m", "m", "agent/x"]);
    inside.git(&["rebase", "-q", "agent/x"]);
    fs::write(inside.tree().join("a.txt"), "stash me").unwrap();
    inside.git(&["stash", "-q"]);
    inside.git(&["stash", "pop", "-q"]);
    inside.git(&["gc", "-q", "--prune=now"]);
    inside.git(&["worktree", "add", "-q", "../w2", "agent/x"]);
    inside.git(&["fsck", "--strict"]);
}

#[test]
fn the_containers_uid_owns_its_part_and_the_index_stays_clean() {
    let site = Site::new();
    symlink("/etc/passwd", site.dir.join("link")).unwrap();
    commit(&site.dir, "z", "z");
    assert!(
        rustix::process::geteuid().is_root(),
        "run this test as root: it gives files away"
    );
    let site = Site::of(site.scratch, site.dir, None);
    let workspace = site
        .try_workspace(&attempt("t", 1), Some((12345, 12346)))
        .unwrap();
    for name in [
        "worktree",
        "worktree/link",
        "worktree/src/b.txt",
        "git/index",
        "git/objects",
        "out",
        "home",
    ] {
        let metadata = fs::symlink_metadata(workspace.directory().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346), "{name}");
    }
    for name in ["", "dotgit", "entry", "prompt.md"] {
        assert_eq!(
            fs::metadata(workspace.directory().join(name))
                .unwrap()
                .uid(),
            0,
            "{name}"
        );
    }
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0);
    let inside = Inside::new(&site, workspace);
    assert_eq!(inside.git(&["diff-files", "--name-only"]), "");
}

#[test]
fn a_cut_history_works_inside() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let site = Site::of(scratch, dir, Some(2));
    let inside = site.workspace("t");
    assert_eq!(inside.git(&["rev-list", "--count", "HEAD"]), "2");
    commit(&inside.tree(), "c.txt", "c");
    inside.git(&["fsck"]);
    assert!(inside.hand_off().contains("bundle=1"));
}

#[test]
fn every_uid_can_read_the_store_whatever_the_umask() {
    let site = Site::new();
    // What a umask of 077 leaves, in the old part and in the new.
    let closed = program("chmod")
        .args(["-R", "go-rwx"])
        .arg(site.store.objects())
        .status();
    assert!(closed.unwrap().success());
    commit(&site.dir, "new", "new");
    let site = Site::of(site.scratch, site.dir, None);
    let mut pending = vec![site.store.objects()];
    while let Some(path) = pending.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let wanted = if metadata.is_dir() { 0o755 } else { 0o444 };
        assert_eq!(metadata.mode() & 0o777, wanted, "{}", path.display());
        if metadata.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}

#[test]
fn the_index_is_believed_and_no_edit_is_missed() {
    let site = Site::new();
    symlink("a.txt", site.dir.join("link")).unwrap();
    let long = format!("{}x", "a directory/".repeat(250));
    commit(&site.dir, &long, "x\n");
    let site = site.again();
    let inside = site.workspace("t");
    let file = inside.tree().join("src/b.txt");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    // As large as before. Git believes the index and does not look into the file…
    fs::write(&file, "TWO\n").unwrap();
    let written = fs::File::options().write(true).open(&file).unwrap();
    written.set_modified(before).unwrap();
    assert_eq!(inside.git(&["status", "--porcelain"]), "");
    // …unless it was touched, be it in the first second of the worktree's life.
    fs::write(&file, "TWO\n").unwrap();
    assert_eq!(inside.git(&["status", "--porcelain"]), " M src/b.txt");
    inside.git(&["fsck", "--strict"]);
}

#[test]
fn sixteen_at_once() {
    let site = Site::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let site = &site;
                scope.spawn(move || {
                    let base = site.repository.resolve_base("HEAD~1").unwrap();
                    let run = RunId::new(jiff::Timestamp::UNIX_EPOCH, n);
                    site.repository.pin(&run, &base).unwrap();
                    BaseStore::ensure(&site.repository, &site.scratch.state(), &base, None)
                        .unwrap();
                    site.workspace(&format!("t{n}"))
                        .git(&["status", "--porcelain"])
                })
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap().is_empty()));
    });
    let pins = git(&site.dir, &["for-each-ref", "refs/agent-run/base"]);
    assert_eq!(pins.lines().count(), 16);
}
