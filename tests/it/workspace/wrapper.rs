//! The wrapper: output, codes, time limits, secrets.

use super::*;

/// Runs the wrapper as a child of process 1 of a namespace of its own: it kills everything there.
fn wrapped(
    inside: &Inside,
    shell: &[&str],
    extra: &[(&str, &str)],
    command: &str,
    input: &str,
) -> Output {
    let entry = inside.workspace.directory().join("entry");
    let init = format!(
        "{} {} sh -c \"$TASK\"; exit $?",
        shell.join(" "),
        entry.display()
    );
    let script = inside.workspace.directory().join("init-for-test");
    fs::write(&script, init).unwrap();
    let mut all = vec![("TASK", command)];
    all.extend_from_slice(extra);
    let mut unshare = vec!["unshare"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    unshare.extend(["--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
    inside.shell(&unshare, &["init-for-test"], &all, input)
}

#[test]
fn the_wrapper_passes_output_and_code_and_hands_off() {
    let site = Site::new();
    for (n, shell) in SHELLS.iter().enumerate() {
        let inside = site.workspace(&format!("t{n}"));
        let output = wrapped(
            &inside,
            shell,
            &[],
            "echo out; echo err >&2; cat; echo work >w.txt; exit 7",
            "ignored",
        );
        assert_eq!(output.status.code(), Some(7), "{shell:?} {output:?}");
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"out\n"[..], &b"err\n"[..]),
            "{shell:?}"
        );
        assert!(
            fs::read_to_string(inside.workspace.out().join("status"))
                .unwrap()
                .contains("bundle=1")
        );
    }
}

#[test]
fn under_an_allow_list_nothing_begins_before_its_proxy_holds() {
    let site = Site::new();
    for (n, shell) in SHELLS.iter().enumerate() {
        let inside = site.workspace(&format!("t{n}"));
        let forward = inside.root.join("agent/forward");
        fs::create_dir_all(&forward).unwrap();
        let loader = forward.join("ld.so");
        fs::write(&loader, "#!/bin/sh\necho forwards >>w.txt\n").unwrap();
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        let impatient = ["timeout", "-s", "KILL", "1"];
        let run = |limit: &[&'static str]| {
            let limited = [limit, shell].concat();
            let output = wrapped(&inside, &limited, &[], "echo agent >>w.txt", "");
            let said = fs::read_to_string(inside.workspace.worktree().join("w.txt"));
            (output.status.code(), said.unwrap_or_default())
        };
        assert_eq!(run(&impatient), (Some(137), String::new()), "{shell:?}");
        fs::write(forward.join("forward.cfg"), "").unwrap();
        assert_eq!(
            run(&impatient),
            (Some(137), "forwards\n".into()),
            "{shell:?}"
        );
        fs::write(forward.join("holds"), "").unwrap();
        let all = "forwards\nforwards\nagent\n";
        assert_eq!(run(&[]), (Some(0), all.into()), "{shell:?}");
    }
}

#[test]
fn the_wrapper_holds_deadline_and_grace_and_leaves_nobody_writing() {
    let site = Site::new();
    let stubborn = "trap '' TERM; (trap '' TERM; exec setsid sleep 1000) & echo work >w.txt; echo ready; while :; do sleep 1000; done";
    let cases = [
        ("obeys", "echo work >w.txt; exec sleep 1000", 143),
        (
            "kept",
            "trap 'exit 3' TERM; echo work >w.txt; sleep 1000 & wait",
            3,
        ),
        ("stubborn", stubborn, 137),
    ];
    std::thread::scope(|scope| {
        for (n, shell) in SHELLS.iter().enumerate() {
            for (kind, command, code) in cases {
                let inside = site.workspace(&format!("{kind}{n}"));
                scope.spawn(move || {
                    let times = [("AGENT_DEADLINE", "1"), ("AGENT_GRACE", "1")];
                    let output = wrapped(&inside, shell, &times, command, "");
                    assert_eq!(
                        output.status.code(),
                        Some(code),
                        "{shell:?} {kind} {output:?}"
                    );
                    assert!(output.stderr.is_empty(), "{shell:?} {kind} {output:?}");
                    let status = fs::read_to_string(inside.workspace.out().join("status")).unwrap();
                    assert!(status.contains("bundle=1"), "{shell:?} {kind} {status}");
                });
            }
        }
    });
}

#[test]
fn nobody_writes_while_the_work_is_handed_off() {
    let site = Site::new();
    let writer = "trap '' TERM; while :; do echo x >>z; sleep 0.01; done";
    let command = format!("setsid sh -c \"{writer}\" & while [ ! -s z ]; do sleep 0.01; done");
    for (n, shell) in SHELLS.iter().enumerate() {
        let inside = site.workspace(&format!("t{n}"));
        let output = wrapped(&inside, shell, &[], &command, "");
        assert_eq!(output.status.code(), Some(0), "{shell:?} {output:?}");
        let committed = inside.git(&["show", &format!("{}:z", inside.bundle()[0].1)]);
        let written = fs::read_to_string(inside.tree().join("z")).unwrap();
        assert_eq!(committed, written.trim_end(), "{shell:?}");
    }
}

#[test]
fn the_wrapper_writes_secrets_that_only_the_command_sees() {
    let site = Site::new();
    for (n, shell) in SHELLS.iter().enumerate() {
        let inside = site.workspace(&format!("t{n}"));
        let secrets = inside.root.join("run/secrets");
        let command = format!("cat {0}/one {0}/two", secrets.display());
        // "a\0b\n" and an empty value; a third line is nobody's.
        let output = wrapped(
            &inside,
            shell,
            &[("AGENT_SECRETS", "one two")],
            &command,
            "YQBiCg==\n\nbm8=\n",
        );
        assert_eq!(output.status.code(), Some(0), "{shell:?} {output:?}");
        assert_eq!(output.stdout, b"a\0b\n", "{shell:?}");
        assert_eq!(
            fs::metadata(secrets.join("one")).unwrap().mode() & 0o777,
            0o400
        );
        let missing = wrapped(
            &inside,
            shell,
            &[("AGENT_SECRETS", "three")],
            "echo ran",
            "",
        );
        assert_eq!(
            (missing.status.code(), missing.stdout.len()),
            (Some(125), 0)
        );
    }
}
