//! What a process finds around it: directory, environment, terminal. Read here and nowhere else.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::args::{GlobalArgs, When};
use super::error::Failure;
use super::exit_code::Exit;
use crate::engine::docker::EngineLocator;
use crate::id::StateDir;
use crate::report::Paint;

/// What every command needs of its surroundings.
pub(super) struct Surroundings {
    /// The directory that paths are relative to.
    pub(super) directory: PathBuf,
    /// Where agent-run keeps its own files.
    pub(super) state: StateDir,
    /// The topmost directory that had to be made for it, if one.
    pub(super) state_made: Option<PathBuf>,
    /// Where to look for the engine.
    pub(super) engine: EngineLocator,
    /// Where host git is looked for.
    pub(super) search_path: OsString,
    /// Colours of standard error.
    pub(super) paint: Paint,
    /// Colours of standard output.
    pub(super) result_paint: Paint,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A variable of the environment as text; bytes that are no UTF-8 are replaced.
pub(super) fn text(name: &str) -> Option<String> {
    variable(name).map(|value| value.to_string_lossy().into_owned())
}

/// A variable of the environment as it stands, also where it is empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(super) fn exact(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable of the environment as a path.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// Goes to the directory that paths are relative to, and says which it is.
pub(super) fn enter(directory: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(directory) = directory {
        std::env::set_current_dir(directory)
            .with_context(|| format!("cannot work in {}", directory.display()))
            .map_err(|e| Failure::new(Exit::Usage, e))?;
    }
    std::env::current_dir()
        .context("the current directory cannot be read")
        .map_err(|e| Failure::new(Exit::EnvironmentUnusable, e))
}

impl Surroundings {
    pub(super) fn of_process(global: &GlobalArgs, directory: PathBuf) -> Result<Self, Failure> {
        let (state, state_made) = state_directory(global.state_dir.as_deref(), &directory)?;
        let engine = EngineLocator {
            host: global.host.clone(),
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config_dir: path("DOCKER_CONFIG"),
            home: path("HOME"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
        };
        Ok(Self {
            directory,
            state,
            state_made,
            engine,
            search_path: variable("PATH").unwrap_or_default(),
            paint: paint(global.color),
            result_paint: Paint {
                color: has_color(global.color, &console::Term::stdout()),
            },
        })
    }
}

/// The state directory, and the topmost directory that was made for it.
fn state_directory(
    given: Option<&Path>,
    current: &Path,
) -> Result<(StateDir, Option<PathBuf>), Failure> {
    let default = || {
        let home = path("HOME")?;
        if cfg!(target_os = "macos") {
            return Some(home.join("Library/Application Support/agent-run"));
        }
        let state = path("XDG_STATE_HOME").filter(|p| p.is_absolute());
        Some(
            state
                .unwrap_or_else(|| home.join(".local/state"))
                .join("agent-run"),
        )
    };
    let chosen = given.map(|p| current.join(p)).or_else(default);
    let Some(chosen) = chosen else {
        let error = anyhow::anyhow!("there is no place for agent-run's own files: HOME is not set");
        return Err(
            Failure::new(Exit::EnvironmentUnusable, error).hint("name one with --state-dir")
        );
    };
    let missing = chosen
        .ancestors()
        .take_while(|directory| !directory.exists());
    let made = missing.last().map(Path::to_owned);
    // It holds copies of repositories that others may not be meant to read.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&chosen)
        .and_then(|()| std::fs::canonicalize(&chosen))
        .map(|path| (StateDir::new(path), made))
        .with_context(|| format!("cannot use the state directory {}", chosen.display()))
        .map_err(|e| {
            Failure::new(Exit::EnvironmentUnusable, e).hint("name another with --state-dir")
        })
}

/// Colours of standard error.
pub(super) fn paint(when: When) -> Paint {
    Paint {
        color: has_color(when, &console::Term::stderr()),
    }
}

/// Colour on terminals and in the logs of CI systems that show it; never against `NO_COLOR`.
fn has_color(when: When, term: &console::Term) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if variable("NO_COLOR").is_some() => false,
        When::Auto => is_ci() || (term.is_term() && !is_dumb()),
    }
}

/// Whether a CI system shows the output.
fn is_ci() -> bool {
    is_github() || is_gitlab()
}

/// Whether this is a step of a GitHub workflow.
pub(super) fn is_github() -> bool {
    variable("GITHUB_ACTIONS").is_some()
}

/// Whether this is a job of GitLab's.
pub(super) fn is_gitlab() -> bool {
    variable("GITLAB_CI").is_some()
}

fn is_dumb() -> bool {
    variable("TERM").is_some_and(|term| term == "dumb")
}

/// Whether standard error is a terminal.
pub(super) fn has_terminal() -> bool {
    console::Term::stderr().is_term()
}

/// Whether standard output is looked at as it comes: on a terminal, or in the log of a CI system.
pub(super) fn is_read_by_people() -> bool {
    console::Term::stdout().is_term() || is_github() || is_gitlab()
}

/// The width of standard output where it is a terminal.
pub(super) fn columns() -> Option<usize> {
    let stdout = console::Term::stdout();
    let (_, columns) = stdout.size_checked()?;
    stdout.is_term().then_some(columns.into())
}

/// Whether standard error goes to another process.
pub(super) fn is_piped() -> bool {
    use rustix::fs::FileType;
    let facts = rustix::fs::fstat(std::io::stderr());
    let kind = facts.map(|facts| FileType::from_raw_mode(facts.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Whether lines can stay in place on standard error.
pub(super) fn can_stay_in_place() -> bool {
    let plain = variable("CI").is_some() || is_ci() || is_dumb();
    !plain && has_terminal()
}
