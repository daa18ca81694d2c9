//! What the user's own configuration runs, by a name or by a path that the agent has in its hands.

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
