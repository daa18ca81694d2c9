//! Images of agent-run's own: made of containers, listed, removed.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerConfig, ImageConfig};
use bollard::query_parameters::{
    CommitContainerOptions, InspectContainerOptions, ListImagesOptions, RemoveImageOptions,
};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use super::image::{image_info, split_tag};
use super::network::filter;
use crate::engine::config::CommitConfig;
use crate::engine::{EngineError, ErrorKind, ImageInfo, Operation, OwnImage};
use crate::id::label;

/// How long an engine may take to make a layer of what a container has written.
const COMMIT: Duration = Duration::from_secs(600);
/// What the keys of our labels begin with.
const OUR_LABELS: &str = "agent-run.";

impl DockerEngine {
    pub(super) async fn commit_container(
        &self,
        container: &str,
        config: &CommitConfig,
    ) -> Result<ImageInfo, EngineError> {
        let call = Call::new(Operation::Commit, container);
        let inspected = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let inspected = call.within(QUICK, inspected).await?;
        let below = inspected.image.unwrap_or_default();
        let below = call.within(QUICK, self.docker.inspect_image(&below));
        let below = below.await?.config.unwrap_or_default();
        let own = inspected.config.and_then(|config| config.labels);
        let wanted = wanted(&below, own.unwrap_or_default(), config);
        let (name, tag) = split_tag(config.reference.as_str());
        let options = CommitContainerOptions {
            container: Some(container.to_owned()),
            repo: Some(name.to_owned()),
            tag: Some(tag.to_owned()),
            pause: false,
            ..CommitContainerOptions::default()
        };
        let made = self.docker.commit_container(options, wanted);
        let id = call.within(COMMIT, made).await?.id;
        let image = call.within(QUICK, self.docker.inspect_image(&id)).await?;
        let made = image.config.clone().unwrap_or_default();
        if sorted(made.env) != sorted(below.env) {
            self.delete_image(&id).await?;
            let words = "the container has variables of its own, which would be part of the image";
            return Err(call.error(ErrorKind::Refused(words.into())));
        }
        image_info(image).map_err(|kind| call.error(kind))
    }

    pub(super) async fn own_images(&self) -> Result<Vec<OwnImage>, EngineError> {
        let call = Call::new(Operation::ListImages, "what agent-run built");
        let options = ListImagesOptions {
            filters: Some(filter("label", label::IMAGE)),
            ..ListImagesOptions::default()
        };
        let listed = self.docker.list_images(Some(options));
        let images = call.within(QUICK, listed).await?.into_iter();
        let images = images.map(|image| OwnImage {
            id: image.id,
            references: image.repo_tags,
            labels: image.labels.into_iter().collect(),
            size: u64::try_from(image.size).unwrap_or(0),
            created: image.created,
        });
        Ok(images.collect())
    }

    pub(super) async fn delete_image(&self, image: &str) -> Result<(), EngineError> {
        let call = Call::new(Operation::RemoveImage, image);
        let options = RemoveImageOptions::default();
        let removed = self.docker.remove_image(image, Some(options), None);
        match call.within(WORK, removed).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The configuration of the image below. What is missing in it the engine takes from the container
/// (moby `daemon/commit.go`), so that nothing is left out: an empty list is not missing. Labels cannot
/// be left out: ours are emptied, which says as much.
fn wanted(
    below: &ImageConfig,
    own_labels: HashMap<String, String>,
    config: &CommitConfig,
) -> ContainerConfig {
    let below = below.clone();
    let ours = own_labels.into_keys();
    let ours = ours.filter(|key| key.starts_with(OUR_LABELS));
    let mut labels: HashMap<_, _> = ours.map(|key| (key, String::new())).collect();
    labels.extend(below.labels.unwrap_or_default());
    labels.extend(config.labels.iter().cloned());
    let root = || "0:0".to_owned();
    let user = below.user.filter(|user| !user.is_empty());
    let directory = below.working_dir.filter(|path| !path.is_empty());
    ContainerConfig {
        user: Some(user.unwrap_or_else(root)),
        exposed_ports: below.exposed_ports,
        env: below.env,
        cmd: below.cmd,
        healthcheck: below.healthcheck,
        volumes: below.volumes,
        working_dir: Some(directory.unwrap_or_else(|| "/".into())),
        entrypoint: Some(below.entrypoint.unwrap_or_default()),
        on_build: below.on_build,
        labels: Some(labels),
        stop_signal: below.stop_signal,
        shell: below.shell,
        ..ContainerConfig::default()
    }
}

fn sorted(list: Option<Vec<String>>) -> Vec<String> {
    let mut list = list.unwrap_or_default();
    list.sort_unstable();
    list
}
