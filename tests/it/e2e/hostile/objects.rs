//! Objects that no git makes, bombs, and results above the limits of the spec.

use super::super::scene::{Scene, task};
use super::{Attack, Expected, Hostile, NO_HAND_OFF, in_every_hand_off};
use crate::collect::forged::{FORGE, REFUSED};

/// A repository whose base has the forger.
pub fn forger() -> Hostile {
    let scene = Scene::new();
    scene.write("forge.py", FORGE);
    scene.commit("forge");
    Hostile::of(scene)
}

/// A forged hand-off, which its check must refuse.
pub fn forged(name: &str) -> Attack {
    let found = REFUSED.iter().find(|(attack, _)| *attack == name);
    let (_, check) = found.expect("an attack of the table");
    // Where the hand-off's files are refused as such, the collector would make them anew.
    let script = if matches!(*check, "bundle-header" | "handoff-file" | "handoff-status") {
        in_every_hand_off(&format!("python3 /workspace/forge.py {name}"))
    } else {
        format!("python3 forge.py {name}{NO_HAND_OFF}")
    };
    Attack::new(name, Expected::Refused(check), &script).ends("killed")
}

#[test]
fn trees_and_bombs_are_refused_beside_honest_work() {
    let attacks = [
        "dot-git",
        "dot-dot",
        "short-name",
        "joiner",
        "slash",
        "setuid",
        "unsorted",
        "twice",
        "linked-gitmodules",
        "wide",
        "deep",
        "many-trees",
        "zeros",
        "delta-bomb",
    ];
    forger().run(&attacks.map(forged));
}

/// What a spec sets is what is checked, and what is refused is told with the key to raise.
#[test]
fn the_limits_of_the_spec_are_those_of_its_tasks() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        "version: 1
collect:
  limits: { file: 1k, commits: 2, leftovers: 2k }
defaults: { network_mode: none, mem_limit: 64m }
tasks:
  fits:
    run: |
      head -c 1024 /dev/zero > f; git add f; git commit -qm 1
      head -c 1000 /dev/zero > left
  file:
    run: head -c 1025 /dev/zero > f; git add f; git commit -qm 1
  commits:
    run: for n in 1 2 3; do git commit -qm $n --allow-empty; done
  leftovers:
    run: head -c 2049 /dev/zero > f
",
    );
    assert_eq!(
        task(&result, "fits")["branch"]["result"],
        "created",
        "{ended}"
    );
    for (name, check) in [("file", "blob-size"), ("commits", "commits")] {
        assert_eq!(task(&result, name)["branch"]["check"], check, "{ended}");
    }
    let left = &task(&result, "leftovers")["branch"];
    assert_eq!(left["result"], "no_change", "{ended}");
    assert_eq!(left["content_left_behind"], true, "{ended}");
    for key in ["file", "commits", "leftovers"] {
        let key = format!("`collect.limits.{key}`");
        assert!(ended.to_string().contains(&key), "{key}: {ended}");
    }
}
