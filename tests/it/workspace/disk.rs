//! How much disk an agent's directories take, whatever it makes of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use agent_run::workspace::{DiskUse, DiskWalk, disk_use};
use rustix::fs::{CWD, Mode, OFlags};
use tempfile::TempDir;

use super::removal::make_deep;
use super::*;

const MIB: u64 = 1 << 20;
/// What an empty file counts.
const LEAST: u64 = 4096;

fn whole(directory: &Path) -> u64 {
    let DiskUse { bytes, is_partial } = disk_use(directory);
    assert!(!is_partial, "{}", directory.display());
    bytes
}

#[test]
fn what_is_there_counts_and_nothing_elsewhere() {
    let (place, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (top, mebibyte) = (place.path(), vec![1; 1 << 20]);
    assert_eq!(whole(top), 0);
    fs::write(elsewhere.path().join("large"), &mebibyte).unwrap();
    symlink(elsewhere.path(), top.join("link")).unwrap();
    symlink(elsewhere.path().join("large"), top.join("link-to-file")).unwrap();
    assert_eq!(whole(top), 2 * LEAST);
    // 10 GiB long, with nothing in it.
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    assert_eq!(whole(top), 3 * LEAST);
    fs::create_dir(top.join("directory")).unwrap();
    fs::write(top.join("directory/large"), &mebibyte).unwrap();
    let used = whole(top);
    assert!((MIB..MIB + 16 * LEAST).contains(&used), "{used}");
    for n in 0..100 {
        fs::hard_link(top.join("directory/large"), top.join(n.to_string())).unwrap();
    }
    let linked = whole(top);
    assert!((used - 128..used + 4 * LEAST).contains(&linked), "{linked}");
}

#[test]
fn a_directory_that_cannot_be_looked_into_is_told() {
    let place = TempDir::new().unwrap();
    let gone = DiskUse {
        bytes: 0,
        is_partial: true,
    };
    assert_eq!(disk_use(&place.path().join("gone")), gone);
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(disk_use(&file), gone);
    // Not even what a link leads to at the top.
    symlink(place.path(), place.path().join("link")).unwrap();
    assert_eq!(disk_use(&place.path().join("link")), gone);
}

#[test]
fn deep_trees_with_long_names_that_are_no_text_are_counted_whole() {
    let place = TempDir::new().unwrap();
    let top = place.path();
    make_deep(top, 2000);
    assert_eq!(whole(top), 2000 * LEAST);
    // Names that no path can hold twenty of, with a file after each.
    let name = OsStr::from_bytes(&[0xff; 255]);
    let mut at = rustix::fs::openat(CWD, top, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..200 {
        for file in ["a", "z"] {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&at, file, flags, Mode::RWXU).unwrap();
        }
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    assert_eq!(whole(top), 2600 * LEAST);
    // So that the directory can be removed by its path.
    drop(at);
    let removed = program("rm").arg("-rf").arg(top).status().unwrap();
    assert!(removed.success());
}

#[test]
fn a_tree_that_changes_under_the_walk_is_no_error() {
    let place = TempDir::new().unwrap();
    let busy = place.path().join("busy");
    let deep: PathBuf = std::iter::repeat_n("d", 100).collect();
    fs::create_dir_all(busy.join(&deep)).unwrap();
    fs::create_dir_all(place.path().join("still")).unwrap();
    fs::write(place.path().join("still/large"), vec![1; 1 << 20]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // In the middle of a path that is longer than what is held open.
            let (here, there) = (busy.join("d/d/d/d"), place.path().join("moved"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&here, &there).unwrap();
                fs::write(busy.join("x"), "x").unwrap();
                fs::remove_file(busy.join("x")).unwrap();
                fs::rename(&there, &here).unwrap();
            }
        });
        let seen: Vec<_> = (0..300).map(|_| disk_use(place.path())).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for used in seen {
            assert!(!used.is_partial, "{used:?}");
            // What moves may be met at several places.
            assert!((MIB..8 * MIB).contains(&used.bytes), "{used:?}");
        }
    });
}

#[test]
fn counting_stops_where_there_is_enough_and_goes_piece_by_piece() {
    let site = Site::new();
    let workspace = site.try_workspace(&attempt("t", 1), None).unwrap();
    for n in 0..1000 {
        fs::write(workspace.directory().join("home").join(n.to_string()), "").unwrap();
    }
    let mut walk = DiskWalk::new(workspace.written(), u64::MAX);
    let mut pieces = 0;
    while !walk.advance(100) {
        pieces += 1;
    }
    assert!((10..15).contains(&pieces), "{pieces}");
    assert!(!walk.used().is_partial);
    assert!(walk.used().bytes >= 1000 * LEAST, "{:?}", walk.used());
    let mut walk = DiskWalk::new(workspace.written(), 50 * LEAST);
    assert!(walk.advance(usize::MAX));
    let counted = walk.used().bytes;
    assert!((50 * LEAST..55 * LEAST).contains(&counted), "{counted}");
}
