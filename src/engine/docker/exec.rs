//! Commands in containers that run.

use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use tokio::time::{Instant, sleep};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use super::container::variables;
use super::lifecycle::frames;
use crate::engine::config::{ExecConfig, TerminalSize};
use crate::engine::{EngineError, ErrorKind, ExecSession, Operation};

/// How often the engine is asked for an exit code that it does not know yet.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl DockerEngine {
    pub(super) async fn start_exec(
        &self,
        container: &str,
        config: &ExecConfig,
    ) -> Result<ExecSession, EngineError> {
        let call = Call::new(Operation::Exec, container);
        let has_terminal = config.terminal.is_some();
        let body = bollard::models::ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(has_terminal),
            cmd: Some(config.command.clone()),
            env: (!config.environment.is_empty()).then(|| variables(&config.environment)),
            working_dir: (!config.working_dir.is_empty()).then(|| config.working_dir.clone()),
            ..bollard::models::ExecConfig::default()
        };
        let created = self.docker.create_exec(container, body);
        let id = call.within(QUICK, created).await?.id;
        let options = StartExecOptions {
            tty: has_terminal,
            ..StartExecOptions::default()
        };
        let started = self.docker.start_exec(&id, Some(options));
        match call.within(WORK, started).await? {
            StartExecResults::Attached { output, input } => Ok(ExecSession {
                id,
                output: frames(output, call),
                input,
            }),
            StartExecResults::Detached => {
                let words = "the engine started it without its input and output";
                Err(call.error(ErrorKind::Broken(words.into())))
            }
        }
    }

    pub(super) async fn resize_terminal(
        &self,
        exec: &str,
        size: TerminalSize,
    ) -> Result<(), EngineError> {
        let call = Call::new(Operation::Exec, exec);
        let options = ResizeExecOptions {
            height: size.rows,
            width: size.columns,
        };
        call.within(QUICK, self.docker.resize_exec(exec, options))
            .await
    }

    /// The engine says that the output has ended before it knows the code, and has no call that
    /// waits for it (moby `daemon/monitor.go`): it is asked until it does.
    pub(super) async fn exit_of_exec(&self, exec: &str) -> Result<i64, EngineError> {
        let call = Call::new(Operation::Exec, exec);
        let deadline = Instant::now() + QUICK;
        loop {
            let state = call.within(QUICK, self.docker.inspect_exec(exec)).await?;
            match (state.running, state.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                _ if Instant::now() > deadline => return Err(call.error(ErrorKind::Timeout)),
                _ => sleep(ASK_AGAIN).await,
            }
        }
    }
}
