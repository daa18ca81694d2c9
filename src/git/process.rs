//! One child process of host git: limited, fed, drained, and killed in time with all it started.
//!
//! Knows nothing of git; the command line and the environment come from `command`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use wait_timeout::ChildExt;

use super::GitError;
use crate::sanitize;

const STDERR_KEPT: usize = 16 * 1024;

/// Caps on one git process that reads what an agent wrote. Linux only; elsewhere the deadline holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Address space, in bytes.
    pub address_space: u64,
    /// CPU time, in seconds.
    pub cpu_seconds: u64,
    /// Size of any file it writes, in bytes.
    pub file_size: u64,
}

#[derive(Debug)]
pub(super) enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(File),
}

/// What is asked of one process.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) input: Input,
    pub(super) output_limit: usize,
    pub(super) limits: Option<ResourceLimits>,
    pub(super) deadline: Duration,
}

/// How a process ended and what it said.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ended {
    /// The end as an error of the call `command`.
    pub(super) fn into_error(self, command: String) -> GitError {
        GitError::Failed {
            command,
            exit: describe_exit(self.status),
            stderr: last_words(&self.stderr),
        }
    }
}

impl Job {
    /// Runs it to its end, whatever its exit code.
    pub(super) fn run(self, mut command: Command) -> Result<Ended, GitError> {
        let name = self.name;
        let mut child = spawn(&mut command, &self.input, &name)?;
        if let Some(limits) = self.limits {
            limits.apply(&child).map_err(|source| {
                kill_group(&mut child);
                GitError::io(format!("limit `{name}`"))(source)
            })?;
        }
        let feeder = feed(child.stdin.take(), self.input);
        let stdout = drain(child.stdout.take(), self.output_limit, Keep::First);
        let stderr = drain(child.stderr.take(), STDERR_KEPT, Keep::Last);
        let waited = child.wait_timeout(self.deadline);
        if !matches!(waited, Ok(Some(_))) {
            kill_group(&mut child);
        }
        // A program may end without having read all of its input: then writing it failed.
        let _ = feeder.join();
        let (stdout, stderr) = (finish(stdout, &name), finish(stderr, &name));
        let waited = waited.map_err(GitError::io(format!("wait for `{name}`")))?;
        let Some(status) = waited else {
            let after = self.deadline;
            return Err(GitError::TimedOut {
                command: name,
                after,
            });
        };
        let ((stdout, too_much), (stderr, _)) = (stdout?, stderr?);
        if too_much {
            let limit = self.output_limit;
            return Err(GitError::OutputTooLarge {
                command: name,
                limit,
            });
        }
        Ok(Ended {
            status,
            stdout,
            stderr,
        })
    }
}

fn spawn(command: &mut Command, input: &Input, name: &str) -> Result<Child, GitError> {
    command.process_group(0);
    command.stdin(match input {
        Input::Nothing => Stdio::null(),
        _ => Stdio::piped(),
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => GitError::Missing,
        _ => GitError::io(format!("start `{name}`"))(source),
    })
}

type Reader = thread::JoinHandle<io::Result<(Vec<u8>, bool)>>;

fn finish(reader: Reader, name: &str) -> Result<(Vec<u8>, bool), GitError> {
    let panicked = |_| Err(io::Error::other("the reader panicked"));
    let read = reader.join().unwrap_or_else(panicked);
    read.map_err(GitError::io(format!("read `{name}`")))
}

impl ResourceLimits {
    #[cfg(target_os = "linux")]
    fn apply(self, child: &Child) -> io::Result<()> {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_child(child);
        for (resource, value) in [
            (Resource::As, self.address_space),
            (Resource::Cpu, self.cpu_seconds),
            (Resource::Fsize, self.file_size),
            (Resource::Core, 0),
        ] {
            let limit = Rlimit {
                current: Some(value),
                maximum: Some(value),
            };
            prlimit(Some(pid), resource, limit)?;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "same shape as on Linux")]
    fn apply(self, _child: &Child) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Keep {
    First,
    Last,
}

/// Reads a pipe to its end and keeps `limit` bytes; says whether there were more.
fn drain<R: Read + Send + 'static>(pipe: Option<R>, limit: usize, keep: Keep) -> Reader {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut more = false;
        let Some(mut pipe) = pipe else {
            return Ok((kept, more));
        };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match pipe.read(&mut buffer) {
                Ok(0) => return Ok((kept, more)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match keep {
                Keep::First => {
                    let room = (limit - kept.len()).min(count);
                    kept.extend_from_slice(&buffer[..room]);
                    more |= room < count;
                }
                Keep::Last => {
                    kept.extend_from_slice(&buffer[..count]);
                    let excess = kept.len().saturating_sub(limit);
                    kept.drain(..excess);
                    more |= excess > 0;
                }
            }
        }
    })
}

fn feed(pipe: Option<ChildStdin>, input: Input) -> thread::JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let Some(mut pipe) = pipe else {
            return Ok(());
        };
        match input {
            Input::Nothing => Ok(()),
            Input::Bytes(bytes) => pipe.write_all(&bytes),
            Input::File(mut file) => io::copy(&mut file, &mut pipe).map(drop),
        }
    })
}

/// Kills the process and everything it started, such as the other side of a transport.
fn kill_group(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    // It may be gone already, which is what we want.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn last_words(stderr: &[u8]) -> String {
    let lines: Vec<_> = stderr.split(|b| *b == b'\n' || *b == b'\r').collect();
    let last = lines.iter().rev().filter(|l| !l.is_empty()).take(5);
    let mut words: Vec<_> = last.map(|l| sanitize::line(l, false)).collect();
    words.reverse();
    words.join("; ")
}
