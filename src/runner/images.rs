//! The images of a run: each is pulled or built once and probed once, whoever asks first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::probe::{ImageFacts, facts_of};
use super::{Shared, StepError};
use crate::engine::config::ImageRequest;
use crate::engine::{Engine, ImageInfo};
use crate::event::EventKind;
use crate::plan::TaskPlan;

/// An image that took longer than this to get is told of.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// An image that is there and known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PreparedImage {
    pub(super) info: ImageInfo,
    pub(super) facts: ImageFacts,
}

#[derive(Default)]
struct Image {
    info: OnceCell<Result<ImageInfo, StepError>>,
    prepared: OnceCell<Result<Arc<PreparedImage>, StepError>>,
}

impl Image {
    fn has_failed(&self) -> bool {
        matches!(self.info.get(), Some(Err(_))) || matches!(self.prepared.get(), Some(Err(_)))
    }
}

/// All images that tasks of the run have asked for. A failure is final until it is forgotten.
#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<ImageRequest, Arc<Image>>>);

impl Images {
    fn image(&self, request: &ImageRequest) -> Arc<Image> {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        images.entry(request.clone()).or_default().clone()
    }

    /// Lets an image that could not be had be tried again.
    pub(super) fn forget_failure(&self, request: &ImageRequest) {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|known, image| known != request || !image.has_failed());
    }

    /// Makes sure that an image is there. Takes as long as it takes, and may be dropped meanwhile.
    pub(super) async fn obtain<E: Engine>(
        &self,
        shared: &Arc<Shared<E>>,
        request: &ImageRequest,
    ) -> Result<ImageInfo, StepError> {
        let image = self.image(request);
        let info = image.info.get_or_init(|| obtain(shared, request)).await;
        info.clone()
    }

    /// Finds out what an image holds, in a container as those of the task. It must not be dropped; it is
    /// bounded.
    pub(super) async fn prepare<E: Engine>(
        &self,
        shared: &Arc<Shared<E>>,
        request: &ImageRequest,
        task: Option<&TaskPlan>,
    ) -> Result<Arc<PreparedImage>, StepError> {
        let info = self.obtain(shared, request).await?;
        let image = self.image(request);
        let prepare = || async {
            let context = &shared.context;
            let prober = task.map_or_else(|| context.prober(), |task| context.prober_of(task));
            let facts = facts_of(&prober, &info).await?;
            Ok(Arc::new(PreparedImage { info, facts }))
        };
        image.prepared.get_or_init(prepare).await.clone()
    }
}

async fn obtain<E: Engine>(
    shared: &Arc<Shared<E>>,
    request: &ImageRequest,
) -> Result<ImageInfo, StepError> {
    let began = Instant::now();
    let info = shared.context.engine.ensure_image(request).await;
    let info = info.map_err(StepError::engine("image"))?;
    if began.elapsed() > WORTH_TELLING {
        let kind = EventKind::Image {
            image: request.reference.to_string(),
            status: format!("ready after {:.0?}", began.elapsed()),
        };
        shared.event(None, kind);
    }
    Ok(info)
}
