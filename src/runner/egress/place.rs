//! Where the proxy of a run has its files: what it is configured with, and what it shares with tasks.

use std::io;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use crate::egress::{self, Lists};
use crate::engine::Engine;
use crate::id::{RunId, StateDir};
use crate::runner::Shared;

pub(super) fn place_of<E: Engine>(shared: &Shared<E>) -> Place {
    Place::of(&shared.context.state, &shared.context.plan.run)
}

/// Where it has its files.
#[derive(Clone)]
pub(in crate::runner) struct Place(PathBuf);

impl Place {
    pub(in crate::runner) fn of(state: &StateDir, run: &RunId) -> Self {
        Self(state.egress(run))
    }

    /// Removes it, if it is there; gives a sentence if that failed.
    pub(in crate::runner) fn remove(&self) -> Option<String> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(format!("removing {} failed: {error}", self.0.display()))
            }
            _ => None,
        }
    }

    /// What it is configured with.
    pub(super) fn files(&self) -> PathBuf {
        self.0.join("proxy")
    }

    /// What it shares with the tasks.
    pub(super) fn shared(&self) -> PathBuf {
        self.0.join("shared")
    }

    /// Makes what is not there yet.
    pub(super) fn make(&self, lists: &Lists, owner: Option<(u32, u32)>) -> io::Result<()> {
        let files = self.files();
        std::fs::create_dir_all(&files)?;
        for (name, text) in [
            ("entry", egress::ENTRY),
            ("trial.pl", egress::TRIAL),
            ("squid.conf", &lists.squid()),
            ("dnsmasq.conf", &egress::dnsmasq()),
            ("haproxy.cfg", &lists.haproxy()),
            ("forward.cfg", &egress::forwarder()),
        ] {
            std::fs::write(files.join(name), text)?;
        }
        let ways = lists
            .tasks()
            .map(|task| self.shared().join(egress::way(task)));
        let shared = [self.shared(), self.shared().join(egress::FORWARDER)];
        for directory in shared.into_iter().chain(ways) {
            std::fs::create_dir_all(&directory)?;
            if let Some((uid, gid)) = owner {
                chown(&directory, Some(uid), Some(gid))?;
            }
        }
        Ok(())
    }
}
