//! What the user's own configuration runs, by a name or by a path that the agent has in its hands.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::super::scene::task;
use super::{Attack, Expected, Hostile};

/// Commands of the user's configuration that attributes choose by name.
const DRIVERS: [&str; 6] = [
    "filter.user.clean",
    "filter.user.smudge",
    "filter.user.process",
    "diff.user.command",
    "diff.user.textconv",
    "merge.user.driver",
];

#[test]
fn drivers_of_the_users_are_not_chosen_by_an_agent() {
    let hostile = Hostile::new();
    for key in DRIVERS {
        let program = hostile.canary.program(key);
        let program = program.to_str().expect("a path");
        hostile.scene.git(&["config", key, program]);
    }
    let attributes = "echo '* filter=user diff=user merge=user' > .gitattributes\n";
    let work = "echo work > work.txt; echo more >> readme.md\n";
    let commit = "git add .; git commit -qm work\n";
    hostile.run(&[
        Attack::new(
            "commits",
            Expected::Imported,
            &format!("{attributes}{work}{commit}"),
        ),
        Attack::new("leaves", Expected::Imported, &format!("{attributes}{work}")),
    ]);
}

/// Hooks of a repository that keeps them in itself.
const HOOKS: [&str; 7] = [
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "pre-commit",
    "prepare-commit-msg",
    "reference-transaction",
];

#[test]
fn files_that_the_users_configuration_runs_stay_what_the_user_has() {
    let hostile = Hostile::new();
    let scene = &hostile.scene;
    let program = |name: &str, text: &str| {
        scene.write(name, text);
        let executable = Permissions::from_mode(0o755);
        fs::set_permissions(scene.repo().join(name), executable).expect("a mode");
    };
    for hook in HOOKS {
        program(&format!(".husky/{hook}"), "#!/bin/sh\n");
    }
    program("tools/format.sh", "#!/bin/sh\ncat \"$@\"\n");
    let attributes = "*.txt filter=format diff=format merge=format\n";
    scene.write(".gitattributes", attributes);
    scene.write("work.txt", "fine\n");
    scene.commit("hooks and filters of its own");
    for (key, value) in [
        ("core.hooksPath", ".husky"),
        ("filter.format.clean", "tools/format.sh"),
        ("filter.format.smudge", "tools/format.sh"),
        ("diff.format.textconv", "tools/format.sh"),
        ("merge.format.driver", "tools/format.sh"),
    ] {
        scene.git(&["config", key, value]);
    }
    let trap = hostile.canary.command("changed");
    let change = format!(
        "for file in .husky/* tools/format.sh; do echo '{trap}' >> $file; done\n\
         echo work >> work.txt\n"
    );
    let commit = "git add .; git commit -qm work\n";
    let done = hostile.run(&[
        Attack::new("commits", Expected::Imported, &format!("{change}{commit}")),
        Attack::new("leaves", Expected::Imported, &change),
    ]);
    for name in ["commits", "leaves"] {
        let risky = &task(&done.result, name)["branch"]["risky_paths"];
        let told = risky.to_string();
        assert!(told.contains(".husky/post-checkout"), "{told}");
    }
    // Why it is told: a checkout of it runs them.
    scene.git(&["checkout", "-q", &done.branch("commits")]);
    assert_ne!(hostile.canary.sung(), [].into());
}
