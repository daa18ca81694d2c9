//! Pipes, sockets, links and directories in place of the files that git reads.

use serde_json::json;

use super::{Attack, Expected, Hostile, NO_HAND_OFF};

/// What may stand in place of a file, and how it is made at `$at`.
const KINDS: [(&str, &str); 7] = [
    ("fifo", "mkfifo $at"),
    ("directory", "mkdir $at"),
    (
        "socket",
        "python3 -c \"import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])\" $at",
    ),
    ("passwd", "ln -s /etc/passwd $at"),
    ("zero", "ln -s /dev/zero $at"),
    ("memory", "ln -s /proc/self/mem $at"),
    ("loop", "ln -s $at $at"),
];

/// Files of the git directory, and those of the worktree that git heeds.
const FILES: &str = "
for name in config config.worktree commondir gitdir HEAD FETCH_HEAD index packed-refs shallow \
    info/exclude info/attributes info/grafts objects/info/alternates objects/pack/pack-1.idx \
    objects/00/00000000000000000000000000000000000000 refs/heads/x hooks/post-checkout logs/HEAD \
    worktrees/x/gitdir rebase-merge/head-name MERGE_HEAD; do
    at=/agent/git/$name; rm -rf $at; mkdir -p ${at%/*}; MAKE
done
for name in .gitattributes .gitignore .gitmodules nested/.git nested/HEAD; do
    at=/workspace/$name; rm -rf $at; mkdir -p ${at%/*}; MAKE
done
";

/// The same for the directories of the git directory as a whole.
const DIRECTORIES: &str = "
for name in objects refs hooks info logs; do
    at=/agent/git/$name; rm -rf $at; MAKE
done
at=/agent/out/.handoff; rm -rf $at; MAKE
at=/agent/out/x; MAKE
";

/// Hands off as the wrapper would, before anything is replaced.
const HAND_OFF: &str = "sh /agent/handoff >/dev/null 2>&1\n";
const WORK: &str = "echo work > work.txt\n";

#[test]
fn nothing_of_git_but_the_bundle_is_opened_on_the_host() {
    let hostile = Hostile::new();
    let secret = format!("ln -s {} $at", hostile.canary.secret_file().display());
    let mut attacks = Vec::new();
    for (kind, make) in KINDS.into_iter().chain([("secret", &*secret)]) {
        let replaced = [FILES, DIRECTORIES].concat().replace("MAKE", make);
        let script = [WORK, HAND_OFF, &replaced, NO_HAND_OFF].concat();
        attacks.push(Attack::new(kind, Expected::Imported, &script).ends("killed"));
    }
    let replaced = FILES.replace("MAKE", "mkfifo $at");
    let cut = "head -c -30 /agent/out/result.bundle > cut; mv cut /agent/out/result.bundle\n";
    let script = [WORK, HAND_OFF, cut, &replaced, NO_HAND_OFF].concat();
    let refused = Expected::Refused("objects");
    attacks.push(Attack::new("kept", refused, &script).ends("killed"));
    hostile.run(&attacks);
}

#[test]
fn what_keeps_every_hand_off_waiting_is_kept_in_bounded_time() {
    let hostile = Hostile::new();
    let waits = |name: &str, script: &str| {
        let script = format!("{WORK}{script}\n");
        let attack = Attack::new(name, Expected::Kept, &script);
        attack.with("handoff_timeout", json!("250ms"))
    };
    let zero = "ln -sf /dev/zero /agent/git/HEAD\n";
    let config = "rm /agent/git/config; mkfifo /agent/git/config";
    let done = hostile.run(&[
        waits("config", config),
        Attack::new("head", Expected::ImportedInPart, &format!("{WORK}{zero}")),
        waits(
            "filter",
            "git config filter.x.clean 'sleep 600'; echo '* filter=x' > .gitattributes",
        ),
    ]);
    let told = "the collector did not end within 1s";
    assert_eq!(done.ended.stdout.matches(told).count(), 2, "{}", done.ended);
}
