//! Programs of the host that the spec names, such as one that prints a token.
//!
//! The one place beside git's own calls that starts a host program. What it starts is the word of the
//! spec's author, who is trusted, never of a task: as the author would start it in a shell, without one.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::GitError;
use super::process::{Input, Job};
use crate::sanitize;
use crate::secrets::{Needles, SecretString};

/// What `words`, a program and its arguments, print to standard output, which must be text.
///
/// It runs in `directory`, with the environment of this process and nothing to read, and is killed
/// after `deadline` with all that it started. A program with a `/` is looked for from that directory,
/// any other on PATH.
///
/// # Errors
/// When it cannot be started, fails, prints more than `limit` bytes or what is no UTF-8, or when its
/// output is open still at the deadline. No error holds what it printed there, or its arguments.
pub fn output_of_program(
    words: &[String],
    directory: &Path,
    deadline: Duration,
    limit: usize,
) -> Result<SecretString, GitError> {
    let (program, arguments) = words.split_first().ok_or(GitError::Missing)?;
    let name = sanitize::line(program.as_bytes(), false);
    let path = if program.contains('/') {
        directory.join(program)
    } else {
        program.into()
    };
    #[expect(clippy::disallowed_methods, reason = "this is the other place")]
    let mut command = Command::new(path);
    command.args(arguments).current_dir(directory);
    let job = Job {
        name: name.clone(),
        input: Input::Nothing,
        output_limit: limit,
        limits: None,
        deadline,
    };
    let ended = job.run(command).map_err(|error| match error {
        GitError::Missing => {
            GitError::io(format!("start `{name}`"))(io::Error::other("there is no such program"))
        }
        other => other,
    })?;
    let (exit, said) = (ended.exit(), ended.last_words(1));
    let has_failed = !ended.status.success();
    let printed = String::from_utf8(ended.stdout).map(SecretString::new);
    if has_failed {
        // A program that fails may have printed the value before, and say it again.
        let (needles, _) = Needles::new(printed.iter());
        return Err(GitError::Failed {
            command: name,
            exit,
            stderr: needles.mask(&said),
        });
    }
    printed.map_err(|_| GitError::Unexpected { command: name })
}
