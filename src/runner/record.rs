//! The one writer of a run's journal: stamps what happens, writes it down, and only then tells it.
//!
//! What must not be done before it is on the disk waits for the writer's word ([`Shared::intent`]).
//! What many wait for at once is written to the disk at once.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::masked::masked;
use super::{RunError, Shared, StepError, blocking};
use crate::engine::Engine;
use crate::event::{Event, EventKind};
use crate::id::TaskId;
use crate::journal::{Journal, JournalError};

/// Something that happened or is about to, on its way to the journal.
pub(super) struct Note {
    task: Option<TaskId>,
    kind: EventKind,
    /// Who waits until it is on the disk.
    waits: Option<oneshot::Sender<Result<(), StepError>>>,
}

impl<E: Engine> Shared<E> {
    /// Notes what has happened.
    pub(super) fn event(&self, task: Option<&TaskId>, kind: EventKind) {
        self.note(task, kind, None);
    }

    /// Notes what is about to be done, or what must not be lost; returns once it is on the disk.
    ///
    /// # Errors
    /// When it could not be written; nobody was told of it then.
    pub(super) async fn intent(
        &self,
        task: Option<&TaskId>,
        kind: EventKind,
    ) -> Result<(), StepError> {
        let (written, waits) = oneshot::channel();
        self.note(task, kind, Some(written));
        let gone = || StepError {
            stage: "journal",
            message: "the run is over".into(),
        };
        waits.await.unwrap_or_else(|_| Err(gone()))
    }

    fn note(
        &self,
        task: Option<&TaskId>,
        kind: EventKind,
        waits: Option<oneshot::Sender<Result<(), StepError>>>,
    ) {
        let task = task.cloned();
        let kind = masked(kind, &self.context.needles);
        // The writer lives as long as the run.
        let _ = self.notes.send(Note { task, kind, waits });
    }
}

/// Numbers events and stamps them with both clocks.
pub(super) struct Stamp {
    began: Instant,
    seq: u64,
    /// What the run had lasted before this process went on with it.
    before_ms: u64,
}

impl Stamp {
    /// Goes on after the events that a journal has.
    pub(super) fn after(earlier: &[Event], began: Instant) -> Self {
        let last = earlier.last();
        Self {
            began,
            seq: last.map_or(0, |event| event.seq + 1),
            before_ms: last.map_or(0, |event| event.elapsed_ms),
        }
    }

    /// How long the run had lasted before this process.
    pub(super) fn before(&self) -> Duration {
        Duration::from_millis(self.before_ms)
    }

    fn event(&mut self, task: Option<TaskId>, kind: EventKind) -> Event {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = Event {
            seq: self.seq,
            at: format!("{:.3}", jiff::Timestamp::now()),
            elapsed_ms: self.before_ms.saturating_add(since),
            task,
            kind,
        };
        self.seq += 1;
        event
    }
}

/// Writes and tells.
pub(super) struct Writer {
    journal: Journal,
    stamp: Stamp,
    told: mpsc::UnboundedSender<Event>,
    /// What went wrong; from then on nothing is written.
    failed: Option<StepError>,
}

impl Writer {
    pub(super) fn new(journal: Journal, stamp: Stamp, told: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            journal,
            stamp,
            told,
            failed: None,
        }
    }

    /// Writes until nobody can note anything any more. `alarm` hears once why the run cannot go on.
    pub(super) async fn write(
        mut self,
        mut notes: mpsc::UnboundedReceiver<Note>,
        alarm: impl Fn(RunError),
    ) {
        let mut is_alarmed = false;
        while let Some(first) = notes.recv().await {
            let mut batch = vec![first];
            while let Ok(next) = notes.try_recv() {
                batch.push(next);
            }
            self.write_batch(batch).await;
            let trouble = match &self.failed {
                Some(error) => Some(error.message.clone()),
                None if self.journal.is_short() => Some("the disk is full".into()),
                None => None,
            };
            if let Some(why) = trouble.filter(|_| !is_alarmed) {
                is_alarmed = true;
                let error = RunError::Journal(why);
                let message = format!("{error}; the run stops");
                self.tell(None, EventKind::Warning { message });
                alarm(error);
            }
        }
    }

    async fn write_batch(&mut self, batch: Vec<Note>) {
        let mut is_over = false;
        let mut written = Vec::new();
        for Note { task, kind, waits } in batch {
            is_over |= matches!(kind, EventKind::RunFinished { .. });
            let event = self.stamp.event(task, kind);
            if self.failed.is_none() {
                let appended = self.journal.append(&event);
                self.failed = appended.err().map(|e| failure(&e));
            }
            written.push((event, waits));
        }
        if self.failed.is_none() && written.iter().any(|(_, waits)| waits.is_some()) {
            let synced = blocking(self.journal.syncing()).await;
            self.failed = synced.err().map(|e| failure(&e));
        }
        if is_over {
            self.journal.release();
        }
        for (event, waits) in written {
            let result = self.failed.clone().map_or(Ok(()), Err);
            if result.is_ok() || waits.is_none() {
                let _ = self.told.send(event);
            }
            if let Some(waits) = waits {
                let _ = waits.send(result);
            }
        }
    }

    /// Tells what stands in no journal.
    fn tell(&mut self, task: Option<TaskId>, kind: EventKind) {
        let event = self.stamp.event(task, kind);
        let _ = self.told.send(event);
    }
}

fn failure(error: &JournalError) -> StepError {
    StepError::new("journal", error)
}
