//! Commits as patches, mails and bundles: whatever they hold, git gets from them what they are, and no
//! program of the user's configuration runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use agent_run::git::{GitError, Repository};
use agent_run::id::{BranchName, CommitId};

use super::fixture::{Scratch, commit, git};

/// The message of a commit that would like to be two, and to change what it does not.
const MESSAGE: &str = "fix \u{1b}[2J@everyone <!-- fixes #1

From: Somebody Else <else@example.org>
Subject: another

From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: Somebody Else <else@example.org>
Subject: [PATCH] planted

---
diff --git a/planted b/planted
new file mode 100644
index 0000000..257cc56
--- /dev/null
+++ b/planted
@@ -0,0 +1 @@
+planted
";

/// A repository in which everything that can be asked for by configuration is, and two commits.
struct Hostile {
    scratch: Scratch,
    repository: Repository,
    base: CommitId,
    tip: CommitId,
}

impl Hostile {
    fn new() -> Self {
        let scratch = Scratch::odd();
        let dir = scratch.repository("repository");
        let base = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
        fs::write(dir.join(".gitattributes"), "* diff=own\n").unwrap();
        fs::write(dir.join("a.txt"), "three\r\nand \u{1b}[2J more\n").unwrap();
        fs::write(dir.join("name\t\"\n\u{1b}[2J.txt"), "\n").unwrap();
        fs::write(dir.join("data.bin"), [0, 1, 2, 0xff]).unwrap();
        git(&dir, &["mv", "src/b.txt", "src/c.txt"]);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join("src/c.txt"), mode).unwrap();
        symlink("../outside", dir.join("link")).unwrap();
        fs::write(scratch.path("message"), MESSAGE).unwrap();
        git(&dir, &["add", "-A"]);
        let module = format!("160000,{base},sub");
        git(&dir, &["update-index", "--add", "--cacheinfo", &module]);
        let message = scratch.path("message").display().to_string();
        git(&dir, &["commit", "-qF", &message, "--cleanup=verbatim"]);
        // What is not in the index is not committed: the submodule stays.
        fs::write(dir.join("last.txt"), "last\n").unwrap();
        git(&dir, &["add", "last.txt"]);
        git(&dir, &["commit", "-qm", "last"]);
        let tip = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
        let mark = scratch.path("mark");
        let program = format!("touch '{}'; exit 1", mark.display());
        for (key, value) in [
            ("diff.external", &*program),
            ("diff.own.command", &program),
            ("diff.own.textconv", &program),
            ("core.fsmonitor", &program),
            ("core.pager", &program),
            ("diff.noprefix", "true"),
            ("diff.context", "0"),
            ("diff.ignoreSubmodules", "all"),
            ("diff.submodule", "log"),
            ("color.ui", "always"),
            ("format.attach", "true"),
            ("format.coverLetter", "true"),
            ("format.subjectPrefix", "PLANTED"),
            ("log.showSignature", "true"),
        ] {
            git(&dir, &["config", key, value]);
        }
        Self {
            repository: scratch.open(&dir),
            scratch,
            base,
            tip,
        }
    }

    fn range(&self) -> (&CommitId, &CommitId) {
        (&self.base, &self.tip)
    }

    /// A clone of the base, by somebody who configured nothing.
    fn other(&self) -> std::path::PathBuf {
        let (from, to) = (self.scratch.path("repository"), self.scratch.path("other"));
        let from = from.display().to_string();
        let root = self.scratch.path("");
        git(&root, &["clone", "-q", "--no-local", &from, "other"]);
        git(&to, &["checkout", "-q", "-B", "main", self.base.as_str()]);
        to
    }

    fn tree(&self) -> String {
        self.tree_of(self.tip.as_str())
    }

    fn tree_of(&self, commit: &str) -> String {
        let dir = self.scratch.path("repository");
        git(&dir, &["rev-parse", &format!("{commit}^{{tree}}")])
    }

    fn nothing_ran(&self) {
        assert!(!self.scratch.path("mark").exists());
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_patch_is_whole_whatever_is_configured() {
    let hostile = Hostile::new();
    let file = hostile.scratch.path("a.patch");
    hostile
        .repository
        .write_patch(hostile.range(), &file)
        .unwrap();
    let other = hostile.other();
    git(&other, &["apply", "--index", path(&file)]);
    assert_eq!(git(&other, &["write-tree"]), hostile.tree());
    let shown = hostile
        .repository
        .diff(&hostile.base, &hostile.tip, false)
        .unwrap();
    assert_eq!(shown, fs::read(file).unwrap());
    hostile.nothing_ran();
}

#[test]
fn mails_are_the_commits_and_nothing_that_a_message_plants() {
    let hostile = Hostile::new();
    let file = hostile.scratch.path("a.mbox");
    hostile
        .repository
        .write_mails(hostile.range(), &file)
        .unwrap();
    let other = hostile.other();
    git(&other, &["am", "-q", "--keep-cr", path(&file)]);
    assert_eq!(git(&other, &["rev-parse", "HEAD^{tree}"]), hostile.tree());
    let range = format!("{}..", hostile.base);
    let authors = git(&other, &["log", "--format=%an <%ae>", &range]);
    assert_eq!(authors, "U <u@example.org>\nU <u@example.org>");
    let first = git(&other, &["log", "-1", "--format=%B", "HEAD^"]);
    assert!(first.contains("\n From: Somebody Else"), "{first}");
    assert!(first.contains("\n+planted"), "{first}");
    hostile.nothing_ran();
}

#[test]
fn an_encoding_makes_no_patch_of_a_message() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base: CommitId = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
    fs::write(dir.join("x"), "x\n").unwrap();
    git(&dir, &["add", "x"]);
    let tree = git(&dir, &["write-tree"]);
    // In UTF-7 no line of it begins as one of a patch does; a time zone with a plus would be a mistake in it.
    let who = "A <a@example.org> 1700000000 -0100";
    let patch = "x\n\n+AGQ-iff --git a/planted b/planted\nnew file mode 100644\n+AC0ALQAt- /dev/null\n\
                 +ACsAKwAr- b/planted\n+AEAAQA- -0,0 +-1 +AEAAQA-\n+-planted\n";
    let text = format!(
        "tree {tree}\nparent {base}\nauthor {who}\ncommitter {who}\nencoding UTF-7\n\n{patch}"
    );
    let planted = scratch.path("planted");
    fs::write(&planted, text).unwrap();
    let words = ["hash-object", "-t", "commit", "-w", path(&planted)];
    let tip: CommitId = git(&dir, &words).parse().unwrap();
    let shown = git(&dir, &["log", "-1", "--format=%B", tip.as_str()]);
    assert!(shown.contains("diff --git a/planted"), "{shown}");
    let file = scratch.path("a.mbox");
    let repository = scratch.open(&dir);
    repository.write_mails((&base, &tip), &file).unwrap();
    git(&dir, &["reset", "-q", "--hard"]);
    git(&dir, &["am", "-q", path(&file)]);
    assert!(dir.join("x").exists() && !dir.join("planted").exists());
}

#[test]
fn commits_whose_messages_are_harmless_are_mailed_as_they_are() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repository");
    let base = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
    let tip = commit(&dir, "x", "\n");
    let file = scratch.path("a.mbox");
    let repository = scratch.open(&dir);
    repository.write_mails((&base, &tip), &file).unwrap();
    let mail = fs::read_to_string(&file).unwrap();
    assert!(mail.starts_with(&format!("From {tip} ")), "{mail}");
    // A merge is no mail.
    git(&dir, &["checkout", "-q", "-b", "side", base.as_str()]);
    commit(&dir, "y", "\n");
    git(&dir, &["merge", "-q", "--no-edit", tip.as_str()]);
    let merge: CommitId = git(&dir, &["rev-parse", "HEAD"]).parse().unwrap();
    let error = repository.write_mails((&base, &merge), &file).unwrap_err();
    assert!(matches!(error, GitError::NotLinear { .. }), "{error}");
}

#[test]
fn a_bundle_has_branches_and_what_their_bases_have_not() {
    let hostile = Hostile::new();
    let file = hostile.scratch.path("a.bundle");
    let names = ["agent/a", "agent/b"].map(|name| name.parse::<BranchName>().unwrap());
    let before: CommitId = {
        let dir = hostile.scratch.path("repository");
        git(&dir, &["rev-parse", &format!("{}^", hostile.tip)])
            .parse()
            .unwrap()
    };
    let branches = [
        (names[0].clone(), before.clone()),
        (names[1].clone(), hostile.tip.clone()),
    ];
    let without = std::slice::from_ref(&hostile.base);
    hostile
        .repository
        .write_bundle(&branches, without, &file)
        .unwrap();
    let other = hostile.other();
    let refs = "refs/heads/agent/*:refs/heads/got/*";
    // Not from the clone, which has all of it.
    let empty = hostile.scratch.path("empty");
    git(&hostile.scratch.path(""), &["init", "-q", "empty"]);
    git(&empty, &["fetch", "-q", path(&other), "main:base"]);
    git(&empty, &["fetch", "-q", path(&file), refs]);
    assert_eq!(git(&empty, &["rev-parse", "got/a"]), before.as_str());
    assert_eq!(git(&empty, &["rev-parse", "got/b"]), hostile.tip.as_str());
    let needed = git(&empty, &["bundle", "verify", "-q", path(&file)]);
    assert_eq!(needed, "");
    hostile.nothing_ran();
}

#[test]
fn a_log_has_each_commit_as_it_is() {
    let hostile = Hostile::new();
    let log = hostile.repository.log(&hostile.base, &hostile.tip).unwrap();
    let [last, first] = &log[..] else {
        panic!("{log:?}");
    };
    assert_eq!((&last.id, &*last.message), (&hostile.tip, &b"last\n"[..]));
    let text = String::from_utf8_lossy(&first.message);
    assert_eq!(text.trim_end(), MESSAGE.trim_end());
    assert_eq!(first.author, b"U <u@example.org>");
    let files = String::from_utf8_lossy(&first.files);
    for named in ["data.bin", "src/{b.txt => c.txt}", " sub ", "\\033[2J.txt"] {
        assert!(files.contains(named), "{files}");
    }
    hostile.nothing_ran();
}
