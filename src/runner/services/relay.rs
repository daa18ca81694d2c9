//! Lets people reach a port of a pod that has no interface but loopback, and so no address that the engine
//! could publish: agent-run listens itself, and each connection is a command in the pod.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Served, failed};
use crate::engine::config::{ExecConfig, Publish};
use crate::engine::{Engine, ExecSession, OutputSource};
use crate::event::PublishedPort;
use crate::runner::StepError;
use crate::runner::dispatcher::EndsWithRun;

/// Connects its standard input and output to a port of the loopback, until one side has ended. What runs in
/// the background has no standard input but by another name.
const SCRIPT: &str = r#"exec 3<>/dev/tcp/127.0.0.1/"$0" 4<&0 || exit
cat <&3 & one=$!
cat <&4 >&3 &
wait -n
kill "$one" "$!" 2>/dev/null"#;
/// How many connections there are at the same time; others wait.
const CONNECTIONS: usize = 32;
/// How long nothing may come any more for somebody who has said all.
const LAST: Duration = Duration::from_secs(10);
/// How long nobody is let in after the machine has refused another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What the pod needs for so many: three processes each, and as they begin four.
pub(super) const PIDS: i64 = 160;
/// Their memory, in bytes.
pub(super) const MEMORY: i64 = 128 << 20;

/// Opens a port, which is closed where that is dropped.
///
/// # Errors
/// Where the machine has none that is free.
pub(super) async fn open<E: Engine>(
    served: Served<'_, E>,
    port: Publish,
) -> Result<(PublishedPort, EndsWithRun), StepError> {
    let bound = TcpListener::bind((port.address, 0)).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (host_port, listener) = bound.map_err(|error| {
        failed(format!(
            "no port of {} is free for people: {error}",
            port.address
        ))
    })?;
    let engine = served.shared.context.engine.clone();
    let pod = served.pod_name();
    let work = tokio::spawn(listen(engine, pod, port.port, listener));
    let at = PublishedPort {
        port: port.port,
        address: port.address,
        host_port,
    };
    Ok((at, EndsWithRun(work.abort_handle())))
}

/// Lets people in, for ever.
async fn listen<E: Engine>(engine: Arc<E>, pod: String, port: u16, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let carried = carry(engine.clone(), pod.clone(), port, stream);
                connections.spawn(async move {
                    carried.await;
                    drop(place);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection, until it has ended on either side.
async fn carry<E: Engine>(engine: Arc<E>, pod: String, port: u16, stream: TcpStream) {
    let port = port.to_string();
    let words = ["/bin/bash", "-c", SCRIPT, port.as_str()];
    let config = ExecConfig {
        command: words.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        working_dir: String::new(),
        terminal: None,
    };
    // Whoever connects sees that nobody answers.
    let Ok(session) = engine.exec(&pod, &config).await else {
        return;
    };
    let ExecSession {
        mut input,
        mut output,
        ..
    } = session;
    let (mut from, mut to) = stream.into_split();
    let said = copy(&mut from, &mut input);
    tokio::pin!(said);
    let mut has_said_all = false;
    loop {
        tokio::select! {
            _ = &mut said, if !has_said_all => has_said_all = true,
            () = sleep(LAST), if has_said_all => return,
            frame = output.next() => {
                let Some(Ok(frame)) = frame else { return };
                let is_its = frame.source == OutputSource::Stdout;
                if is_its && to.write_all(&frame.bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}
