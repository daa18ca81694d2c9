//! Copies of prepared directories, where the engine mounts no views: made by a container, since what is
//! in them is untrusted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::failed;
use crate::engine::Engine;
use crate::engine::config::Mount;
use crate::event::EventKind;
use crate::id::{AttemptId, Role, label};
use crate::plan::TaskPlan;
use crate::runner::images::PreparedImage;
use crate::runner::probe::Prober;
use crate::runner::user::ContainerUser;
use crate::runner::{Shared, StepError, collector};
use crate::workspace::Workspace;

/// Copies with modes, times and links as they are.
const COPY: &str =
    r#"for n in /agent/copy/*; do cp -a "/agent/prepared/${n##*/}/." "$n"/ || exit 1; done"#;

/// Fills the directories of a workspace that are copies; says once why they are.
pub(in crate::runner) async fn fill_copies<E: Engine>(
    shared: &Arc<Shared<E>>,
    (task, attempt): (&TaskPlan, &AttemptId),
    (image, user): (&PreparedImage, ContainerUser),
    workspace: &Workspace,
    why: &str,
) -> Result<(), StepError> {
    if !shared.setups.told.swap(true, Ordering::Relaxed) {
        let message = format!(
            "prepared directories cannot be mounted copy-on-write here, so that each task gets a copy: {why}"
        );
        shared.event(None, EventKind::Warning { message });
    }
    let base;
    let image = if image.facts.has_shell {
        image
    } else {
        base = collector::base_image(shared).await?;
        &base
    };
    let prober = Prober {
        limit: task.startup_timeout,
        ..shared.context.prober_of(task)
    };
    let mut config = prober.config("copy", &image.info.id, COPY);
    config.name = attempt.container_name(Role::Setup);
    config.labels = attempt.labels(Role::Setup);
    let owner = shared.context.owner.clone();
    config.labels.push((label::OWNER.into(), owner));
    config.user = format!("{}:{}", user.uid, user.gid);
    for (index, copy) in workspace.copies().iter().enumerate() {
        config.mounts.push(Mount {
            source: copy.source.clone(),
            target: format!("/agent/prepared/{index}"),
            read_only: true,
        });
        config.mounts.push(Mount {
            source: copy.copy.clone(),
            target: format!("/agent/copy/{index}"),
            read_only: false,
        });
    }
    let copied = prober.ask(&config).await;
    match copied.map_err(StepError::engine("setup"))? {
        Some(_) => Ok(()),
        None => Err(failed(
            "prepared directories could not be copied: there is no `cp`",
        )),
    }
}
