//! Networks: one for each task that runs at a time, with addresses of our own.
//!
//! The engine's default pools end at about 30 networks, and a new container would get the address,
//! the MAC and the live conntrack entries of the last one. So subnets are ours, addresses go round,
//! and none is used twice until its network is used up.
//!
//! All are made before the first container runs and removed after the last: measured with Docker
//! 20.10, making or removing any network opens the way between all others for some milliseconds.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::StepError;
use crate::engine::config::{NetworkAttachment, NetworkConfig};
use crate::engine::{Engine, EngineError, ErrorKind};
use crate::id::{self, Role, RunId, hex_hash};

/// Prefix lengths of a network's subnet: room for 13 containers at least, 253 at most.
const SMALLEST: u8 = 28;
const LARGEST: u8 = 24;
/// The first host number for containers; 0 is the subnet, 1 the gateway, the last one broadcast.
const FIRST_HOST: u32 = 2;
/// How many taken subnets are passed over before giving up.
const TRIES: usize = 512;
/// How many networks are asked for at once.
const AT_ONCE: usize = 8;

/// The range that subnets are cut from.
#[derive(Debug)]
pub struct Pool {
    first: u32,
    prefix: u8,
    next: AtomicU32,
}

impl Pool {
    /// A pool of `prefix` bits at `first`; a run starts at a place of its own in it.
    ///
    /// # Errors
    /// A clause, if it has no room for a subnet or `first` is not its first address.
    pub fn new(first: Ipv4Addr, prefix: u8, run: &RunId) -> Result<Self, &'static str> {
        if !(8..=LARGEST).contains(&prefix) {
            return Err("must have a prefix of 8 to 24 bits");
        }
        let start = u32::from(first);
        if start & (u32::MAX >> prefix) != 0 {
            return Err("must start at the first address of its range");
        }
        let offset = u32::from_str_radix(&hex_hash(run.as_str().as_bytes(), 7), 16).unwrap_or(0);
        Ok(Self {
            first: start,
            prefix,
            next: AtomicU32::new(offset),
        })
    }

    /// The next subnet; after the last comes the first.
    fn next_subnet(&self, prefix: u8) -> Ipv4Addr {
        let count = 1 << (prefix - self.prefix);
        let index = self.next.fetch_add(1, Ordering::Relaxed) % count;
        Ipv4Addr::from(self.first + (index << (32 - prefix)))
    }
}

/// The networks of a run.
pub(super) struct Networks {
    run: RunId,
    owner: String,
    prefix: u8,
    made: OnceCell<()>,
    places: Vec<tokio::sync::Mutex<Option<Network>>>,
    free: Mutex<Vec<usize>>,
}

#[derive(Debug)]
struct Network {
    subnet: Ipv4Addr,
    next_host: u32,
}

/// A network that is one task's for as long as this lives: until its container has ended.
pub(super) struct Lease<'a> {
    networks: &'a Networks,
    index: usize,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.networks.free().push(self.index);
    }
}

impl Networks {
    /// Networks for `tasks` tasks, of which `at_once` run at a time. Nothing is made yet.
    pub(super) fn new(run: RunId, owner: String, tasks: usize, at_once: usize) -> Self {
        let hosts = u32::try_from(tasks).unwrap_or(u32::MAX).saturating_add(3);
        let bits = 32 - hosts.saturating_sub(1).leading_zeros();
        let prefix = 32 - u8::try_from(bits).unwrap_or(32);
        let count = tasks.min(at_once);
        Self {
            run,
            owner,
            prefix: prefix.clamp(LARGEST, SMALLEST),
            made: OnceCell::new(),
            places: (0..count).map(|_| tokio::sync::Mutex::default()).collect(),
            free: Mutex::new((0..count).rev().collect()),
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all networks that the engine was ever asked for.
    pub(super) fn names(&self) -> Vec<String> {
        let asked = if self.made.initialized() {
            self.places.len()
        } else {
            0
        };
        (0..asked)
            .map(|index| id::network_name(&self.run, index))
            .collect()
    }

    /// A network that nobody uses, and an address on it that nobody has had. The first call makes
    /// all networks of the run.
    pub(super) async fn lease<E: Engine>(
        &self,
        engine: &E,
        pool: &Pool,
    ) -> Result<(Lease<'_>, NetworkAttachment), StepError> {
        self.made.get_or_init(|| self.make_all(engine, pool)).await;
        let Some(index) = self.free().pop() else {
            return Err(StepError {
                stage: "network",
                message: "containers that could not be stopped hold all networks of the run".into(),
            });
        };
        let lease = Lease {
            networks: self,
            index,
        };
        let attachment = self.attachment(index, engine, pool).await;
        Ok((lease, attachment.map_err(StepError::engine("network"))?))
    }

    async fn make_all<E: Engine>(&self, engine: &E, pool: &Pool) {
        use futures::StreamExt as _;
        let made = futures::stream::iter(0..self.places.len()).map(|index| async move {
            let mut network = self.places[index].lock().await;
            // One that cannot be made is tried again, and told of, by the task that needs it.
            *network = self.make(index, engine, pool).await.ok();
        });
        made.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn attachment<E: Engine>(
        &self,
        index: usize,
        engine: &E,
        pool: &Pool,
    ) -> Result<NetworkAttachment, EngineError> {
        let mut place = self.places[index].lock().await;
        let last_host = (1_u32 << (32 - self.prefix)) - 2;
        place.take_if(|network| network.next_host > last_host);
        let network = match &mut *place {
            Some(network) => network,
            none => {
                engine
                    .remove_network(&id::network_name(&self.run, index))
                    .await?;
                none.insert(self.make(index, engine, pool).await?)
            }
        };
        let address = Ipv4Addr::from(u32::from(network.subnet) + network.next_host);
        network.next_host += 1;
        let name = id::network_name(&self.run, index);
        Ok(NetworkAttachment::Network { name, address })
    }

    /// Creates a network on the first subnet of the pool that is free on the engine's host.
    async fn make<E: Engine>(
        &self,
        index: usize,
        engine: &E,
        pool: &Pool,
    ) -> Result<Network, EngineError> {
        let mut labels = id::run_labels(&self.run, Role::Network);
        labels.push((id::label::OWNER.into(), self.owner.clone()));
        let mut config = NetworkConfig {
            name: id::network_name(&self.run, index),
            labels,
            subnet: Ipv4Addr::UNSPECIFIED,
            prefix: self.prefix,
        };
        let mut tries = 0;
        loop {
            config.subnet = pool.next_subnet(self.prefix);
            tries += 1;
            match engine.create_network(&config).await {
                Ok(()) => {
                    return Ok(Network {
                        subnet: config.subnet,
                        next_host: FIRST_HOST,
                    });
                }
                Err(error) if error.kind == ErrorKind::AddressInUse && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_id() -> RunId {
        "261120-101500-abcd".parse().expect("a run id")
    }

    #[test]
    fn a_pool_hands_out_every_subnet_before_one_comes_again() {
        let pool = Pool::new(Ipv4Addr::new(10, 213, 0, 0), 24, &run_id()).expect("a pool");
        let mut seen: Vec<_> = (0..16).map(|_| pool.next_subnet(28)).collect();
        let first = seen[0];
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 16);
        assert!(
            seen.iter()
                .all(|s| s.octets()[..3] == [10, 213, 0] && s.octets()[3] % 16 == 0)
        );
        assert_eq!(pool.next_subnet(28), first);
    }

    #[test]
    fn a_pool_that_has_no_room_or_starts_inside_itself_is_refused() {
        assert!(Pool::new(Ipv4Addr::new(10, 0, 0, 0), 25, &run_id()).is_err());
        assert!(Pool::new(Ipv4Addr::new(10, 0, 0, 16), 24, &run_id()).is_err());
    }

    #[test]
    fn a_network_has_room_for_all_tasks_that_may_pass_through_it() {
        let prefix = |tasks| Networks::new(run_id(), String::new(), tasks, 2).prefix;
        assert_eq!(
            [1, 13, 14, 100, 253, 5000].map(prefix),
            [28, 28, 27, 25, 24, 24]
        );
    }
}
