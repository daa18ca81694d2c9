//! Images of the fake: found, made of containers, removed.

use agent_run::engine::config::{CommitConfig, ImageRequest, PullPolicy};
use agent_run::engine::{EngineError, ErrorKind, ImageInfo, Operation, OwnImage};
use agent_run::id::{hex_hash, label};

use super::engine::answer;
use super::{FakeEngine, Phase, Verdict, failed};

impl FakeEngine {
    /// The references of the images that were made of containers and are still there.
    pub fn made_images(&self) -> Vec<String> {
        let state = self.state();
        let images = state.own_images.iter();
        images.flat_map(|image| image.references.clone()).collect()
    }

    pub(super) async fn find_image(
        &self,
        request: &ImageRequest,
    ) -> Result<ImageInfo, EngineError> {
        let reference = request.reference.as_str();
        let verdict = self.enter(Operation::EnsureImage, reference).await?;
        answer(&verdict, Operation::EnsureImage, reference).await?;
        let known = self.state().images.get(reference).cloned();
        match known {
            Some(image) => Ok(image),
            None if request.pull_policy == PullPolicy::Never => {
                let kind = ErrorKind::ImageUnavailable("it is not on the engine".into());
                Err(failed(Operation::EnsureImage, reference, kind))
            }
            None => Ok(ImageInfo {
                id: format!("sha256:{}", hex_hash(reference.as_bytes(), 64)),
                digests: Vec::new(),
                entrypoint: Vec::new(),
                command: vec!["sh".into()],
                ..ImageInfo::default()
            }),
        }
    }

    pub(super) async fn make_image(
        &self,
        container: &str,
        config: &CommitConfig,
    ) -> Result<ImageInfo, EngineError> {
        const OP: Operation = Operation::Commit;
        let verdict = self.enter(OP, container).await?;
        let image = {
            let mut state = self.state();
            let found = state.container(OP, container)?;
            let has_ended = found.phase == Phase::Started && found.running.borrow().is_some();
            assert!(has_ended, "an image of {container}, which has not ended");
            if !found.config.environment.is_empty() {
                let words = "the container has variables of its own".to_owned();
                return Err(failed(OP, container, ErrorKind::Refused(words)));
            }
            let below = found.config.image.clone();
            let below = state.images.values().find(|image| image.id == below);
            let (entrypoint, command) = match below {
                Some(image) => (image.entrypoint.clone(), image.command.clone()),
                None => (Vec::new(), vec!["sh".into()]),
            };
            let reference = config.reference.to_string();
            let image = ImageInfo {
                id: format!(
                    "sha256:{}",
                    hex_hash(format!("{reference} {container}").as_bytes(), 64)
                ),
                digests: Vec::new(),
                entrypoint,
                command,
                ..ImageInfo::default()
            };
            if !matches!(verdict, Verdict::Lie) {
                for other in &mut state.own_images {
                    other.references.retain(|other| *other != reference);
                }
                state.images.insert(reference.clone(), image.clone());
                state.images.insert(image.id.clone(), image.clone());
                state.own_images.push(OwnImage {
                    id: image.id.clone(),
                    references: vec![reference],
                    labels: config.labels.iter().cloned().collect(),
                    size: 1 << 20,
                    created: 1_700_000_000,
                });
            }
            image
        };
        answer(&verdict, OP, container).await?;
        Ok(image)
    }

    pub(super) async fn images_of_ours(&self) -> Result<Vec<OwnImage>, EngineError> {
        let verdict = self.enter(Operation::ListImages, "*").await?;
        answer(&verdict, Operation::ListImages, "*").await?;
        let state = self.state();
        let ours = state.own_images.iter();
        let ours = ours.filter(|image| image.labels.contains_key(label::IMAGE));
        Ok(ours.cloned().collect())
    }

    pub(super) async fn drop_image(&self, image: &str) -> Result<(), EngineError> {
        const OP: Operation = Operation::RemoveImage;
        let verdict = self.enter(OP, image).await?;
        if !matches!(verdict, Verdict::Lie) {
            let mut state = self.state();
            let id = state.images.get(image).map(|info| info.id.clone());
            let is_of_it = |used: &String| used == image || Some(used) == id.as_ref();
            if state.containers.values().any(|c| is_of_it(&c.config.image)) {
                return Err(failed(OP, image, ErrorKind::InUse));
            }
            state.images.retain(|_, info| Some(&info.id) != id.as_ref());
            state.own_images.retain(|own| Some(&own.id) != id.as_ref());
        }
        answer(&verdict, OP, image).await
    }
}
