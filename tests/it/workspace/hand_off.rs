//! The hand-off script: what it makes of everything that a task can leave behind.

use super::*;

#[test]
fn nothing_done_is_no_change() {
    let site = Site::new();
    let inside = site.workspace("t");
    for shell in SHELLS {
        let status = inside.hand_off_with(shell, &[]);
        assert_eq!(
            status,
            format!("format=1\nhead={}\nchanged=0\n", site.base()),
            "{shell:?}"
        );
        assert!(!inside.workspace.out().join("result.bundle").exists());
    }
}

#[test]
fn commits_leftovers_and_moved_branches_are_bundled_by_every_shell() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "side.txt", "s");
    inside.git(&["switch", "-q", "--detach", site.base().as_str()]);
    let head = commit(&inside.tree(), "-rf \n\u{7}name", "x");
    fs::write(inside.tree().join("left over.txt"), "left").unwrap();
    fs::write(inside.tree().join("x.ignored"), "").unwrap();
    fs::write(inside.workspace.git_dir().join("index.lock"), "").unwrap();
    fs::create_dir_all(inside.workspace.git_dir().join("hooks")).unwrap();
    for shell in SHELLS {
        let status = inside.hand_off_with(shell, &[]);
        assert!(
            status.contains("leftovers=committed\nside.0=branch agent/x\nhead="),
            "{status}"
        );
        assert!(
            status.ends_with("changed=1\nbundle=1\n"),
            "{shell:?} {status}"
        );
        let heads = inside.bundle();
        assert_eq!(heads.len(), 2, "{heads:?}");
        assert_eq!(
            inside.git(&["rev-parse", &format!("{}^", heads[0].1)]),
            head.as_str()
        );
        let files = inside.files_of(&heads[0].1);
        assert!(
            files.contains("left over.txt") && !files.contains("x.ignored"),
            "{files}"
        );
    }
    assert_eq!(
        inside.git(&["rev-parse", "HEAD"]),
        head.as_str(),
        "nothing of the agent's is moved"
    );
}

#[test]
fn work_in_progress_is_a_second_ref() {
    let site = Site::new();
    let inside = site.workspace("t");
    let tip = commit(&inside.tree(), "a.txt", "ours\n");
    inside.git(&["switch", "-qc", "other", site.base().as_str()]);
    commit(&inside.tree(), "a.txt", "theirs\n");
    inside.git(&["switch", "-q", "agent/x"]);
    assert!(
        !try_git(&inside.tree(), &["merge", "other"])
            .status
            .success()
    );
    let status = inside.hand_off();
    assert!(status.contains("side.0=in-progress MERGE_HEAD"), "{status}");
    assert!(status.contains(&format!("head={tip}")), "{status}");
    inside.git(&["merge", "--abort"]);
    assert!(
        !try_git(&inside.tree(), &["rebase", "other"])
            .status
            .success()
    );
    let status = inside.hand_off();
    assert!(status.contains("side.0=in-progress rebase"), "{status}");
    assert!(status.contains(&format!("head={tip}")), "{status}");
    assert!(inside.bundle().len() >= 2);
}

#[test]
fn too_large_leftovers_are_not_committed() {
    let site = Site::new();
    let inside = site.workspace("t");
    fs::write(inside.tree().join("core"), vec![1; 5000]).unwrap();
    for shell in SHELLS {
        let status = inside.hand_off_with(shell, &[("AGENT_LEFTOVERS_LIMIT", "4999")]);
        assert!(
            status.contains("leftovers=too-large\nleftover_bytes=5000\n"),
            "{shell:?} {status}"
        );
        assert!(status.ends_with("changed=0\n"), "{status}");
    }
    assert!(
        inside
            .hand_off_with(SHELLS[0], &[("AGENT_LEFTOVERS_LIMIT", "5000")])
            .contains("leftovers=committed")
    );
}

#[test]
fn nested_repositories_do_not_stop_the_hand_off() {
    let site = Site::new();
    let inside = site.workspace("t");
    git(&inside.tree(), &["init", "-q", "no-commit"]);
    fs::write(inside.tree().join("no-commit/file"), "lost").unwrap();
    git(&inside.tree(), &["init", "-q", "app"]);
    commit(&inside.tree().join("app"), "file", "x");
    fs::write(inside.tree().join("kept"), "kept").unwrap();
    let status = inside.hand_off();
    let heads = inside.bundle();
    let files = inside.files_of(&heads[0].1);
    assert!(files.contains("kept"), "{status} {files}");
    assert!(files.lines().any(|l| l == "app"), "a bare gitlink: {files}");
    assert!(status.contains("leftovers_incomplete=1"), "{status}");
}

#[test]
fn closed_directories_are_opened_again() {
    let site = Site::new();
    let inside = site.workspace("t");
    fs::write(inside.tree().join("loose"), "2").unwrap();
    for dir in [inside.workspace.out(), inside.workspace.git_dir()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let status = inside.hand_off();
    assert!(status.contains("leftovers=committed"), "{status}");
    let mode = fs::metadata(inside.workspace.out()).unwrap().mode();
    assert_eq!(mode & 0o700, 0o700);
}

#[test]
fn a_broken_git_directory_gives_the_files_back() {
    let site = Site::new();
    for (n, break_it) in [
        "rm -rf G",
        "rm -rf G/* ",
        "echo [junk >G/config",
        "rm G/objects/info/alternates",
        "echo x >G/packed-refs; echo x >G/HEAD; rm -r G/refs",
    ]
    .iter()
    .enumerate()
    {
        let inside = site.workspace(&format!("t{n}"));
        commit(&inside.tree(), "committed", "1");
        fs::write(inside.tree().join("loose"), "2").unwrap();
        let script = break_it.replace('G', inside.workspace.git_dir().to_str().unwrap());
        assert!(
            program("sh")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
        let status = inside.hand_off();
        assert!(
            status.contains("rebuilt=1\nleftovers=committed"),
            "{break_it}: {status}"
        );
        assert!(status.ends_with("bundle=1\n"), "{break_it}: {status}");
    }
}

#[test]
fn directories_that_git_cannot_read_are_not_taken_for_no_change() {
    let site = Site::new();
    let inside = site.workspace("t");
    // Even root meets a path that is too long; rights would stop an ordinary user only.
    let part = "d".repeat(250);
    let mut directory = fs::File::open(inside.tree()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&directory, &part, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let below = rustix::fs::openat(&directory, &part, flags, rustix::fs::Mode::empty());
        directory = below.unwrap().into();
    }
    rustix::fs::mkdirat(&directory, "work", rustix::fs::Mode::RWXU).unwrap();
    let status = inside.hand_off();
    assert!(status.contains("changed=0"), "{status}");
    assert!(status.contains("leftovers_incomplete=1"), "{status}");
}

#[test]
fn branches_beyond_those_that_are_taken_are_told_of() {
    let site = Site::new();
    let inside = site.workspace("t");
    for n in 0..17 {
        inside.git(&[
            "switch",
            "-q",
            "-c",
            &format!("side-{n:02}"),
            site.base().as_str(),
        ]);
        commit(&inside.tree(), &format!("{n}.txt"), "x");
    }
    inside.git(&["switch", "-q", "--detach", site.base().as_str()]);
    let status = inside.hand_off();
    assert!(status.contains("branches_incomplete=1\n"), "{status}");
    assert!(status.contains("side.15=branch side-15\n"), "{status}");
    inside.git(&["branch", "-q", "-D", "side-16"]);
    let status = inside.hand_off();
    assert!(!status.contains("branches_incomplete"), "{status}");
}

#[test]
fn an_index_or_a_head_that_says_nothing_is_no_clean_worktree() {
    let site = Site::new();
    let broken = site.workspace("broken");
    commit(&broken.tree(), "c.txt", "c");
    fs::write(broken.tree().join("loose"), "2").unwrap();
    fs::write(broken.workspace.git_dir().join("index"), "junk").unwrap();
    let orphan = site.workspace("orphan");
    orphan.git(&["switch", "-q", "--orphan", "new"]);
    for shell in SHELLS {
        for (inside, files) in [(&broken, "a.txt\nc.txt\nloose\nsrc/b.txt"), (&orphan, "")] {
            let status = inside.hand_off_with(shell, &[]);
            assert!(status.contains("leftovers=committed"), "{shell:?} {status}");
            assert!(!status.contains("rebuilt"), "{shell:?} {status}");
            let heads = inside.bundle();
            assert_eq!(inside.files_of(&heads[0].1), files, "{shell:?}");
        }
    }
}

#[test]
fn what_git_said_is_told_where_it_makes_no_bundle() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c");
    let blob = inside.git(&["rev-parse", "HEAD:c.txt"]);
    let (directory, file) = blob.split_at(2);
    let object = inside.workspace.git_dir().join("objects").join(directory);
    fs::remove_file(object.join(file)).unwrap();
    for shell in SHELLS {
        let status = inside.hand_off_with(shell, &[]);
        let last = status.lines().last().unwrap();
        assert!(last.starts_with("bundle_failed="), "{shell:?} {status}");
        assert!(last.contains(&blob), "{shell:?} {status}");
    }
}

#[test]
fn of_an_older_commit_there_is_no_bundle_and_nothing_failed() {
    let site = Site::new();
    let inside = site.workspace("t");
    inside.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let status = inside.hand_off();
    assert!(status.ends_with("changed=1\n"), "{status}");
}
