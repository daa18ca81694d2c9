//! Paths that deserve a look before merging: what runs, or changes what runs, when somebody opens,
//! checks out or pushes the branch.

use std::collections::{HashMap, HashSet};

use super::error::{CollectError, fail_closed};
use super::quarantine::Quarantine;
use super::trees::{Change, MODE_GITLINK, MODE_LINK, ObjectId, hex, unhex};
use crate::sanitize;
use crate::workspace::BaseStore;

/// Most risky paths that are listed.
const LISTED: usize = 100;
/// Most symbolic links that are read, and the longest target that is.
const LINKS: usize = 10_000;
const TARGET_LIMIT: u64 = 4096;

/// File names, wherever they are, and why they matter. Compared without regard to case.
const NAMES: [(&str, &str); 10] = [
    // Beside `refs` and `objects`, and then git there heeds the configuration beside it.
    ("head", "may make its directory a repository of its own"),
    (".gitmodules", "changes submodules"),
    (".gitattributes", "changes how git treats files"),
    (".envrc", "runs on entering the directory"),
    (".gitlab-ci.yml", "changes what CI runs"),
    (".travis.yml", "changes what CI runs"),
    ("azure-pipelines.yml", "changes what CI runs"),
    ("jenkinsfile", "changes what CI runs"),
    (".pre-commit-config.yaml", "changes what commit hooks run"),
    (".mcp.json", "changes what coding agents run"),
];

/// Directories, wherever they are, and why what is in them matters.
const DIRECTORIES: [(&str, &str); 12] = [
    (".github/workflows/", "changes what CI runs"),
    (".github/actions/", "changes what CI runs"),
    (".circleci/", "changes what CI runs"),
    (".buildkite/", "changes what CI runs"),
    (".woodpecker/", "changes what CI runs"),
    (".husky/", "changes what commit hooks run"),
    (".githooks/", "changes what commit hooks run"),
    (".vscode/", "changes what an editor runs"),
    (".idea/", "changes what an editor runs"),
    (".devcontainer/", "changes what an editor runs"),
    (".claude/", "changes what coding agents run"),
    (".cursor/", "changes what coding agents run"),
];

/// What is worth a look in a set of changes.
#[derive(Debug, Default)]
pub(super) struct Risks {
    /// Paths and why, sanitised.
    pub(super) paths: Vec<(String, String)>,
    /// New nested repositories, whose content is not in the result.
    pub(super) nested: usize,
    /// Submodules at commits that no submodule of the base has.
    pub(super) absent: usize,
}

/// Looks through changes.
pub(super) fn find(
    quarantine: &Quarantine<'_>,
    changes: &[Change],
    store: &BaseStore,
) -> Result<Risks, CollectError> {
    let targets = link_targets(quarantine, changes)?;
    let known = known_commits(quarantine, changes, store)?;
    let declares = changes.iter().any(|c| c.path == b".gitmodules");
    let mut risks = Risks::default();
    for change in changes {
        let new_gitlink = change.new.mode == MODE_GITLINK
            && change
                .old
                .as_ref()
                .is_none_or(|old| old.mode != MODE_GITLINK);
        risks.nested += usize::from(new_gitlink && !declares);
        let moved = change.new.mode == MODE_GITLINK && !new_gitlink;
        let absent = moved && !known.contains(&change.new.id);
        risks.absent += usize::from(absent);
        let why = if absent {
            Some("is a submodule moved to a commit that is not in the result")
        } else {
            judge(change, new_gitlink, &targets)
        };
        let Some(why) = why else {
            continue;
        };
        if risks.paths.len() < LISTED {
            risks
                .paths
                .push((sanitize::line(&change.path, false), why.to_owned()));
        }
    }
    risks.paths.sort();
    Ok(risks)
}

fn judge(
    change: &Change,
    new_gitlink: bool,
    targets: &HashMap<ObjectId, Vec<u8>>,
) -> Option<&'static str> {
    if new_gitlink {
        return Some("is a nested repository: its content is not in the branch");
    }
    match change.new.mode {
        MODE_GITLINK => return Some("moves a submodule"),
        MODE_LINK => match targets.get(&change.new.id) {
            None => return Some("is a symbolic link whose target is too long"),
            Some(target) if leaves(&change.path, target) => {
                return Some("is a symbolic link out of the repository");
            }
            Some(_) => {}
        },
        _ => {}
    }
    let path = String::from_utf8_lossy(&change.path).to_lowercase();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let slashed = format!("/{path}");
    let by_name = NAMES.iter().find(|(known, _)| *known == name);
    let by_directory = || {
        DIRECTORIES
            .iter()
            .find(|(known, _)| slashed.contains(&format!("/{known}")))
    };
    if let Some((_, why)) = by_name.or_else(by_directory) {
        return Some(why);
    }
    let odd = std::str::from_utf8(&change.path).is_err()
        || sanitize::line(&change.path, false).as_bytes() != change.path;
    odd.then_some("has a name with characters that are not shown")
}

/// Whether a link at `path` points out of the tree.
fn leaves(path: &[u8], target: &[u8]) -> bool {
    let mut depth = path.split(|b| *b == b'/').count() - 1;
    if target.starts_with(b"/") {
        return true;
    }
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// The commits of changed submodules that tasks could borrow: those that are not new.
fn known_commits(
    quarantine: &Quarantine<'_>,
    changes: &[Change],
    store: &BaseStore,
) -> Result<HashSet<ObjectId>, CollectError> {
    let gitlinks = changes.iter().filter(|c| c.new.mode == MODE_GITLINK);
    let listing: String = gitlinks.map(|c| hex(&c.new.id) + "\n").collect();
    let mut known = HashSet::new();
    if listing.is_empty() {
        return Ok(known);
    }
    for git_dir in store.submodule_stores() {
        let answer = quarantine
            .call(["cat-file", "--batch-check=%(objectname) %(objecttype)"])
            .git_dir(git_dir)
            .input(listing.clone().into_bytes())
            .run_text()
            .map_err(fail_closed("submodules"))?;
        let commits = answer.lines().filter_map(|l| l.strip_suffix(" commit"));
        known.extend(commits.filter_map(unhex));
    }
    Ok(known)
}

/// The targets of changed symbolic links, where they are of a sane length.
fn link_targets(
    quarantine: &Quarantine<'_>,
    changes: &[Change],
) -> Result<HashMap<ObjectId, Vec<u8>>, CollectError> {
    let mut ids: Vec<_> = changes
        .iter()
        .filter(|c| c.new.mode == MODE_LINK)
        .map(|c| c.new.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(LINKS);
    let listing = |ids: &[ObjectId]| {
        ids.iter()
            .map(|id| hex(id) + "\n")
            .collect::<String>()
            .into_bytes()
    };
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sizes = quarantine
        .call(["cat-file", "--batch-check=%(objectsize)"])
        .input(listing(&ids))
        .run_text()
        .map_err(fail_closed("objects"))?;
    let mut lengths = sizes
        .lines()
        .map(|line| line.parse::<u64>().unwrap_or(u64::MAX));
    ids.retain(|_| lengths.next().is_some_and(|size| size <= TARGET_LIMIT));
    let output = quarantine
        .call(["cat-file", "--batch"])
        .input(listing(&ids))
        .run();
    let output = output.map_err(fail_closed("objects"))?;
    let mut targets = HashMap::new();
    let mut rest = &output[..];
    for id in ids {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            break;
        };
        let size = String::from_utf8_lossy(&rest[..end])
            .rsplit(' ')
            .next()
            .and_then(|s| s.parse::<usize>().ok());
        let Some(target) = size.and_then(|size| rest.get(end + 1..end + 1 + size)) else {
            break;
        };
        targets.insert(id, target.to_vec());
        rest = rest.get(end + 2 + target.len()..).unwrap_or_default();
    }
    Ok(targets)
}
