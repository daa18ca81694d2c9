//! What lies in /agent/out instead of two plain files, while nobody of ours has tidied up.

use serde_json::json;

use super::super::scene::task;
use super::{Attack, Expected, Hostile, NO_HAND_OFF, in_every_hand_off};

/// A status that says that there is a bundle.
const STATUS: &str = r#"printf 'format=1\nhead=%s\nchanged=1\nbundle=1\n' "$AGENT_BASE""#;

/// What may stand where the bundle should, and how it is made at `$at`.
const NO_FILES: [(&str, &str); 5] = [
    ("fifo", "mkfifo $at"),
    ("directory", "mkdir $at"),
    ("zero", "ln -s /dev/zero $at"),
    ("two-names", "echo x > /agent/out/x; ln /agent/out/x $at"),
    (
        "socket",
        "python3 -c \"import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])\" $at",
    ),
];

/// All of these, and a link to a file of the host's.
fn no_files(hostile: &Hostile) -> Vec<(&'static str, String)> {
    let secret = format!("ln -s {} $at", hostile.canary.secret_file().display());
    let kinds = NO_FILES.map(|(kind, make)| (kind, make.to_owned()));
    kinds.into_iter().chain([("secret", secret)]).collect()
}

/// Where the hand-off makes it again and again it is refused; where it lies there once, the collector
/// makes the files anew.
#[test]
fn files_that_are_none_are_refused_or_made_anew() {
    let hostile = Hostile::new();
    let refused = |name: &str, plant: &str| {
        let script = in_every_hand_off(plant);
        let attack = Attack::new(name, Expected::Refused("handoff-file"), &script);
        attack.ends("killed").with("mem_limit", json!("64m"))
    };
    let mut attacks = Vec::new();
    for (kind, make) in no_files(&hostile) {
        let bundle = format!("{STATUS} > /agent/out/status\nat=/agent/out/result.bundle\n{make}");
        let status = format!("at=/agent/out/status\n{make}");
        attacks.push(refused(&format!("bundle-{kind}"), &bundle));
        if !matches!(kind, "fifo" | "secret") {
            continue;
        }
        attacks.push(refused(&format!("status-{kind}"), &status));
        for (name, plant) in [("bundle", bundle), ("status", status)] {
            let script = format!("echo work > work.txt\n{plant}{NO_HAND_OFF}");
            let name = format!("{name}-{kind}-once");
            attacks.push(Attack::new(&name, Expected::Imported, &script).ends("killed"));
        }
    }
    let none = in_every_hand_off("true");
    attacks.push(Attack::new("nothing", Expected::Kept, &none).ends("killed"));
    hostile.run(&attacks);
}

/// Objects that are damaged, so that git packs nothing: what it said is the reason.
#[test]
fn commits_that_cannot_be_packed_are_kept_and_told() {
    let hostile = Hostile::new();
    let script = "\
echo work > work.txt; git add work.txt; git commit -qm work
blob=$(git rev-parse HEAD:work.txt); file=${blob#??}
rm -f /agent/git/objects/${blob%$file}/$file
";
    let done = hostile.run(&[Attack::new("damaged", Expected::Kept, script)]);
    let reason = task(&done.result, "damaged")["branch"]["reason"].as_str();
    let reason = reason.expect("a reason");
    let told = "git could not pack the commits inside the container: fatal: ";
    assert!(reason.starts_with(told), "{reason}");
    assert!(done.ended.stdout.contains(told), "{}", done.ended);
    let kept = hostile.attempt(&done, "damaged").join("worktree/work.txt");
    assert_eq!(std::fs::read(kept).expect("the work"), b"work\n");
}
