//! Removes what setups prepared and what caches hold, once it is unused: directories and images of this
//! state directory only.

use std::time::Duration;

use super::{Cleaner, StepError, blocking};
use crate::engine::{Engine, OwnImage};
use crate::id::{ImageRef, RunId, label};
use crate::workspace::{Kept, KeptKind, WorkspaceError};

/// What was removed, or would be, and what could not be; each a line or a sentence.
#[derive(Debug, Default)]
pub struct KeptReport {
    /// What was removed.
    pub removed: Vec<String>,
    /// What could not be.
    pub problems: Vec<String>,
}

impl<E: Engine> Cleaner<E> {
    /// Removes what no run has used for so long, and images that nothing is known of any more. With the
    /// runs that would be released, it only says what it would remove then.
    pub async fn remove_kept(
        &self,
        unused_for: Duration,
        would_release: Option<&[RunId]>,
    ) -> KeptReport {
        let mut report = KeptReport::default();
        let state = self.state.clone();
        let dry_run = would_release.is_some();
        let but = would_release.map(<[RunId]>::to_vec);
        let removed = blocking(move || -> Result<Vec<Kept>, WorkspaceError> {
            let mut removed = Vec::new();
            for kept in Kept::all(&state)? {
                let is_gone = match &but {
                    Some(but) => kept.is_unused(&state, unused_for, but)?,
                    None => kept.remove(&state, unused_for)?,
                };
                removed.extend(is_gone.then_some(kept));
            }
            Ok(removed)
        });
        let removed = match removed.await {
            Ok(removed) => removed,
            Err(error) => {
                report
                    .problems
                    .push(StepError::new("remove", &error).message);
                return report;
            }
        };
        let lines = removed.iter().map(|kept| {
            let what = match kept.kind {
                KeptKind::Prepared => "what a setup prepared",
                KeptKind::Cache => "cache",
            };
            format!("{what} {}", kept.path.display())
        });
        report.removed.extend(lines);
        self.remove_images(&removed, dry_run, &mut report).await;
        report
    }

    /// Removes the images of what was removed, and those that have nothing else any more.
    async fn remove_images(&self, removed: &[Kept], dry_run: bool, report: &mut KeptReport) {
        let images = match self.engine.list_images().await {
            Ok(images) => images,
            Err(error) => {
                report
                    .problems
                    .push(StepError::new("remove", &error).message);
                return;
            }
        };
        let there: Vec<Kept> = match Kept::all(&self.state) {
            Ok(kept) => kept
                .into_iter()
                .filter(|kept| !removed.contains(kept))
                .collect(),
            Err(error) => {
                report
                    .problems
                    .push(StepError::new("remove", &error).message);
                return;
            }
        };
        let state = self.state.key();
        let ours = images
            .iter()
            .filter(|image| image.labels.get(label::STATE) == Some(&state));
        for image in ours.filter(|image| !is_known(image, &there)) {
            let name = image.references.first().unwrap_or(&image.id);
            if !dry_run && let Err(error) = self.engine.remove_image(name).await {
                report
                    .problems
                    .push(StepError::new("remove", &error).message);
                continue;
            }
            report.removed.push(format!("image {name}"));
        }
    }
}

/// Whether an image is one of what was prepared and is still there.
fn is_known(image: &OwnImage, there: &[Kept]) -> bool {
    let prepared = there.iter().filter(|kept| kept.kind == KeptKind::Prepared);
    let mut prepared = prepared.map(|kept| ImageRef::prepared(&kept.key).to_string());
    prepared.any(|name| {
        let names = image.references.iter();
        let mut names = names.map(|name| name.trim_end_matches(":latest"));
        names.any(|known| known == name)
    })
}
