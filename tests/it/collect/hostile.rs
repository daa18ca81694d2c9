//! Hand-offs that must be refused: each names its check, changes nothing in the user's repository
//! and keeps the attempt's directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_run::collect::limits::CollectLimits;
use agent_run::collect::needs_collector;
use agent_run::event::BranchResult;

use super::{collect_as, snapshot};
use crate::git::fixture::{commit, git, program, search_path};
use crate::workspace::{Inside, Site};

/// Writes an object without any check and returns its id.
fn object(inside: &Inside, kind: &str, body: &[u8]) -> String {
    let mut child = program("git")
        .args(["hash-object", "-t", kind, "--literally", "-w", "--stdin"])
        .env("PATH", search_path())
        .current_dir(inside.tree())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn raw(id: &str) -> Vec<u8> {
    (0..20)
        .map(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap())
        .collect()
}

fn tree(inside: &Inside, entries: &[(&str, &str, &str)]) -> String {
    let mut body = Vec::new();
    for (mode, name, id) in entries {
        body.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        body.extend(raw(id));
    }
    object(inside, "tree", &body)
}

/// A commit with this tree on top of the base.
fn commit_of(site: &Site, inside: &Inside, tree: &str) -> String {
    let who = "A <a@example.org> 1700000000 +0000";
    let text = format!(
        "tree {tree}\nparent {}\nauthor {who}\ncommitter {who}\n\nx\n",
        site.base()
    );
    object(inside, "commit", text.as_bytes())
}

/// Hands `tip` off as an agent could that runs no script of ours.
fn hand_off(site: &Site, inside: &Inside, tip: &str) {
    let out = inside.workspace.out();
    inside.git(&["update-ref", "refs/agent-run/out/head", tip]);
    let bundle = out.join("result.bundle");
    let not_base = format!("^{}", site.base());
    inside.git(&[
        "-c",
        "core.maxTreeDepth=100000",
        "bundle",
        "create",
        "-q",
        bundle.to_str().unwrap(),
        "refs/agent-run/out/head",
        &not_base,
    ]);
    write_status(inside, tip);
}

fn write_status(inside: &Inside, tip: &str) {
    let text = format!("format=1\nhead={tip}\nchanged=1\nbundle=1\n");
    fs::write(inside.workspace.out().join("status"), text).unwrap();
}

#[track_caller]
pub fn assert_refused_within(
    site: &Site,
    inside: &Inside,
    limits: CollectLimits,
    check: &str,
) -> String {
    let before = snapshot(&site.dir);
    let results = site
        .scratch
        .state()
        .results(site.repository.key(), site.store.key());
    let started = Instant::now();
    let report = collect_as(site, inside, "t", limits);
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    let BranchResult::Rejected {
        check: found,
        path,
        detail,
    } = &report.result
    else {
        panic!("{report:?}")
    };
    assert_eq!(found, check, "{detail}");
    assert!(detail.chars().all(|c| !c.is_control()), "{detail:?}");
    assert_eq!(path, inside.workspace.directory());
    assert!(report.content_left_behind);
    assert_eq!(snapshot(&site.dir), before);
    assert!(!results.exists());
    let entries = fs::read_dir(inside.workspace.directory()).unwrap();
    assert!(
        entries
            .map(|e| e.unwrap().file_name())
            .all(|n| !n.to_string_lossy().starts_with("quarantine"))
    );
    detail.clone()
}

#[track_caller]
pub fn assert_refused(site: &Site, inside: &Inside, check: &str) {
    assert_refused_within(site, inside, CollectLimits::default(), check);
}

#[test]
fn the_bases_own_tree_many_times_over_is_a_bomb_too() {
    let site = Site::new();
    let inside = site.workspace("t");
    let base_tree = inside.git(&["rev-parse", "HEAD^{tree}"]);
    let names: Vec<_> = (100..200).map(|n| n.to_string()).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|n| ("40000", n.as_str(), base_tree.as_str()))
        .collect();
    let tree_of_bases = tree(&inside, &entries);
    hand_off(&site, &inside, &commit_of(&site, &inside, &tree_of_bases));
    let limits = CollectLimits {
        paths: 200,
        ..CollectLimits::default()
    };
    assert_refused_within(&site, &inside, limits, "paths");
}

type Tighten = fn(&mut CollectLimits, u64);

/// Every limit refuses what is one above it, by a check with a name and with the key to raise, and
/// takes what is not above it.
#[test]
fn caps_name_what_to_raise() {
    let site = Site::new();
    let inside = site.workspace("t");
    for n in 0..3 {
        commit(&inside.tree(), "a/big", &format!("{n}").repeat(5000));
    }
    inside.hand_off();
    let bundle = inside.workspace.out().join("result.bundle");
    let range = format!("{}..HEAD", site.base());
    let listed = inside.git(&["rev-list", "--objects", "--no-object-names", &range]);
    let sizes = listed.lines().map(|id| inside.git(&["cat-file", "-s", id]));
    let total: u64 = sizes.map(|size| size.parse::<u64>().unwrap()).sum();
    let table: [(&str, &str, u64, Tighten); 7] = [
        (
            "bundle",
            "bundle-size",
            fs::metadata(bundle).unwrap().len(),
            |l, n| l.bundle = n,
        ),
        ("total", "total-size", total, |l, n| l.total = n),
        ("file", "blob-size", 5000, |l, n| l.file = n),
        ("commits", "commits", 3, |l, n| l.commits = n),
        (
            "objects",
            "object-count",
            listed.lines().count() as u64,
            |l, n| l.objects = n,
        ),
        ("paths", "paths", 2, |l, n| l.paths = n),
        ("depth", "depth", 2, |l, n| l.depth = n),
    ];
    let mut exact = CollectLimits::default();
    for (key, check, least, tighten) in table {
        let mut limits = CollectLimits::default();
        tighten(&mut limits, least - 1);
        assert_over(&site, &inside, limits, (check, key));
        tighten(&mut exact, least);
    }
    let limits = CollectLimits::default();
    let trees = CollectLimits {
        trees: 99,
        ..limits
    };
    assert_over(&site, &inside, trees, ("tree-bytes", "trees"));
    let time = CollectLimits {
        time: Duration::ZERO,
        ..limits
    };
    assert_over(&site, &inside, time, ("time", "time"));

    let report = collect_as(&site, &inside, "t", exact);
    let created = matches!(report.result, BranchResult::Created { .. });
    assert!(created, "{report:?}");
}

#[track_caller]
fn assert_over(site: &Site, inside: &Inside, limits: CollectLimits, (check, key): (&str, &str)) {
    let detail = assert_refused_within(site, inside, limits, check);
    let key = format!("`collect.limits.{key}`");
    assert!(detail.contains(&key), "{detail}");
}

#[test]
fn tips_that_are_not_on_top_of_the_base() {
    let site = Site::new();
    let inside = site.workspace("t");
    let root = inside.git(&["commit-tree", "HEAD^{tree}", "-m", "orphan"]);
    hand_off(&site, &inside, &root);
    assert_refused(&site, &inside, "descends-from-base");

    inside.git(&["reset", "-q", "--hard", "HEAD~1"]);
    inside.hand_off();
    assert_refused(&site, &inside, "descends-from-base");
    inside.git(&["reset", "-q", "--hard", site.base().as_str()]);

    commit(&inside.tree(), "c", "c");
    inside.git(&["tag", "-am", "t", "v"]);
    hand_off(&site, &inside, &inside.git(&["rev-parse", "v"]));
    assert_refused(&site, &inside, "tip-is-commit");
}

#[test]
fn files_that_are_no_plain_files() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c", "c");
    inside.hand_off();
    let bundle = inside.workspace.out().join("result.bundle");
    let saved = site.scratch.path("saved");
    fs::rename(&bundle, &saved).unwrap();
    for name in ["result.bundle", "status"] {
        let path = inside.workspace.out().join(name);
        let put = |make: &dyn Fn(&Path)| {
            let _ = fs::remove_file(&path);
            make(&path);
            assert!(needs_collector(&inside.workspace));
            assert_refused(&site, &inside, "handoff-file");
        };
        put(&|path| symlink(&saved, path).unwrap());
        put(&|path| assert!(program("mkfifo").arg(path).status().unwrap().success()));
        put(&|path| fs::hard_link(&saved, path).unwrap());
        put(&|path| fs::create_dir(path).unwrap());
        fs::remove_dir(&path).unwrap();
        write_status(&inside, site.base().as_str());
    }
}

#[test]
fn headers_and_statuses_of_another_form() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c", &"content ".repeat(1000));
    inside.hand_off();
    let path = inside.workspace.out().join("result.bundle");
    let good = fs::read(&path).unwrap();
    let pack = good.windows(4).position(|w| w == b"PACK").unwrap();
    let header = String::from_utf8(good[..pack].to_vec()).unwrap();
    let with = |header: String| [header.as_bytes(), &good[pack..]].concat();
    for bytes in [
        good[..20].to_vec(),
        with(header.replace("# v2", "# v9")),
        vec![b'a'; 100_000],
    ] {
        fs::write(&path, bytes).unwrap();
        assert_refused(&site, &inside, "bundle-header");
    }
    fs::write(&path, good).unwrap();
    for status in [
        "",
        "format=1\n",
        "format=2\nhead=x\n",
        "format=1\nhead=zz\n",
        "format=1\nevil=1\n",
        "format=1\nside.99=x\n",
    ] {
        fs::write(inside.workspace.out().join("status"), status).unwrap();
        assert_refused(&site, &inside, "handoff-status");
    }
}

#[test]
fn no_hand_off_is_kept_with_the_reason() {
    let site = Site::new();
    let inside = site.workspace("t");
    let before = snapshot(&site.dir);
    let report = collect_as(&site, &inside, "t", CollectLimits::default());
    let BranchResult::Kept { path, reason } = &report.result else {
        panic!("{report:?}")
    };
    assert_eq!(
        (path.as_path(), reason.as_str()),
        (
            inside.workspace.directory(),
            "the task's work was not handed off"
        )
    );
    write_status(&inside, site.base().as_str());
    assert!(needs_collector(&inside.workspace));
    assert!(matches!(
        collect_as(&site, &inside, "t", CollectLimits::default()).result,
        BranchResult::Kept { .. }
    ));
    assert_eq!(snapshot(&site.dir), before);
    assert_eq!(git(&site.dir, &["for-each-ref", "refs/agent-run"]), "");
}

/// The traps of a repository that an agent wrote, live for any git that looks there.
fn plant_traps(inside: &Inside, trace: &Path) {
    let script = inside.tree().join("trap.sh");
    fs::write(
        &script,
        format!("#!/bin/sh\necho ran >>{}\n", trace.display()),
    )
    .unwrap();
    let executable = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable()).unwrap();
    let trap = script.to_str().unwrap();
    let git_dir = inside.workspace.git_dir();
    for hook in [
        "post-index-change",
        "reference-transaction",
        "post-checkout",
        "pre-auto-gc",
    ] {
        fs::copy(&script, git_dir.join("hooks").join(hook)).unwrap();
    }
    git(&inside.tree(), &["init", "-q", "nested"]);
    commit(&inside.tree().join("nested"), "file", "x");
    for dir in [inside.tree(), inside.tree().join("nested")] {
        for (key, value) in [
            ("core.fsmonitor", trap),
            ("core.pager", trap),
            ("core.sshCommand", trap),
            ("diff.external", trap),
            ("filter.x.clean", trap),
            ("filter.x.smudge", trap),
            ("uploadpack.packObjectsHook", trap),
        ] {
            git(&dir, &["config", key, value]);
        }
        fs::write(dir.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    }
}

#[test]
fn no_trap_of_the_agents_runs_on_the_host() {
    let site = Site::new();
    let inside = site.workspace("t");
    let trace = site.scratch.path("trace");
    commit(&inside.tree(), "c", "c");
    inside.hand_off();
    plant_traps(&inside, &trace);
    let report = collect_as(&site, &inside, "t", CollectLimits::default());
    assert!(
        matches!(report.result, BranchResult::Created { .. }),
        "{report:?}"
    );
    assert!(!trace.exists(), "collecting ran a trap");
    inside.git(&["status"]);
    assert!(trace.exists(), "the traps are live");
    fs::remove_file(&trace).unwrap();
    agent_run::workspace::remove(&site.scratch.state(), inside.workspace.directory()).unwrap();
    assert!(!trace.exists(), "removing ran a trap");
}

#[test]
fn commits_that_git_cannot_pack_are_kept_with_what_it_said() {
    let site = Site::new();
    let inside = site.workspace("t");
    commit(&inside.tree(), "c.txt", "c");
    let blob = inside.git(&["rev-parse", "HEAD:c.txt"]);
    let (directory, file) = blob.split_at(2);
    let object = inside.workspace.git_dir().join("objects").join(directory);
    fs::remove_file(object.join(file)).unwrap();
    inside.hand_off();
    assert!(
        needs_collector(&inside.workspace),
        "it may have more memory"
    );
    let report = collect_as(&site, &inside, "t", CollectLimits::default());
    let BranchResult::Kept { reason, .. } = &report.result else {
        panic!("{report:?}")
    };
    assert!(reason.contains("inside the container: fatal: "), "{reason}");
    assert!(
        reason.contains(&blob) && reason.contains("`mem_limit`"),
        "{reason}"
    );
}

/// Nothing of the task's runs any more then, but the file may be a shared one of somebody's.
#[test]
fn a_bundle_that_changes_while_it_is_read_is_refused_or_what_it_was() {
    let site = Site::new();
    let inside = site.workspace("t");
    let noise: String = (0..200_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_string())
        .collect();
    let tip = commit(&inside.tree(), "c.txt", &noise);
    inside.hand_off();
    let path = inside.workspace.out().join("result.bundle");
    let whole = fs::read(&path).unwrap();
    let mut taken = 0;
    for (round, change) in (0..24_usize).map(|n| (n, n % 4)) {
        fs::write(&path, &whole).unwrap();
        let (path, whole) = (&path, &whole);
        let report = std::thread::scope(|scope| {
            let (started, end) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let file = fs::File::options().write(true).open(path).unwrap();
                // Until the collection is over: again and again, whatever it reads at that time.
                while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    match change {
                        0 => file.set_len(whole.len() as u64 / 2).unwrap(),
                        1 => file.set_len(1 << 40).unwrap(),
                        2 => file.write_all_at(b"# v2 git bundle\n\n", 0).unwrap(),
                        _ => fs::write(path, &whole[whole.len() / 2..]).unwrap(),
                    }
                    if change < 2 {
                        fs::write(path, whole).unwrap();
                    }
                }
            });
            let report = collect_as(
                &site,
                &inside,
                &format!("t{round}"),
                CollectLimits::default(),
            );
            drop(started);
            report
        });
        match &report.result {
            BranchResult::Created { commit, .. } => {
                assert_eq!(*commit, tip);
                taken += 1;
            }
            BranchResult::Rejected { .. } | BranchResult::Kept { .. } => {}
            other => panic!("{other:?}"),
        }
        git(&site.dir, &["fsck", "--strict", "--full"]);
    }
    assert!(taken < 24, "nothing changed while it was read");
}
