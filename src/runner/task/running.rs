//! A container that was started, as long as its task is watched.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::runner::pump::{Ending, Pumped};

/// Everything a started container needs to be watched.
pub(super) struct Running {
    pub(super) name: String,
    pub(super) pump: Pumping,
    pub(super) started: Instant,
}

/// A pump at work, and how to tell it that its container has ended.
pub(super) struct Pumping {
    pub(super) pump: JoinHandle<Pumped>,
    pub(super) tell: oneshot::Sender<Ending>,
}
