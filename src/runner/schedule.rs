//! Which task starts next. Pure: no I/O, no clock.
//!
//! A task is ready once all that it needs has ended so that it may run. Of the ready ones the one on
//! the longest way to the end goes first, if there is a slot and memory for it; else one behind it may
//! overtake it, but only so often.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// How many others start, at most, while a ready task waits for memory.
const OVERTAKEN: u32 = 8;

/// What is asked for a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    /// The places of the tasks that it needs.
    pub(super) needs: Vec<usize>,
    /// The longest way to the end.
    pub(super) path: Duration,
    /// In bytes.
    pub(super) memory: i64,
    /// Whether it has begun before: it goes first.
    pub(super) has_begun: bool,
}

/// What there is for all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) slots: usize,
    /// In bytes.
    pub(super) memory: i64,
}

/// What runs, and what waits for what.
#[derive(Debug)]
pub(super) struct Schedule {
    tasks: Vec<Task>,
    free: Room,
    /// What could start, were there room. The first goes first.
    ready: BTreeSet<(Priority, usize)>,
    /// Of these the ones that were overtaken often enough: nothing else starts before them.
    due: VecDeque<usize>,
}

type Priority = (Reverse<bool>, Reverse<Duration>);

#[derive(Debug)]
struct Task {
    priority: Priority,
    memory: i64,
    needed_by: Vec<usize>,
    /// How many of its needs have not ended.
    open_needs: usize,
    overtaken: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For its needs, or for room.
    Waits,
    /// It was given room once.
    Began,
    Ended,
}

/// A task that does not run because of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip {
    pub(super) task: usize,
    /// The one of its needs that is in the way.
    pub(super) need: usize,
}

impl Schedule {
    /// Takes tasks in the order of the spec; they need each other in no circle.
    pub(super) fn new(demands: &[Demand], room: Room) -> Self {
        let mut needed_by = vec![Vec::new(); demands.len()];
        for (task, demand) in demands.iter().enumerate() {
            for need in &demand.needs {
                needed_by[*need].push(task);
            }
        }
        let tasks = demands.iter().zip(needed_by);
        let tasks = tasks.map(|(demand, needed_by)| Task {
            priority: (Reverse(demand.has_begun), Reverse(demand.path)),
            memory: demand.memory,
            needed_by,
            open_needs: demand.needs.len(),
            overtaken: 0,
            state: State::Waits,
        });
        let mut schedule = Self {
            tasks: tasks.collect(),
            free: room,
            ready: BTreeSet::new(),
            due: VecDeque::new(),
        };
        for task in 0..demands.len() {
            if schedule.tasks[task].open_needs == 0 {
                schedule.wait(task);
            }
        }
        schedule
    }

    /// The task that starts now; it has its slot and its memory.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.free.slots == 0 {
            return None;
        }
        let mut ready = self.ready.iter().map(|(_, task)| *task);
        let task = match self.due.front() {
            Some(first) => Some(*first).filter(|task| self.fits(*task)),
            None => ready.find(|task| self.fits(*task)),
        }?;
        let others = self.ready.iter().map(|(_, other)| *other);
        let too_large: Vec<usize> = others
            .filter(|other| *other != task && !self.fits(*other))
            .collect();
        for other in too_large {
            self.tasks[other].overtaken += 1;
            if self.tasks[other].overtaken == OVERTAKEN {
                self.due.push_back(other);
            }
        }
        self.withdraw(task);
        self.tasks[task].state = State::Began;
        self.free.slots -= 1;
        self.free.memory -= self.tasks[task].memory;
        Some(task)
    }

    /// Whether what goes first has not begun before.
    pub(super) fn begins_with_new(&self) -> bool {
        let first = self.ready.first();
        first.is_some_and(|((Reverse(has_begun), _), _)| !has_begun)
    }

    /// Lets a task wait for room: one that can start, or one whose next attempt can.
    pub(super) fn wait(&mut self, task: usize) {
        self.tasks[task].overtaken = 0;
        self.ready.insert((self.tasks[task].priority, task));
    }

    /// Takes a task out of those that wait for room.
    pub(super) fn withdraw(&mut self, task: usize) {
        self.ready.remove(&(self.tasks[task].priority, task));
        self.due.retain(|due| *due != task);
    }

    /// A ready task that no room will come for, if nobody has anything to give back. It is withdrawn.
    pub(super) fn take_hopeless(&mut self) -> Option<usize> {
        let first = self.ready.first().map(|(_, task)| *task);
        let task = self.due.front().copied().or(first)?;
        self.withdraw(task);
        Some(task)
    }

    pub(super) fn give_back_slot(&mut self) {
        self.free.slots += 1;
    }

    pub(super) fn give_back_memory(&mut self, task: usize) {
        self.free.memory += self.tasks[task].memory;
    }

    /// Notes a task's end, and whether those that need it may run. Gives those that do not any more,
    /// each after the need that is in its way.
    pub(super) fn ended(&mut self, task: usize, others_may_run: bool) -> Vec<Skip> {
        self.withdraw(task);
        self.tasks[task].state = State::Ended;
        let mut skipped = Vec::new();
        let mut pending = VecDeque::from([task]);
        while let Some(need) = pending.pop_front() {
            for task in self.tasks[need].needed_by.clone() {
                self.tasks[task].open_needs -= 1;
                if self.tasks[task].state != State::Waits {
                    continue;
                }
                if !others_may_run {
                    self.withdraw(task);
                    self.tasks[task].state = State::Ended;
                    skipped.push(Skip { task, need });
                    pending.push_back(task);
                } else if self.tasks[task].open_needs == 0 {
                    self.wait(task);
                }
            }
        }
        skipped
    }

    /// Ends all that has not begun; gives it in the order of the spec.
    pub(super) fn abandon(&mut self) -> Vec<usize> {
        let all = 0..self.tasks.len();
        let waiting = all.filter(|task| self.tasks[*task].state == State::Waits);
        let waiting: Vec<usize> = waiting.collect();
        for task in &waiting {
            self.withdraw(*task);
            self.tasks[*task].state = State::Ended;
        }
        waiting
    }

    fn fits(&self, task: usize) -> bool {
        self.tasks[task].memory <= self.free.memory
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn demand(needs: &[usize], path: u32, memory: i64) -> Demand {
        Demand {
            needs: needs.to_vec(),
            path: MINUTE * path,
            memory,
            has_begun: false,
        }
    }

    fn started(schedule: &mut Schedule) -> Vec<usize> {
        std::iter::from_fn(|| schedule.next()).collect()
    }

    fn give_back(schedule: &mut Schedule, task: usize) {
        schedule.give_back_slot();
        schedule.give_back_memory(task);
    }

    const WIDE: Room = Room {
        slots: 100,
        memory: i64::MAX,
    };

    #[test]
    fn the_longest_way_goes_first_and_the_spec_breaks_ties() {
        let room = Room { slots: 1, ..WIDE };
        let demands = [(1, false), (3, false), (3, false), (2, false), (0, true)];
        let demands = demands.map(|(path, has_begun)| Demand {
            has_begun,
            ..demand(&[], path, 1)
        });
        let mut schedule = Schedule::new(&demands, room);
        let mut order = Vec::new();
        while let Some(task) = schedule.next() {
            assert_eq!(schedule.next(), None, "there is one slot");
            order.push(task);
            schedule.ended(task, true);
            give_back(&mut schedule, task);
        }
        assert_eq!(order, [4, 1, 2, 3, 0]);
    }

    #[test]
    fn a_task_waits_for_all_that_it_needs() {
        let demands = vec![demand(&[], 2, 1), demand(&[], 2, 1), demand(&[0, 1], 1, 1)];
        let mut schedule = Schedule::new(&demands, WIDE);
        assert_eq!(started(&mut schedule), [0, 1]);
        assert_eq!(schedule.ended(0, true), []);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.ended(1, true), []);
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn what_needs_a_failed_task_is_skipped_however_far_and_nothing_else() {
        let demands = vec![
            demand(&[], 3, 1),
            demand(&[], 1, 1),
            demand(&[0, 1], 2, 1),
            demand(&[2], 1, 1),
            demand(&[1], 1, 1),
        ];
        let mut schedule = Schedule::new(&demands, WIDE);
        assert_eq!(started(&mut schedule), [0, 1]);
        let skips = schedule.ended(0, false);
        let skip = |task, need| Skip { task, need };
        assert_eq!(skips, [skip(2, 0), skip(3, 2)]);
        assert_eq!(schedule.ended(1, true), []);
        assert_eq!(started(&mut schedule), [4]);
    }

    #[test]
    fn a_large_task_is_not_overtaken_for_ever() {
        let mut demands = vec![demand(&[], 1, 2); 40];
        demands.push(demand(&[], 2, 10));
        let room = Room {
            slots: 100,
            memory: 11,
        };
        let mut schedule = Schedule::new(&demands, room);
        let large = 40;
        assert_eq!(schedule.next(), Some(large));
        let running = started(&mut schedule);
        assert!(running.is_empty(), "one byte is left");
        // It comes back for another attempt, and small ones have taken the room.
        schedule.give_back_slot();
        schedule.give_back_memory(large);
        let mut running = VecDeque::from(started(&mut schedule));
        schedule.wait(large);
        let mut overtaken = 0;
        while let Some(task) = running.pop_front() {
            schedule.ended(task, true);
            give_back(&mut schedule, task);
            let next = started(&mut schedule);
            if next.contains(&large) {
                assert_eq!(overtaken, OVERTAKEN);
                return;
            }
            overtaken += u32::try_from(next.len()).unwrap();
            running.extend(next);
        }
        panic!("it never started");
    }

    #[test]
    fn what_no_room_will_come_for_is_told_and_the_rest_goes_on() {
        let demands = vec![demand(&[], 2, 10), demand(&[], 1, 1)];
        let room = Room {
            slots: 1,
            memory: 9,
        };
        let mut schedule = Schedule::new(&demands, room);
        assert_eq!(schedule.next(), Some(1));
        schedule.ended(1, true);
        give_back(&mut schedule, 1);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.take_hopeless(), Some(0));
        assert_eq!(schedule.take_hopeless(), None);
    }

    #[test]
    fn nothing_that_has_not_begun_is_left_when_all_is_abandoned() {
        let demands = vec![demand(&[], 1, 1), demand(&[], 1, 1), demand(&[0], 1, 1)];
        let room = Room { slots: 1, ..WIDE };
        let mut schedule = Schedule::new(&demands, room);
        assert_eq!(schedule.next(), Some(0));
        assert_eq!(schedule.abandon(), [1, 2]);
        schedule.give_back_slot();
        assert_eq!(schedule.ended(0, true), []);
        assert_eq!(schedule.next(), None);
    }

    /// Tasks that need some of those before them, and how each ends.
    fn runs() -> impl Strategy<Value = (Vec<(Demand, bool)>, Room, Vec<usize>)> {
        let task = (
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            0..5_u32,
            1..=10_i64,
            prop::bool::weighted(0.9),
        );
        let tasks = prop::collection::vec(task, 1..60).prop_map(|tasks| {
            let tasks = tasks.into_iter().enumerate();
            let tasks = tasks.map(|(at, (needs, path, memory, is_good))| {
                let needs = needs.iter().filter(|_| at > 0);
                let needs: BTreeSet<usize> = needs.map(|need| need.index(at.max(1))).collect();
                let needs: Vec<usize> = needs.into_iter().collect();
                (demand(&needs, path, memory), is_good)
            });
            tasks.collect()
        });
        let room = (1..5_usize, 10..30_i64).prop_map(|(slots, memory)| Room { slots, memory });
        (tasks, room, prop::collection::vec(0..100_usize, 60))
    }

    proptest! {
        #[test]
        fn all_tasks_end_in_their_turn_and_none_is_overtaken_for_ever((tasks, room, picks) in runs()) {
            let demands: Vec<Demand> = tasks.iter().map(|(demand, _)| demand.clone()).collect();
            let mut schedule = Schedule::new(&demands, room);
            let mut running: Vec<usize> = Vec::new();
            let mut state = vec![None; tasks.len()];
            // Starts of others while a ready task did not fit.
            let mut waited = vec![0_usize; tasks.len()];
            let mut picks = picks.into_iter().cycle();
            loop {
                loop {
                    let used: i64 = running.iter().map(|task| tasks[*task].0.memory).sum();
                    let ready = |task: &usize| {
                        state[*task].is_none()
                            && !running.contains(task)
                            && tasks[*task].0.needs.iter().all(|need| state[*need] == Some(true))
                    };
                    let too_large = |task: &usize| used + tasks[*task].0.memory > room.memory;
                    let waiting: Vec<usize> =
                        (0..tasks.len()).filter(ready).filter(too_large).collect();
                    let Some(task) = schedule.next() else { break };
                    prop_assert!(!waiting.contains(&task));
                    for task in &waiting {
                        waited[*task] += 1;
                    }
                    running.push(task);
                    let used: i64 = running.iter().map(|task| tasks[*task].0.memory).sum();
                    prop_assert!(used <= room.memory && running.len() <= room.slots);
                    for need in &tasks[task].0.needs {
                        prop_assert_eq!(state[*need], Some(true));
                    }
                }
                if running.is_empty() {
                    break;
                }
                let task = running.swap_remove(picks.next().unwrap() % running.len());
                let is_good = tasks[task].1;
                state[task] = Some(is_good);
                for Skip { task, need } in schedule.ended(task, is_good) {
                    prop_assert!(tasks[task].0.needs.contains(&need));
                    prop_assert_eq!(state[need], Some(false));
                    prop_assert_eq!(state[task].replace(false), None);
                }
                give_back(&mut schedule, task);
            }
            // Everything fits alone, so that all came.
            prop_assert!(state.iter().all(Option::is_some), "{:?}", state);
            // Its own turn, and that of those which became due before it.
            let most = OVERTAKEN as usize + tasks.len();
            let due = waited.iter().filter(|starts| **starts >= OVERTAKEN as usize).count();
            prop_assert!(waited.iter().all(|starts| *starts <= OVERTAKEN as usize + due));
            prop_assert!(due < most);
        }
    }
}
