//! What containers of an engine really get, asked of throw-away ones before anybody needs to know:
//! directories, limits, and what they reach. It connects to its own containers, to a port that it
//! opens itself, and to two addresses that everybody knows.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::mounts::prove_mounts;
use super::network::{Network, Pool};
use super::probe::{Prober, answer, too_late};
use super::user::container_user;
use super::{RunError, Shutdown, StepError, blocking, views};
use crate::engine::config::{ContainerConfig, NetworkAttachment};
use crate::engine::{Engine, EngineError, EngineInfo, ErrorKind, ImageInfo, OwnedObject};
use crate::id::{RunId, StateDir, label};
use crate::workspace;

/// How long the engine may take for one throw-away container.
const LIMIT: Duration = Duration::from_secs(20);
/// Tells a container its own address.
const SELF: &str = "AGENT_SELF";
/// How often a container is tried anew whose network another run has just removed.
const TRIES: usize = 3;
/// What the container that reads its own limits is given.
const MEMORY: i64 = 96 << 20;
const NANO_CPUS: i64 = 500_000_000;
const PIDS: i64 = 40;

/// Prints a limit a line, as the kernel has it (cgroups(7), kernel.org cgroup-v1/memory and
/// cgroup-v2): `-` where it has none.
const READ_LIMITS: &str = r#"
cd /sys/fs/cgroup
say() { echo "$1 $(cat "$2" 2>/dev/null || echo -)"; }
if [ -e cgroup.controllers ]; then
  say mem_limit memory.max; say memswap_limit memory.swap.max; say cpus cpu.max; say pids_limit pids.max
else
  say mem_limit memory/memory.limit_in_bytes; say memswap_limit memory/memory.memsw.limit_in_bytes
  echo "cpus $(cat cpu/cpu.cfs_quota_us 2>/dev/null || echo -) $(cat cpu/cpu.cfs_period_us 2>/dev/null)"
  say pids_limit pids/pids.max
fi
"#;
/// Listens where the other container looks, and says so once it has reached itself.
const LISTEN: &str = r#"exec python3 -c '
import os, signal, socket
signal.alarm(60)
server = socket.create_server(("", 7000))
socket.create_connection((os.environ["AGENT_SELF"], 7000), 5)
print("ready", flush=True)
while True: server.accept()
'"#;
/// Tries each address for two seconds, all at once, and says which of them answered.
const REACH: &str = r#"exec python3 -c '
import os, socket, threading
def reach(name, address):
    try: socket.create_connection(address, 2).close()
    except OSError: return
    print(name, flush=True)
def outside():
    try: found = socket.getaddrinfo("example.com", 443, socket.AF_INET, socket.SOCK_STREAM)
    except OSError: return
    print("names", flush=True)
    reach("outside", found[0][4])
tries = [threading.Thread(target=outside)]
for name in "metadata", "host", "peer":
    place = os.environ.get("AGENT_" + name.upper())
    if place:
        host, port = place.split(":")
        tries.append(threading.Thread(target=reach, args=(name, (host, int(port)))))
for one in tries: one.start()
for one in tries: one.join()
'"#;
/// The metadata service of every large cloud.
const METADATA: &str = "169.254.169.254:80";

/// Asks an engine by means of the base image.
pub struct Examiner<E: Engine> {
    /// The engine.
    pub engine: Arc<E>,
    /// What the engine said of itself.
    pub info: EngineInfo,
    /// The base image.
    pub image: ImageInfo,
    /// Where agent-run keeps its own files.
    pub state: StateDir,
    /// The run that the containers are labelled with; its directory is there.
    pub run: RunId,
    /// The owner label.
    pub owner: String,
    /// Where the network gets its addresses from.
    pub pool: Pool,
    /// Between two containers it is looked at whether to stop.
    pub shutdown: watch::Receiver<Shutdown>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// A run would end with this.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No subnet of the pool is free.
    #[error("no part of the network pool is free")]
    PoolTaken,
    /// A container could not be run.
    #[error("{0}")]
    Container(String),
    /// It was asked to stop before.
    #[error("stopped")]
    Stopped,
}

impl From<StepError> for ExamineError {
    fn from(error: StepError) -> Self {
        Self::Container(error.message)
    }
}

impl From<EngineError> for ExamineError {
    fn from(error: EngineError) -> Self {
        match error.kind {
            ErrorKind::AddressInUse => Self::PoolTaken,
            _ => StepError::new("probe", &error).into(),
        }
    }
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// A directory of ours arrives in containers, and what they write arrives here.
    pub bind_mounts: Result<(), ExamineError>,
    /// Worktrees can be views of a shared checkout; else why not.
    pub views: Result<(), String>,
    /// The spec's key of each limit, and whether the kernel has it as it was asked for.
    pub limits: Result<Vec<(&'static str, bool)>, ExamineError>,
    /// What a task with `network_mode: bridge` reaches.
    pub reach: Result<Reach, ExamineError>,
    /// What could not be removed afterwards: names, or why they are not known.
    pub left: Vec<String>,
}

/// What a container on the network of tasks reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// How far it gets.
    pub internet: Internet,
    /// Something answers as a cloud's metadata service.
    pub metadata: bool,
    /// It can connect to what listens on the engine's host; none where that is another machine.
    pub host: Option<bool>,
    /// It can connect to another container of the network.
    pub peer: bool,
}

/// How far a container gets on its way to the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Internet {
    /// It cannot look up names.
    #[default]
    NoNames,
    /// It can look up names, and cannot connect.
    NoConnections,
    /// It can connect.
    Reached,
}

impl<E: Engine> Examiner<E> {
    /// Asks everything, and removes what was made for it.
    pub async fn examine(&self) -> Examination {
        let (mounts, limits, reach) = tokio::join!(
            Box::pin(self.mounts()),
            Box::pin(self.limits()),
            Box::pin(self.reach(std::future::pending()))
        );
        let (bind_mounts, views) = match mounts {
            Ok(views) => (Ok(()), views),
            Err(error) => (Err(error), Err("bind mounts do not arrive".to_owned())),
        };
        Examination {
            bind_mounts,
            views,
            limits,
            // Nothing stops it before.
            reach: reach.map(Option::unwrap_or_default),
            left: self.left().await,
        }
    }

    /// The names of what the engine still has of this run.
    async fn left(&self) -> Vec<String> {
        match timeout(LIMIT, self.engine.list_owned()).await {
            Ok(Ok(owned)) => {
                let of_run = |o: &OwnedObject| {
                    o.labels
                        .get(label::RUN)
                        .is_some_and(|run| *run == self.run.as_str())
                };
                owned.into_iter().filter(of_run).map(|o| o.name).collect()
            }
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => vec!["the engine does not say what is left".into()],
        }
    }

    fn prober(&self) -> Prober<'_, E> {
        Prober {
            engine: &self.engine,
            endpoint: &self.info.endpoint,
            state: &self.state,
            run: &self.run,
            owner: &self.owner,
            limit: LIMIT,
            runtime: None,
        }
    }

    fn unless_stopped(&self) -> Result<(), ExamineError> {
        match *self.shutdown.borrow() {
            Shutdown::None => Ok(()),
            Shutdown::Graceful(_) | Shutdown::Forced(_) => Err(ExamineError::Stopped),
        }
    }

    /// Whether bind mounts arrive, and inside of that whether views do.
    async fn mounts(&self) -> Result<Result<(), String>, ExamineError> {
        self.unless_stopped()?;
        let runner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let user = container_user(&self.info, runner, None);
        let user = user.map_err(|why| ExamineError::Container(why.into()))?;
        let prober = self.prober();
        let proof = prove_mounts(&prober, &self.image, user, true).await;
        let not_swept = views::sweep(&prober, &self.image.id).await;
        let (state, run) = (self.state.clone(), self.run.clone());
        let released = blocking(move || workspace::release(&state, &run)).await;
        let proof = proof??;
        if let Some(problem) = not_swept {
            return Err(ExamineError::Container(problem));
        }
        released.map_err(|e| StepError::new("remove", &e))?;
        Ok(proof.views)
    }

    async fn limits(&self) -> Result<Vec<(&'static str, bool)>, ExamineError> {
        self.unless_stopped()?;
        let prober = self.prober();
        let mut config = prober.config("limits", &self.image.id, READ_LIMITS);
        config.limits.memory = MEMORY;
        config.limits.memory_swap = MEMORY;
        config.limits.nano_cpus = NANO_CPUS;
        config.limits.pids = PIDS;
        match prober.ask(&config).await {
            Ok(answer) => Ok(limits(&answer.unwrap_or_default())),
            Err(error) => match error.kind {
                ErrorKind::LimitNotHonoured(key) => Err(RunError::LimitNotHonoured {
                    key,
                    endpoint: self.info.endpoint.clone(),
                }
                .into()),
                _ => Err(error.into()),
            },
        }
    }

    /// What a task with `network_mode: bridge` reaches; nothing where `stop` comes first. Runs two
    /// containers on the network of tasks, and removes what was made for them.
    ///
    /// # Errors
    /// Where they could not be run or removed.
    pub async fn reach(
        &self,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Reach>, ExamineError> {
        let network = Network::beside(self.pool, &self.run);
        let prober = self.prober();
        let mut listener = prober.config("listen", &self.image.id, LISTEN);
        let names = [listener.name.clone(), self.client(&prober).name];
        let making = Mutex::default();
        let stop = async {
            stop.await;
            // The engine makes what it was asked for, also where nobody waits: then it must be there
            // before it is removed.
            drop(making.lock().await);
        };
        let reach = tokio::select! {
            biased;
            () = stop => Ok(None),
            reach = self.reach_from((&network, &making), &mut listener) => reach.map(Some),
        };
        let mut removed = Ok(());
        for name in &names {
            removed = removed.and(prober.remove(name).await);
        }
        let released = timeout(LIMIT, network.release(&*self.engine)).await;
        let reach = reach?;
        removed?;
        match released {
            Ok(Err(error)) if error.kind != ErrorKind::HeldByNobody => Err(error.into()),
            Ok(_) => Ok(reach),
            Err(_) => Err(too_late("the network").into()),
        }
    }

    fn client(&self, prober: &Prober<'_, E>) -> ContainerConfig {
        prober.config("reach", &self.image.id, REACH)
    }

    /// One of two containers tries to get out, and to the other.
    async fn reach_from(
        &self,
        (network, making): (&Network, &Mutex<()>),
        listener: &mut ContainerConfig,
    ) -> Result<Reach, ExamineError> {
        self.unless_stopped()?;
        let prober = self.prober();
        self.attached((network, making), listener, async |name| {
            first_words(&*self.engine, name).await
        })
        .await?;
        self.unless_stopped()?;
        let host = network.gateway().await.and_then(listen_on_host);
        let mut client = self.client(&prober);
        client.environment = vec![
            ("RES_OPTIONS".into(), "timeout:2 attempts:1".into()),
            ("AGENT_METADATA".into(), METADATA.into()),
            ("AGENT_PEER".into(), format!("{}:7000", address(listener))),
        ];
        if let Some((_, place)) = &host {
            client
                .environment
                .push(("AGENT_HOST".into(), place.clone()));
        }
        let answer = self.attached((network, making), &mut client, async |name| {
            answer(&*self.engine, name).await
        });
        let answer = answer.await?.unwrap_or_default();
        let said = |name: &str| answer.lines().any(|line| line == name);
        Ok(Reach {
            internet: match (said("names"), said("outside")) {
                (_, true) => Internet::Reached,
                (true, false) => Internet::NoConnections,
                (false, false) => Internet::NoNames,
            },
            metadata: said("metadata"),
            host: host.map(|_| said("host")),
            peer: said("peer"),
        })
    }

    /// Makes a container on the network, which another run may just be removing, and starts it by `run`.
    /// Whoever has `making` knows that nothing is being made.
    async fn attached<T>(
        &self,
        (network, making): (&Network, &Mutex<()>),
        config: &mut ContainerConfig,
        run: impl AsyncFn(&str) -> Result<T, EngineError>,
    ) -> Result<T, ExamineError> {
        for _ in 0..TRIES {
            let guard = making.lock().await;
            let attachment = timeout(LIMIT, network.attachment(&*self.engine)).await;
            config.network = attachment.unwrap_or_else(|_| Err(too_late("the network")))?;
            config.environment.retain(|(name, _)| name != SELF);
            let own = (SELF.into(), address(config).to_string());
            config.environment.push(own);
            let made = timeout(LIMIT, self.engine.create_container(config)).await;
            drop(guard);
            let ran = async {
                made.unwrap_or_else(|_| Err(too_late(&config.name)))?;
                let ran = timeout(LIMIT, run(&config.name)).await;
                ran.unwrap_or_else(|_| Err(too_late(&config.name)))
            };
            match ran.await {
                Err(error) if error.kind == ErrorKind::NoNetwork => {
                    self.prober().remove(&config.name).await?;
                    network.has_gone().await;
                }
                // Somebody else's container has it; the next one is tried.
                Err(error) if error.kind == ErrorKind::AddressInUse => {
                    self.prober().remove(&config.name).await?;
                }
                done => return Ok(done?),
            }
        }
        Err(ExamineError::Container(
            "its network goes whenever it comes, or its addresses are taken".into(),
        ))
    }
}

fn address(config: &ContainerConfig) -> Ipv4Addr {
    match config.network {
        NetworkAttachment::Network { address, .. } => address,
        NetworkAttachment::None | NetworkAttachment::Shared { .. } => Ipv4Addr::UNSPECIFIED,
    }
}

/// Starts a container that was made, and waits for its first output.
async fn first_words<E: Engine>(engine: &E, container: &str) -> Result<(), EngineError> {
    let mut output = engine.attach(container, None).await?;
    engine.start(container).await?;
    match output.next().await {
        Some(frame) => frame.map(drop),
        None => Err(EngineError {
            kind: ErrorKind::Broken("it ended before it could listen".into()),
            ..too_late(container)
        }),
    }
}

/// A port that is open for as long as the listener lives, on the one address of the host that
/// containers know; nothing where that address is no address of this machine.
fn listen_on_host(gateway: Ipv4Addr) -> Option<(TcpListener, String)> {
    // The kernel answers connections that nobody has accepted yet.
    let listener = TcpListener::bind((gateway, 0)).ok()?;
    let place = listener.local_addr().ok()?.to_string();
    Some((listener, place))
}

/// Reads the answer to [`READ_LIMITS`]: which limits are as they were asked for.
fn limits(answer: &str) -> Vec<(&'static str, bool)> {
    let value = |key: &str| {
        let mut lines = answer.lines();
        let rest = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let words = rest.unwrap_or_default().split_whitespace();
        words
            .map(|word| word.parse().unwrap_or(-1))
            .collect::<Vec<i64>>()
    };
    // With cgroup v1 memory and swap together, with v2 swap alone.
    let swap = value("memswap_limit");
    let cpus = value("cpus");
    vec![
        ("mem_limit", value("mem_limit") == [MEMORY]),
        ("memswap_limit", swap == [MEMORY] || swap == [0]),
        (
            "cpus",
            matches!(cpus[..], [quota, period] if quota > 0 && quota * 1_000_000_000 == NANO_CPUS * period),
        ),
        ("pids_limit", value("pids_limit") == [PIDS]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_both_versions_of_cgroups_say_them() {
        let v1 = "mem_limit 100663296\nmemswap_limit 100663296\ncpus 50000 100000\npids_limit 40\n";
        let v2 = "mem_limit 100663296\nmemswap_limit 0\ncpus 50000 100000\npids_limit 40\n";
        for answer in [v1, v2] {
            assert!(limits(answer).iter().all(|(_, holds)| *holds), "{answer}");
        }
        let without = "mem_limit max\nmemswap_limit -\ncpus max 100000\npids_limit max\n";
        for answer in ["", "garbage", without] {
            assert!(!limits(answer).iter().any(|(_, holds)| *holds), "{answer}");
        }
    }
}
