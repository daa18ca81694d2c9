//! A container's life: attach, start, wait, stop.

use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error as BollardError;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::query_parameters::{
    AttachContainerOptions, InspectContainerOptions, LogsOptions, StartContainerOptions,
    StopContainerOptions, WaitContainerOptions,
};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use super::container::whole_seconds;
use crate::engine::{
    EngineError, ErrorKind, Exit, Operation, OutputFrame, OutputSource, OutputStream,
};
use crate::secrets::SecretBytes;

/// What an engine needs beyond the grace to kill and to say so: it waits 10 s after its kill and
/// 2 s after a second one (moby `daemon/kill.go`).
const STOP_MARGIN: Duration = Duration::from_secs(20);

impl DockerEngine {
    pub(super) async fn attach_output(
        &self,
        container: &str,
        input: Option<SecretBytes>,
    ) -> Result<OutputStream, EngineError> {
        let call = Call::new(Operation::Attach, container);
        let options = AttachContainerOptions {
            stream: true,
            stdin: input.is_some(),
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = self.docker.attach_container(container, Some(options));
        let AttachContainerResults {
            output,
            input: stdin,
        } = call.within(QUICK, attached).await?;
        if let Some(bytes) = input {
            #[expect(
                clippy::disallowed_methods,
                reason = "the engine reads it after start only"
            )]
            tokio::spawn(write_input(stdin, bytes));
        }
        Ok(frames(output, call))
    }

    /// Reads what the engine keeps of a container's output, from the beginning.
    pub(super) fn read_logs(&self, container: &str, follow: bool) -> OutputStream {
        let call = Call::new(Operation::Logs, container);
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            tail: "all".into(),
            ..LogsOptions::default()
        };
        frames(self.docker.logs(container, Some(options)), call)
    }

    pub(super) async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        let call = Call::new(Operation::Start, container);
        let started = self
            .docker
            .start_container(container, None::<StartContainerOptions>);
        call.within(WORK, started).await
    }

    /// Waits without a deadline. A stream that ends early is no exit: the container is looked at.
    pub(super) async fn wait_for_exit(&self, container: &str) -> Result<Exit, EngineError> {
        let call = Call::new(Operation::Wait, container);
        let options = WaitContainerOptions {
            condition: "not-running".into(),
        };
        let mut answers = self.docker.wait_container(container, Some(options));
        let said = match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            // Bollard makes an error of every exit code above zero.
            Some(Err(BollardError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(call.failed(&error)),
            None => Err(call.error(ErrorKind::Broken("the engine stopped answering".into()))),
        };
        match (said, self.look_at_exit(container, &call).await) {
            (_, Ok(Some(exit))) => {
                // It may have been the engine's own end that ended it.
                self.takes_connections(&call).await?;
                Ok(exit)
            }
            // It ended and was removed before it could be looked at.
            (Ok(code), Err(error)) if error.kind == ErrorKind::NotFound => Ok(Exit {
                code,
                oom_killed: false,
            }),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(None)) => {
                let words = "the engine says that it does not run, but not how it ended: \
                             it may never have started";
                Err(call.error(ErrorKind::Broken(words.into())))
            }
        }
    }

    /// An engine that is about to end stops its containers, after it has stopped to listen (moby
    /// `cmd/dockerd/daemon.go`).
    async fn takes_connections(&self, call: &Call) -> Result<(), EngineError> {
        let engine = self.afresh().map_err(|kind| call.error(kind))?;
        match call.within(QUICK, engine.ping()).await {
            // Whatever it answers, it does.
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind, ErrorKind::Refused(_) | ErrorKind::NotFound) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// How a container ended, if it has.
    async fn look_at_exit(
        &self,
        container: &str,
        call: &Call,
    ) -> Result<Option<Exit>, EngineError> {
        let state = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let state = call.within(QUICK, state).await?.state.unwrap_or_default();
        let ended = matches!(
            state.status,
            Some(Status::EXITED | Status::DEAD | Status::REMOVING)
        );
        Ok(state.exit_code.filter(|_| ended).map(|code| Exit {
            code,
            oom_killed: state.oom_killed.unwrap_or(false),
        }))
    }

    pub(super) async fn stop_container(
        &self,
        container: &str,
        grace: Duration,
    ) -> Result<(), EngineError> {
        let call = Call::new(Operation::Stop, container);
        let options = StopContainerOptions {
            signal: None,
            t: Some(whole_seconds(grace)),
        };
        let stopped = self.docker.stop_container(container, Some(options));
        match call
            .within(grace.saturating_add(STOP_MARGIN), stopped)
            .await
        {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Bollard's output as ours.
pub(super) fn frames(
    output: impl Stream<Item = Result<LogOutput, BollardError>> + Send + 'static,
    call: Call,
) -> OutputStream {
    let frames = output.filter_map(move |frame| {
        let frame = match frame {
            Ok(frame) => output_frame(frame).map(Ok),
            Err(error) => Some(Err(call.failed(&error))),
        };
        std::future::ready(frame)
    });
    frames.boxed()
}

/// Writes a container's input and closes it. A container that ends without reading breaks the
/// connection; its exit code says the rest.
async fn write_input(mut stdin: impl AsyncWrite + Unpin, bytes: SecretBytes) {
    if stdin.write_all(bytes.expose()).await.is_ok() {
        drop(stdin.shutdown().await);
    }
}

/// A frame of output. What comes back of the input is none; without a terminal there is no
/// console stream, but an engine that sends one means standard output.
fn output_frame(frame: LogOutput) -> Option<OutputFrame> {
    let (source, bytes) = match frame {
        LogOutput::StdOut { message } | LogOutput::Console { message } => {
            (OutputSource::Stdout, message)
        }
        LogOutput::StdErr { message } => (OutputSource::Stderr, message),
        LogOutput::StdIn { .. } => return None,
    };
    Some(OutputFrame { source, bytes })
}
