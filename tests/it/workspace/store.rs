//! The base store: what it holds, what it shares with the stores of other commits, and that it is
//! never written to again.

use std::collections::BTreeSet;

use super::*;

/// The store of what `name` stands for now.
fn store_of(site: &Site, name: &str, depth: Option<u32>) -> BaseStore {
    let base = site.repository.resolve_base(name).unwrap();
    BaseStore::ensure(&site.repository, &site.scratch.state(), &base, depth).unwrap()
}

fn has(store: &BaseStore, id: &CommitId) -> bool {
    let there = try_git(store.path(), &["cat-file", "-e", id.as_str()]);
    there.status.success()
}

/// The packs of a store: their numbers on the disk, which hard links share.
fn packs(store: &BaseStore) -> BTreeSet<u64> {
    let packs = fs::read_dir(store.objects().join("pack")).unwrap();
    let paths = packs.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .map(|path| fs::metadata(path).unwrap().ino())
        .collect()
}

#[test]
fn the_base_store_holds_only_what_the_base_reaches() {
    let site = Site::new();
    git(&site.dir, &["switch", "-qc", "secret"]);
    let secret = commit(&site.dir, "key", "secret");
    let on_secret = store_of(&site, "HEAD", None);
    assert!(has(&on_secret, &secret) && !has(&site.store, &secret));
    git(&site.dir, &["switch", "-q", "main"]);
    let main = store_of(&site, "HEAD", None);
    assert_eq!(main.key(), site.store.key(), "one store per commit");
    assert!(main.cold_cost().is_none());
    let newer = commit(&site.dir, "new", "new");
    let grown = store_of(&site, "main", None);
    assert!(grown.cold_cost().unwrap().bytes > 0 && has(&grown, &newer) && !has(&grown, &secret));
    assert!(
        packs(&grown).is_superset(&packs(&main)),
        "only what is new was copied"
    );
    // A run on the older commit may still be under way.
    assert!(has(&main, main.base()) && !has(&main, &newer));
    git(&site.dir, &["reset", "-q", "--hard", "HEAD~1"]);
    commit(&site.dir, "new", "without a secret");
    let amended = store_of(&site, "main", None);
    assert!(has(&amended, main.base()) && !has(&amended, &newer));
    assert!(packs(&amended).is_superset(&packs(&main)));
    assert_eq!(
        git(grown.path(), &["fsck", "--strict", "--unreachable"]),
        ""
    );
}

#[test]
fn a_cut_store_holds_the_newest_commits_and_no_older_ones() {
    let site = Site::cut(2);
    let oldest = site.repository.resolve_base("HEAD~1").unwrap();
    assert!(has(&site.store, &oldest));
    commit(&site.dir, "new", "new");
    let newer = store_of(&site, "HEAD", Some(2));
    let seen = git(
        newer.path(),
        &["rev-list", "--count", newer.base().as_str()],
    );
    assert_eq!(seen, "2");
    assert!(has(&newer, site.base()) && !has(&newer, &oldest));
}

#[test]
fn a_store_follows_a_repository_whose_history_was_completed() {
    let site = Site::new();
    let (state, url) = (
        site.scratch.state(),
        format!("file://{}", site.dir.display()),
    );
    let dir = site.scratch.path("cut");
    let dir_name = dir.to_str().unwrap();
    git(&site.dir, &["clone", "-q", "--depth=1", &url, dir_name]);
    let count = || {
        let repository = site.scratch.open(&dir);
        let base = repository.resolve_base("HEAD").unwrap();
        let store = BaseStore::ensure(&repository, &state, &base, None).unwrap();
        git(store.path(), &["rev-list", "--count", base.as_str()])
    };
    assert_eq!(count(), "1");
    git(&dir, &["fetch", "-q", "--unshallow"]);
    assert_eq!(count(), git(&site.dir, &["rev-list", "--count", "HEAD"]));
}

#[test]
fn many_commits_leave_few_packs() {
    let site = Site::new();
    let mut most = 0;
    for n in 0..20 {
        commit(&site.dir, "n", &n.to_string());
        let store = store_of(&site, "HEAD", None);
        most = most.max(packs(&store).len());
        assert_eq!(git(store.path(), &["fsck", "--strict"]), "", "{n}");
    }
    assert!((4..=8).contains(&most), "{most}");
    assert!(has(&site.store, site.base()), "older stores stay whole");
    git(site.store.path(), &["fsck", "--strict"]);
}

#[test]
fn what_a_fetch_that_was_cut_short_has_brought_stays_unreadable() {
    let site = Site::new();
    let secret = commit(&site.dir, "secret", "secret");
    // The objects arrive, and then the store cannot take its place.
    let bad = store_of(&site, "HEAD", None);
    let making = bad.path().with_extension("making");
    fs::rename(bad.path(), &making).unwrap();
    git(&site.dir, &["reset", "-q", "--hard", "HEAD~1"]);
    commit(&site.dir, "other", "other");
    let after = store_of(&site, "HEAD", None);
    assert!(!has(&after, &secret));
    // The next one begins anew.
    git(&site.dir, &["reset", "-q", "--hard", secret.as_str()]);
    assert!(has(&store_of(&site, "HEAD", None), &secret));
    assert!(!making.exists());
}
