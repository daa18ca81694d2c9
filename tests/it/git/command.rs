//! What really reaches host git.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use agent_run::git::{Git, GitError, ResourceLimits};

use super::fixture::{Scratch, search_path};

/// Puts a script named `git` first on the search path.
fn fake(scratch: &Scratch, script: &str) -> Result<Git, GitError> {
    let bin = scratch.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join("git");
    fs::write(&path, format!("#!/bin/sh\n[ \"$1$2\" ] || exit 1\ncase \"$*\" in *version) echo git version ${{V:-2.40.1}};  exit;; esac\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), search_path().to_str().unwrap());
    Git::new(path.as_ref(), &scratch.path("config"))
}

#[test]
fn environment_and_flags_are_exactly_the_hardened_ones() {
    let scratch = Scratch::new();
    let git = fake(
        &scratch,
        "env | grep -v '^_=\\|^PWD='; pwd; for a; do echo \"arg $a\"; done",
    )
    .unwrap();
    let git = git.trusting(&[Path::new("/some \"repo\"")]).unwrap();
    let answer = git
        .call(["status"])
        .git_dir(Path::new("/x.git"))
        .run_text()
        .unwrap();
    let config = answer
        .lines()
        .find_map(|l| l.strip_prefix("GIT_CONFIG_GLOBAL="))
        .unwrap();
    let mut names: Vec<_> = answer
        .lines()
        .filter_map(|l| l.split_once('='))
        .map(|(n, _)| n)
        .filter(|n| !n.starts_with("arg "))
        .collect();
    names.sort_unstable();
    insta::assert_snapshot!(names.join(" "), @"GIT_ASKPASS GIT_ATTR_NOSYSTEM GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM GIT_NO_LAZY_FETCH GIT_NO_REPLACE_OBJECTS GIT_OPTIONAL_LOCKS GIT_TERMINAL_PROMPT HOME LC_ALL PATH");
    let arguments: Vec<_> = answer
        .lines()
        .filter_map(|l| l.strip_prefix("arg "))
        .collect();
    for flag in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.attributesFile=/dev/null",
        "credential.helper=",
        "protocol.allow=never",
        "submodule.recurse=false",
        "diff.ignoreSubmodules=all",
        "gc.auto=0",
        "maintenance.auto=false",
        "commit.gpgSign=false",
        "safe.bareRepository=explicit",
    ] {
        assert!(
            arguments.windows(2).any(|w| w == ["-c", flag]),
            "{flag} in {answer}"
        );
    }
    assert_eq!(
        arguments[arguments.len() - 3..],
        ["--git-dir", "/x.git", "status"]
    );
    assert!(answer.contains("HOME=/nonexistent\n") && answer.contains("\n/\n"));
    let text = fs::read_to_string(config).unwrap();
    assert!(
        text.contains("directory = \"/some \\\"repo\\\"\""),
        "{text}"
    );
    assert!(text.contains("[protocol]\n\tallow = \"never\""), "{text}");
}

#[test]
fn old_and_missing_git_are_named() {
    let scratch = Scratch::new();
    assert!(matches!(fake(&scratch, "").map(|_| ()), Ok(())));
    let path = scratch.path("bin/git");
    fs::write(&path, "#!/bin/sh\necho git version 2.37.9\n").unwrap();
    let old = Git::new(scratch.path("bin").as_os_str(), &scratch.path("config"));
    assert!(matches!(old, Err(GitError::TooOld { found }) if found == "2.37.9"));
    let none = Git::new(scratch.path("empty").as_os_str(), &scratch.path("config"));
    assert!(matches!(none, Err(GitError::Missing)));
}

#[test]
fn failures_carry_command_exit_and_clean_words() {
    let scratch = Scratch::new();
    let git = fake(&scratch, "printf 'bad\\033[2Jthing\\n' >&2; exit 3").unwrap();
    let error = git.call(["fsck"]).run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`git fsck` failed (exit code 3): badthing"
    );
}

#[test]
fn a_call_that_hangs_is_killed_with_its_children() {
    let scratch = Scratch::new();
    let pid_file = scratch.path("pid");
    let git = fake(
        &scratch,
        &format!("sleep 1000 & echo $! >{}; wait", pid_file.display()),
    )
    .unwrap();
    let error = git
        .call(["gc"])
        .deadline(Duration::from_secs(1))
        .run()
        .unwrap_err();
    assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
    let pid = fs::read_to_string(pid_file).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(
        state.is_err_and(|_| true)
            || !fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))
                .unwrap_or_default()
                .contains("sleep")
    );
}

#[test]
fn too_much_output_is_refused_and_both_pipes_are_drained() {
    let scratch = Scratch::new();
    let git = fake(
        &scratch,
        "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; cat >/dev/null",
    )
    .unwrap();
    let error = git
        .call(["x"])
        .output_limit(1000)
        .input(vec![0; 1_000_000])
        .run()
        .unwrap_err();
    assert!(matches!(error, GitError::OutputTooLarge { .. }), "{error}");
    assert_eq!(git.call(["x"]).run().unwrap().len(), 3_000_000);
}

#[test]
fn limits_reach_the_process_before_its_input() {
    let scratch = Scratch::new();
    let git = fake(&scratch, "cat >/dev/null; ulimit -v; ulimit -t; ulimit -f").unwrap();
    let limits = ResourceLimits {
        address_space: 1 << 30,
        cpu_seconds: 7,
        file_size: 4096,
    };
    let answer = git
        .call(["x"])
        .limits(limits)
        .input(b"go".to_vec())
        .run_text()
        .unwrap();
    assert_eq!(
        answer.split_whitespace().collect::<Vec<_>>(),
        ["1048576", "7", "8"]
    );
}
