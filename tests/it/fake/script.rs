//! What a fake container does, and what goes wrong with a fake call. Data; nothing runs here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{ContainerUsage, ErrorKind, Exit, OutputFrame, OutputSource};
use tokio::sync::Notify;

/// Something that a container does to its mounts' directories on the host.
pub type Hook = Arc<dyn Fn(&ContainerConfig) + Send + Sync>;

/// Makes a container's last words from its standard input.
pub type Reply = Arc<dyn Fn(&ContainerConfig, &[u8]) -> Vec<u8> + Send + Sync>;

/// What a container does when it is started.
#[derive(Clone)]
pub struct Script {
    pub(super) runs_for: Option<Duration>,
    pub(super) exit: Exit,
    pub(super) output: Vec<(Duration, OutputFrame)>,
    /// How long it takes to obey TERM; nothing where it ignores it.
    pub(super) obeys_term: Option<Duration>,
    pub(super) on_start: Option<Hook>,
    pub(super) on_exit: Option<Hook>,
    pub(super) reply: Option<Reply>,
    /// What it has used whenever somebody asks while it runs.
    pub(super) uses: ContainerUsage,
    /// What it has written in its own file system, whenever somebody asks.
    pub(super) writes_bytes: u64,
    /// The volume of its image in which it writes all the time.
    pub(super) writes_in_volume: Option<String>,
    /// What the engine still hands on after the exit is known, each after a wait.
    pub(super) late: Vec<(Duration, OutputFrame)>,
    /// Whether the output is never ended.
    pub(super) holds_output: bool,
}

impl Script {
    /// Exits with `code` at once.
    pub fn exits(code: i64) -> Self {
        Self {
            runs_for: Some(Duration::ZERO),
            exit: Exit {
                code,
                oom_killed: false,
            },
            output: Vec::new(),
            obeys_term: Some(Duration::ZERO),
            on_start: None,
            on_exit: None,
            reply: None,
            uses: ContainerUsage {
                cpu: Duration::from_millis(20),
                memory: 3 << 20,
                ..ContainerUsage::default()
            },
            writes_bytes: 0,
            writes_in_volume: None,
            late: Vec::new(),
            holds_output: false,
        }
    }

    /// Runs until it is stopped.
    pub fn runs_forever() -> Self {
        Self {
            runs_for: None,
            ..Self::exits(143)
        }
    }

    /// Runs that long before it exits.
    pub fn after(self, duration: Duration) -> Self {
        Self {
            runs_for: Some(duration),
            ..self
        }
    }

    /// Some process of it is killed for memory.
    pub fn oom_killed(mut self) -> Self {
        self.exit.oom_killed = true;
        self
    }

    /// Prints to standard output as it starts; each call is one frame.
    pub fn prints(self, text: &str) -> Self {
        self.writes(Duration::ZERO, OutputSource::Stdout, text.as_bytes())
    }

    /// Writes a frame that long after its start; it does not exit by itself before.
    pub fn writes(mut self, after: Duration, source: OutputSource, bytes: &[u8]) -> Self {
        let frame = OutputFrame {
            source,
            bytes: bytes.to_vec().into(),
        };
        self.output.push((after, frame));
        self.output.sort_by_key(|(after, _)| *after);
        self
    }

    /// Prints, as its last words, what is made of its standard input.
    pub fn replies(
        mut self,
        reply: impl Fn(&ContainerConfig, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.reply = Some(Arc::new(reply));
        self
    }

    /// Has used that much, whenever somebody asks while it runs.
    pub fn uses(self, uses: ContainerUsage) -> Self {
        Self { uses, ..self }
    }

    /// Has written that much in its own file system, whenever somebody asks.
    pub fn writes_bytes(self, bytes: u64) -> Self {
        Self {
            writes_bytes: bytes,
            ..self
        }
    }

    /// Its image declares this volume, and it writes in it all the time.
    pub fn writes_in_volume(self, path: &str) -> Self {
        Self {
            writes_in_volume: Some(path.to_owned()),
            ..self
        }
    }

    /// The engine hands this on that long after the exit, or after what came late before.
    pub fn late(mut self, after: Duration, text: &str) -> Self {
        let frame = OutputFrame {
            source: OutputSource::Stdout,
            bytes: text.as_bytes().to_vec().into(),
        };
        self.late.push((after, frame));
        self
    }

    /// The engine never ends the output.
    pub fn holding_output(self) -> Self {
        Self {
            holds_output: true,
            ..self
        }
    }

    /// Ends that long after TERM, with 143; at once where this is not said.
    pub fn obeying_term_after(self, duration: Duration) -> Self {
        Self {
            obeys_term: Some(duration),
            ..self
        }
    }

    /// Takes no notice of TERM.
    pub fn ignoring_term(self) -> Self {
        Self {
            obeys_term: None,
            ..self
        }
    }

    /// Called as it starts; see [`host_path`].
    pub fn on_start(mut self, hook: impl Fn(&ContainerConfig) + Send + Sync + 'static) -> Self {
        self.on_start = Some(Arc::new(hook));
        self
    }

    /// Called as it ends by itself or by TERM, but not when it is killed: the hand-off.
    pub fn on_exit(mut self, hook: impl Fn(&ContainerConfig) + Send + Sync + 'static) -> Self {
        self.on_exit = Some(Arc::new(hook));
        self
    }
}

/// How a call goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// It fails, and does nothing.
    Fail(ErrorKind),
    /// It is carried out, and says that it failed; with [`ErrorKind::Timeout`] the answer does not come.
    DoneBut(ErrorKind),
    /// It is carried out, that long after it was asked for.
    Slow(Duration),
    /// It never answers, and does nothing.
    Hang,
    /// It never answers and does nothing, but says that it was made.
    Tell(Arc<Notify>),
    /// It says it is done, and does nothing: `start` starts something that ends only when it is
    /// stopped, `wait` says 0 at once, `attach` has no output, `list_owned` is empty.
    Lie,
}

/// The host's path of something that a container sees at `inside`: the innermost mount counts.
///
/// # Panics
/// Where no mount covers it.
pub fn host_path(config: &ContainerConfig, inside: &str) -> PathBuf {
    let covers = |target: &str| {
        let rest = inside.strip_prefix(target)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
    };
    let mounts = config.mounts.iter();
    let found = mounts.filter_map(|mount| covers(&mount.target).map(|rest| (mount, rest)));
    let (mount, rest) = found
        .max_by_key(|(mount, _)| mount.target.len())
        .unwrap_or_else(|| panic!("{inside} is in no mount of {}", config.name));
    if rest.is_empty() {
        mount.source.clone()
    } else {
        mount.source.join(rest)
    }
}
