//! The spec's `verify`: a fresh container on a clean checkout of the result, whose end decides.
//!
//! The work is safe before that, under a ref of ours; it gets its branch once it is known that no other
//! attempt goes on from it. Nothing that the check writes comes back.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Life, failed};
use crate::engine::Engine;
use crate::event::{BranchResult, TaskOutcome, TaskPhase, VerifyReport};
use crate::id::{CommitId, Role};
use crate::plan::{TaskPlan, VerifyPlan};
use crate::runner::container::volume_names;
use crate::runner::images::PreparedImage;
use crate::runner::outcome::outcome;
use crate::runner::prepare::{self, Beginning, user_of};
use crate::runner::setup::Ready;
use crate::runner::stops::Urgency;
use crate::runner::user::ContainerUser;
use crate::runner::{StepError, blocking, collector, services};
use crate::workspace::{self, Workspace};

impl<E: Engine> Life<'_, E> {
    /// Whether the result of an attempt that ended so is to be checked.
    pub(super) fn is_to_be_verified(&self, outcome: &TaskOutcome) -> bool {
        *outcome == TaskOutcome::Succeeded && self.task.verify.is_some()
    }

    /// Checks the result, if that is asked; then its work gets its place.
    pub(super) async fn verified(
        &mut self,
        workspace: &Workspace,
        outcome: TaskOutcome,
    ) -> TaskOutcome {
        let plan = self.task.verify.as_ref();
        let plan = plan.filter(|_| self.is_to_be_verified(&outcome));
        let (Some(plan), Some(commit)) = (plan, self.result(workspace)) else {
            return outcome;
        };
        let outcome = match self.verify(plan, commit, workspace.base().clone()).await {
            Ok(ending @ (TaskOutcome::Succeeded | TaskOutcome::Cancelled)) => ending,
            Ok(ending) => TaskOutcome::VerifyFailed {
                cause: Box::new(ending),
            },
            Err(error) => {
                let StepError { stage, message } = self.looked_into(error).await;
                let message = match stage {
                    "container" => message,
                    _ => format!("{stage}: {message}"),
                };
                let stage = match stage {
                    // It has a cause of its own.
                    services::SERVICES => stage,
                    _ => "verify",
                };
                failed(&StepError { stage, message })
            }
        };
        if self.next(&outcome).is_none() {
            self.name().await;
        }
        outcome
    }

    /// The tip of what was collected, or the base where nothing was changed.
    fn result(&self, workspace: &Workspace) -> Option<CommitId> {
        match &self.branch.as_ref()?.result {
            BranchResult::SetAside { commit, .. } => Some(commit.clone()),
            BranchResult::NoChange => Some(workspace.base().clone()),
            _ => None,
        }
    }

    /// Gives the branch to the work, unless there is no time for it.
    async fn name(&mut self) {
        let in_time = self.stops().now() != Urgency::Forced;
        if let Some(work) = self.branch.take_if(|_| in_time) {
            let (shared, attempt) = (self.shared, self.attempt.clone());
            let named = collector::name_set_aside(shared, &self.task.branch, attempt, work).await;
            self.branch = Some(named);
        }
    }

    /// How the check ended.
    async fn verify(
        &mut self,
        plan: &VerifyPlan,
        commit: CommitId,
        base: CommitId,
    ) -> Result<TaskOutcome, StepError> {
        if self.stops().now() != Urgency::None {
            return Ok(TaskOutcome::Cancelled);
        }
        self.enter(TaskPhase::Verifying).await?;
        let task = check_of(self.task, plan);
        let since = Instant::now();
        let mut check = Life::new(
            self.shared,
            &task,
            (self.attempt.clone(), since),
            (self.start, self.course),
        );
        check.role = Role::Verify;
        check.snapshots = self.snapshots.clone();
        let ended = check.check(&commit, base, self.task).await;
        self.remains
            .containers
            .append(&mut check.remains.containers);
        self.remains.volumes.append(&mut check.remains.volumes);
        self.remains.errors.append(&mut check.remains.errors);
        self.remains.may_run |= check.remains.may_run;
        let log = self.shared.context.state.verify_log(&self.attempt);
        self.verify = Some(VerifyReport {
            commit,
            ran: check.ran,
            usage: check.usage,
            image: check.image.take(),
            image_digest: check.image_digest.take(),
            log: check.setup_log.or((!check.ran.is_zero()).then_some(log)),
        });
        self.pumped = check.pumped;
        ended
    }
}

/// The check as a task of its own: what is not the plan's is the task's. It has no caches: whom it
/// checks has written in them; and nobody looks at it.
fn check_of(task: &TaskPlan, plan: &VerifyPlan) -> TaskPlan {
    let own = plan.image.as_ref().map(|image| image.request.clone());
    TaskPlan {
        image: own.unwrap_or_else(|| task.image.clone()),
        ports: Vec::new(),
        secrets: plan.secrets.clone(),
        ..task.beside(plan.run.clone(), plan.timeout)
    }
}

/// The life of a check, which has the task's place in all but its containers.
impl<E: Engine> Life<'_, E> {
    pub(super) async fn check(
        &mut self,
        commit: &CommitId,
        base: CommitId,
        of: &TaskPlan,
    ) -> Result<TaskOutcome, StepError> {
        let user = user_of(&self.shared.context.info, self.task)?;
        let Some((image, ready)) = self.image_and_ready(of, user).await? else {
            return Ok(TaskOutcome::Cancelled);
        };
        let start = prepare::start(self.shared, (commit.clone(), base));
        if let Some(used_bytes) = prepare::excess(self.shared, self.task, start.as_ref()).await? {
            return Ok(TaskOutcome::OutOfDisk { used_bytes });
        }
        self.remove_earlier().await?;
        self.remains.volumes = volume_names(&self.attempt, self.role, of);
        self.remains.containers = self.served().containers();
        let beginning = Beginning {
            start,
            role: Some(self.role),
            ..Beginning::default()
        };
        let (proof, workspace, network) = tokio::join!(
            self.prove_mounts(&image, user),
            self.make((&image, user), (beginning, None), &ready),
            self.connect((&image, user), &ready),
        );
        let network = self.take_services(network);
        proof?;
        let (workspace, network) = (workspace?, network?);
        self.fill((&image, user), &workspace).await?;
        let made = self.made((&image, user), workspace.clone(), network);
        let Some(made) = made.await? else {
            return Ok(TaskOutcome::Cancelled);
        };
        let running = match self.start((&image, user), made).await {
            Ok(Some(running)) => running,
            Ok(None) => return Ok(TaskOutcome::Cancelled),
            Err(error) => {
                if self.may_have_run {
                    let name = self.attempt.container_name(self.role);
                    self.stop(&name, self.grace(), std::future::pending()).await;
                }
                return Err(error);
            }
        };
        let (stopped, exit) = self.watch(running, workspace).await;
        let exit = exit?;
        if exit.oom_killed && exit.code == 0 {
            let what = self.role.as_str();
            self.warn(format!(
                "one of the processes of `{what}` was killed, out of memory"
            ));
        }
        Ok(outcome(stopped, exit))
    }

    /// Its image, and what the setup of the task prepared: directories for any image, an image only
    /// where the check has none of its own.
    async fn image_and_ready(
        &mut self,
        of: &TaskPlan,
        user: ContainerUser,
    ) -> Result<Option<(Arc<PreparedImage>, Arc<Ready>)>, StepError> {
        let Some(image) = self.image(&self.task.image).await? else {
            return Ok(None);
        };
        let repository = self.task.image.reference.repository();
        self.image_digest = image.info.digest(repository).cloned();
        self.image = Some(image.info.id.clone());
        let has_own = of.verify.as_ref().is_some_and(|plan| plan.image.is_some());
        let prepared = if has_own && of.setup.is_some() {
            self.image(&of.image).await?
        } else {
            Some(image.clone())
        };
        let Some(prepared) = prepared else {
            return Ok(None);
        };
        let setup = self.setup(of, &prepared, user).await?;
        let Some(ready) = self.set_up(setup).await? else {
            return Ok(None);
        };
        let image = match &ready.image {
            Some(prepared) if !has_own => prepared.clone(),
            _ => image,
        };
        Ok(Some((image, ready)))
    }

    /// Removes the directory of a check that an earlier process began.
    async fn remove_earlier(&self) -> Result<(), StepError> {
        let (state, attempt) = (self.shared.context.state.clone(), self.attempt.clone());
        let removed = blocking(move || workspace::remove(&state, &state.check(&attempt))).await;
        removed.map_err(|e| StepError::new("workspace", &e))
    }
}
