//! One child process of the host: limited, fed, drained, and killed in time with all it started.
//!
//! Knows nothing of git; the command line and the environment come from `command` and `program`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use wait_timeout::ChildExt;

use super::GitError;
use crate::sanitize;

const STDERR_KEPT: usize = 16 * 1024;
/// How long those that were killed may take to be gone.
const LAST_MOMENTS: Duration = Duration::from_secs(1);
/// How many of its last lines an error has.
const LAST_LINES: usize = 5;

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
            exit: self.exit(),
            stderr: self.last_words(LAST_LINES),
        }
    }

    /// How it ended: `exit code N` or `signal N`.
    pub(super) fn exit(&self) -> String {
        describe_exit(self.status)
    }

    /// The last lines of what it said on standard error, sanitised.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let said = self.stderr.split(|b| *b == b'\n' || *b == b'\r');
        let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
        let last = &said[said.len().saturating_sub(lines)..];
        let last: Vec<_> = last.iter().map(|l| sanitize::line(l, false)).collect();
        last.join("; ")
    }
}

impl Job {
    /// Runs it to its end, whatever its exit code.
    pub(super) fn run(self, mut command: Command) -> Result<Ended, GitError> {
        let name = self.name;
        let until = Instant::now() + self.deadline;
        let after = self.deadline;
        if after.is_zero() {
            return Err(GitError::TimedOut {
                command: name,
                after,
            });
        }
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
        // What it started may have its output open still.
        let left = until.saturating_duration_since(Instant::now());
        let waited = waited.map(|status| status.zip(read(&stdout, &stderr, left)));
        if !matches!(waited, Ok(Some(_))) {
            kill_group(&mut child);
            // It is over once nobody has its output open any more.
            let _ = read(&stdout, &stderr, LAST_MOMENTS);
        }
        let waited = waited.map_err(GitError::io(format!("wait for `{name}`")))?;
        let Some((status, (stdout, stderr))) = waited else {
            return Err(GitError::TimedOut {
                command: name,
                after,
            });
        };
        // A program may end without having read all of its input: then writing it failed.
        let _ = feeder.join();
        let unread = || GitError::io(format!("read `{name}`"));
        let ((stdout, too_much), (stderr, _)) =
            (stdout.map_err(unread())?, stderr.map_err(unread())?);
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

/// What was read of a pipe, and whether there was more.
type Drained = io::Result<(Vec<u8>, bool)>;

/// Both outputs, once they are at their end; none if that takes longer.
fn read(
    stdout: &Receiver<Drained>,
    stderr: &Receiver<Drained>,
    within: Duration,
) -> Option<(Drained, Drained)> {
    let until = Instant::now() + within;
    let of = |pipe: &Receiver<Drained>| {
        let left = until.saturating_duration_since(Instant::now());
        match pipe.recv_timeout(left) {
            Ok(drained) => Some(drained),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(io::Error::other("the reader panicked")))
            }
        }
    };
    of(stdout).zip(of(stderr))
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
fn drain<R: Read + Send + 'static>(pipe: Option<R>, limit: usize, keep: Keep) -> Receiver<Drained> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let drained = pipe.map_or_else(
            || Ok((Vec::new(), false)),
            |pipe| read_to_end(pipe, limit, keep),
        );
        // Nobody listens any more where it took too long.
        let _ = tell.send(drained);
    });
    told
}

fn read_to_end(mut pipe: impl Read, limit: usize, keep: Keep) -> Drained {
    let mut kept = Vec::new();
    let mut more = false;
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
