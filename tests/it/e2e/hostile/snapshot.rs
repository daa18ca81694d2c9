//! A repository's files, objects aside, to see that nothing changed but what may.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Every file of a repository and of its worktree, but for the objects.
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub fn of(repo: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut pending = vec![repo.to_owned()];
        while let Some(path) = pending.pop() {
            let metadata = fs::symlink_metadata(&path).expect("a file");
            let name = path.strip_prefix(repo).expect("below").to_string_lossy();
            if name == ".git/objects" {
                continue;
            }
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).expect("a directory");
                pending.extend(entries.map(|e| e.expect("an entry").path()));
                continue;
            }
            let content = if metadata.is_symlink() {
                fs::read_link(&path).expect("a link").display().to_string()
            } else {
                String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned()
            };
            let mode = metadata.permissions().mode();
            files.insert(name.into_owned(), format!("{mode:o} {content}"));
        }
        Self(files)
    }

    /// That since `before` exactly these refs were added and nothing else was touched.
    #[track_caller]
    pub fn assert_same_but(&self, before: &Self, refs: &BTreeSet<String>) {
        let is_new = |name: &&String| !before.0.contains_key(*name);
        let added: BTreeSet<String> = self.0.keys().filter(is_new).cloned().collect();
        let expected: BTreeSet<String> = refs.iter().map(|name| format!(".git/{name}")).collect();
        let logs: BTreeSet<String> = refs
            .iter()
            .map(|name| format!(".git/logs/{name}"))
            .collect();
        let without_logs: BTreeSet<String> = added.difference(&logs).cloned().collect();
        assert_eq!(without_logs, expected);
        for (name, content) in &before.0 {
            assert_eq!(self.0.get(name), Some(content), "{name}");
        }
    }
}
