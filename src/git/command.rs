//! The one hardened way to start host git.
//!
//! No other module builds a git command line's environment, and none starts a host program. What
//! the flags are for is measured: each of them stops code of an agent from running on the host.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::GitError;
use super::process::{Ended, Input, Job, ResourceLimits};
use crate::id::hex_hash;
use crate::sanitize;

/// Configuration that every hardened call gets, on its command line and in its global file: the
/// file also reaches git's own children on the other side of a transport, the flags do not.
const HARDENING: [(&str, &str); 20] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.filesRefLockTimeout", "20000"),
    ("core.packedRefsTimeout", "20000"),
    ("reftable.lockTimeout", "20000"),
    ("credential.helper", ""),
    ("protocol.allow", "never"),
    ("submodule.recurse", "false"),
    ("diff.ignoreSubmodules", "all"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("commit.gpgSign", "false"),
    ("safe.bareRepository", "explicit"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("transfer.unpackLimit", "1"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("pack.threads", "2"),
];

/// Variables that would point git at another repository than the one named to it.
const REPOSITORY_VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

const OLDEST: (u32, u32) = (2, 39);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
const DEFAULT_OUTPUT_LIMIT: usize = 64 * 1024 * 1024;

/// Host git: where it is found and which generated configuration it reads.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    search_path: OsString,
    directory: PathBuf,
    config: PathBuf,
}

/// One call of git, being put together.
#[derive(Debug)]
#[must_use]
pub struct GitCall<'a> {
    git: &'a Git,
    arguments: Vec<OsString>,
    config: Vec<String>,
    git_dir: Option<PathBuf>,
    work_tree: Option<PathBuf>,
    input: Input,
    output_limit: usize,
    limits: Option<ResourceLimits>,
    deadline: Duration,
    as_user_in: Option<PathBuf>,
}

impl Git {
    /// Finds git on `search_path` (the value of PATH) and checks its version.
    ///
    /// `directory` receives the generated configuration; it must be agent-run's own.
    pub fn new(search_path: &OsStr, directory: &Path) -> Result<Self, GitError> {
        let git = Self {
            program: find_program(search_path).ok_or(GitError::Missing)?,
            search_path: search_path.to_owned(),
            directory: directory.to_owned(),
            config: PathBuf::new(),
        }
        .trusting(&[])?;
        let version = git.version()?;
        let mut parts = version.split(['.', ' ']).map(|p| p.parse().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < OLDEST {
            return Err(GitError::TooOld { found: version });
        }
        Ok(git)
    }

    /// The version that git gives, sanitised.
    pub fn version(&self) -> Result<String, GitError> {
        let answer = self.call(["version"]).run_text()?;
        let version = answer.trim().trim_start_matches("git version ");
        Ok(sanitize::line(version.as_bytes(), false))
    }

    /// The same git, which takes repositories at `directories` as the user's own whoever owns them.
    pub fn trusting(&self, directories: &[&Path]) -> Result<Self, GitError> {
        let mut text = String::new();
        for (key, value) in HARDENING {
            push_config(&mut text, key, value.as_bytes());
        }
        for directory in directories {
            let path = directory.as_os_str().as_bytes();
            push_config(&mut text, "safe.directory", path);
        }
        let name = format!("config-{}", hex_hash(text.as_bytes(), 16));
        let config = self.directory.join(name);
        write_atomically(&self.directory, &config, text.as_bytes())
            .map_err(GitError::io(format!("write {}", config.display())))?;
        Ok(Self {
            config,
            ..self.clone()
        })
    }

    /// A hardened call with these arguments.
    pub fn call<I>(&self, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        GitCall {
            git: self,
            arguments: arguments.into_iter().map(|a| a.as_ref().into()).collect(),
            config: Vec::new(),
            git_dir: None,
            work_tree: None,
            input: Input::Nothing,
            output_limit: DEFAULT_OUTPUT_LIMIT,
            limits: None,
            deadline: DEFAULT_DEADLINE,
            as_user_in: None,
        }
    }

    /// A hardened call on the objects of a git directory, wherever it says that its files are: a
    /// submodule's may be gone, and git refuses to start where they are.
    pub fn on_objects<I>(&self, git_dir: &Path, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.call(arguments).git_dir(git_dir).work_tree(git_dir)
    }

    /// A plain call in `directory` with the user's own environment and configuration.
    ///
    /// Only for what the user could do there himself; never where an agent wrote.
    pub fn as_user<I>(&self, directory: &Path, arguments: I) -> GitCall<'_>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut call = self.call(arguments);
        call.as_user_in = Some(directory.to_owned());
        call
    }
}

impl GitCall<'_> {
    /// Works on the repository whose git directory this is.
    pub fn git_dir(mut self, path: &Path) -> Self {
        self.git_dir = Some(path.to_owned());
        self
    }

    /// Works on the files there.
    pub fn work_tree(mut self, path: &Path) -> Self {
        self.work_tree = Some(path.to_owned());
        self
    }

    /// Adds one setting, `key=value`, after the hardening ones.
    pub fn config(mut self, setting: &str) -> Self {
        self.config.push(setting.to_owned());
        self
    }

    /// Feeds these bytes to standard input.
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Input::Bytes(bytes);
        self
    }

    /// Feeds the rest of this file to standard input.
    pub fn input_file(mut self, file: File) -> Self {
        self.input = Input::File(file);
        self
    }

    /// Refuses more than this many bytes of standard output.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Caps the process before it is fed its input.
    pub fn limits(mut self, limits: ResourceLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Kills the process, and all that it started, after this time.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it; a failure of git is an error. Returns standard output.
    pub fn run(self) -> Result<Vec<u8>, GitError> {
        let command = self.describe();
        let ended = self.execute()?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        Err(ended.into_error(command))
    }

    /// Runs it and returns standard output as text.
    pub fn run_text(self) -> Result<String, GitError> {
        let command = self.describe();
        String::from_utf8(self.run()?).map_err(|_| GitError::Unexpected { command })
    }

    /// Runs a question: `true` for exit code 0, `false` for 1, an error for everything else.
    pub fn run_bool(self) -> Result<bool, GitError> {
        let command = self.describe();
        let ended = self.execute()?;
        match ended.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(ended.into_error(command)),
        }
    }

    /// Runs a question that is answered also where the answer is no: whether the exit code is 0 and not
    /// 1, and standard output; an error for every other code.
    pub fn run_answer(self) -> Result<(bool, Vec<u8>), GitError> {
        let command = self.describe();
        let ended = self.execute()?;
        match ended.status.code() {
            Some(code @ 0..=1) => Ok((code == 0, ended.stdout)),
            _ => Err(ended.into_error(command)),
        }
    }

    fn describe(&self) -> String {
        let words = self.arguments.iter().take(12);
        let mut text = String::from("git");
        for word in words {
            text.push(' ');
            text.push_str(&sanitize::line(word.as_bytes(), false));
        }
        text
    }

    fn command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let mut command = Command::new(&self.git.program);
        command.env("PATH", &self.git.search_path);
        if let Some(directory) = &self.as_user_in {
            for name in REPOSITORY_VARIABLES {
                command.env_remove(name);
            }
            command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
            command.current_dir(directory).args(&self.arguments);
            return command;
        }
        command
            .env_clear()
            .env("PATH", &self.git.search_path)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &self.git.config)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .current_dir("/");
        for (key, value) in HARDENING {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        for setting in &self.config {
            command.arg("-c").arg(setting);
        }
        for (flag, path) in [
            ("--git-dir", &self.git_dir),
            ("--work-tree", &self.work_tree),
        ] {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        command.args(&self.arguments);
        command
    }

    fn execute(self) -> Result<Ended, GitError> {
        let name = self.describe();
        let command = self.command();
        let job = Job {
            name,
            input: self.input,
            output_limit: self.output_limit,
            limits: self.limits,
            deadline: self.deadline,
        };
        job.run(command)
    }
}

/// Where git is. A command that is started by its whole path costs no copy of this process's
/// memory map, and no directory that is relative to where one happens to be is searched.
fn find_program(search_path: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("git"))
        .find(is_program)
}

/// Adds one setting in the form of git-config(1), quoted so that any value survives.
fn push_config(text: &mut String, key: &str, value: &[u8]) {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    let value = String::from_utf8_lossy(value);
    let quoted = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    for piece in ["[", section, "]\n\t", name, " = \"", &quoted, "\"\n"] {
        text.push_str(piece);
    }
}

/// Writes a file so that nobody ever reads half of it.
fn write_atomically(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
