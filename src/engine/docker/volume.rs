//! Volumes of agent-run: overlay mounts that the engine makes, so that its caller needs no root.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use super::network::filter;
use crate::engine::config::{ContainerConfig, VolumeConfig, VolumeMount};
use crate::engine::{EngineError, ErrorKind, Operation, OwnedKind, OwnedObject};
use crate::id::label;

/// What a view is mounted with, beside its directories. A directory of the lower layer can be renamed
/// only with `redirect_dir`; with `metacopy` a changed mode would leave the content below; `index`
/// would tie the upper layer to one lower (kernel.org filesystems/overlayfs).
const OPTIONS: &str = "nosuid,nodev,redirect_dir=on,metacopy=off,index=off";
/// What mount(2) takes as options, in bytes: a page, and none of it is said to be missing.
const OPTIONS_LIMIT: usize = 4000;

impl DockerEngine {
    pub(super) async fn make_volume(&self, config: &VolumeConfig) -> Result<(), EngineError> {
        let call = Call::new(Operation::CreateVolume, &config.name);
        let options = self.options(config);
        let options = options.map_err(|why| call.error(ErrorKind::Refused(why)))?;
        let labels: HashMap<_, _> = config.labels.iter().cloned().collect();
        let made = self.docker.create_volume(VolumeCreateRequest {
            name: Some(config.name.clone()),
            driver: Some("local".into()),
            driver_opts: Some(options.clone()),
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        });
        let made = call.within(WORK, made).await?;
        // An engine gives what it has of that name, whatever it was asked for.
        if made.options != options || made.labels != labels {
            return Err(call.error(ErrorKind::NameInUse));
        }
        Ok(())
    }

    fn options(&self, config: &VolumeConfig) -> Result<HashMap<String, String>, String> {
        let place = |path: &Path| {
            let outside = self.host_path(path);
            outside.and_then(|path| mountable(&path)).ok_or_else(|| {
                format!(
                    "{} cannot be named in the options of a mount",
                    path.display()
                )
            })
        };
        let (lower, upper) = (place(&config.lower)?, place(&config.upper)?);
        let work = place(&config.work)?;
        let text = format!("{OPTIONS},lowerdir={lower},upperdir={upper},workdir={work}");
        if text.len() > OPTIONS_LIMIT {
            return Err(format!(
                "the options of its mount have {} bytes",
                text.len()
            ));
        }
        let options = [("type", "overlay"), ("device", "overlay"), ("o", &text)];
        let owned = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(HashMap::from(owned))
    }

    /// Looks whether the volumes of a container that was just made are views: of a name that it does
    /// not know, an engine makes an empty volume without a word.
    pub(super) async fn look_at_volumes(
        &self,
        config: &ContainerConfig,
        call: &Call,
    ) -> Result<(), EngineError> {
        for VolumeMount { volume, .. } in &config.volumes {
            let found = call
                .within(QUICK, self.docker.inspect_volume(volume))
                .await?;
            if found.options.get("type").map(String::as_str) != Some("overlay") {
                let words = format!("volume {volume} has gone");
                return Err(call.error(ErrorKind::Refused(words)));
            }
        }
        Ok(())
    }

    pub(super) async fn delete_volume(&self, volume: &str) -> Result<(), EngineError> {
        let call = Call::new(Operation::RemoveVolume, volume);
        let removed = self
            .docker
            .remove_volume(volume, None::<RemoveVolumeOptions>);
        match call.within(WORK, removed).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The volumes with our label.
    pub(super) async fn volumes(&self, call: &Call) -> Result<Vec<OwnedObject>, EngineError> {
        let options = ListVolumesOptions {
            filters: Some(filter("label", label::SCHEMA)),
        };
        let listed = self.docker.list_volumes(Some(options));
        let volumes = call.within(QUICK, listed).await?.volumes;
        let owned = |volume: bollard::models::Volume| OwnedObject {
            kind: OwnedKind::Volume,
            name: volume.name,
            labels: volume.labels.into_iter().collect(),
            running: false,
            started: false,
        };
        Ok(volumes.into_iter().flatten().map(owned).collect())
    }
}

/// A path as an option of a mount; none where the engine, which splits at commas, or the kernel,
/// which splits lower layers at colons, would read another.
fn mountable(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let is_plain = |c: char| !matches!(c, ',' | ':' | '\\' | '"') && !c.is_control();
    text.chars().all(is_plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_a_mount_would_split_is_none() {
        assert_eq!(
            mountable(Path::new("/a b/c=d")).as_deref(),
            Some("/a b/c=d")
        );
        for path in ["/a:b", "/a,b", "/a\\b", "/a\"b", "/a\nb"] {
            assert_eq!(mountable(Path::new(path)), None, "{path}");
        }
    }
}
