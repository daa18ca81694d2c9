//! INT, TERM and HUP: first stop, second kill, third leave at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Failure;
use super::exit_code::Exit;
use super::print_error;
use crate::event::StopReason;
use crate::id::RunId;
use crate::runner::Shutdown;

/// How long a terminal may take to show what to type next.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The signals that stop a run, caught from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where whoever started us has it ignored, as `nohup` does: then it stays ignored.
    hang_up: Option<Signal>,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|e| Failure::new(Exit::Unexpected, e));
        let hang_up = SignalKind::hangup();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: if is_ignored(hang_up, &status) {
                None
            } else {
                Some(catch(hang_up)?)
            },
        })
    }

    /// Why somebody wants us to stop, as soon as he does.
    pub(super) async fn next(&mut self) -> StopReason {
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Interrupted,
            _ = self.terminate.recv() => StopReason::Terminated,
            Some(()) = async { self.hang_up.as_mut()?.recv().await } => StopReason::Terminated,
        }
    }

    /// Waits for work while there is nothing yet to clean up: the first signal leaves at once.
    pub(super) async fn or_leave<T>(
        &mut self,
        work: JoinHandle<Result<T, Failure>>,
    ) -> Result<Result<T, Failure>, Failure> {
        tokio::select! {
            done = work => done.map_err(|e| Failure::new(Exit::Unexpected, e)),
            // Not by returning: the runtime would wait for the work.
            reason = self.next() => std::process::exit(code(reason)),
        }
    }

    /// Turns signals into requests for as long as the run lasts.
    pub(super) async fn forward(mut self, run: RunId, shutdown: watch::Sender<Shutdown>) {
        let reason = self.next().await;
        shutdown.send_replace(Shutdown::Graceful(reason));
        shutdown.send_replace(Shutdown::Forced(self.next().await));
        let reason = self.next().await;
        let words = format!(
            "\nleft at once; to remove what is left and collect its work: agent-run clean --run {run}\n"
        );
        let told = tokio::task::spawn_blocking(move || print_error(&words));
        // Nobody may be reading.
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
        std::process::exit(code(reason));
    }
}

/// The exit code of what a signal stopped.
pub(super) fn code(reason: StopReason) -> i32 {
    let exit = match reason {
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::Terminated | StopReason::TimedOut => Exit::Terminated,
    };
    exit as i32
}

/// Whether a signal is ignored, by the mask `SigIgn` of `/proc/self/status`, proc(5). Where there is
/// no `/proc`, none counts as ignored.
fn is_ignored(signal: SignalKind, status: &str) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}
