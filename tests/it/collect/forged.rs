//! Hand-offs that no git makes, forged byte by byte: each is refused by a check with a name and
//! changes nothing, or is imported clean. The same attacks run inside containers in `e2e::hostile`.

use std::fs;

use agent_run::collect::limits::CollectLimits;
use agent_run::event::BranchResult;

use super::hostile::{assert_refused, assert_refused_within};
use super::{collected, snapshot};
use crate::git::fixture::{git, program, search_path};
use crate::workspace::{Inside, Site};

/// The forger; what it knows is its table of attacks.
pub const FORGE: &str = include_str!("forge.py");

/// The attacks, and the checks that refuse them.
pub const REFUSED: &[(&str, &str)] = &[
    ("dot-git", "objects"),
    ("dot-git-tree", "objects"),
    ("dot-dot", "objects"),
    ("dot", "objects"),
    ("short-name", "objects"),
    ("joiner", "objects"),
    ("slash", "objects"),
    ("no-name", "objects"),
    ("setuid", "objects"),
    ("device", "objects"),
    ("unsorted", "objects"),
    ("twice", "objects"),
    ("file-and-directory", "objects"),
    ("zero-padded", "objects"),
    ("null-object", "objects"),
    ("missing-object", "objects"),
    ("tree-as-file", "objects"),
    ("file-as-tree", "objects"),
    ("linked-gitmodules", "objects"),
    ("option-url", "objects"),
    ("option-path", "objects"),
    ("outside-name", "objects"),
    ("command-update", "objects"),
    ("garbled-tree", "objects"),
    ("no-author", "objects"),
    ("nul-author", "objects"),
    ("wide", "paths"),
    ("deep", "objects"),
    ("shallow-bomb", "depth"),
    ("many-trees", "tree-bytes"),
    ("zeros", "blob-size"),
    ("delta-bomb", "objects"),
    ("large-delta", "objects"),
    ("cut", "objects"),
    ("header-only", "objects"),
    ("replaced", "bundle-header"),
    ("flipped", "objects"),
    ("empty", "bundle-header"),
    ("sparse", "bundle-size"),
    ("linked", "handoff-file"),
    ("other-pack", "objects"),
    ("other-tip", "objects"),
    ("other-root", "descends-from-base"),
    ("older", "descends-from-base"),
    ("tag", "tip-is-commit"),
    ("nested-tags", "tip-is-commit"),
    ("tree-tip", "tip-is-commit"),
    ("blob-tip", "tip-is-commit"),
    ("many-refs", "bundle-header"),
    ("twice-head", "bundle-header"),
    ("escape-ref", "bundle-header"),
    ("command-ref", "bundle-header"),
    ("mask-ref", "bundle-header"),
    ("option-ref", "bundle-header"),
    ("dash-ref", "bundle-header"),
    ("not-utf8-ref", "bundle-header"),
    ("outside-ref", "bundle-header"),
    ("user's-ref", "bundle-header"),
    ("nul-ref", "bundle-header"),
    ("side-99", "bundle-header"),
    ("long-ref", "bundle-header"),
    ("unknown-status", "handoff-status"),
    ("long-status", "handoff-status"),
];

/// The attacks that are imported, as what they are.
const IMPORTED: [&str; 3] = ["hostile-status", "status-head", "with-tail"];

/// Hands off as an agent could that runs no script of ours.
fn forge(site: &Site, inside: &Inside, attack: &str) {
    let out = inside.workspace.out();
    let _ = fs::remove_file(out.join("second"));
    let forged = program("python3")
        .args(["-c", FORGE, attack])
        .env("PATH", search_path())
        .env("AGENT_BASE", site.base().as_str())
        .env("FORGE_OUT", &out)
        .current_dir(inside.tree())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&forged.stderr);
    assert!(forged.status.success(), "{attack}: {stderr}");
}

/// Tries the attacks whose numbers are from `first` on, every so many, in one repository.
fn refuse(first: usize, step: usize) {
    let site = Site::new();
    let inside = site.workspace("t");
    let before = snapshot(&site.dir);
    let mut wrong = String::new();
    for (attack, expected) in REFUSED.iter().skip(first).step_by(step) {
        forge(&site, &inside, attack);
        let report = collected(&site, &inside, "t");
        match &report.result {
            BranchResult::Rejected { check, .. } if check == expected => {}
            other => wrong.push_str(&format!("{attack}: {other:?}\n")),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(snapshot(&site.dir), before);
    let entries = fs::read_dir(inside.workspace.directory()).unwrap();
    let mut names = entries.map(|e| e.unwrap().file_name());
    assert!(names.all(|n| !n.to_string_lossy().starts_with("quarantine")));
}

#[test]
fn forged_hand_offs_are_refused() {
    refuse(0, 2);
}

#[test]
fn forged_hand_offs_are_refused_the_other_half() {
    refuse(1, 2);
}

#[test]
fn what_is_well_formed_in_a_forged_hand_off_is_imported() {
    for attack in IMPORTED {
        let site = Site::new();
        let inside = site.workspace("t");
        forge(&site, &inside, attack);
        let report = collected(&site, &inside, "t");
        let created = matches!(report.result, BranchResult::Created { .. });
        assert!(created, "{attack}: {report:?}");
        let told = format!("{report:?}");
        assert!(!told.contains('\u{1b}'), "{told}");
        git(&site.dir, &["fsck", "--strict"]);
    }
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_million_objects_are_refused_and_their_paths_where_more_are_allowed() {
    let site = Site::new();
    let inside = site.workspace("t");
    forge(&site, &inside, "many-objects");
    let before = snapshot(&site.dir);
    assert_refused(&site, &inside, "object-count");
    assert_eq!(snapshot(&site.dir), before);
    let raised = CollectLimits {
        objects: 2_000_000,
        paths: 1_000_000,
        ..CollectLimits::default()
    };
    assert_refused_within(&site, &inside, raised, "paths");
}
