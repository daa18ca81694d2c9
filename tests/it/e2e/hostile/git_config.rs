//! Settings and hooks that run programs, in every file of the private git directory that holds any.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Attack, Canary, Expected, Hostile};

/// Settings whose value git runs.
const PROGRAMS: [&str; 23] = [
    "alias.trap",
    "core.alternateRefsCommand",
    "core.askPass",
    "core.editor",
    "core.fsmonitor",
    "core.gitProxy",
    "core.pager",
    "core.sshCommand",
    "credential.helper",
    "diff.external",
    "diff.trap.command",
    "diff.trap.textconv",
    "filter.long.process",
    "filter.trap.clean",
    "filter.trap.smudge",
    "gc.recentObjectsHook",
    "gpg.program",
    "interactive.diffFilter",
    "merge.trap.driver",
    "remote.trap.uploadpack",
    "sequence.editor",
    "trailer.trap.command",
    "uploadpack.packObjectsHook",
];

/// Hooks that git runs in some command of the host's or of a user's.
const HOOKS: [&str; 14] = [
    "applypatch-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "pre-push",
    "pre-receive",
    "prepare-commit-msg",
    "reference-transaction",
    "update",
];

/// Files that the drivers above are named for.
const WORK: &str = "\
printf '*.txt filter=trap merge=trap\\n*.long filter=long\\n*.md diff=trap\\n' > .gitattributes
for file in work.txt work.long work.md; do echo work > $file; done
";

/// A script that sets all of them in the configuration `file` of the git directory.
fn settings(canary: &Canary, file: &str) -> String {
    let set = |key: &&str| {
        let program = canary.program(&format!("{file}:{key}"));
        let shell = if key.starts_with("alias") { "!" } else { "" };
        let program = program.display();
        format!("git config -f /agent/git/{file} {key} '{shell}{program}'\n")
    };
    PROGRAMS.iter().map(set).collect()
}

/// A script that makes all of them in `directory`.
fn hooks(canary: &Canary, directory: &str) -> String {
    let make = |hook: &&str| {
        let name = directory.trim_start_matches('/').replace('/', "-");
        let trap = canary.command(&format!("{name}:{hook}"));
        format!(
            "printf '#!/bin/sh\\n{trap}\\n' > {directory}/{hook}; chmod +x {directory}/{hook}\n"
        )
    };
    HOOKS.iter().map(make).collect()
}

#[test]
fn settings_and_hooks_stay_inside() {
    let hostile = Hostile::new();
    let canary = &hostile.canary;
    let config = settings(canary, "config");
    let include = settings(canary, "included") + "git config include.path included\n";
    let worktree = "git config extensions.worktreeConfig true\n".to_owned()
        + &settings(canary, "config.worktree");
    let common = "cp -r /agent/git ~/common; echo /home/agent/common > /agent/git/commondir\n";
    let registered = format!(
        "mkdir -p /agent/git/worktrees/x; echo {0}/.git > /agent/git/worktrees/x/gitdir\n\
         echo {0}/.git > /agent/git/gitdir\n",
        hostile.scene.repo().display()
    );
    let in_git = hooks(canary, "/agent/git/hooks");
    let by_path = |path: &str| {
        let hooks = hooks(canary, path);
        format!("mkdir traps; git config core.hooksPath {path}\n{hooks}")
    };
    let imported = |name: &str, script: &str| {
        Attack::new(name, Expected::Imported, &format!("{WORK}{script}"))
    };
    hostile.run(&[
        imported("config", &config),
        imported("worktree-config", &worktree),
        imported("include", &include),
        Attack::new(
            "common-dir",
            // The commits are not where the hand-off takes them from.
            Expected::Kept,
            &format!("{WORK}{config}{common}"),
        ),
        imported("registration", &registered),
        imported("hooks-path", &by_path("traps")),
        imported("hooks-path-absolute", &by_path("/workspace/traps")),
        Attack::new("hooks", Expected::Unchanged, &in_git),
    ]);
}

/// Settings of the above that nothing below springs: the first two want a terminal, the third a git of 2.42
/// or later, and the last is taken from no repository's own configuration.
const UNTRIED: [&str; 4] = [
    "core.pager",
    "interactive.diffFilter",
    "gc.recentObjectsHook",
    "uploadpack.packObjectsHook",
];

/// Two branches that a merge driver is asked for. They do not build on the base, so that they are
/// refused and stay where they are.
const BRANCHES: &str = "\
for side in left right; do
    git checkout -q -b $side $AGENT_BASE~1
    echo $side > both.sides; git add both.sides; git commit -qm $side
done
";

/// That the traps are real: whoever runs git where the agent wrote springs them.
#[test]
fn settings_and_hooks_run_for_whoever_starts_git_in_an_attempt() {
    let hostile = Hostile::new();
    let canary = &hostile.canary;
    let script = [
        BRANCHES,
        WORK,
        "echo '*.sides merge=trap' >> .gitattributes; git config remote.trap.url .\n",
        &settings(canary, "config"),
        &hooks(canary, "/agent/git/hooks"),
    ];
    let refused = Expected::Refused("descends-from-base");
    let done = hostile.run(&[Attack::new("traps", refused, &script.concat())]);
    let attempt = hostile.attempt(&done, "traps");
    let store = only(&only(&hostile.scene.state().join("repos"), ""), "base-");
    let objects = format!("{}/objects\n", store.display());
    fs::write(attempt.join("git/objects/info/alternates"), objects).expect("alternates");
    let config = "[safe]\ndirectory = *\n[color]\nui = always\n[user]\nname = x\nemail = x\n";
    let config_file = hostile.scene.path().join("careless");
    fs::write(&config_file, config).expect("a file");
    let git = |arguments: &str| careless_git(&attempt, &config_file, arguments);
    for command in [
        "rebase -i HEAD~1",
        "merge left",
        "status",
        "add .gitattributes work.txt work.md",
        "commit -qm one",
        "commit -q --amend",
        "trap",
        "diff HEAD~1",
        "log -p --no-ext-diff",
        "checkout -qf HEAD~1",
        "checkout -qf -",
        "ls-remote ssh://localhost/x",
        "ls-remote git://localhost/x",
        "fetch trap",
        "push ../git HEAD:refs/heads/pushed",
        "credential fill",
        "commit -S --allow-empty -m signed",
        "interpret-trailers --trailer trap=x work.md",
        "add work.long",
    ] {
        git(command);
    }
    let tried = PROGRAMS.iter().filter(|key| !UNTRIED.contains(key));
    let settings = tried.map(|key| format!("config:{key}"));
    let hooks = ["pre-commit", "post-index-change", "reference-transaction"];
    let hooks = hooks.iter().map(|hook| format!("agent-git-hooks:{hook}"));
    let expected: BTreeSet<String> = settings.chain(hooks).collect();
    let sung = canary.sung();
    let silent: Vec<_> = expected.difference(&sung).collect();
    assert!(silent.is_empty(), "{silent:?} of {sung:?}");
}

/// Runs git in an attempt's directory, as nobody should.
fn careless_git(attempt: &Path, config: &Path, arguments: &str) {
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(attempt.join("git"))
        .arg("--work-tree=.")
        .args(arguments.split(' '))
        .current_dir(attempt.join("worktree"))
        .env("GIT_CONFIG_GLOBAL", config)
        .env_remove("GIT_EDITOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("git");
    let asked = b"protocol=https\nhost=localhost\n\n";
    // Most ask nothing and may have ended.
    let _ = child.stdin.take().expect("a pipe").write_all(asked);
    child.wait().expect("an end");
}

/// The only entry of a directory whose name begins so.
fn only(directory: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|e| e.expect("an entry").path());
    let named = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(prefix)
    };
    let mut found: Vec<_> = paths.filter(named).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
