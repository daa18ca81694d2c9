//! Repositories inside the worktree, with settings that run programs.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::super::scene::{Scene, task};
use super::{Attack, Canary, Expected, Hostile};

/// A script that sets traps in the repository at `at`.
fn traps(canary: &Canary, at: &str) -> String {
    let keys = [
        "core.fsmonitor",
        "core.pager",
        "filter.x.clean",
        "diff.external",
    ];
    let set = |key: &str| {
        let trap = canary.command(&format!("{}:{key}", at.replace('/', "-")));
        format!("git -C {at} config {key} '{trap}'\n")
    };
    keys.into_iter().map(set).collect()
}

const COMMIT: &str = "git add .; git commit -qm work\n";

#[test]
fn repositories_in_the_worktree_stay_inside() {
    let hostile = Hostile::new();
    let traps = |at| traps(&hostile.canary, at);
    let nested = "git init -q inner; cd inner; echo x > x; echo '* filter=x' > .gitattributes\n\
         git add .; git commit -qm x; cd ..\n"
        .to_owned()
        + &traps("inner");
    let in_a_nested = "git init -q a; cd a; git init -q b; cd b; echo x > x; git add .\n\
         git commit -qm b; cd ..; git add b 2>/dev/null; git commit -qm a; cd ..\n"
        .to_owned()
        + &traps("a")
        + &traps("a/b");
    // Git keeps no empty directories: these have a file each.
    let bare = "git init -q --bare inner; touch inner/objects/x inner/refs/x\n".to_owned();
    let bare = bare + &traps("inner") + "git -C inner config core.worktree ..\n";
    let bare = bare + "sed -i s/bare.*/bare=false/ inner/config\n";
    // The top of the worktree itself.
    let at_the_top = "git init -q --bare /tmp/x; cp -r /tmp/x/* .; touch objects/x refs/x\n\
         cd objects; git -C /tmp/x config core.fsmonitor false; cd ..\n";
    let file =
        "mkdir inner /tmp/x; git init -q --bare /tmp/x/y; echo 'gitdir: ../evil' > inner/.git\n\
         cp -r /tmp/x/y evil; touch evil/objects/x evil/refs/x\n"
            .to_owned()
            + &traps("evil");
    let done = hostile.run(&[
        Attack::new("nested", Expected::ImportedInPart, &nested),
        Attack::new(
            "added",
            Expected::ImportedInPart,
            &format!("{nested}{COMMIT}"),
        ),
        Attack::new("two-deep", Expected::ImportedInPart, &in_a_nested),
        Attack::new("bare", Expected::Imported, &bare),
        Attack::new("bare-added", Expected::Imported, &format!("{bare}{COMMIT}")),
        Attack::new("bare-at-the-top", Expected::Imported, at_the_top),
        Attack::new("git-file", Expected::ImportedInPart, &file),
    ]);
    for (name, path) in [("bare", "inner/HEAD"), ("bare-at-the-top", "HEAD")] {
        assert!(is_risky(&done.result, name, path), "{name}: {}", done.ended);
    }
    // Why it is told: git in a checkout of it takes it for a repository.
    let copy = hostile.scene.path().join("copy");
    let at = copy.to_str().expect("a path");
    hostile
        .scene
        .git(&["clone", "-q", "-b", &done.branch("bare"), ".", at]);
    let mut git = Command::new("git");
    let git = git.arg("status").current_dir(copy.join("inner"));
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert_ne!(hostile.canary.sung(), [].into());
}

fn is_risky(result: &Value, name: &str, path: &str) -> bool {
    let risky = &task(result, name)["branch"]["risky_paths"];
    let risky = risky.as_array().expect("risky paths");
    risky.iter().any(|pair| pair[0] == path)
}

#[test]
fn submodules_with_another_git_directory_stay_inside() {
    let hostile = Hostile::of(Scene::with_submodule());
    let traps = |at| traps(&hostile.canary, at);
    let own =
        "rm lib/.git; git init -q lib; git -C lib add .; git -C lib commit -qm x\n".to_owned();
    let own = own + &traps("lib");
    let elsewhere =
        "git init -q evil; rm lib/.git; mv evil/.git lib/evil; echo 'gitdir: evil' > lib/.git\n"
            .to_owned()
            + &traps("lib");
    let its_own = traps("lib") + "echo x > lib/x\n";
    let link = "rm lib/.git; ln -s /agent/git lib/.git; echo x > lib/x\n";
    let gone = "rm -rf lib; ln -s /agent/git lib\n";
    let done = hostile.run(&[
        Attack::new("directory", Expected::LeftBehind, &own),
        Attack::new("added", Expected::ImportedInPart, &format!("{own}{COMMIT}")),
        Attack::new("file", Expected::LeftBehind, &elsewhere),
        Attack::new("settings", Expected::LeftBehind, &its_own),
        Attack::new("link", Expected::LeftBehind, link),
        Attack::new("gone", Expected::LeftBehind, gone),
    ]);
    let kept = hostile
        .attempt(&done, "directory")
        .join("worktree/lib/.git");
    assert!(fs::metadata(kept).expect("the directory").is_dir());
}

#[test]
fn the_git_file_of_the_worktree_cannot_be_moved() {
    let hostile = Hostile::new();
    let script = "\
grep -q ' /workspace/.git ro,' /proc/self/mountinfo
must_fail rm -f .git
must_fail mv .git moved
must_fail ln -sf /agent/git .git
must_fail sh -c 'echo gitdir: ./evil > .git'
must_fail chmod 777 .git
must_fail mount --bind /tmp .git
must_fail unshare -rm mount --bind /tmp .git
must_fail umount .git
must_fail mv /workspace /elsewhere
git init -q evil; mv evil/.git other
must_fail mv -T other .git
must_fail python3 -c 'import os; os.rename(\"other\", \".git\")'
must_fail python3 -c 'import os; os.unlink(\".git\")'
rm -rf other evil; test \"$(cat .git)\" = 'gitdir: /agent/git'
git init -q nested; echo x > nested/x; git -C nested add .; git -C nested commit -qm x
";
    // The nested repository keeps the directory, to have a look at it.
    let done = hostile.run(&[Attack::new("git-file", Expected::ImportedInPart, script)]);
    let file = hostile.attempt(&done, "git-file").join("worktree/.git");
    let text = fs::read_to_string(file).expect("the file");
    assert_eq!(text, "gitdir: /nonexistent/agent-run/do-not-run-git-here\n");
}
