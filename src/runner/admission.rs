//! What runs at once: tasks get a slot and memory here, and give both back.
//!
//! The schedule decides; this only holds it for all who ask. First attempts are started by the
//! dispatcher, further ones by the task itself, which waits here like the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::past::Past;
use super::schedule::{Demand, Room, Schedule, Skip};
use crate::plan::{RunPlan, graph};

/// The room of a run's containers, and who has it.
pub(super) struct Admission {
    state: Mutex<State>,
    changed: Notify,
    /// What a collector has beside the memory of its task: one at a time.
    spare: tokio::sync::Mutex<()>,
}

struct State {
    schedule: Schedule,
    /// Tasks whose next attempt waits; they are told where there is no hope.
    again: HashMap<usize, oneshot::Sender<Option<Place>>>,
    /// How many slots and shares of memory are to come back.
    held: usize,
}

/// What the dispatcher is told of a task that has not begun.
pub(super) enum Admitted {
    /// It starts.
    Starts(usize, Place),
    /// There is no room for it, and none will come: of what has it nobody knows that it has ended.
    Hopeless(usize),
}

/// A task's right to run.
pub(super) struct Place {
    /// Given back once the result is safe.
    pub(super) slot: Slot,
    /// Given back once no container can use it any more.
    pub(super) memory: Memory,
}

/// One of the tasks that run at once, until it is dropped.
pub(super) struct Slot(Arc<Admission>);

/// A task's share of the memory, until it is dropped.
pub(super) struct Memory {
    admission: Arc<Admission>,
    task: usize,
    is_kept: bool,
}

impl Admission {
    /// The room of a plan of which an earlier process may have done some.
    pub(super) fn new(plan: &RunPlan, past: &Past) -> Arc<Self> {
        // A plan without order is not made.
        let paths = graph::longest_paths(&plan.tasks).unwrap_or_default();
        let tasks = plan.tasks.iter().zip(graph::needs(&plan.tasks)).zip(paths);
        let demands: Vec<Demand> = tasks
            .map(|((task, needs), path)| Demand {
                needs,
                path,
                memory: task.memory(),
                has_begun: past.left.contains_key(&task.id),
            })
            .collect();
        let room = Room {
            slots: plan.parallel.min(plan.tasks.len()).max(1),
            memory: plan.memory,
        };
        Arc::new(Self {
            state: Mutex::new(State {
                schedule: Schedule::new(&demands, room),
                again: HashMap::new(),
                held: 0,
            }),
            changed: Notify::new(),
            spare: tokio::sync::Mutex::default(),
        })
    }

    /// Room for a collector that may use more than its task has, until it is dropped.
    pub(super) async fn spare(&self) -> impl Drop + use<'_> {
        self.spare.lock().await
    }

    /// The next task that has not begun, once there is room for one.
    pub(super) async fn next(self: &Arc<Self>) -> Admitted {
        loop {
            // What changes from here on is not missed: one who is told while nobody waits is told later.
            if let Some(admitted) = self.try_next() {
                return admitted;
            }
            self.changed.notified().await;
        }
    }

    fn try_next(self: &Arc<Self>) -> Option<Admitted> {
        loop {
            let mut state = self.lock();
            let (task, place) = match state.schedule.next() {
                Some(task) => {
                    state.held += 2;
                    (task, true)
                }
                None if state.held == 0 => (state.schedule.take_hopeless()?, false),
                None => return None,
            };
            let waiting = state.again.remove(&task);
            drop(state);
            let place = place.then(|| Place::new(self, task));
            match (waiting, place) {
                // Who does not wait any more gives it back by dropping it.
                (Some(waiting), place) => drop(waiting.send(place)),
                (None, Some(place)) => return Some(Admitted::Starts(task, place)),
                (None, None) => return Some(Admitted::Hopeless(task)),
            }
        }
    }

    /// Whether the next one needs room on the disk: what has begun before has it.
    pub(super) fn wants_room(&self) -> bool {
        self.lock().schedule.begins_with_new()
    }

    /// Room for the next attempt at a task; none where none will come.
    pub(super) async fn again(self: &Arc<Self>, task: usize) -> Option<Place> {
        let (give, given) = oneshot::channel();
        {
            let mut state = self.lock();
            state.again.insert(task, give);
            state.schedule.wait(task);
        }
        self.changed.notify_one();
        let _waits = Waits(self, task);
        given.await.ok().flatten()
    }

    /// Notes a task's end; see [`Schedule::ended`].
    pub(super) fn ended(&self, task: usize, others_may_run: bool) -> Vec<Skip> {
        let skipped = self.lock().schedule.ended(task, others_may_run);
        self.changed.notify_one();
        skipped
    }

    /// Ends all that has not begun; see [`Schedule::abandon`].
    pub(super) fn abandon(&self) -> Vec<usize> {
        self.lock().schedule.abandon()
    }

    fn give_back(&self, how: impl FnOnce(&mut Schedule)) {
        let mut state = self.lock();
        state.held -= 1;
        how(&mut state.schedule);
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task waits for room until this is dropped.
struct Waits<'a>(&'a Admission, usize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.again.remove(&self.1).is_some() {
            state.schedule.withdraw(self.1);
        }
    }
}

impl Place {
    fn new(admission: &Arc<Admission>, task: usize) -> Self {
        Self {
            slot: Slot(admission.clone()),
            memory: Memory {
                admission: admission.clone(),
                task,
                is_kept: false,
            },
        }
    }
}

impl Memory {
    /// Gives it back to nobody: a container may be using it as long as the run lasts.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.give_back(Schedule::give_back_slot);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (task, is_kept) = (self.task, self.is_kept);
        self.admission.give_back(|schedule| {
            if !is_kept {
                schedule.give_back_memory(task);
            }
        });
    }
}
