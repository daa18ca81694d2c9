//! Programs of the host that a spec names, as they are started and ended.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_run::git::{GitError, output_of_program};

use super::fixture::Scratch;

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str, deadline: Duration) -> Result<String, GitError> {
    let words = ["sh", "-c", script].map(str::to_owned);
    let printed = output_of_program(&words, Path::new("/"), deadline, 1000)?;
    Ok(printed.expose().to_owned())
}

/// Waits until the process whose id a file names has gone.
fn wait_for_end(file: &Path) {
    while !has_gone(file) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn has_gone(file: &Path) -> bool {
    let id = fs::read_to_string(file).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/stat", id.trim()));
    // One that is waited for by nobody yet has gone too.
    status.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn it_runs_where_it_is_told_with_the_users_environment_and_nothing_to_read() {
    let scratch = Scratch::new();
    let directory = scratch.path("spec");
    fs::create_dir_all(directory.join("bin")).unwrap();
    let tool = directory.join("bin/tool");
    fs::write(&tool, "#!/bin/sh\npwd; echo \"$HOME $1\"; wc -c\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&tool, mode).unwrap();
    let words = ["bin/tool", "a b; $(x)"].map(str::to_owned);
    let printed = output_of_program(&words, &directory, LONG, 1000).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the user's own is what counts")]
    let home = std::env::var("HOME").unwrap_or_default();
    let expected = format!("{}\n{home} a b; $(x)\n0\n", directory.display());
    assert_eq!(printed.expose(), expected);
}

#[test]
fn what_it_printed_is_in_no_error() {
    let failed = sh(
        "echo first >&2; echo t0ken-value; echo 'no t0ken-value' >&2; exit 3",
        LONG,
    );
    let failed = failed.unwrap_err().to_string();
    assert_eq!(failed, "`sh` failed (exit code 3): no ***");
    let killed = sh("echo t0ken-value; kill -9 $$", LONG).unwrap_err();
    assert_eq!(killed.to_string(), "`sh` failed (signal 9): ");
    let long = sh("head -c 1001 /dev/zero", LONG).unwrap_err();
    assert_eq!(long.to_string(), "`sh` printed more than 1000 bytes");
    assert!(sh("head -c 1000 /dev/zero", LONG).is_ok());
    let binary = sh("printf 't0ken-value\\377'", LONG).unwrap_err();
    assert!(matches!(binary, GitError::Unexpected { .. }), "{binary}");
    assert!(!format!("{binary:?}").contains("t0ken"), "{binary:?}");
    let words = ["no-such-program-anywhere".to_owned()];
    let absent = output_of_program(&words, Path::new("/"), LONG, 1000).unwrap_err();
    assert_eq!(
        absent.to_string(),
        "could not start `no-such-program-anywhere`"
    );
}

#[test]
fn one_that_takes_too_long_is_killed_with_what_it_started() {
    let scratch = Scratch::new();
    let (own, child) = (scratch.path("own"), scratch.path("child"));
    let script = format!(
        "echo $$ > {}; sleep 1000 & echo $! > {}; wait",
        own.display(),
        child.display()
    );
    let late = sh(&script, Duration::from_secs(2)).unwrap_err();
    assert!(matches!(late, GitError::TimedOut { .. }), "{late}");
    wait_for_end(&own);
    wait_for_end(&child);
}

#[test]
fn one_whose_output_stays_open_is_not_waited_for_longer() {
    let scratch = Scratch::new();
    let child = scratch.path("child");
    let script = format!("echo value; sleep 1000 & echo $! > {}", child.display());
    let open = sh(&script, Duration::from_secs(2)).unwrap_err();
    assert!(matches!(open, GitError::TimedOut { .. }), "{open}");
    wait_for_end(&child);
    // In a session of its own it is not killed, and nobody waits for it either.
    let script = format!(
        "echo value; setsid sleep 20 & echo $! > {}",
        child.display()
    );
    let open = sh(&script, Duration::from_secs(2)).unwrap_err();
    assert!(matches!(open, GitError::TimedOut { .. }), "{open}");
    assert!(!has_gone(&child), "it was waited for");
}
