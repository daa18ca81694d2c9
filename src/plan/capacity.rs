//! What an engine can give to the containers of a run at once.

use super::{EngineCapacity, RunPlan, TaskPlan};
use crate::egress;
use crate::spec::units;

/// A tenth of the engine's memory is left to the engine and everything else, but at least so much and
/// at most so much, in bytes.
const RESERVE: (i64, i64) = (256 << 20, 2 << 30);
/// Where nobody says how many tasks run at once, they ask for at most so many times the engine's CPUs:
/// a lack of CPUs slows tasks down, and agents mostly wait for something else.
const CPU_OVERCOMMITMENT: i64 = 2;
const BILLION: i64 = 1_000_000_000;
/// What a container that collects a task's work may use at least, in bytes: the task's own limit may be
/// what ended it.
const COLLECTOR: i64 = 512 << 20;

impl EngineCapacity {
    /// What is left of it beside the proxy of tasks with an allow-list.
    pub(super) fn beside_proxy(self, tasks_have_lists: bool) -> Self {
        let own = if tasks_have_lists { egress::MEMORY } else { 0 };
        Self { own, ..self }
    }

    /// The memory that limits of running containers may add up to, in bytes.
    pub fn for_containers(&self) -> i64 {
        let (least, most) = RESERVE;
        let reserve = (self.memory / 10).clamp(least, most).min(self.memory / 2);
        (self.memory - reserve - self.own).max(0)
    }
}

impl RunPlan {
    /// The memory of a task's collector, in bytes.
    pub fn collector_memory(&self, task: &TaskPlan) -> i64 {
        let own = task.limits.memory;
        own.max(COLLECTOR.min(own.saturating_add(self.spare)))
    }
}

/// What a collector gets beside the memory of its task, in bytes: nothing where all tasks have as much
/// as it needs, and never so much that a task would not fit any more.
pub(super) fn spare(engine: EngineCapacity, tasks: &[TaskPlan]) -> i64 {
    let least = tasks.iter().map(|task| task.limits.memory).min();
    let most = tasks.iter().map(TaskPlan::memory).max();
    let wanted = COLLECTOR - least.unwrap_or(COLLECTOR);
    let left = engine.for_containers() - most.unwrap_or_default();
    wanted.min(left).max(0)
}

/// How many tasks run at once at most: what is asked for, else what the CPUs carry; never more than
/// there is memory for, never less than one.
pub(super) fn at_once(
    asked: Option<usize>,
    (engine, memory): (EngineCapacity, i64),
    tasks: &[TaskPlan],
) -> usize {
    let by_cpus = || {
        let most = tasks.iter().map(|t| t.limits.nano_cpus).max().unwrap_or(1);
        let cpus = i64::try_from(engine.cpus).unwrap_or(i64::MAX);
        let all = cpus.saturating_mul(CPU_OVERCOMMITMENT * BILLION);
        usize::try_from(all / most.max(1)).unwrap_or(usize::MAX)
    };
    let fitting = fitting(memory, tasks);
    asked.unwrap_or_else(by_cpus).min(fitting).max(1)
}

/// How many tasks the memory has room for at once: of the smallest ones.
pub(super) fn fitting(capacity: i64, tasks: &[TaskPlan]) -> usize {
    let mut memory: Vec<i64> = tasks.iter().map(TaskPlan::memory).collect();
    memory.sort_unstable();
    let sums = memory.iter().scan(0_i64, |sum, memory| {
        *sum = sum.saturating_add(*memory);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= capacity).count()
}

/// Why a limit can never be given; none where it can.
pub(super) fn never_fits(asked: i64, engine: EngineCapacity) -> Option<(String, String)> {
    let capacity = engine.for_containers();
    (asked > capacity).then(|| {
        let (asked, most) = (units::show_bytes(asked), mebibytes(capacity));
        let title = format!(
            "`mem_limit: {asked}` can never be given: the engine has {}, of which containers get {most}",
            mebibytes(engine.memory),
        );
        (title, format!("write at most {most}"))
    })
}

fn mebibytes(bytes: i64) -> String {
    format!("{}m", bytes >> 20)
}
