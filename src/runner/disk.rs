//! What a task has on disk, measured while its container or its collector runs, and when that is more
//! than it may use.
//!
//! A walk over many files takes a while: how long sets how often. So a task is measured for a
//! twentieth of the time at most, a fifth where its disk is filling; and less often while it writes
//! nothing.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::blocking;
use crate::engine::Engine;
use crate::plan::TaskPlan;
use crate::workspace::{DiskWalk, Workspace};

/// How far apart measurements are at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// How much a task is thought to write in a second at most, in bytes: far from its limit it need not
/// be measured often.
const FASTEST: u64 = 2 << 30;
/// How long that may put a measurement off at most.
const LONGEST: Duration = Duration::from_secs(10);
/// The pause after a measurement, in times of what it took.
const PAUSE: u32 = 19;
/// The same where the disk lost as much meanwhile as the task has left.
const SHORT_PAUSE: u32 = 4;
/// The pause after a measurement that found no more than the one before it, unless the disk lost as much.
const QUIET: Duration = Duration::from_secs(15);
/// How many names are looked at before one can stop looking.
const PIECE: usize = 10_000;

/// A container whose disk is measured.
pub(super) struct DiskWatch<'a, E: Engine> {
    engine: &'a E,
    container: &'a str,
    /// The directories that it can write in.
    places: Vec<PathBuf>,
    /// Those in which others have written before: what is added there counts.
    caches: Vec<PathBuf>,
    /// Whether the container can write in its own file system.
    is_writable: bool,
    /// What was there when it began, in bytes.
    there: u64,
    limit: u64,
}

impl<'a, E: Engine> DiskWatch<'a, E> {
    /// Of a task, which may have as much as its plan says.
    pub(super) fn of_task(
        engine: &'a E,
        container: &'a str,
        task: &TaskPlan,
        (places, caches): (Vec<PathBuf>, Vec<PathBuf>),
    ) -> Self {
        Self {
            engine,
            container,
            places,
            caches,
            is_writable: !task.read_only,
            there: 0,
            limit: limit(task),
        }
    }

    /// Of the setup of a task, which can write in these directories and in its image.
    pub(super) fn of_setup(
        engine: &'a E,
        container: &'a str,
        task: &TaskPlan,
        places: Vec<PathBuf>,
    ) -> Self {
        Self {
            engine,
            container,
            places,
            caches: Vec::new(),
            is_writable: true,
            there: 0,
            limit: limit(task),
        }
    }

    /// Of a collector, which may write `more` bytes above what the task has left. It is not started yet.
    pub(super) async fn of_collector(
        engine: &'a E,
        container: &'a str,
        workspace: &Workspace,
        more: u64,
    ) -> Self {
        let mut watch = Self {
            engine,
            container,
            places: workspace.written(),
            caches: Vec::new(),
            is_writable: true,
            there: 0,
            limit: u64::MAX,
        };
        watch.there = walk(watch.places.clone(), u64::MAX).await;
        watch.limit = watch.there.saturating_add(more);
        watch
    }

    /// Returns once the container uses more than it may, with how much that is at least, in bytes.
    pub(super) async fn over_limit(self) -> u64 {
        let (mut used, mut layer) = (self.there, 0);
        let (mut took, mut quiet) = (Duration::ZERO, Duration::ZERO);
        let of_others = walk(self.caches.clone(), u64::MAX).await;
        let places = [&self.places[..], &self.caches].concat();
        loop {
            pause((took, quiet), self.limit - used, || self.free()).await;
            let (began, before) = (Instant::now(), used);
            used = walk(places.clone(), self.limit.saturating_add(of_others)).await;
            used = used.saturating_sub(of_others);
            if used <= self.limit && self.is_writable {
                // What cannot be told now may be told next time.
                if let Ok(Some(bytes)) = self.engine.disk_use(self.container).await {
                    layer = bytes;
                }
                used = used.saturating_add(layer);
            }
            if used > self.limit {
                return used;
            }
            took = began.elapsed();
            quiet = if used == before {
                QUIET
            } else {
                Duration::ZERO
            };
        }
    }

    /// What is free where its directories are, in bytes; all of it where that cannot be told.
    async fn free(&self) -> u64 {
        let Some(directory) = self.places.first().cloned() else {
            return u64::MAX;
        };
        let facts = blocking(move || rustix::fs::statvfs(&directory)).await;
        facts.map_or(u64::MAX, |facts| {
            facts.f_bavail.saturating_mul(facts.f_frsize)
        })
    }
}

fn limit(task: &TaskPlan) -> u64 {
    u64::try_from(task.disk_limit).unwrap_or(u64::MAX)
}

/// What is in directories, in bytes; more than `enough` is not counted.
async fn walk(places: Vec<PathBuf>, enough: u64) -> u64 {
    let mut walk = DiskWalk::new(places, enough);
    loop {
        let piece = move || {
            let is_done = walk.advance(PIECE);
            (walk, is_done)
        };
        let is_done;
        (walk, is_done) = blocking(piece).await;
        if is_done {
            return walk.used().bytes;
        }
    }
}

/// Waits for the next measurement, after one that took so long, `left` bytes below the limit; so much
/// longer if nothing happens.
async fn pause<F: Future<Output = u64>>(
    (took, quiet): (Duration, Duration),
    left: u64,
    free: impl Fn() -> F,
) {
    let (began, free_then) = (Instant::now(), free().await);
    let interval = INTERVAL.max(Duration::from_secs(left / FASTEST).min(LONGEST));
    sleep(interval.max(took * SHORT_PAUSE)).await;
    while began.elapsed() < quiet.max(took * PAUSE) {
        if free_then.saturating_sub(free().await) > left {
            return;
        }
        sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn paused(took: Duration, left: u64, free: impl Fn() -> u64) -> Duration {
        let began = Instant::now();
        let pauses = (took, Duration::ZERO);
        pause(pauses, left, || std::future::ready(free())).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_writes_nothing_is_measured_seldom_unless_the_disk_fills() {
        let free = Cell::new(u64::MAX);
        let quiet = || async {
            let began = Instant::now();
            let pauses = (Duration::ZERO, QUIET);
            pause(pauses, 10 << 30, || std::future::ready(free.replace(0))).await;
            began.elapsed()
        };
        assert_eq!(quiet().await, 5 * SECOND);
        assert_eq!(quiet().await, QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearer_the_limit_the_sooner() {
        for (gibibytes, seconds) in [(0, 1), (2, 1), (3, 1), (10, 5), (1000, 10)] {
            let time = paused(Duration::ZERO, gibibytes << 30, || 0).await;
            assert_eq!(time, seconds * SECOND, "{gibibytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_done_seldom_unless_the_disk_fills() {
        assert_eq!(paused(10 * SECOND, 1000, || 5000).await, 190 * SECOND);
        // As much is used as the task has left: by others, or by it.
        let free = Cell::new(5000);
        let falls = || {
            free.set(free.get() - 100);
            free.get()
        };
        assert_eq!(paused(10 * SECOND, 1000, falls).await, 50 * SECOND);
        free.set(2000);
        let falls_fast = || free.replace(0);
        assert_eq!(paused(10 * SECOND, 1000, falls_fast).await, 40 * SECOND);
    }
}
