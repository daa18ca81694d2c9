//! The key `t` on the terminal, which asks what runs now.
//!
//! Keys are read one by one and without echo while this process is in the foreground of its
//! terminal; the terminal gets its own mode back whenever that ends. Nothing is read elsewhere: not
//! from pipes, and not where another program of a pipeline may want the keys.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpgrp, getpid, getsid, kill_process};
use rustix::stdio::stdin;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr,
};

/// How often it is looked whether keys are still wanted.
const PAUSE: Duration = Duration::from_millis(200);

/// The terminal's keys, ours until this is dropped. Clones are the same ones.
#[derive(Clone)]
pub(super) struct Keys(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// The terminal's own mode, while ours is set.
    own_mode: Option<Termios>,
    /// Whether this process was asked to stop and does not go on yet.
    stopped: bool,
    over: bool,
}

/// Gives the terminal its mode back at the end, also that of a panic.
pub(super) struct Guard(Keys);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Keys {
    /// Takes the keys where a person has them for this run alone.
    pub(super) fn take() -> Option<(Self, Guard)> {
        if !isatty(stdin()) || !isatty(rustix::stdio::stdout()) {
            return None;
        }
        let keys = Self(Arc::default());
        keys.lock().set_mode();
        Some((keys.clone(), Guard(keys)))
    }

    /// Calls `asked` at each `t`, on a thread of its own.
    pub(super) fn read(&self, asked: impl Fn() + Send + 'static) {
        let keys = self.clone();
        std::thread::spawn(move || {
            while let Some(typed) = keys.next() {
                if typed.contains(&b't') {
                    asked();
                }
            }
        });
    }

    /// What was typed meanwhile; nothing once it is over or the terminal is gone.
    fn next(&self) -> Option<Vec<u8>> {
        let stdin = stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let pause = Timespec::try_from(PAUSE).ok();
        let ready = poll(&mut fds, pause.as_ref());
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if fds[0].revents().intersects(gone) {
            return None;
        }
        let mut held = self.lock();
        if held.over {
            return None;
        }
        // A shell may bring this process back into the foreground without a word.
        if held.own_mode.is_none() {
            held.set_mode();
        }
        if held.own_mode.is_none() || !in_foreground() {
            drop(held);
            // What is typed is for others, and stays there for them.
            std::thread::sleep(PAUSE);
            return Some(Vec::new());
        }
        if ready != Ok(1) {
            return Some(Vec::new());
        }
        // Held, so that nobody stops this process, or makes the reading wait, before it is done.
        let mut typed = vec![0; 64];
        let length = rustix::io::read(stdin, &mut typed).ok()?;
        typed.truncate(length);
        Some(typed)
    }

    /// Gives the terminal its own mode for good.
    pub(super) fn give_back(&self) {
        let mut held = self.lock();
        held.over = true;
        held.reset_mode();
    }

    /// Stops this process as Ctrl-Z does by itself.
    pub(super) fn stop(&self) {
        let mut held = self.lock();
        held.reset_mode();
        held.stopped = true;
        // Cannot fail: it is our own process. It takes a moment until all threads stand still.
        let _ = kill_process(getpid(), Signal::STOP);
    }

    /// Takes the keys again once this process goes on, if it does so in the foreground.
    pub(super) fn go_on(&self) {
        let mut held = self.lock();
        held.stopped = false;
        held.set_mode();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// In the background this would stop the process, or take the terminal from another.
    fn set_mode(&mut self) {
        if self.over || self.stopped || !in_foreground() {
            return;
        }
        let Ok(found) = tcgetattr(stdin()) else {
            return;
        };
        let mut ours = found.clone();
        ours.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read never waits.
        ours.special_codes[SpecialCodeIndex::VMIN] = 0;
        ours.special_codes[SpecialCodeIndex::VTIME] = 0;
        if tcsetattr(stdin(), OptionalActions::Now, &ours).is_ok() {
            self.own_mode.get_or_insert(found);
        }
    }

    fn reset_mode(&mut self) {
        if let Some(own_mode) = self.own_mode.take()
            && in_foreground()
        {
            // The terminal may be gone, and then there is nothing to reset.
            let _ = tcsetattr(stdin(), OptionalActions::Now, &own_mode);
        }
    }
}

/// Whether the terminal is for this process to use.
fn in_foreground() -> bool {
    tcgetpgrp(stdin()) == Ok(getpgrp())
}

/// Whether somebody could wake this process up again after it has stopped: else the kernel would
/// not stop it at Ctrl-Z either.
pub(super) fn has_shell() -> bool {
    getsid(None) != Ok(getpgrp())
}
