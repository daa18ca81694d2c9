//! Repositories inside the worktree, with settings that run programs.

use super::{Attack, Expected, Hostile};

#[test]
fn repositories_in_the_worktree_stay_inside() {
    let hostile = Hostile::new();
    let trap = hostile.canary.command("nested");
    let settings = format!(
        "git -C inner config core.fsmonitor '{trap}'\n\
         git -C inner config filter.x.clean '{trap}'\n\
         git -C inner config core.pager '{trap}'\n"
    );
    let nested = format!(
        "git init -q inner; echo x > inner/x; git -C inner add .; git -C inner commit -qm x\n\
         echo '* filter=x' > inner/.gitattributes\n{settings}"
    );
    let embedded = format!("git init -q --bare inner\n{settings}");
    hostile.run(&[
        Attack::new("nested", Expected::ImportedInPart, &nested),
        Attack::new("embedded-bare", Expected::Imported, &embedded),
    ]);
}
