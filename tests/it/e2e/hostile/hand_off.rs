//! What lies in /agent/out instead of two plain files, while nobody of ours has tidied up.

use serde_json::json;

use super::{Attack, Expected, Hostile, NO_HAND_OFF, in_every_hand_off};

/// A status that says that there is a bundle.
const STATUS: &str = r#"printf 'format=1\nhead=%s\nchanged=1\nbundle=1\n' "$AGENT_BASE""#;

/// What may stand where a file should: a name, and how it is made at `$at`.
const NO_FILES: [(&str, &str); 8] = [
    ("fifo", "mkfifo $at"),
    ("directory", "mkdir $at"),
    ("passwd", "ln -s /etc/passwd $at"),
    ("zero", "ln -s /dev/zero $at"),
    ("memory", "ln -s /proc/self/mem $at"),
    ("hard", "echo x > /agent/out/x; ln /agent/out/x $at"),
    ("loop", "ln -s $at $at"),
    (
        "socket",
        "python3 -c \"import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])\" $at",
    ),
];

#[test]
fn files_that_are_none_are_refused_where_every_hand_off_leaves_them() {
    let hostile = Hostile::new();
    let secret = hostile.canary.secret_file();
    let link = format!("ln -s {} $at", secret.display());
    let kinds = NO_FILES.into_iter().chain([("secret", &*link)]);
    let mut attacks = Vec::new();
    for (kind, make) in kinds {
        let bundle = format!("{STATUS} > /agent/out/status; at=/agent/out/result.bundle; {make}");
        let status = format!("at=/agent/out/status; {make}");
        for (name, plant) in [("bundle", bundle), ("status", status)] {
            let script = in_every_hand_off(&plant);
            let refused = Expected::Refused("handoff-file");
            let attack = Attack::new(&format!("{name}-{kind}"), refused, &script);
            attacks.push(attack.ends("killed").with("mem_limit", json!("64m")));
        }
    }
    let none = in_every_hand_off("true");
    attacks.push(Attack::new("nothing", Expected::Kept, &none).ends("killed"));
    hostile.run(&attacks);
}

#[test]
fn files_that_are_none_are_made_anew_by_the_collector() {
    let hostile = Hostile::new();
    let attacks: Vec<_> = NO_FILES
        .into_iter()
        .map(|(kind, make)| {
            let script = format!(
                "echo work > work.txt\n{STATUS} > /agent/out/status\nat=/agent/out/result.bundle\n{make}{NO_HAND_OFF}"
            );
            Attack::new(kind, Expected::Imported, &script).ends("killed")
        })
        .collect();
    hostile.run(&attacks);
}
