//! Names of refs and files that are commands, options or escape sequences somewhere.

use super::super::scene::task;
use super::objects::{forged, forger};
use super::{Attack, Expected};

/// Files and directories with these names, which are well-formed for git, and a commit of them.
const PATHS: &str = r###"
cat > /tmp/names.py <<'END'
import os
names = [b"\x1b[2J\x1b[31mred", b"\x1b]0;title\x07", b"new\nline", b"\n::error::x", b"::error::x",
    b"##[add-mask]x", b"##vso[task.setvariable]x", b"--option", b"-rf", b"\xff\xfe\x80", b"a\rb",
    "\u202egpj.exe".encode(), b" ", b"$(id)", b"`id`", b'"', b"'", b"a\tb", b"\\", b"*", b"\x7f", b"\x9b2J"]
for name in names:
    open(name, "wb").write(b"x\n")
    os.makedirs(b"below/" + name)
    open(b"below/" + name + b"/" + name, "wb").write(b"x\n")
END
python3 /tmp/names.py
git add -A
git commit -q -F - <<'END'
::error::subject
##[add-mask]body
END
"###;

/// Branches with names that git takes.
const REFS: &str = r###"
cat > /tmp/refs.py <<'END'
import os, subprocess
def git(*words): return subprocess.run(["git", *words], check=True, capture_output=True).stdout.strip()
commit = git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "x")
for name in [b"-rf", b"--option", b"\xff\xfe", b"##", "\u202egpj".encode(), b"$(id)", b"`id`", b"a;b", b"'", b'"', b"|x", b"%0Ax"]:
    git("update-ref", b"refs/heads/" + name, commit)
END
python3 /tmp/refs.py
"###;

/// Branches with names that git does not take, in its file all the same: the git directory is broken.
const GARBLED: &str = r###"
cat > /tmp/refs.py <<'END'
with open("/agent/git/packed-refs", "ab") as file:
    for name in [b"a\x1b[2J", b"::error::x", b"##[add-mask]x", b"../../x", b"x.lock", b"HEAD", b"\x00"]:
        file.write(b"1" * 40 + b" refs/heads/" + name + b"\n")
END
python3 /tmp/refs.py
"###;

/// More branches than anybody makes.
const MANY: &str = r#"
commit=$(git commit-tree 'HEAD^{tree}' -p HEAD -m x)
seq 100000 299999 | sed "s|^|$commit refs/heads/b|" >> /agent/git/packed-refs
"#;

#[test]
fn names_are_imported_as_they_are_or_refused_and_printed_clean() {
    let mut attacks = vec![
        Attack::new("paths", Expected::Imported, PATHS),
        Attack::new("refs", Expected::Unchanged, REFS),
        Attack::new("garbled-refs", Expected::LeftBehind, GARBLED),
        Attack::new("many-refs-of-git", Expected::LeftBehind, MANY),
    ];
    let of_the_bundle = [
        "escape-ref",
        "command-ref",
        "mask-ref",
        "option-ref",
        "dash-ref",
        "not-utf8-ref",
    ];
    attacks.extend(of_the_bundle.map(forged));
    let hostile = forger();
    let done = hostile.run(&attacks);
    let scene = &hostile.scene;
    for (name, sides) in [("refs", 12), ("many-refs-of-git", 16)] {
        let branch = &task(&done.result, name)["branch"];
        assert_eq!(
            branch["side_refs"].as_array().map(Vec::len),
            Some(sides),
            "{branch}"
        );
    }
    let names = scene.git(&["ls-tree", "-rz", "--name-only", &done.branch("paths")]);
    for name in [
        "\u{1b}[2J\u{1b}[31mred\0",
        "\0--option\0",
        "below/\n::error::x/\n::error::x\0",
    ] {
        assert!(names.contains(name), "{name:?} in {names:?}");
    }
    let shown = scene.agent_run(&["show", &format!("{}/paths", done.run)]);
    for ended in [&done.ended, &shown] {
        for line in ended.stdout.lines().chain(ended.stderr.lines()) {
            assert!(
                !line.replace('\t', "").contains(char::is_control),
                "{line:?}"
            );
            let line = line.trim_start();
            assert!(
                !line.starts_with("::") && !line.starts_with("##["),
                "{line:?}"
            );
        }
    }
}
