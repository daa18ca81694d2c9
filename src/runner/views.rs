//! Whether a task's worktree is a view of a shared checkout, and what views need in the course of a
//! run: the checkouts, their release, and the removal of what only root may remove.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, OnceCell};

use super::probe::Prober;
use super::user::ContainerUser;
use super::{Shared, StepError, blocking};
use crate::engine::Engine;
use crate::engine::config::Mount;
use crate::event::EventKind;
use crate::plan::{TaskPlan, WorkspaceMode};
use crate::workspace::{self, SharedCheckout, SharedRequest};

/// From so many files on several tasks get views: a checkout of them takes longer than what the engine
/// does for a view.
const MANY_FILES: u64 = 2000;
/// Empties what the kernel leaves beside a view: it is root's, and closed even to him.
const SWEEP: &str = r#"
for work in /agent/views/*/work; do chmod 700 "$work" && rm -rf "$work"; done 2>/dev/null
exit 0
"#;

type Owner = Option<(u32, u32)>;

/// The views of a run.
#[derive(Default)]
pub(super) struct Views {
    /// Whether they pay, where the spec leaves that to us.
    pay: OnceCell<bool>,
    /// The shared checkouts, by whom their files belong to.
    checkouts: Mutex<BTreeMap<Owner, Arc<OnceCell<Arc<SharedCheckout>>>>>,
    /// An image with a shell.
    image: OnceLock<String>,
    told: AtomicBool,
    /// Set where something may still be mounted at the end.
    in_use: AtomicBool,
}

impl Views {
    /// Notes an image that can remove what views leave.
    pub(super) fn remember_image(&self, id: &str) {
        let _ = self.image.set(id.to_owned());
    }

    /// Notes that a container or volume could not be removed.
    pub(super) fn stay_in_use(&self) {
        self.in_use.store(true, Ordering::Relaxed);
    }
}

/// Whether a view is wanted for a task.
pub(super) async fn wanted<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    user: ContainerUser,
) -> bool {
    match task.workspace {
        WorkspaceMode::Checkout => false,
        WorkspaceMode::Overlay => true,
        // What is unchanged would not be among the artifacts.
        WorkspaceMode::Auto if task.artifacts.is_some() => false,
        WorkspaceMode::Auto => {
            let pay = shared.views.pay.get_or_init(|| {
                let shared = shared.clone();
                blocking(move || pay(&shared, user))
            });
            *pay.await
        }
    }
}

/// Whether a view is wanted for any task of the run.
pub(super) async fn wanted_by_any<E: Engine>(shared: &Arc<Shared<E>>, user: ContainerUser) -> bool {
    for task in &shared.context.plan.tasks {
        if wanted(shared, task, user).await {
            return true;
        }
    }
    false
}

/// Whether views are faster than checkouts, for those tasks that leave it to us: a checkout that is
/// there already serves one task, a new one must serve several.
fn pay<E: Engine>(shared: &Shared<E>, user: ContainerUser) -> bool {
    let context = &shared.context;
    if let Some(files) = SharedCheckout::entries(&request(shared, user)) {
        return u64::from(files) >= MANY_FILES;
    }
    let tasks = context.plan.tasks.iter();
    let open = tasks.filter(|task| task.workspace == WorkspaceMode::Auto);
    let files = || context.store.count_files(context.repository.git());
    // What git cannot list it cannot check out either: that will be said there.
    open.count() > 1 && files().is_ok_and(|files| files >= MANY_FILES)
}

fn request<E: Engine>(shared: &Shared<E>, user: ContainerUser) -> SharedRequest<'_> {
    let context = &shared.context;
    SharedRequest {
        git: context.repository.git(),
        state: &context.state,
        repository: context.repository.key(),
        store: &context.store,
        owner: user.owner,
        run: &context.plan.run,
    }
}

/// The checkout that a task's worktree is a view of: the run's, made where it is missing.
pub(super) async fn checkout<E: Engine>(
    shared: &Arc<Shared<E>>,
    user: ContainerUser,
) -> Result<Arc<SharedCheckout>, StepError> {
    let cell = {
        let mut checkouts = shared.views.checkouts.lock().await;
        checkouts.entry(user.owner).or_default().clone()
    };
    let ensure = || async {
        let shared = shared.clone();
        let made = blocking(move || SharedCheckout::ensure(&request(&shared, user)));
        let made = made.await.map(Arc::new);
        made.map_err(|e| StepError::new("workspace", &e))
    };
    cell.get_or_try_init(ensure).await.cloned()
}

/// Says once why there are no views, where the spec asks for them.
pub(super) fn refused<E: Engine>(shared: &Shared<E>, task: &TaskPlan, why: &str) {
    let asked = task.workspace == WorkspaceMode::Overlay;
    if asked && !shared.views.told.swap(true, Ordering::Relaxed) {
        let message = format!(
            "`workspace: overlay` is not possible here, so that each task gets a checkout: {why}"
        );
        shared.event(None, EventKind::Warning { message });
    }
}

/// Removes what the views of a run needed; gives a sentence if that failed. What may still be mounted
/// stays, for `clean`.
pub(super) async fn release<E: Engine>(shared: &Arc<Shared<E>>) -> Option<String> {
    let state = shared.context.state.clone();
    let run = shared.context.plan.run.clone();
    let views = &shared.views;
    if views.in_use.load(Ordering::Relaxed) || !state.views(&run).is_dir() {
        return None;
    }
    if let Some(image) = views.image.get() {
        let problem = sweep(&shared.context.prober(), image).await;
        if problem.is_some() {
            return problem;
        }
    }
    let released = blocking(move || workspace::release(&state, &run)).await;
    Some(StepError::new("remove", &released.err()?).message)
}

/// Removes what only root may, by a container: the kernel gives what it leaves to whom mounted the view.
pub(super) async fn sweep<E: Engine>(prober: &Prober<'_, E>, image: &str) -> Option<String> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let mut config = prober.config("views", image, SWEEP);
    config.user = "0:0".into();
    config.mounts = vec![Mount {
        source: prober.state.views(prober.run),
        target: "/agent/views".into(),
        read_only: false,
    }];
    let swept = prober.ask(&config).await;
    Some(StepError::new("remove", &swept.err()?).message)
}
