//! Whether a service is ready: by its healthcheck, else by an open port. Asked, never guessed by time.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::{Served, failed};
use crate::engine::config::{ExecConfig, Healthcheck};
use crate::engine::{Engine, EngineError, ImageInfo};
use crate::plan::ServicePlan;
use crate::runner::StepError;
use crate::sanitize;

/// Docker's defaults for what nobody says.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// How far apart the checks are until the first that passes: at first, and at most.
const PACE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How much of the output of a check is kept, in bytes: its end.
const OUTPUT: usize = 4 << 10;
/// How much of the kernel's table of sockets.
const TABLE: usize = 1 << 20;
/// Of that, how many lines are told.
const LINES: usize = 5;
/// A listening socket in `/proc/net/tcp` (proc(5); `TCP_LISTEN` of the kernel).
const LISTENS: &str = "0A";

/// How it is asked whether a service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    how: How,
    /// How far apart two checks are.
    pub(super) interval: Duration,
    timeout: Duration,
    /// How many fail in a row before it counts as unhealthy.
    pub(super) retries: u32,
    start_period: Duration,
    pace: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    /// It is, once it was started.
    NotAtAll,
    /// By a command in its container.
    Command(Vec<String>),
    /// By the ports that are open: all of these.
    All(Vec<u16>),
    /// One of these.
    Any(Vec<u16>),
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Passed,
    /// Why not, with the output.
    Failed(String),
}

impl Check {
    /// That of a service: what the plan says, else what its image says.
    pub(super) fn of(service: &ServicePlan, image: &ImageInfo) -> Result<Self, StepError> {
        let (own, its) = (&service.healthcheck, &image.healthcheck);
        let test = own.test.as_ref().or(its.test.as_ref());
        let how = match test {
            _ if own.disable => How::NotAtAll,
            Some(test) => How::Command(test.clone()),
            None if !service.ports.is_empty() => How::All(service.ports.clone()),
            None if !image.ports.is_empty() => How::Any(image.ports.clone()),
            None => {
                let (name, image) = (&service.name, &service.image.reference);
                return Err(failed(format!(
                    "nothing says when service `{name}` is ready: image {image} has no HEALTHCHECK and exposes no port; \
                     give it `healthcheck` or `expose`"
                )));
            }
        };
        let or = |of: fn(&Healthcheck) -> Option<Duration>| of(own).or(of(its));
        Ok(Self {
            how,
            interval: or(|check| check.interval).unwrap_or(INTERVAL),
            timeout: or(|check| check.timeout).unwrap_or(TIMEOUT),
            retries: own.retries.or(its.retries).unwrap_or(RETRIES),
            start_period: or(|check| check.start_period).unwrap_or_default(),
            pace: or(|check| check.start_interval).unwrap_or(PACE.1),
        })
    }

    /// How long a service may take until it is ready, before it counts as unhealthy; it is asked more often
    /// than every `interval` then.
    pub(super) fn patience(&self) -> Option<Duration> {
        let failures = self.interval.saturating_mul(self.retries);
        let limit = self.start_period.saturating_add(failures);
        matches!(self.how, How::Command(_)).then_some(limit)
    }

    /// The pauses between checks until the first that passes.
    pub(super) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        pauses_up_to(self.pace)
    }

    /// Whether it has something to ask for while the service runs.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.how, How::Command(_))
    }

    /// Asks once.
    ///
    /// # Errors
    /// Those of the engine: the service or its pod may not run.
    pub(super) async fn ask<E: Engine>(
        &self,
        served: Served<'_, E>,
        service: &ServicePlan,
    ) -> Result<Said, EngineError> {
        let engine = &*served.shared.context.engine;
        match &self.how {
            How::NotAtAll => Ok(Said::Passed),
            How::Command(words) => {
                let container = served.container_of(&service.name);
                let config = ExecConfig {
                    command: words.clone(),
                    environment: served.unknown_variables(service),
                    working_dir: String::new(),
                    terminal: None,
                };
                self.run(engine, &container, &config).await
            }
            How::All(ports) | How::Any(ports) => {
                let open = sockets(engine, &served.pod_name()).await?;
                let is_open = |port: &&u16| open.iter().any(|socket| socket.port == **port);
                let passed = match &self.how {
                    How::All(ports) => ports.iter().all(|port| is_open(&port)),
                    _ => ports.iter().any(|port| is_open(&port)),
                };
                let closed = ports.iter().filter(|port| !is_open(port));
                let closed: Vec<String> = closed.map(u16::to_string).collect();
                Ok(if passed {
                    Said::Passed
                } else {
                    Said::Failed(format!("nothing listens on port {}", closed.join(", ")))
                })
            }
        }
    }

    async fn run<E: Engine>(
        &self,
        engine: &E,
        container: &str,
        config: &ExecConfig,
    ) -> Result<Said, EngineError> {
        let began = Instant::now();
        let Ok(ran) = timeout(self.timeout, executed(engine, container, config, OUTPUT)).await
        else {
            let limit = began.elapsed().as_secs();
            return Ok(Said::Failed(format!(
                "the check took longer than {limit} s"
            )));
        };
        let (code, output) = ran?;
        if code == 0 {
            return Ok(Said::Passed);
        }
        let text = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let last: Vec<String> = last
            .iter()
            .map(|line| sanitize::line(line.as_bytes(), false))
            .collect();
        let output = match last.join(" / ") {
            none if none.is_empty() => "it wrote nothing".to_owned(),
            words => format!("its output: {words}"),
        };
        Ok(Said::Failed(format!(
            "the check ended with exit code {code}, {output}"
        )))
    }
}

/// The pauses between two looks at what nobody has a `healthcheck` for.
pub(in crate::runner) fn pauses() -> impl Iterator<Item = Duration> {
    pauses_up_to(PACE.1)
}

fn pauses_up_to(most: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(PACE.0.min(most)), move |pause| {
        Some((*pause * 2).min(most))
    })
}

/// Who reaches a port of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runner) enum Reach {
    /// Nobody: nothing listens.
    Closed,
    /// What is in its pod.
    Loopback,
    /// Whoever reaches the pod.
    Open,
}

/// Looks who reaches a port of a task.
///
/// # Errors
/// Those of the engine: the pod may not run.
pub(in crate::runner) async fn reach<E: Engine>(
    served: Served<'_, E>,
    port: u16,
) -> Result<Reach, EngineError> {
    let engine = &*served.shared.context.engine;
    let mut sockets = sockets(engine, &served.pod_name()).await?;
    sockets.retain(|socket| socket.port == port);
    Ok(if sockets.iter().any(|socket| !socket.is_local) {
        Reach::Open
    } else if sockets.is_empty() {
        Reach::Closed
    } else {
        Reach::Loopback
    })
}

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    port: u16,
    /// Whether it does so on the loopback alone.
    is_local: bool,
}

/// The exit code of a command in a container, and the end of what it wrote.
async fn executed<E: Engine>(
    engine: &E,
    container: &str,
    config: &ExecConfig,
    limit: usize,
) -> Result<(i64, Vec<u8>), EngineError> {
    let mut session = engine.exec(container, config).await?;
    drop(session.input);
    let mut output: Vec<u8> = Vec::new();
    while let Some(frame) = session.output.next().await {
        output.extend_from_slice(&frame?.bytes);
        let over = output.len().saturating_sub(limit);
        output.drain(..over);
    }
    Ok((engine.exec_exit(&session.id).await?, output))
}

/// The TCP sockets that listen in a pod.
async fn sockets<E: Engine>(engine: &E, pod: &str) -> Result<Vec<Socket>, EngineError> {
    let words = ["/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"];
    let config = ExecConfig {
        command: words.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        working_dir: String::new(),
        terminal: None,
    };
    let (_, table) = executed(engine, pod, &config, TABLE).await?;
    Ok(listening(&String::from_utf8_lossy(&table)))
}

/// The listening sockets of a table of the kernel (proc(5), `/proc/net/tcp`).
fn listening(table: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.rsplit_once(':')?;
        let state = words.nth(1)?;
        let socket = Socket {
            port: u16::from_str_radix(port, 16).ok()?,
            is_local: is_local(address),
        };
        (state == LISTENS).then_some(socket)
    };
    table.lines().filter_map(socket).collect()
}

/// Whether an address of that table, words of four bytes as a little-endian machine has them, is one of
/// the loopback: 127.0.0.0/8, that in IPv6, or `::1`.
fn is_local(address: &str) -> bool {
    let of_v4 = address.strip_prefix("0000000000000000FFFF0000");
    let of_v4 = of_v4.unwrap_or(address);
    (of_v4.len() == 8 && of_v4.ends_with("7F")) || address == "00000000000000000000000001000000"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_open_where_something_listens() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001        0 19376455 1
   1: 0100007F:1F90 0100007F:1538 01 00000000:00000000 00:00000000 00000000 10001        0 19376456 1
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:1538 00000000000000000000000000000000:0000 0A 00000000
";
        let ports = |table| -> Vec<_> {
            let sockets = listening(table).into_iter();
            sockets
                .map(|socket| (socket.port, socket.is_local))
                .collect()
        };
        assert_eq!(ports(table), [(8000, false), (5432, false)]);
        let local = "\
   0: 0100007F:1F40 00000000:0000 0A
   1: 00000000000000000000000001000000:1F41 0:0 0A
   2: 0000000000000000FFFF00000100007F:1F42 0:0 0A
   3: 0000000000000000FFFF0000050011AC:1F43 0:0 0A
   4: 7F000001:1F44 0:0 0A
";
        let wanted = [
            (8000, true),
            (8001, true),
            (8002, true),
            (8003, false),
            (8004, false),
        ];
        assert_eq!(ports(local), wanted);
    }

    #[test]
    fn the_pauses_grow_to_the_pace() {
        let check = |pace| Check {
            how: How::NotAtAll,
            interval: INTERVAL,
            timeout: TIMEOUT,
            retries: RETRIES,
            start_period: Duration::ZERO,
            pace: Duration::from_millis(pace),
        };
        let pauses = |pace| {
            check(pace)
                .pauses()
                .take(4)
                .map(|p| p.as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(pauses(150), [50, 100, 150, 150]);
        assert_eq!(pauses(20), [20, 20, 20, 20]);
    }
}
