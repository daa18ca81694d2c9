//! Errors as people see them: what happened, why, what to do next, and the exit code.

use std::fmt::Write as _;

use anyhow::Error;

use super::exit_code::Exit;
use crate::engine::{EngineError, ErrorKind};
use crate::git::GitError;
use crate::report::Paint;
use crate::runner::RunError;
use crate::spec::{Diagnostics, SpecError};

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    what: What,
    hint: Option<String>,
}

#[derive(Debug)]
enum What {
    /// An error and its causes.
    Error(Error),
    /// Problems of a spec, each with its position.
    Spec(Diagnostics),
}

impl Failure {
    /// An error with its exit code.
    pub fn new(exit: Exit, error: impl Into<Error>) -> Self {
        Self {
            exit,
            what: What::Error(error.into()),
            hint: None,
        }
    }

    /// The same with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for standard error.
    pub fn render(&self, paint: Paint) -> String {
        let error = match &self.what {
            What::Spec(diagnostics) => return diagnostics.render(paint.color) + "\n",
            What::Error(error) => error,
        };
        let mut text = format!("{} {error}\n", paint.bad("error:"));
        let mut shown = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors already say what their cause says.
            if !shown.contains(&cause) {
                let _ = writeln!(text, "  caused by: {cause}");
            }
            shown = cause;
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  {} {hint}", paint.strong("hint:"));
        }
        text
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Exit::Unexpected, error)
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::new(Exit::SpecInvalid, error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self {
            exit: Exit::SpecInvalid,
            what: What::Spec(diagnostics),
            hint: None,
        }
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::new(Exit::EnvironmentUnusable, error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = match &error.kind {
            ErrorKind::Unreachable(_) => {
                Some("start Docker, or name an engine with --host or DOCKER_HOST")
            }
            ErrorKind::TooOld(_) => Some("agent-run needs Docker 20.10 or newer"),
            _ => None,
        };
        let failure = Self::new(Exit::EnvironmentUnusable, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let hint = hint_of(&error);
        Self::new(Exit::EnvironmentUnusable, error).hint(hint)
    }
}

/// What to do about it.
pub(super) fn hint_of(error: &RunError) -> &'static str {
    match error {
        RunError::BindMounts { .. } => {
            "the engine must share this machine's files: choose a --state-dir that it can \
             see (with Docker Desktop one below your home directory), not a remote engine"
        }
        RunError::LimitNotHonoured { .. } => {
            "leave the key out of the spec (of a network: give the tasks `network_mode: none`), or use \
             an engine that supports it"
        }
        RunError::NotGvisor { .. } => {
            "let the engine's daemon.json name the real runsc (runsc install, systemctl reload docker)"
        }
        RunError::Journal(_) => {
            "make room where the state directory is, or name another with --state-dir"
        }
    }
}
