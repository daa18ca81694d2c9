//! One task of a plan: defaults filled in, limits measured against the engine.

use std::time::Duration;

use super::{
    EngineCapacity, Lines, PreviewPlan, TaskPlan, VerifyImage, VerifyPlan, Work, branches,
    capacity, image, runtime, services,
};
use crate::engine::config::{ImageRequest, Limits, PullPolicy};
use crate::id::{ImageRef, RunId};
use crate::spec::{
    AgentSpec, At, Diagnostic, NanoCpus, Prompt, SourceFile, Span, TaskSpec, VerifySpec, units,
};

const BILLION: i64 = 1_000_000_000;
const DEFAULT_CPUS: i64 = 2;
const DEFAULT_MEMORY: i64 = 2 << 30;
/// The least memory that a container gets where nothing is said.
const LEAST_MEMORY: i64 = 6 << 20;
const DEFAULT_PIDS: i64 = 512;
const DEFAULT_SHM: i64 = 64 << 20;
const LARGEST_DEFAULT_TMP: i64 = 1 << 30;
const DEFAULT_DISK: i64 = 10 << 30;
const DEFAULT_LOG: i64 = 1 << 30;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_STARTUP: Duration = Duration::from_secs(15 * 60);
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
const DEFAULT_HANDOFF: Duration = Duration::from_secs(20);

/// Plans one task.
pub(super) struct Planner<'a> {
    pub task: &'a TaskSpec,
    pub source: &'a SourceFile,
    pub engine: EngineCapacity,
    pub runtimes: &'a [String],
    pub problems: &'a mut Vec<Diagnostic>,
    pub warnings: &'a mut Vec<String>,
}

impl Planner<'_> {
    /// The task's plan; not made where it has problems.
    pub fn plan(&mut self, run: &RunId) -> Option<TaskPlan> {
        let task = self.task;
        let limits = self.limits();
        let prompt = self.prompt();
        let runtime = self.runtime();
        let timeout = task.timeout.as_ref();
        let timeout = timeout.map_or(DEFAULT_TIMEOUT, |at| at.value);
        let image = image::of_task(task);
        Some(TaskPlan {
            id: task.id.value.clone(),
            // Known when all tasks are.
            needs: Vec::new(),
            starts_from: Vec::new(),
            agent: task.agent.as_ref().map(|agent| AgentSpec {
                version: image::version(&image),
                ..agent.clone()
            }),
            image,
            pinned_image: None,
            entrypoint: task.entrypoint.clone(),
            work: match &task.run {
                Some(script) => Work::Script(script.value.clone()),
                None => Work::Command(task.command.clone()),
            },
            prompt,
            setup: task.setup.as_ref().map(Into::into),
            cache: task.cache.clone(),
            environment: task.variables(),
            secrets: task.secrets.clone(),
            limits: limits?,
            disk_limit: task.disk_limit.as_ref().map_or(DEFAULT_DISK, |d| d.value),
            log_limit: task.log_limit.as_ref().map_or(DEFAULT_LOG, |l| l.value),
            working_dir: task
                .working_dir
                .clone()
                .unwrap_or_else(|| "/workspace".into()),
            user: task.user.clone(),
            workspace: task.workspace.unwrap_or_default(),
            read_only: task.read_only.unwrap_or(false),
            network_mode: task.network_mode.unwrap_or_default(),
            egress: task.egress.clone(),
            services: services::services(task, self.engine.cpus),
            ports: task.ports.clone(),
            runtime,
            timeout,
            startup_timeout: task.startup_timeout.unwrap_or(DEFAULT_STARTUP),
            stop_grace_period: task.stop_grace_period.unwrap_or(DEFAULT_GRACE),
            handoff_timeout: task.handoff_timeout.unwrap_or(DEFAULT_HANDOFF),
            slow_after: task.slow_after.unwrap_or(timeout / 2),
            retry: task.retry.clone().unwrap_or_default(),
            allow_failure: task.allow_failure.unwrap_or(false),
            matrix: task.matrix.clone(),
            branch: branches::of(task, run),
            claim: task.claim.as_ref().map(|claim| claim.value.clone()),
            touches: task.touches.clone(),
            artifacts: task.artifacts.clone(),
            verify: task.verify.as_ref().map(|v| verify(task, v, timeout)),
            feedback: task.feedback.unwrap_or_default(),
            preview: task.preview.as_ref().map(|preview| PreviewPlan {
                run: preview.run.value.clone(),
                port: preview.port,
            }),
            continues: None,
            lines: self.lines(),
        })
    }

    fn lines(&self) -> Lines {
        let line = |span: Span| self.source.position(span.start).0;
        Lines {
            task: line(self.task.id.span),
            mem_limit: self.task.mem_limit.as_ref().map(|at| line(at.span)),
            disk_limit: self.task.disk_limit.as_ref().map(|at| line(at.span)),
            timeout: self.task.timeout.as_ref().map(|at| line(at.span)),
        }
    }

    fn prompt(&mut self) -> Option<String> {
        match self.task.prompt.as_ref()? {
            Prompt::Text(text) => Some(text.clone()),
            Prompt::File(path) => {
                let title = format!("the file {} was not read", path.value.display());
                self.problems.push(Diagnostic::new(path.span, title, ""));
                None
            }
        }
    }

    fn runtime(&mut self) -> Option<String> {
        let asked = self.task.runtime.as_ref()?;
        self.warnings.extend(runtime::needs(self.task));
        if let Some((title, hint)) = runtime::missing(&asked.value, self.runtimes) {
            self.problems.push(Diagnostic::new(asked.span, title, hint));
        }
        Some(asked.value.clone())
    }

    fn limits(&mut self) -> Option<Limits> {
        let task = self.task;
        let nano_cpus = self.nano_cpus();
        let memory = self.memory();
        let memory_swap = self.memory_swap(memory?);
        let memory = memory?;
        let mut tmpfs = task.tmpfs.clone();
        tmpfs.entry("/tmp".into()).or_insert_with(|| {
            let size = LARGEST_DEFAULT_TMP.min(memory / 4);
            format!("rw,exec,nosuid,nodev,size={size},mode=1777")
        });
        Some(Limits {
            nano_cpus,
            memory,
            memory_swap: memory_swap?,
            pids: task.pids_limit.as_ref().map_or(DEFAULT_PIDS, |p| p.value),
            shm_size: task.shm_size.as_ref().map_or(DEFAULT_SHM, |s| s.value),
            ulimits: task.ulimits.clone(),
            tmpfs,
        })
    }

    /// More CPUs than there are slow a task down, which is no reason to refuse it.
    fn nano_cpus(&mut self) -> i64 {
        let has = i64::try_from(self.engine.cpus).unwrap_or(i64::MAX);
        let most = has.saturating_mul(BILLION);
        match &self.task.cpus {
            None => most.min(DEFAULT_CPUS * BILLION),
            Some(cpus) if cpus.value > NanoCpus(most) => {
                let id = &self.task.id.value;
                let asked = show_cpus(cpus.value);
                self.warnings.push(format!(
                    "task `{id}` asks for {asked} CPUs and gets {has}: the engine has no more"
                ));
                most
            }
            Some(cpus) => cpus.value.0,
        }
    }

    fn memory(&mut self) -> Option<i64> {
        let beside = services::memory_beside(self.task);
        let asked = self.task.mem_limit.as_ref().map_or(0, |asked| asked.value);
        let left = self.engine.for_containers() - beside;
        if beside > 0 && left < asked.max(LEAST_MEMORY) {
            let title = format!(
                "task `{}` can never run: with its services it needs {} of memory, and containers get {}",
                self.task.id.value,
                units::show_bytes(beside.saturating_add(asked.max(LEAST_MEMORY))),
                units::show_bytes(self.engine.for_containers()),
            );
            let hint = "write a smaller `mem_limit` for the services or for the task";
            self.problems
                .push(Diagnostic::new(self.task.id.span, title, hint));
            return None;
        }
        let Some(asked) = &self.task.mem_limit else {
            return Some(left.min(DEFAULT_MEMORY));
        };
        let Some((title, hint)) = capacity::never_fits(asked.value, self.engine) else {
            return Some(asked.value);
        };
        self.problems.push(Diagnostic::new(asked.span, title, hint));
        None
    }

    fn memory_swap(&mut self, memory: i64) -> Option<i64> {
        let Some(asked) = &self.task.memswap_limit else {
            return Some(memory);
        };
        if asked.value >= memory {
            return Some(asked.value);
        }
        let title = format!(
            "`memswap_limit: {}` is less than `mem_limit: {}`",
            units::show_bytes(asked.value),
            units::show_bytes(memory)
        );
        let hint = "it is memory and swap together; leave it out for no swap";
        self.problems.push(Diagnostic::new(asked.span, title, hint));
        None
    }
}

fn verify(task: &TaskSpec, verify: &VerifySpec, timeout: Duration) -> VerifyPlan {
    let request = |reference: &At<ImageRef>| ImageRequest {
        reference: reference.value.clone(),
        // One that is built for the task says nothing of this one.
        pull_policy: match task.pull_policy.unwrap_or_default() {
            PullPolicy::Build => PullPolicy::Missing,
            other => other,
        },
        build: None,
    };
    VerifyPlan {
        run: verify.run.value.clone(),
        timeout: verify.timeout.unwrap_or(timeout),
        image: verify.image.as_ref().map(|image| VerifyImage {
            request: request(image),
            pinned: None,
        }),
        secrets: verify.secrets.clone(),
    }
}

fn show_cpus(NanoCpus(nanos): NanoCpus) -> String {
    let text = format!("{}.{:09}", nanos / BILLION, nanos % BILLION);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
