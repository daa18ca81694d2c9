//! The main process of a fake container: runs its script on tokio's clock.

use std::sync::{Arc, Mutex};

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{Exit, OutputFrame, OutputSource, OutputStream};
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::script::Script;

/// The strongest signal so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    None,
    Term,
    Kill,
}

impl Signal {
    /// Makes it stronger; says whether it changed.
    pub fn raise(&mut self, to: Self) -> bool {
        let changed = *self < to;
        *self = to.max(*self);
        changed
    }
}

/// A process before and while it runs.
pub struct Process {
    signals: watch::Sender<Signal>,
    outputs: Outputs,
    waiting: Option<Waiting>,
}

/// Where its output goes, and what it was so far.
type Outputs = Arc<Mutex<Output>>;

#[derive(Default)]
struct Output {
    readers: Vec<mpsc::UnboundedSender<OutputFrame>>,
    history: Vec<OutputFrame>,
    is_over: bool,
}

/// What a process needs to run; taken at its start.
pub struct Waiting {
    signals: watch::Receiver<Signal>,
    ended: watch::Sender<Option<Exit>>,
    outputs: Outputs,
    input: Vec<u8>,
}

impl Process {
    /// A process that was not started, and the place where its exit will be.
    pub fn new() -> (Self, watch::Receiver<Option<Exit>>) {
        let (signals, received) = watch::channel(Signal::None);
        let (ended, running) = watch::channel(None);
        let waiting = Waiting {
            signals: received,
            ended,
            outputs: Outputs::default(),
            input: Vec::new(),
        };
        let process = Self {
            signals,
            outputs: waiting.outputs.clone(),
            waiting: Some(waiting),
        };
        (process, running)
    }

    /// Where signals go.
    pub fn signals(&self) -> watch::Sender<Signal> {
        self.signals.clone()
    }

    /// A stream of its output until it ends.
    pub fn attach(&mut self, input: Option<&[u8]>) -> OutputStream {
        let waiting = self.waiting.as_mut().expect("attached before start");
        waiting.input.extend_from_slice(input.unwrap_or_default());
        self.logs(true)
    }

    /// A stream of its output from the beginning until now, or until it ends.
    pub fn logs(&self, follow: bool) -> OutputStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut output = self.outputs.lock().unwrap();
        for frame in &output.history {
            sender.send(frame.clone()).unwrap();
        }
        if follow && !output.is_over {
            output.readers.push(sender);
        }
        let frames = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|frame| (Ok(frame), receiver))
        });
        frames.boxed()
    }

    /// Takes what is needed to start it.
    pub fn take(&mut self) -> Waiting {
        self.waiting.take().expect("started once")
    }
}

impl Waiting {
    /// Runs the script.
    #[expect(
        clippy::disallowed_methods,
        reason = "a process runs beside its engine"
    )]
    pub fn start(self, config: ContainerConfig, script: Script) {
        tokio::spawn(self.run(config, script));
    }

    async fn run(mut self, config: ContainerConfig, script: Script) {
        if let Some(hook) = &script.on_start {
            hook(&config);
        }
        let exit = match self.live(&script).await {
            Some(exit) => {
                self.last_words(&config, &script);
                exit
            }
            None => signalled(137),
        };
        if script.late.is_empty() && !script.holds_output {
            // Attached streams end before the exit is known, as an engine's do.
            self.end_output();
        }
        self.ended.send_replace(Some(exit));
        for (after, frame) in &script.late {
            tokio::time::sleep(*after).await;
            self.emit(frame);
        }
        if script.holds_output {
            std::future::pending::<()>().await;
        }
        self.end_output();
    }

    fn end_output(&self) {
        let mut output = self.outputs.lock().unwrap();
        output.readers.clear();
        output.is_over = true;
    }

    /// Writes the output in its time, until the script or TERM ends it; nothing where KILL does.
    async fn live(&mut self, script: &Script) -> Option<Exit> {
        let start = Instant::now();
        let mut frames = script.output.iter().peekable();
        let last_frame = script.output.iter().map(|(at, _)| *at).max();
        let lifetime = script
            .runs_for
            .map(|time| time.max(last_frame.unwrap_or_default()));
        let mut ends = lifetime.map(|time| (start + time, script.exit));
        let mut seen = Signal::None;
        loop {
            while let Some((_, frame)) = frames.next_if(|(at, _)| start + *at <= Instant::now()) {
                self.emit(frame);
            }
            if let Some((_, exit)) = ends.filter(|(at, _)| *at <= Instant::now()) {
                return Some(exit);
            }
            let next = frames.peek().map(|(at, _)| start + *at);
            let next = next.into_iter().chain(ends.map(|(at, _)| at)).min();
            tokio::select! {
                () = until(next) => {}
                Ok(_) = self.signals.wait_for(|signal| *signal > seen) => {}
            }
            let signal = *self.signals.borrow();
            match (signal, script.obeys_term) {
                (Signal::Kill, _) => return None,
                (Signal::Term, Some(after)) if seen != Signal::Term => {
                    let obeyed = Instant::now() + after;
                    let earlier = ends.filter(|(at, _)| *at <= obeyed);
                    ends = Some(earlier.unwrap_or((obeyed, signalled(143))));
                }
                _ => {}
            }
            seen = signal;
        }
    }

    fn last_words(&self, config: &ContainerConfig, script: &Script) {
        if let Some(reply) = &script.reply {
            self.emit(&OutputFrame {
                source: OutputSource::Stdout,
                bytes: reply(config, &self.input).into(),
            });
        }
        if let Some(hook) = &script.on_exit {
            hook(config);
        }
    }

    fn emit(&self, frame: &OutputFrame) {
        let mut output = self.outputs.lock().unwrap();
        output.history.push(frame.clone());
        for reader in &output.readers {
            // A reader that went away misses it.
            drop(reader.send(frame.clone()));
        }
    }
}

fn signalled(code: i64) -> Exit {
    Exit {
        code,
        oom_killed: false,
    }
}

/// No timer where there is nothing to wait for: a paused clock would jump to it.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
