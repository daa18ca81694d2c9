//! Configuration that runs programs, in every file of it that an agent can write.

use super::{Attack, Canary, Expected, Hostile};

/// Settings whose value git gives to a shell.
const COMMANDS: [&str; 22] = [
    "core.fsmonitor",
    "core.pager",
    "core.editor",
    "core.askPass",
    "core.gitProxy",
    "core.sshCommand",
    "core.alternateRefsCommand",
    "sequence.editor",
    "uploadpack.packObjectsHook",
    "credential.helper",
    "diff.external",
    "diff.trap.command",
    "diff.trap.textconv",
    "filter.trap.clean",
    "filter.trap.smudge",
    "merge.trap.driver",
    "interactive.diffFilter",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.ssh.defaultKeyCommand",
    "trailer.trap.command",
    "alias.status",
];

/// A script that sets all of them in the configuration `file`.
fn settings(canary: &Canary, file: &str) -> String {
    let set = |key: &&str| {
        let trap = canary.command(&format!("{file}-{key}"));
        let shell = if *key == "credential.helper" || key.starts_with("alias") {
            "!"
        } else {
            ""
        };
        format!("git config -f /agent/git/{file} {key} '{shell}{trap}'\n")
    };
    COMMANDS.iter().map(set).collect()
}

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

/// A script that makes all of them in `directory`.
fn hooks(canary: &Canary, directory: &str) -> String {
    let make = |hook: &&str| {
        let trap = canary.command(&format!("{}-{hook}", directory.replace('/', "-")));
        format!(
            "printf '#!/bin/sh\\n{trap}\\n' > {directory}/{hook}\nchmod +x {directory}/{hook}\n"
        )
    };
    HOOKS.iter().map(make).collect()
}

#[test]
fn settings_and_hooks_that_run_programs_stay_inside() {
    let hostile = Hostile::new();
    let canary = &hostile.canary;
    let work = "echo '* filter=trap diff=trap merge=trap' > .gitattributes\necho work > work.txt\n";
    let config = settings(canary, "config");
    let include = settings(canary, "included");
    let worktree = settings(canary, "config.worktree");
    let hooks_at = |directory: &str| hooks(canary, directory);
    let enable = "git config extensions.worktreeConfig true";
    let path = "git config core.hooksPath";
    hostile.run(&[
        Attack::new("config", Expected::Imported, &format!("{work}{config}")),
        Attack::new(
            "config-worktree",
            Expected::Imported,
            &format!("{work}{enable}\n{worktree}"),
        ),
        Attack::new(
            "include",
            Expected::Imported,
            &format!("{work}{include}git config include.path included\n"),
        ),
        Attack::new("hooks", Expected::Unchanged, &hooks_at("/agent/git/hooks")),
        Attack::new(
            "hooks-path",
            Expected::Imported,
            &format!("mkdir hooks\n{path} hooks\n{}", hooks_at("hooks")),
        ),
        Attack::new(
            "hooks-path-absolute",
            Expected::Imported,
            &format!(
                "mkdir hooks\n{path} /workspace/hooks\n{}",
                hooks_at("hooks")
            ),
        ),
    ]);
}
