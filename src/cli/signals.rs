//! INT, TERM and HUP: first stop, second kill, third leave at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::error::Failure;
use super::exit_code::Exit;
use super::print_error;
use crate::event::StopReason;
use crate::id::RunId;
use crate::runner::Shutdown;

/// The signals that stop a run, caught from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|e| Failure::new(Exit::Unexpected, e));
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> StopReason {
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Interrupted,
            _ = self.terminate.recv() => StopReason::Terminated,
            _ = self.hang_up.recv() => StopReason::Terminated,
        }
    }

    /// Turns signals into requests from now on, also while the terminal blocks what is shown.
    #[expect(
        clippy::disallowed_methods,
        reason = "who listens for signals must wait for nothing else"
    )]
    pub(super) fn forward(self, run: RunId, shutdown: watch::Sender<Shutdown>) {
        tokio::spawn(self.requests(run, shutdown));
    }

    async fn requests(mut self, run: RunId, shutdown: watch::Sender<Shutdown>) {
        let reason = self.next().await;
        shutdown.send_replace(Shutdown::Graceful(reason));
        shutdown.send_replace(Shutdown::Forced(self.next().await));
        let reason = self.next().await;
        print_error(&format!(
            "left at once; to remove what is left and collect its work: agent-run clean --run {run}\n"
        ));
        let exit = match reason {
            StopReason::Interrupted => Exit::Interrupted,
            StopReason::Terminated | StopReason::TimedOut => Exit::Terminated,
        };
        std::process::exit(exit as i32);
    }
}
