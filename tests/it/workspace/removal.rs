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
    empty_trash(&site.scratch.state()).unwrap();
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
    empty_trash(&site.scratch.state()).unwrap();
    assert!(!path.exists());
}

#[test]
fn the_trash_is_not_emptied_while_something_is_being_removed() {
    let site = Site::new();
    let trash = site.scratch.state().trash();
    fs::create_dir_all(trash.join("bin-x/0/deep")).unwrap();
    let remover = fs::File::open(&trash).unwrap();
    remover.lock_shared().unwrap();
    empty_trash(&site.scratch.state()).unwrap();
    assert!(trash.join("bin-x/0/deep").exists());
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    remove(&site.scratch.state(), workspace.directory()).unwrap();
    drop(remover);
    empty_trash(&site.scratch.state()).unwrap();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
}
