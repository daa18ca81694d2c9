//! The user's repository in every shape, and what is refused.

use std::fs;
use std::path::Path;

use agent_run::git::{Git, GitError, Repository};
use agent_run::workspace::BaseStore;

use super::fixture::{Scratch, attempt, commit, git, program, search_path, try_git};

/// Opens it, resolves the base, pins it, and copies it into a base store.
fn use_it(scratch: &Scratch, dir: &Path) {
    use_repository(scratch, &scratch.open(dir));
}

fn use_repository(scratch: &Scratch, repository: &Repository) {
    let base = repository.resolve_base("HEAD").unwrap();
    let run = attempt("t", 1).run;
    let refs = || {
        let format = "--format=%(objectname) %(refname)";
        git(
            repository.directory(),
            &["for-each-ref", format, "refs/agent-run"],
        )
    };
    repository.pin(&run, &base).unwrap();
    assert_eq!(refs(), format!("{base} {}", run.pin_ref()));
    let store = BaseStore::ensure(repository, &scratch.state(), &base, None).unwrap();
    let listed = git(
        store.path(),
        &["ls-tree", "-r", "--name-only", base.as_str()],
    );
    assert_eq!(listed, "a.txt\nsrc/b.txt");
    git(store.path(), &["fsck", "--strict", "--connectivity-only"]);
    assert!(!store.objects().join("info/alternates").exists());
    repository.unpin(&run).unwrap();
    repository.unpin(&run).unwrap();
    assert_eq!(refs(), "");
}

#[test]
fn plain_subdirectory_detached_and_linked_worktree() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    use_it(&scratch, &dir);
    use_it(&scratch, &dir.join("src"));
    git(
        &dir,
        &["worktree", "add", "-q", "--detach", "../linked", "HEAD~1"],
    );
    let linked = scratch.open(&scratch.path("linked"));
    assert_eq!(linked.key(), scratch.open(&dir).key());
    assert_eq!(
        linked.resolve_base("HEAD").unwrap().as_str(),
        git(&dir, &["rev-parse", "HEAD~1"])
    );
    use_it(&scratch, &scratch.path("linked"));
}

#[test]
fn bare_shallow_alternates_and_split_index() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let here = &scratch.path("");
    git(here, &["clone", "-q", "--bare", "repo", "bare.git"]);
    use_it(&scratch, &scratch.path("bare.git"));
    let url = format!("file://{}", dir.display());
    git(here, &["clone", "-q", "--depth", "1", &url, "shallow"]);
    assert!(scratch.open(&scratch.path("shallow")).is_shallow());
    use_it(&scratch, &scratch.path("shallow"));
    git(here, &["clone", "-q", "--shared", "repo", "shared"]);
    use_it(&scratch, &scratch.path("shared"));
    git(&dir, &["update-index", "--split-index"]);
    use_it(&scratch, &dir);
}

#[test]
fn reftable_works_or_is_refused_in_words() {
    let scratch = Scratch::new();
    let dir = scratch.path("repo");
    let newer = try_git(
        &scratch.path(""),
        &["init", "-q", "--ref-format=reftable", "repo"],
    );
    if newer.status.success() {
        commit(&dir, "a.txt", "one\n");
        commit(&dir, "src/b.txt", "two\n");
        use_it(&scratch, &dir);
    } else {
        git(&scratch.path(""), &["init", "-q", "repo"]);
        git(&dir, &["config", "core.repositoryFormatVersion", "1"]);
        git(&dir, &["config", "extensions.refStorage", "reftable"]);
        let error = Repository::open(&scratch.git(), &dir).unwrap_err();
        assert!(matches!(error, GitError::Unreadable { .. }), "{error}");
    }
}

#[test]
fn what_cannot_be_used_is_refused() {
    let scratch = Scratch::new();
    let here = &scratch.path("");
    let open = |name: &str| Repository::open(&scratch.git(), &scratch.path(name)).unwrap_err();
    assert!(matches!(open("nothing"), GitError::NotARepository { .. }));
    fs::create_dir(scratch.path("plain")).unwrap();
    assert!(matches!(open("plain"), GitError::NotARepository { .. }));
    git(here, &["init", "-q", "empty"]);
    assert!(matches!(open("empty"), GitError::Empty { .. }));
    git(here, &["init", "-q", "--object-format=sha256", "sha256"]);
    assert!(matches!(open("sha256"), GitError::ObjectFormat { .. }));
}

#[test]
fn a_repository_of_another_user_is_gits_decision() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    assert!(
        rustix::process::geteuid().is_root(),
        "run this test as root: it gives a repository away"
    );
    let status = program("chown")
        .args(["-R", "12345"])
        .arg(&dir)
        .status()
        .unwrap();
    assert!(status.success());
    let error = Repository::open(&scratch.git(), &dir).unwrap_err();
    assert!(matches!(error, GitError::NotTrusted { .. }), "{error}");

    // The same where the user's own configuration, and only that, allows it.
    let real = program("sh")
        .args(["-c", "command -v git"])
        .output()
        .unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"${{GIT_CONFIG_NOSYSTEM:-}}\" ] || export GIT_CONFIG_COUNT=1 \\\n\
         GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\nexec {} \"$@\"\n",
        real.trim()
    );
    fs::create_dir(scratch.path("bin")).unwrap();
    fs::write(scratch.path("bin/git"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scratch.path("bin/git"), executable).unwrap();
    let mut path = scratch.path("bin").into_os_string();
    path.push(":");
    path.push(search_path());
    let git = Git::new(&path, &scratch.path("state/git")).unwrap();
    use_repository(&scratch, &Repository::open(&git, &dir).unwrap());
}

#[test]
fn a_partial_clone_needs_the_files_of_the_base() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    git(&dir, &["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", dir.display());
    git(
        &scratch.path(""),
        &["clone", "-q", "--filter=blob:none", &url, "full"],
    );
    use_it(&scratch, &scratch.path("full"));
    git(
        &scratch.path(""),
        &[
            "clone",
            "-q",
            "--filter=blob:none",
            "--no-checkout",
            &url,
            "lacking",
        ],
    );
    let lacking = scratch.open(&scratch.path("lacking"));
    let error = lacking.resolve_base("HEAD").unwrap_err();
    assert!(
        matches!(error, GitError::PartialClone { missing: 2, .. }),
        "{error}"
    );
    // Nothing was fetched behind our back.
    let objects = git(
        &scratch.path("lacking"),
        &["rev-list", "--objects", "--missing=print", "HEAD"],
    );
    assert!(objects.contains('?'), "{objects}");
}

#[test]
fn bases_are_commits_with_plain_names() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    git(&dir, &["tag", "-am", "t", "v1"]);
    let head = repository.resolve_base("main").unwrap();
    assert_eq!(repository.resolve_base("v1").unwrap(), head);
    assert_eq!(repository.resolve_base(head.short()).unwrap(), head);
    for bad in [
        "--all",
        "-h",
        "",
        "nope",
        "HEAD:a.txt",
        "v1^{tree}",
        "a\nb",
        "\u{1b}[2J",
    ] {
        let error = repository.resolve_base(bad).unwrap_err();
        assert!(
            matches!(error, GitError::NoSuchCommit { .. }),
            "{bad:?}: {error}"
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn facts_of_the_users_tree() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    git(&dir, &["branch", "x/y"]);
    git(&dir, &["config", "user.email", "me@example.org"]);
    fs::write(dir.join(".git/info/exclude"), "*.log\n").unwrap();
    let repository = scratch.open(&dir);
    assert_eq!(repository.branches().unwrap(), ["main", "x/y"]);
    assert_eq!(repository.uncommitted().unwrap(), None);
    fs::write(dir.join("a.txt"), "changed!\n").unwrap();
    fs::write(dir.join("new"), "").unwrap();
    fs::write(dir.join("ignored.log"), "").unwrap();
    assert_eq!(
        repository.uncommitted().unwrap().unwrap(),
        "1 changed, 1 untracked"
    );
    assert_eq!(repository.user_email(), Some("me@example.org"));
    assert_eq!(repository.info_exclude(), b"*.log\n");
}

#[test]
fn a_pin_keeps_the_base_whatever_the_user_deletes() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    git(&dir, &["switch", "-qc", "doomed"]);
    let base = commit(&dir, "c.txt", "x");
    let repository = scratch.open(&dir);
    repository.pin(&attempt("t", 1).run, &base).unwrap();
    git(&dir, &["switch", "-q", "main"]);
    git(&dir, &["branch", "-D", "doomed"]);
    git(&dir, &["reflog", "expire", "--expire=now", "--all"]);
    git(&dir, &["gc", "-q", "--prune=now"]);
    assert_eq!(git(&dir, &["cat-file", "-t", base.as_str()]), "commit");
}

#[test]
fn hooks_and_helpers_of_the_repository_do_not_run() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let trace = scratch.path("trace");
    let hook = dir.join(".git/hooks/reference-transaction");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(
        &hook,
        format!("#!/bin/sh\necho ran >>{}\n", trace.display()),
    )
    .unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&dir, &["config", "core.fsmonitor", hook.to_str().unwrap()]);
    use_it(&scratch, &dir);
    scratch.open(&dir).uncommitted().unwrap();
    assert!(!trace.exists());
    git(&dir, &["update-ref", "refs/x", "HEAD"]);
    assert!(trace.exists(), "the trap is live");
}

#[test]
fn commits_on_top_of_a_base_the_newest_first() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    let base = repository.resolve_base("HEAD").unwrap();
    assert_eq!(repository.commits(&base, &base, 5).unwrap(), []);
    for subject in ["one", "\u{1b}[2Jtwo\u{202e}", "", "four"] {
        let arguments = [
            "commit",
            "-q",
            "--allow-empty",
            "--allow-empty-message",
            "-m",
            subject,
        ];
        git(&dir, &arguments);
    }
    let tip = repository.resolve_base("HEAD").unwrap();
    let commits = repository.commits(&base, &tip, 3).unwrap();
    let subjects: Vec<&str> = commits
        .iter()
        .map(|(_, subject)| subject.as_str())
        .collect();
    assert_eq!(subjects, ["four", "", "two\u{fffd}"]);
    assert_eq!(commits[0].0, tip);
    let nowhere = "1".repeat(40).parse().unwrap();
    repository.commits(&base, &nowhere, 3).unwrap_err();
}
