//! A directory that an engine mounts as a copy-on-write view: what is not written is seen in another
//! one, what is written is in a directory of the attempt, as overlayfs keeps it: character devices mark
//! what was deleted.

use std::path::PathBuf;

use crate::engine::config::{VolumeConfig, VolumeMount};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) volume: String,
    /// Absolute path inside.
    pub(super) target: String,
    pub(super) lower: PathBuf,
    pub(super) upper: PathBuf,
    /// The kernel's own.
    pub(super) work: PathBuf,
}

impl View {
    /// The volume, to be made before a container is.
    pub(super) fn volume(&self, labels: Vec<(String, String)>) -> VolumeConfig {
        VolumeConfig {
            name: self.volume.clone(),
            labels,
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
        }
    }

    /// Where containers have that volume.
    pub(super) fn mount(&self) -> VolumeMount {
        VolumeMount {
            volume: self.volume.clone(),
            target: self.target.clone(),
        }
    }
}
