//! The terminal that a command inside a container is given: raw for as long as that lasts.

use std::io::{IsTerminal as _, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::Failure;
use super::exit_code::Exit;
use crate::engine::config::TerminalSize;

/// The size of the terminal, where standard input and output are one.
pub(super) fn size() -> Option<TerminalSize> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return None;
    }
    let size = tcgetwinsize(stdout()).ok()?;
    Some(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// A terminal that hands every key on as it is; it is again what it was when this is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed =
            |error: rustix::io::Errno| Failure::new(Exit::Unexpected, std::io::Error::from(error));
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self(before);
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
