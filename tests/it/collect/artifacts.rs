//! Artifacts: what patterns take out of a worktree, and what no worktree can do by them.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_run::collect::limits::CollectLimits;
use agent_run::collect::{ArtifactsRequest, copy_artifacts};
use agent_run::event::ArtifactsReport;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tempfile::TempDir;

use crate::git::fixture::{git, program, try_git};

const SECRET: &str = "the host's own";

/// A worktree, and a file beside it that nobody may read by it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::create_dir(place.tree()).unwrap();
        fs::write(place.outside(), SECRET).unwrap();
        place
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn to(&self) -> PathBuf {
        self.0.path().join("artifacts/t/1")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn copy(&self, paths: &[&str]) -> ArtifactsReport {
        self.copy_within(paths, CollectLimits::default())
    }

    fn copy_within(&self, paths: &[&str], limits: CollectLimits) -> ArtifactsReport {
        let paths: Vec<_> = paths.iter().map(|p| p.parse().unwrap()).collect();
        copy_artifacts(&ArtifactsRequest {
            worktree: &self.tree(),
            to: self.to(),
            paths: &paths,
            limits,
            hurry: &|| false,
        })
    }

    /// All that was copied: names and contents.
    fn copies(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut pending = vec![self.to()];
        while let Some(path) = pending.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                assert_eq!(
                    metadata.permissions().mode() & 0o7777,
                    0o755,
                    "{}",
                    path.display()
                );
                pending.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            assert!(metadata.is_file(), "{}", path.display());
            assert_eq!(
                metadata.permissions().mode() & 0o7777,
                0o644,
                "{}",
                path.display()
            );
            let name = path.strip_prefix(self.to()).unwrap();
            let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((name.to_string_lossy().into_owned(), content));
        }
        found.sort();
        found
    }
}

fn skipped(report: &ArtifactsReport) -> Vec<(&str, &str)> {
    let paths = report.skipped_paths.iter();
    paths.map(|(path, why)| (&**path, &**why)).collect()
}

fn pair(name: &str, content: &str) -> (String, String) {
    (name.to_owned(), content.to_owned())
}

#[test]
fn matching_files_are_copied_with_rights_of_their_own() {
    let place = Place::new();
    place.write("reports/unit/a.xml", "aa");
    place.write("reports/b.xml", "b");
    place.write("reports/b.txt", "no");
    place.write("dist/app", "app");
    place.write("src/main.rs", "no");
    fs::set_permissions(
        place.tree().join("dist/app"),
        Permissions::from_mode(0o6777),
    )
    .unwrap();
    fs::set_permissions(place.tree().join("dist"), Permissions::from_mode(0o1777)).unwrap();
    let report = place.copy(&["reports/**/*.xml", "dist", "absent"]);
    assert_eq!(
        place.copies(),
        [
            pair("dist/app", "app"),
            pair("reports/b.xml", "b"),
            pair("reports/unit/a.xml", "aa"),
        ]
    );
    assert_eq!((report.files, report.bytes, report.skipped), (3, 6, 0));
    let listed: Vec<_> = report.copied.iter().map(|f| (&*f.path, f.bytes)).collect();
    let expected = [
        ("dist/app", 3),
        ("reports/b.xml", 1),
        ("reports/unit/a.xml", 2),
    ];
    assert_eq!(listed, expected);
    assert_eq!(report.incomplete, None);
}

#[test]
fn where_nothing_matches_nothing_is_made() {
    let place = Place::new();
    place.write("a", "a");
    let report = place.copy(&["b/**"]);
    assert_eq!(
        (report.files, report.skipped, report.incomplete),
        (0, 0, None)
    );
    assert!(!place.to().exists());
}

#[test]
fn links_pipes_sockets_and_devices_are_named_and_not_opened() {
    let place = Place::new();
    let tree = place.tree();
    place.write("fine", "fine");
    symlink(place.outside(), tree.join("to-file")).unwrap();
    symlink(place.0.path(), tree.join("to-directory")).unwrap();
    symlink("/proc/self/environ", tree.join("to-proc")).unwrap();
    symlink("fine", tree.join("inside")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    let zero = rustix::fs::makedev(1, 5);
    let device = mknodat(
        CWD,
        tree.join("zero"),
        FileType::CharacterDevice,
        mode,
        zero,
    );
    device.expect("run this test as root: it makes a device");
    let report = place.copy(&["**"]);
    assert_eq!(place.copies(), [pair("fine", "fine")]);
    let (link, other) = ("is a symbolic link", "is not a regular file");
    assert_eq!(
        skipped(&report),
        [
            ("fifo", other),
            ("inside", link),
            ("socket", other),
            ("to-directory", link),
            ("to-file", link),
            ("to-proc", link),
            ("zero", other),
        ]
    );
    // On the way to what is asked for, too.
    let report = place.copy(&["to-directory/outside", "**/tree/fine"]);
    assert_eq!(report.files, 0);
    assert_eq!(skipped(&report), [("to-directory", link)]);
}

/// Tells a thread to end, also where the test fails.
struct Tell<'a>(&'a AtomicBool);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_that_is_swapped_meanwhile_is_never_another() {
    let place = Place::new();
    let tree = place.tree();
    place.write("d/file", "own");
    place.write("other/file", "own");
    fs::create_dir(place.0.path().join("elsewhere")).unwrap();
    fs::write(place.0.path().join("elsewhere/file"), SECRET).unwrap();
    let done = AtomicBool::new(false);
    let mut copied = 0;
    std::thread::scope(|threads| {
        let _tell = Tell(&done);
        // Swaps, in one step each time, the file for a link and its directory for another.
        threads.spawn(|| {
            symlink(place.outside(), tree.join("link")).unwrap();
            symlink(place.0.path().join("elsewhere"), tree.join("place")).unwrap();
            let exchange = |a: &str, b: &str| {
                let (a, b) = (tree.join(a), tree.join(b));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(CWD, a, CWD, b, flags);
            };
            while !done.load(Ordering::Relaxed) {
                exchange("d/file", "link");
                exchange("d", "place");
                exchange("d", "place");
                exchange("d/file", "link");
            }
        });
        for _ in 0..300 {
            let report = place.copy(&["d/file", "other/file"]);
            copied += report.files;
            for (name, content) in place.copies() {
                assert_eq!(content, "own", "{name}");
            }
            fs::remove_dir_all(place.to()).unwrap();
        }
    });
    // The other file every time, the swapped one now and then.
    assert!((301..600).contains(&copied), "{copied}");
}

#[test]
fn sizes_are_bounded_before_and_while_reading() {
    let place = Place::new();
    let sparse = fs::File::create(place.tree().join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    place.write("a", "12345");
    place.write("b", "12345");
    place.write("c", "123456789");
    let limits = CollectLimits {
        file: 8,
        total: 9,
        ..CollectLimits::default()
    };
    let report = place.copy_within(&["a", "b", "c", "sparse"], limits);
    assert_eq!((report.files, report.bytes), (1, 5));
    assert_eq!(place.copies().len(), 1);
    let too_large = "is larger than `collect.limits.file` in the spec allows (8)";
    let last = "makes all larger than `collect.limits.total` in the spec allows (9)";
    let named = skipped(&report);
    assert_eq!(named[1..], [("c", too_large), ("sparse", too_large)]);
    assert!(
        named[0] == ("a", last) || named[0] == ("b", last),
        "{named:?}"
    );
    // By the default as well.
    let report = place.copy(&["sparse"]);
    assert_eq!(
        skipped(&report),
        [(
            "sparse",
            "is larger than `collect.limits.file` in the spec allows (1073741824)"
        )]
    );
}

#[test]
fn a_file_that_grows_or_shrinks_meanwhile_is_not_copied() {
    let place = Place::new();
    let path = place.tree().join("f");
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let mut seen = 0;
    for grown in [true, false] {
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let place = &place;
            threads.spawn(|| {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                let (mut size, step) = (64_i64 << 20, if grown { 1 } else { -1 });
                while !done.load(Ordering::Relaxed) {
                    size += step;
                    file.set_len(size.unsigned_abs()).unwrap();
                }
            });
            let report = {
                let _tell = Tell(&done);
                place.copy(&["f"])
            };
            seen += report.skipped;
            assert_eq!(report.files, 0);
            assert_eq!(skipped(&report), [("f", "changed while it was read")]);
        });
        assert!(!place.to().join("f").exists());
    }
    assert_eq!(seen, 2);
}

#[test]
fn names_of_bytes_arrive_and_are_told_harmlessly() {
    let place = Place::new();
    let names: [&[u8]; 4] = [b"\xff\xfe", b"two\nlines", b"\x1b[2J--option", &[b'x'; 255]];
    for name in names {
        fs::write(place.tree().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let report = place.copy(&["**"]);
    assert_eq!(report.files, 4);
    for name in names {
        let copy = place.to().join(OsStr::from_bytes(name));
        assert_eq!(fs::read(copy).unwrap(), name);
    }
    let told: Vec<&str> = report.copied.iter().map(|f| &*f.path).collect();
    let long = "x".repeat(255);
    assert_eq!(
        told,
        ["--option", "two\u{fffd}lines", &long, "\u{fffd}\u{fffd}"]
    );
}

#[test]
fn depth_and_numbers_are_bounded() {
    let place = Place::new();
    place.write("first", "1");
    let directory = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = rustix::fs::openat(CWD, place.tree(), directory, Mode::empty()).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", directory, Mode::empty()).unwrap();
    }
    let report = place.copy(&["**"]);
    assert_eq!(
        (report.files, report.skipped, &report.incomplete),
        (1, 1, &None)
    );
    assert_eq!(
        skipped(&report)[0].1,
        "lies deeper than `collect.limits.depth` in the spec allows (512)"
    );
    let place = Place::new();
    for n in 0..50 {
        place.write(&format!("files/{n}"), "x");
    }
    let limits = CollectLimits {
        paths: 20,
        ..CollectLimits::default()
    };
    let told = "there are more names than `collect.limits.paths` in the spec allows (20)";
    let report = place.copy_within(&["files"], limits);
    assert_eq!((report.files, place.copies().len()), (19, 19));
    assert_eq!(report.incomplete.as_deref(), Some(told));
    let report = place.copy_within(&["nowhere", "**/nothing"], limits);
    assert_eq!(report.incomplete.as_deref(), Some(told));
    let no_time = CollectLimits {
        time: Duration::ZERO,
        ..CollectLimits::default()
    };
    let report = place.copy_within(&["files"], no_time);
    assert_eq!(
        report.incomplete.as_deref(),
        Some("it took longer than `collect.limits.time` in the spec allows (0ns)")
    );
}

#[test]
fn what_is_named_is_bounded() {
    let place = Place::new();
    for n in 0..150 {
        place.write(&format!("file-{n}"), "x");
        symlink("x", place.tree().join(format!("link-{n}"))).unwrap();
    }
    let report = place.copy(&["*"]);
    assert_eq!((report.files, report.copied.len()), (150, 100));
    assert_eq!((report.skipped, report.skipped_paths.len()), (150, 20));
}

/// A prompt that asks git runs git wherever its user goes.
#[test]
fn no_git_repository_can_be_among_the_copies() {
    let place = Place::new();
    let tree = place.tree();
    let sung = place.0.path().join("sung");
    for name in ["nested", "bare", "HIDDEN"] {
        let repository = tree.join(name);
        git(&tree, &["init", "-q", name]);
        place.write(&format!("{name}/file.txt"), "x");
        git(&repository, &["add", "."]);
        let planted = format!(
            "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ..\n\tfsmonitor = \"touch {}; :\"\n",
            sung.display()
        );
        fs::write(repository.join(".git/config"), planted).unwrap();
    }
    fs::rename(tree.join("HIDDEN/.git"), tree.join("HIDDEN/.GIT")).unwrap();
    fs::remove_file(tree.join("bare/file.txt")).unwrap();
    for entry in fs::read_dir(tree.join("bare/.git")).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, tree.join("bare").join(path.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(tree.join("bare/.git")).unwrap();
    fs::create_dir(tree.join("split")).unwrap();
    fs::write(tree.join("split/HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(tree.join("split/commondir"), "../bare\n").unwrap();
    // The attack works where they lie.
    let status = try_git(&tree.join("bare"), &["status"]);
    assert!(
        fs::remove_file(&sung).is_ok(),
        "git would have run it: {status:?}"
    );
    let report = place.copy(&["**"]);
    let named: Vec<&str> = report
        .skipped_paths
        .iter()
        .map(|(path, _)| &**path)
        .collect();
    assert_eq!(named, ["HIDDEN/.GIT", "bare", "nested/.git", "split"]);
    for name in ["nested", "HIDDEN"] {
        try_git(&place.to().join(name), &["status"]);
    }
    assert!(!sung.exists());
    assert_eq!(place.copies().len(), 2);
    // The whole worktree as one, and one by one.
    let place = Place::new();
    git(&place.tree(), &["init", "-q", "--bare", "."]);
    for patterns in [&["**"][..], &["HEAD", "objects", "refs", "config"]] {
        let report = place.copy(patterns);
        assert_eq!(report.files, 0);
        assert!(!place.to().exists());
    }
}

#[test]
fn several_names_are_taken_only_where_the_task_owns_the_file() {
    let place = Place::new();
    let tree = place.tree();
    let chown = |path: &Path, uid: u32| {
        std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("run this test as root");
    };
    chown(&tree, 10001);
    place.write("own", "own");
    chown(&tree.join("own"), 10001);
    fs::hard_link(tree.join("own"), tree.join("own-too")).unwrap();
    fs::hard_link(place.outside(), tree.join("stolen")).unwrap();
    let report = place.copy(&["*"]);
    assert_eq!(place.copies(), [pair("own", "own"), pair("own-too", "own")]);
    let why = "has more than one name and is another user's";
    assert_eq!(skipped(&report), [("stolen", why)]);
}

/// A file system of a few pages, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=64k", "none"];
        let mounted = program("mount").args(options).arg(&at).status().unwrap();
        assert!(mounted.success(), "run this test as root");
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = program("umount").arg(&self.0).status();
    }
}

#[test]
fn other_file_systems_are_not_entered_and_a_full_one_is_told_of() {
    let place = Place::new();
    let _other = Mounted::new(place.tree().join("mounted"));
    place.write("mounted/file", "x");
    place.write("small", "x");
    place.write("large", &"x".repeat(100_000));
    let report = place.copy(&["mounted", "small"]);
    assert_eq!(place.copies(), [pair("small", "x")]);
    assert_eq!(skipped(&report), [("mounted", "is on another file system")]);
    fs::remove_dir_all(place.to()).unwrap();
    let _full = Mounted::new(place.to());
    let report = place.copy(&["small", "large"]);
    let why = report.incomplete.expect("no room");
    assert!(why.contains("No space left"), "{why}");
    assert!(!place.to().join("large").exists());
}
