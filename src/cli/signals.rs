//! INT, TERM and HUP: first stop, second kill, third leave at once, as QUIT does. USR1 asks what
//! runs; TSTP gives the terminal back before it stops this process.

use std::time::Duration;

use rustix::process;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Failure;
use super::exit_code::Exit;
use super::keys::{Keys, has_shell};
use super::print_error;
use crate::event::StopReason;
use crate::id::RunId;
use crate::report::Area;
use crate::runner::Shutdown;

/// The exit code of a process that QUIT ends, as shells tell it.
const QUIT: i32 = 128 + 3;
/// How long a terminal may take to show what to type next.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The signals that stop a run, caught from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where whoever started us has it ignored, as `nohup` does: then it stays ignored.
    hang_up: Option<Signal>,
    quit: Signal,
    ask: Signal,
    /// None where the terminal's mode is never changed: then stopping is the system's own.
    job_control: Option<(Signal, Signal)>,
}

/// What a signal is for.
enum Heard {
    End(StopReason),
    Leave,
    Ask,
    Stop,
    GoOn,
}

/// What signals act on while a run lasts.
pub(super) struct Controls {
    pub(super) shutdown: watch::Sender<Shutdown>,
    /// What shows it, if something does.
    pub(super) area: Option<Area>,
    /// The keys of the terminal, if they are ours.
    pub(super) keys: Option<Keys>,
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
            quit: catch(SignalKind::quit())?,
            ask: catch(SignalKind::user_defined1())?,
            job_control: None,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::End(StopReason::Interrupted),
            _ = self.terminate.recv() => Heard::End(StopReason::Terminated),
            Some(()) = async { self.hang_up.as_mut()?.recv().await } => Heard::End(StopReason::Terminated),
            _ = self.quit.recv() => Heard::Leave,
            _ = self.ask.recv() => Heard::Ask,
            Some(heard) = job_control(&mut self.job_control) => heard,
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
            code = self.end() => std::process::exit(code),
        }
    }

    /// The exit code of the first signal that ends this process.
    pub(super) async fn end(&mut self) -> i32 {
        loop {
            match self.next().await {
                Heard::End(reason) => return code(reason),
                Heard::Leave => return QUIT,
                Heard::Ask | Heard::Stop | Heard::GoOn => {}
            }
        }
    }

    /// Turns signals into requests for as long as the run lasts.
    pub(super) async fn forward(mut self, run: RunId, controls: Controls) {
        if controls.keys.is_some() && has_shell() {
            let catch = |which: process::Signal| signal(SignalKind::from_raw(which.as_raw())).ok();
            self.job_control = catch(process::Signal::TSTP).zip(catch(process::Signal::CONT));
        }
        let mut asked = Shutdown::None;
        let code = loop {
            match (self.next().await, asked) {
                (Heard::End(reason), Shutdown::None) => asked = Shutdown::Graceful(reason),
                (Heard::End(reason), Shutdown::Graceful(_)) => asked = Shutdown::Forced(reason),
                (Heard::End(reason), Shutdown::Forced(_)) => break code(reason),
                (Heard::Leave, _) => break QUIT,
                (heard, _) => {
                    let (area, keys) = (controls.area.clone(), controls.keys.clone());
                    // A terminal that blocks must not make signals unheard.
                    if let Some(area) = area {
                        tokio::task::spawn_blocking(move || on_terminal(&heard, &area, keys));
                    }
                    continue;
                }
            }
            controls.shutdown.send_replace(asked);
        };
        if let Some(keys) = controls.keys {
            keys.give_back();
        }
        let words = format!(
            "\nleft at once; to remove what is left and collect its work: agent-run clean --run {run}\n"
        );
        let told = tokio::task::spawn_blocking(move || print_error(&words));
        // Nobody may be reading.
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
        std::process::exit(code);
    }
}

async fn job_control(signals: &mut Option<(Signal, Signal)>) -> Option<Heard> {
    let (stop, go_on) = signals.as_mut()?;
    tokio::select! {
        _ = stop.recv() => Some(Heard::Stop),
        _ = go_on.recv() => Some(Heard::GoOn),
    }
}

fn on_terminal(heard: &Heard, area: &Area, keys: Option<Keys>) {
    match (heard, keys) {
        (Heard::Stop, Some(keys)) => {
            area.clear();
            keys.stop();
        }
        (Heard::GoOn, Some(keys)) => {
            keys.go_on();
            area.show();
        }
        _ => area.print_running(),
    }
}

/// The exit code of what a signal stopped.
fn code(reason: StopReason) -> i32 {
    let exit = match reason {
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::Terminated | StopReason::TimedOut | StopReason::JournalFailed => {
            Exit::Terminated
        }
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
