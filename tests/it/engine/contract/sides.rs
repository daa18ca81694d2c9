//! The two sides of the contract, and what their containers do.

use std::time::Duration;

use agent_run::engine::docker::DockerEngine;
use agent_run::engine::{Engine, OutputSource};

use crate::docker::Scope;
use crate::fake::{FakeEngine, Script};

/// What a container of the contract does; each side knows how.
#[derive(Clone, Copy)]
pub enum Does {
    Exits(i64),
    /// Prints `out`, complains `err` and leaves its last line open.
    Speaks,
    /// Runs until TERM.
    Waits,
    /// The same, after it wrote a mebibyte into its own file system, and another into `/tmp`.
    WritesAMebibyte,
    IgnoresTerm,
    /// Prints its standard input.
    Echoes,
}

/// One side of the contract.
pub trait Side {
    type Engine: Engine;

    fn engine(&self) -> &Self::Engine;
    fn scope(&self) -> &Scope;
    /// Makes the containers of that name do that, and says with which command.
    fn teach(&self, container: &str, does: Does) -> Vec<String>;
    /// The words of a command that does that in a container which runs.
    fn teach_command(&self, does: Does) -> Vec<String>;
}

pub struct Fake(pub FakeEngine, pub Scope);

impl Side for Fake {
    type Engine = FakeEngine;

    fn engine(&self) -> &FakeEngine {
        &self.0
    }

    fn scope(&self) -> &Scope {
        &self.1
    }

    fn teach(&self, container: &str, does: Does) -> Vec<String> {
        self.0.script(container, scripted(does));
        vec!["scripted".into()]
    }

    fn teach_command(&self, does: Does) -> Vec<String> {
        let words = vec!["scripted".to_owned()];
        self.0.command(&words, scripted(does));
        words
    }
}

fn scripted(does: Does) -> Script {
    match does {
        Does::Exits(code) => Script::exits(code),
        Does::Speaks => Script::exits(0)
            .prints("out\n")
            .writes(Duration::ZERO, OutputSource::Stderr, b"err\n")
            .writes(Duration::from_millis(10), OutputSource::Stdout, b"tail"),
        Does::Waits => Script::runs_forever().prints("ready\n"),
        Does::WritesAMebibyte => scripted(Does::Waits).writes_bytes(1 << 20),
        Does::IgnoresTerm => Script::runs_forever().ignoring_term().prints("ready\n"),
        Does::Echoes => Script::exits(0).replies(|_, input| input.to_vec()),
    }
}

pub struct Docker(pub DockerEngine, pub Scope);

impl Side for Docker {
    type Engine = DockerEngine;

    fn engine(&self) -> &Self::Engine {
        &self.0
    }

    fn scope(&self) -> &Scope {
        &self.1
    }

    fn teach(&self, _container: &str, does: Does) -> Vec<String> {
        let script = match does {
            Does::WritesAMebibyte => {
                let waits = self.teach("", Does::Waits).remove(2);
                format!("for d in /tmp /var/tmp; do head -c 1048576 /dev/zero >$d/x; done; {waits}")
            }
            Does::Exits(code) => format!("exit {code}"),
            Does::Speaks => "echo out; echo err >&2; printf tail".into(),
            Does::Waits => "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done".into(),
            Does::IgnoresTerm => "trap '' TERM; echo ready; while :; do sleep 0.05; done".into(),
            Does::Echoes => "cat".into(),
        };
        vec!["sh".into(), "-c".into(), script]
    }

    fn teach_command(&self, does: Does) -> Vec<String> {
        self.teach("", does)
    }
}
