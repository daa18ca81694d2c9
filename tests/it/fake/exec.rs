//! Commands in fake containers: each does what a script says that was set for its words.

use std::sync::PoisonError;

use agent_run::engine::config::{ContainerConfig, ExecConfig, TerminalSize};
use agent_run::engine::{
    EngineError, ErrorKind, ExecSession, Operation, OutputFrame, OutputSource,
};
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::engine::answer;
use super::{FakeEngine, Phase, Script, Verdict, failed};

const OP: Operation = Operation::Exec;

/// The exit code of a command that was started, once it has ended.
pub type Exec = watch::Receiver<Option<i64>>;

/// Its container, what it does, its name, and where its exit code will be.
type Begun = (ContainerConfig, Script, String, watch::Sender<Option<i64>>);

impl FakeEngine {
    /// Sets what a command does, in whichever container, from now on. Of its script count output, reply and exit.
    pub fn command(&self, words: &[String], script: Script) {
        self.state().commands.insert(words.to_vec(), script);
    }

    pub(super) async fn start_exec(
        &self,
        container: &str,
        config: &ExecConfig,
    ) -> Result<ExecSession, EngineError> {
        let verdict = self.enter(OP, container).await?;
        let (within, script, id, ended) = self.begin(container, config, &verdict)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let (input, mut given) = tokio::io::duplex(1024);
        #[expect(
            clippy::disallowed_methods,
            reason = "a command runs beside its engine"
        )]
        tokio::spawn(async move {
            for (_, frame) in &script.output {
                drop(sender.send(frame.clone()));
            }
            if let Some(reply) = &script.reply {
                let mut bytes = Vec::new();
                drop(given.read_to_end(&mut bytes).await);
                drop(sender.send(OutputFrame {
                    source: OutputSource::Stdout,
                    bytes: reply(&within, &bytes).into(),
                }));
            }
            drop(sender);
            ended.send_replace(Some(script.exit.code));
        });
        answer(&verdict, OP, container).await?;
        let output = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|frame| (Ok(frame), receiver))
        });
        Ok(ExecSession {
            id,
            output: output.boxed(),
            input: Box::pin(input),
        })
    }

    /// Begins a command in a container that runs.
    fn begin(
        &self,
        container: &str,
        config: &ExecConfig,
        verdict: &Verdict,
    ) -> Result<Begun, EngineError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = state.containers.get(container) else {
            return Err(failed(OP, container, ErrorKind::NotFound));
        };
        if found.phase != Phase::Started || found.running.borrow().is_some() {
            let words = format!("container {container} is not running");
            return Err(failed(OP, container, ErrorKind::Refused(words)));
        }
        let within = found.config.clone();
        let script = state.commands.get(&config.command).cloned();
        let mut script = script.unwrap_or_else(|| panic!("no script for {:?}", config.command));
        if matches!(verdict, Verdict::Lie) {
            script = Script::exits(0);
        }
        let id = format!("exec-{}", state.execs.len());
        let (ended, exit) = watch::channel(None);
        state.execs.insert(id.clone(), exit);
        Ok((within, script, id, ended))
    }

    pub(super) async fn resize(&self, exec: &str, _: TerminalSize) -> Result<(), EngineError> {
        self.enter(OP, exec).await?;
        match self.state().execs.get(exec) {
            Some(_) => Ok(()),
            None => Err(failed(OP, exec, ErrorKind::NotFound)),
        }
    }

    pub(super) async fn exit_of(&self, exec: &str) -> Result<i64, EngineError> {
        self.enter(OP, exec).await?;
        let found = self.state().execs.get(exec).cloned();
        let Some(mut exit) = found else {
            return Err(failed(OP, exec, ErrorKind::NotFound));
        };
        let code = *exit.wait_for(Option::is_some).await.expect("an end");
        Ok(code.expect("a code"))
    }
}
