//! Bundles that are no bundles, and history that is not on top of the base.

use super::objects::{forged, forger};
use super::{Attack, Expected, NO_HAND_OFF};

#[test]
fn bundles_that_lie_are_refused_beside_honest_work() {
    let attacks = [
        "cut",
        "replaced",
        "flipped",
        "sparse",
        "linked",
        "other-tip",
        "other-root",
        "older",
        "tag",
        "nested-tags",
        "many-refs",
        "unknown-status",
    ];
    let mut attacks: Vec<_> = attacks.into_iter().map(forged).collect();
    // What the status says of a result is not what the result is.
    let script = format!("python3 forge.py status-head{NO_HAND_OFF}");
    attacks.push(Attack::new("status-head", Expected::Imported, &script).ends("killed"));
    // By git itself, through the hand-off of the wrapper.
    let refused = Expected::Refused("descends-from-base");
    let root = "git checkout -q --orphan other; git commit -qm other";
    attacks.push(Attack::new("orphan", refused, root));
    attacks.push(Attack::new("reset", refused, "git reset -q --hard HEAD~1"));
    let tagged =
        "git commit -qm x --allow-empty; git tag -am x v; git tag -am y w v; git checkout -q w";
    attacks.push(Attack::new("at-a-tag", Expected::Imported, tagged));
    forger().run(&attacks);
}
