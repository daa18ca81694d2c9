//! Networks: one per slot of a run, with addresses of our own.
//!
//! The engine's default pools end at about 30 networks, and a new container would get the address,
//! the MAC and the live conntrack entries of the last one. So subnets are small and ours, addresses
//! go round, and none is used twice until the pool is used up.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::config::{NetworkAttachment, NetworkConfig};
use crate::engine::{Engine, EngineError, ErrorKind};
use crate::id::{self, Role, RunId, hex_hash};

/// Prefix length of a slot's subnet: 16 addresses, 13 of them for containers.
const PREFIX: u8 = 28;
/// The first and last host number for containers; 0 is the subnet, 1 the gateway, 15 broadcast.
const FIRST_HOST: u32 = 2;
const LAST_HOST: u32 = 14;
/// How many taken subnets are passed over before giving up.
const TRIES: usize = 512;

/// The range that subnets are cut from.
#[derive(Debug)]
pub struct Pool {
    first: u32,
    count: u32,
    next: AtomicU32,
}

impl Pool {
    /// A pool of `prefix` bits at `first`; a run starts at a place of its own in it.
    ///
    /// # Errors
    /// A clause, if it has no room for a subnet or `first` is not its first address.
    pub fn new(first: Ipv4Addr, prefix: u8, run: &RunId) -> Result<Self, &'static str> {
        if !(8..=PREFIX).contains(&prefix) {
            return Err("must have a prefix of 8 to 28 bits");
        }
        let start = u32::from(first);
        if start & (u32::MAX >> prefix) != 0 {
            return Err("must start at the first address of its range");
        }
        let count = 1 << (PREFIX - prefix);
        let offset = u32::from_str_radix(&hex_hash(run.as_str().as_bytes(), 7), 16).unwrap_or(0);
        Ok(Self {
            first: start,
            count,
            next: AtomicU32::new(offset),
        })
    }

    fn next_subnet(&self) -> Ipv4Addr {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.count;
        Ipv4Addr::from(self.first + index * 16)
    }
}

/// A place for one running task, and its network once it has needed one.
#[derive(Debug)]
pub(super) struct Slot {
    index: usize,
    network: Option<SlotNetwork>,
    /// Whether the engine was ever asked for its network: it may be there though that failed.
    asked: bool,
}

#[derive(Debug)]
struct SlotNetwork {
    subnet: Ipv4Addr,
    next_host: u32,
}

impl Slot {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            network: None,
            asked: false,
        }
    }

    /// The name of its network, if there may be one.
    pub(super) fn network_name(&self, run: &RunId) -> Option<String> {
        self.asked.then(|| id::network_name(run, self.index))
    }

    /// The next address of its network, which is made where it is missing or used up.
    pub(super) async fn attachment<E: Engine>(
        &mut self,
        engine: &E,
        run: &RunId,
        pool: &Pool,
        owner: &str,
    ) -> Result<NetworkAttachment, EngineError> {
        let name = id::network_name(run, self.index);
        let used_up = |network: &SlotNetwork| network.next_host > LAST_HOST;
        self.network.take_if(|network| used_up(network));
        if self.asked && self.network.is_none() {
            engine.remove_network(&name).await?;
        }
        self.asked = true;
        let network = match &mut self.network {
            Some(network) => network,
            none => none.insert(SlotNetwork {
                subnet: create(engine, run, &name, pool, owner).await?,
                next_host: FIRST_HOST,
            }),
        };
        let address = Ipv4Addr::from(u32::from(network.subnet) + network.next_host);
        network.next_host += 1;
        Ok(NetworkAttachment::Network { name, address })
    }
}

/// Creates a network on the first subnet of the pool that is free on the engine's host.
async fn create<E: Engine>(
    engine: &E,
    run: &RunId,
    name: &str,
    pool: &Pool,
    owner: &str,
) -> Result<Ipv4Addr, EngineError> {
    let mut labels = id::run_labels(run, Role::Network);
    labels.push((id::label::OWNER.into(), owner.into()));
    let mut tries = 0;
    loop {
        let subnet = pool.next_subnet();
        let config = NetworkConfig {
            name: name.into(),
            labels: labels.clone(),
            subnet,
            prefix: PREFIX,
        };
        tries += 1;
        match engine.create_network(&config).await {
            Ok(()) => return Ok(subnet),
            Err(error) if error.kind == ErrorKind::AddressInUse && tries < TRIES => {}
            Err(error) => return Err(error),
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
        let mut seen: Vec<_> = (0..16).map(|_| pool.next_subnet()).collect();
        let first = seen[0];
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 16);
        assert!(
            seen.iter()
                .all(|s| s.octets()[..3] == [10, 213, 0] && s.octets()[3] % 16 == 0)
        );
        assert_eq!(pool.next_subnet(), first);
    }

    #[test]
    fn a_pool_that_has_no_room_or_starts_inside_itself_is_refused() {
        assert!(Pool::new(Ipv4Addr::new(10, 0, 0, 0), 29, &run_id()).is_err());
        assert!(Pool::new(Ipv4Addr::new(10, 0, 0, 16), 24, &run_id()).is_err());
    }
}
