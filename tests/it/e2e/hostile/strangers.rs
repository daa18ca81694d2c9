//! Objects that are not the task's: of another branch, of a stash, of a commit that was amended away,
//! of another repository.

use std::fs;

use super::super::scene::{expect, start};
use super::{Attack, Expected, Hostile, NO_HAND_OFF};

/// Writes a bundle of `$tip` whose pack holds nothing, and a status that names it.
const EMPTY_BUNDLE: &str = "
printf '# v2 git bundle\\n-%s x\\n%s refs/agent-run/out/head\\n\\n' $tip $tip > /agent/out/result.bundle
: | git pack-objects -q --stdout >> /agent/out/result.bundle
printf 'format=1\\nhead=%s\\nchanged=1\\nbundle=1\\n' $tip > /agent/out/status
";

/// Writes a bundle of a commit whose tree is the tree `$tree`, which is not there.
const FOREIGN_TREE: &str = "
commit() { git hash-object -t commit -w --literally --stdin; }
who='A <a@example.org> 1700000000 +0000'
tip=$(printf 'tree %s\\nparent %s\\nauthor %s\\ncommitter %s\\n\\nx\\n' $tree $AGENT_BASE \"$who\" \"$who\" | commit)
printf '# v2 git bundle\\n%s refs/agent-run/out/head\\n\\n' $tip > /agent/out/result.bundle
echo $tip | git pack-objects -q --stdout >> /agent/out/result.bundle
printf 'format=1\\nhead=%s\\nchanged=1\\nbundle=1\\n' $tip > /agent/out/status
";

/// Another repository beside the user's; gives its path and its only commit.
fn another_repository(hostile: &Hostile) -> (String, String) {
    let path = hostile.scene.path().join("other");
    let at = path.to_str().expect("a path").to_owned();
    hostile.scene.git(&["init", "-q", "-b", "main", &at]);
    let secret = fs::read(hostile.canary.secret_file()).expect("the secret");
    fs::write(path.join("file"), secret).expect("a file");
    hostile.scene.git(&["-C", &at, "add", "."]);
    hostile.scene.git(&["-C", &at, "commit", "-qm", "other"]);
    let id = hostile.scene.git(&["-C", &at, "rev-parse", "HEAD"]);
    (at, id.trim().to_owned())
}

/// Commits of the user's repository that its branch does not reach: on another branch, in a stash,
/// amended away.
fn hidden_commits(hostile: &Hostile) -> Vec<String> {
    let scene = &hostile.scene;
    let secret = fs::read_to_string(hostile.canary.secret_file()).expect("the secret");
    let head = || scene.git(&["rev-parse", "HEAD"]).trim().to_owned();
    scene.git(&["checkout", "-q", "-b", "hidden"]);
    scene.write("secret.txt", &secret);
    scene.commit("hidden");
    let hidden = head();
    scene.git(&["checkout", "-q", "main"]);
    scene.write("readme.md", &secret);
    scene.git(&["stash", "-q"]);
    let stash = scene.git(&["rev-parse", "stash"]).trim().to_owned();
    scene.write("more.txt", &secret);
    scene.commit("with a secret");
    let amended = head();
    // A run of this commit, before it is amended away.
    hostile.run(&[]);
    fs::remove_file(scene.repo().join("more.txt")).expect("a file");
    scene.write("other.txt", "no secret");
    scene.git(&["add", "-A"]);
    scene.git(&["commit", "-q", "--amend", "-m", "without"]);
    vec![hidden, stash, amended]
}

#[test]
fn objects_that_are_not_of_the_base_are_neither_read_nor_imported() {
    let hostile = Hostile::new();
    let hidden = hidden_commits(&hostile);
    let (other, foreign) = another_repository(&hostile);
    let tree = |of: &str, at: &str| {
        let name = format!("{of}^{{tree}}");
        hostile
            .scene
            .git(&["-C", at, "rev-parse", &name])
            .trim()
            .to_owned()
    };
    let unreadable = hidden
        .iter()
        .map(|id| format!("must_fail git cat-file -e {id}\n"));
    let unreadable: String = ["git cat-file -e $AGENT_BASE\n".to_owned()]
        .into_iter()
        .chain(unreadable)
        .collect();
    let borrow = format!("echo {other}/.git/objects >> /agent/git/objects/info/alternates\n");
    let point = format!("echo {foreign} > /agent/git/refs/heads/foreign\n");
    let bundle_of = |name: &str, tip: &str| {
        let script = format!("{borrow}tip={tip}\n{EMPTY_BUNDLE}{NO_HAND_OFF}");
        Attack::new(name, Expected::Refused("objects"), &script).ends("killed")
    };
    let tree_of = |name: &str, tree: &str| {
        let script = format!("tree={tree}\n{FOREIGN_TREE}{NO_HAND_OFF}");
        Attack::new(name, Expected::Refused("objects"), &script).ends("killed")
    };
    let work = "echo work > work.txt\n";
    hostile.run(&[
        Attack::new("reads", Expected::Unchanged, &unreadable),
        Attack::new("borrows", Expected::Imported, &format!("{work}{borrow}")),
        Attack::new(
            "points",
            Expected::Imported,
            &format!("{work}{borrow}{point}"),
        ),
        bundle_of("other-repository", &foreign),
        bundle_of("other-branch", &hidden[0]),
        bundle_of("stash", &hidden[1]),
        bundle_of("amended-away", &hidden[2]),
        tree_of("tree-of-other-repository", &tree(&foreign, &other)),
        tree_of("tree-of-other-branch", &tree(&hidden[0], ".")),
    ]);
}

#[test]
fn a_task_that_deletes_all_it_can_harms_no_other() {
    let hostile = Hostile::new();
    let refs = "git for-each-ref --format='delete %(refname)' | git update-ref --stdin\n";
    let prune = "git worktree prune; git reflog expire --expire=now --all; git gc -q --prune=now\n";
    let work = "echo work > work.txt; git add .; git commit -qm work\n";
    hostile.run(&[
        Attack::new("prune", Expected::Imported, &format!("{work}{prune}")),
        Attack::new("refs", Expected::Imported, &format!("{work}{refs}{prune}")),
        Attack::new(
            "objects",
            Expected::ImportedInPart,
            &format!("{work}rm -rf /agent/git/objects /agent/git/refs /agent/git/packed-refs\n"),
        ),
        Attack::new(
            "everything",
            Expected::ImportedInPart,
            "must_fail rm -rf /agent /workspace ~\necho work > work.txt\n",
        ),
    ]);
}

/// A second run on a newer commit of the same branch brings that commit's objects into the state
/// directory: the tasks of the first one, which still run, do not see them.
#[test]
fn a_run_on_an_older_commit_reads_no_newer_one() {
    let hostile = Hostile::new();
    let scene = &hostile.scene;
    scene.write("new.txt", "new\n");
    scene.commit("newer");
    let newer = scene.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let spec = |script: &str| {
        let task = serde_json::json!({ "run": script, "network_mode": "none" });
        format!("version: 1\ntasks:\n  t: {task}\n")
    };
    scene.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let path = scene.spec(&spec(&format!(
        "echo ready; until [ -e ~/go ]; do sleep 0.1; done; ! git cat-file -e {newer}"
    )));
    let (mut older, mut lines) = start(scene, &["run", path.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let run = scene.runs().remove(0);
    scene.git(&["reset", "-q", "--hard", &newer]);
    let (ended, _) = scene.run(&spec(&format!("git cat-file -e {newer}")));
    assert_eq!(ended.code, Some(0), "{ended}");
    let go = ["exec", "--run", &run, "t", "touch", "/home/agent/go"];
    let told = scene.agent_run(&go);
    assert_eq!(told.code, Some(0), "{told}");
    let seen: Vec<String> = lines.collect();
    assert_eq!(older.wait().expect("an end").code(), Some(0), "{seen:#?}");
    assert_eq!(scene.left(), Vec::<String>::new());
}
