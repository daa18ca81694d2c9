//! What is in the volumes that a container has because its image declares them.

use std::collections::BTreeMap;

use bollard::errors::Error as BollardError;
use bollard::models::MountPoint;
use bollard::query_parameters::{DownloadFromContainerOptions, InspectContainerOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::DockerEngine;
use super::call::{Call, QUICK};
use crate::engine::{EngineError, Operation};

/// How long the engine may take to hand out one volume.
const READ: std::time::Duration = std::time::Duration::from_secs(600);

impl DockerEngine {
    /// The engine hands a volume out as an archive with the time of each file, in an order that stays.
    pub(super) async fn read_volumes(
        &self,
        container: &str,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let call = Call::new(Operation::VolumeContents, container);
        let inspected = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let points = call.within(QUICK, inspected).await?.mounts;
        let is_volume = |point: &MountPoint| point.typ.as_deref() == Some("volume");
        let volumes = points.into_iter().flatten().filter(is_volume);
        let mut contents = BTreeMap::new();
        for path in volumes.filter_map(|point| point.destination) {
            let print = call.within(READ, self.fingerprint(container, &path));
            let print = print.await?;
            contents.insert(path, print);
        }
        Ok(contents)
    }

    async fn fingerprint(&self, container: &str, path: &str) -> Result<String, BollardError> {
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let mut archive = self
            .docker
            .download_from_container(container, Some(options))
            .boxed();
        let mut hash = Sha256::new();
        let mut next = archive.try_next().await?;
        while let Some(bytes) = next {
            hash.update(&bytes);
            // A file that grows meanwhile breaks the archive off, which is another fingerprint.
            next = archive.try_next().await.unwrap_or_default();
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}
