//! Removal of what an agent wrote.

use super::*;

/// Makes directories in each other, too deep for any path to name.
pub fn make_deep(top: &Path, depth: usize) {
    use rustix::fs::{Mode, OFlags};
    let mut at =
        rustix::fs::openat(rustix::fs::CWD, top, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "dddddddddd", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "dddddddddd", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

#[test]
fn removal_takes_deep_long_locked_and_linked_trees() {
    let site = Site::new();
    let outside = site.scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    let top = workspace.worktree();
    symlink(&outside, top.join("link")).unwrap();
    let fifo = program("mkfifo").arg(top.join("fifo")).status().unwrap();
    assert!(fifo.success());
    make_deep(&top, 5000);
    fs::create_dir_all(top.join("locked/in")).unwrap();
    fs::write(top.join("locked/in/file"), "").unwrap();
    fs::set_permissions(top.join("locked/in"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(top.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    assert!(outside.join("precious").exists());
    assert!(!workspace.directory().exists());
    assert_eq!(
        fs::read_dir(site.scratch.state().trash()).unwrap().count(),
        0
    );
    empty_trash(&site.scratch.state(), false).1.unwrap();
}

#[test]
fn what_cannot_be_removed_is_counted_and_can_be_finished() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    // An immutable file stands for one that belongs to another uid: it stops root too.
    let stuck = workspace.worktree().join("src/b.txt");
    let chattr = |flag: &str, path: &Path| {
        program("chattr")
            .arg(flag)
            .arg(path)
            .status()
            .is_ok_and(|s| s.success())
    };
    assert!(
        chattr("+i", &stuck),
        "run this test as root, with chattr, and TMPDIR on a file system such as ext4: \
         it makes {} immutable",
        stuck.display()
    );
    let error = remove(&site.scratch.state(), workspace.directory()).unwrap_err();
    let RemovalError::Left { path, left, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(left, 1);
    let found = program("find")
        .arg(&path)
        .args(["-name", "b.txt"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(chattr("-i", Path::new(found.trim())));
    empty_trash(&site.scratch.state(), false).1.unwrap();
    assert!(!path.exists());
}

#[test]
fn the_trash_is_not_emptied_while_something_is_being_removed() {
    let site = Site::new();
    let trash = site.scratch.state().trash();
    fs::create_dir_all(trash.join("bin-x/0/deep")).unwrap();
    let remover = fs::File::open(trash.join("bin-x")).unwrap();
    remover.lock_shared().unwrap();
    empty_trash(&site.scratch.state(), false).1.unwrap();
    assert!(trash.join("bin-x/0/deep").exists());
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    drop(remover);
    empty_trash(&site.scratch.state(), false).1.unwrap();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
}

#[test]
fn files_of_other_users_are_removed_as_root() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    let top = workspace.worktree();
    fs::create_dir_all(top.join("theirs/in")).unwrap();
    fs::write(top.join("theirs/in/file"), "").unwrap();
    for (path, uid) in [
        ("theirs/in/file", 4242),
        ("theirs/in", 0),
        ("theirs", 10001),
    ] {
        std::os::unix::fs::chown(top.join(path), Some(uid), Some(uid))
            .expect("run this test as root");
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(0o000)).unwrap();
    }
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    assert!(!workspace.directory().exists());
}

#[test]
fn another_file_system_is_not_entered() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    let mounted = workspace.worktree().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let mount = program("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&mounted)
        .status();
    assert!(mount.unwrap().success(), "run this test as root");
    fs::write(mounted.join("precious"), "").unwrap();
    let mode = fs::Permissions::from_mode(0o1755);
    fs::set_permissions(&mounted, mode.clone()).unwrap();
    let error = remove(&site.scratch.state(), workspace.directory()).unwrap_err();
    let RemovalError::Left { path, .. } = error else {
        panic!("{error}")
    };
    let found = program("find")
        .arg(&path)
        .args(["-name", "precious"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let found = Path::new(found.trim());
    let mode_now = fs::metadata(found.parent().unwrap()).unwrap().mode();
    assert_eq!(mode_now & 0o7777, mode.mode());
    let unmounted = program("umount")
        .arg(found.parent().unwrap_or(&mounted))
        .status();
    assert!(
        unmounted.unwrap().success(),
        "what was mounted is gone: {}",
        path.display()
    );
    empty_trash(&site.scratch.state(), false).1.unwrap();
    assert!(!path.exists());
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_million_files_are_removed() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    for directory in 0..10 {
        let directory = workspace.worktree().join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        for n in 0..100_000 {
            fs::File::create(directory.join(n.to_string())).unwrap();
        }
    }
    let began = std::time::Instant::now();
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(300),
        "{:?}",
        began.elapsed()
    );
    assert!(!workspace.directory().exists());
}
