//! `exec`: runs a command in the container of a task that runs.

use std::convert::Infallible;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::anyhow;
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::args::ExecArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::signals::Signals;
use super::surroundings::Surroundings;
use super::target::Target;
use super::terminal::{self, Raw};
use super::{print_error, ps};
use crate::engine::config::ExecConfig;
use crate::engine::docker::DockerEngine;
use crate::engine::{
    Engine as _, EngineError, ExecSession, OutputFrame, OutputSource, OutputStream, OwnedKind,
    OwnedObject,
};
use crate::event::TaskPhase;
use crate::id::{Role, label};
use crate::journal::RunState;
use crate::plan::TaskPlan;

/// Where the command starts.
const WORKSPACE: &str = "/workspace";
/// What runs where no command is named: the better shell, if the image has it.
const SHELL: [&str; 3] = [
    "/bin/sh",
    "-c",
    "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh",
];
/// Frames or keys that wait to be taken on.
const WAITING: usize = 16;

pub(super) async fn exec(
    surroundings: &Surroundings,
    arguments: &ExecArgs,
) -> Result<ExitCode, Failure> {
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let task = target.task(&arguments.task)?;
    let engine = DockerEngine::connect(&surroundings.engine).await?;
    let container = container(&engine, &target, task).await?;
    let command = match arguments.command.as_slice() {
        [] => SHELL.map(str::to_owned).to_vec(),
        words => words.to_vec(),
    };
    let config = ExecConfig {
        command,
        environment: Vec::new(),
        working_dir: WORKSPACE.into(),
        terminal: terminal::size(),
    };
    let signals = Signals::catch()?;
    let session = match engine.exec(&container.name, &config).await {
        // By its list, which may be behind by a moment, it does not run, and it is so.
        Err(_) if !container.running => return Err(not_running(&target, task)),
        session => session?,
    };
    let raw = config.terminal.map(|_| Raw::enter()).transpose()?;
    let ended = converse(&engine, session, signals, raw.is_some()).await;
    drop(raw);
    match ended? {
        Ended::Exit(code) => Ok(u8::try_from(code).unwrap_or(1).into()),
        Ended::Left(code) => {
            print_error("left; the command may go on in the container until the task ends\n");
            Ok(u8::try_from(code).unwrap_or(1).into())
        }
    }
}

/// The container of the task's latest attempt.
async fn container(
    engine: &DockerEngine,
    target: &Target,
    task: &TaskPlan,
) -> Result<OwnedObject, Failure> {
    let run = &target.found.run;
    let is_it = |object: &OwnedObject| {
        let has = |key: &str, value: &str| object.labels.get(key).is_some_and(|v| v == value);
        object.kind == OwnedKind::Container
            && has(label::RUN, run.as_str())
            && has(label::TASK, task.id.as_str())
            && [Role::Task, Role::Preview]
                .iter()
                .any(|role| has(label::ROLE, role.as_str()))
    };
    let attempt =
        |object: &OwnedObject| -> Option<u32> { object.labels.get(label::ATTEMPT)?.parse().ok() };
    let owned = engine.list_owned().await?;
    let found = owned.into_iter().filter(is_it).max_by_key(attempt);
    found.ok_or_else(|| not_running(target, task))
}

fn not_running(target: &Target, task: &TaskPlan) -> Failure {
    let (run, id) = (&target.found.run, &task.id);
    let progress = target.found.progress().unwrap_or_default();
    let progress = progress.get(id);
    let has_ended = progress.is_some_and(|progress| progress.report.is_some());
    let why = match target.found.state {
        RunState::Finished => "its run has finished".to_owned(),
        _ if has_ended => "it has ended".to_owned(),
        RunState::Interrupted => "its run was interrupted".to_owned(),
        RunState::Live => {
            let phase = progress.map_or(TaskPhase::Waiting, |progress| progress.phase);
            format!("it is {}", ps::phase(RunState::Live, phase))
        }
    };
    let error = anyhow!("task {id} of run {run} does not run: {why}");
    let hint = format!("to see what became of it: agent-run show {id} --run {run}");
    Failure::new(Exit::EnvironmentUnusable, error).hint(hint)
}

enum Ended {
    /// With this exit code.
    Exit(i64),
    /// By a signal to us, with the exit code for it.
    Left(i32),
}

/// Hands keys, output and sizes on until the command ends.
async fn converse(
    engine: &DockerEngine,
    session: ExecSession,
    mut signals: Signals,
    has_terminal: bool,
) -> Result<Ended, Failure> {
    let ExecSession { id, output, input } = session;
    let failed = |error| Failure::new(Exit::Unexpected, error);
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let resize = async || {
        if let Some(size) = terminal::size().filter(|_| has_terminal) {
            // A command that has just ended has no terminal any more.
            let _ = engine.resize_exec(&id, size).await;
        }
    };
    let given = async {
        // What is typed must not arrive before the size of the terminal that it is typed on.
        resize().await;
        let sizes = async {
            while resized.recv().await.is_some() {
                resize().await;
            }
        };
        tokio::join!(write(input, read_standard_input()), sizes);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        read = print(output) => read?,
        never = given => match never {},
        code = signals.end() => return Ok(Ended::Left(code)),
    }
    Ok(Ended::Exit(engine.exec_exit(&id).await?))
}

/// Reads in a thread of its own that nobody waits for: a read of a terminal cannot be taken back.
fn read_standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            match std::io::stdin().read(&mut bytes) {
                Ok(0) => return,
                Ok(read) if sender.blocking_send(bytes[..read].to_vec()).is_err() => return,
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                Ok(_) | Err(_) => {}
            }
        }
    });
    receiver
}

/// Writes what is typed; a command that does not read it any more is no error.
async fn write(
    mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    mut typed: mpsc::Receiver<Vec<u8>>,
) {
    while let Some(bytes) = typed.recv().await {
        let written = async {
            input.write_all(&bytes).await?;
            input.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

/// Prints what the command prints, as it is: that is what it was asked for. A thread of its own
/// writes, so that signals are heard while nobody reads.
async fn print(mut output: OutputStream) -> Result<(), EngineError> {
    let (sender, mut frames) = mpsc::channel::<OutputFrame>(WAITING);
    let (done, printed) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        while let Some(OutputFrame { source, bytes }) = frames.blocking_recv() {
            let written = match source {
                OutputSource::Stdout => {
                    let mut stdout = std::io::stdout().lock();
                    stdout.write_all(&bytes).and_then(|()| stdout.flush())
                }
                OutputSource::Stderr => std::io::stderr().write_all(&bytes),
            };
            if written.is_err() {
                // Nobody reads any more.
                break;
            }
        }
        drop(done);
    });
    while let Some(frame) = output.next().await {
        if sender.send(frame?).await.is_err() {
            break;
        }
    }
    drop(sender);
    let _ = printed.await;
    Ok(())
}
