//! The one network that tasks of all runs on an engine share, on which none can reach another.
//!
//! Measured with Docker 20.10: making or removing any network opens the way between all others for
//! some milliseconds. On one bridge no such way exists, and containers of it are kept apart by a rule
//! that stays. So there is one for all runs: the first makes it, the last that is done removes it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Mutex;

use super::StepError;
use super::clean::Cleaner;
use super::teardown::remove_network;
use crate::engine::config::{NetworkAttachment, NetworkConfig};
use crate::engine::{Engine, EngineError, ErrorKind, OwnedKind, OwnedObject};
use crate::id::{self, RunId, hex_hash};

/// Prefix length of the network's subnet where the pool has room for it: 4093 containers.
const PREFIX: u8 = 20;
/// The longest prefix of a pool: 253 containers.
const LONGEST: u8 = 24;
/// The first host number for containers; 0 is the subnet, 1 the gateway, the last one broadcast.
const FIRST_HOST: u32 = 2;
/// How many taken subnets are passed over before giving up.
const SUBNETS: usize = 512;

/// The range that the network is cut from.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    first: u32,
    prefix: u8,
}

impl Default for Pool {
    /// 10.213.0.0/16.
    fn default() -> Self {
        Self {
            first: u32::from(Ipv4Addr::new(10, 213, 0, 0)),
            prefix: 16,
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

impl FromStr for Pool {
    type Err = &'static str;

    fn from_str(cidr: &str) -> Result<Self, Self::Err> {
        let parsed = cidr.split_once('/').and_then(|(first, prefix)| {
            let first: Ipv4Addr = first.parse().ok()?;
            Some((u32::from(first), prefix.parse().ok()?))
        });
        let (first, prefix) = parsed.ok_or("give a range such as 10.213.0.0/16")?;
        if !(8..=LONGEST).contains(&prefix) {
            return Err("its prefix must have 8 to 24 bits");
        }
        if first & (u32::MAX >> prefix) != 0 {
            return Err("it must start at the first address of its range");
        }
        Ok(Self { first, prefix })
    }
}

impl Pool {
    /// Whether a range has addresses of it.
    pub fn overlaps(self, first: Ipv4Addr, prefix: u8) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(prefix)));
        (u32::from(first) ^ self.first) & mask.unwrap_or(0) == 0
    }

    /// Whether a network of this name is one that is cut from it.
    pub(super) fn has(self, name: &str) -> bool {
        self.subnets().any(|subnet| subnet.network() == name)
    }

    /// The subnets that a network may have, in the order in which every run tries them.
    fn subnets(self) -> impl Iterator<Item = Subnet> {
        let prefix = self.prefix.max(PREFIX);
        (0..1_u32 << (prefix - self.prefix)).map(move |index| Subnet {
            first: Ipv4Addr::from(self.first + (index << (32 - prefix))),
            prefix,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    first: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    fn network(self) -> String {
        id::network_name(self.first, self.prefix)
    }

    /// The address of the `n`th container; after the last comes the first.
    fn address(self, n: u32) -> Ipv4Addr {
        let hosts = (1 << (32 - self.prefix)) - FIRST_HOST - 1;
        Ipv4Addr::from(u32::from(self.first) + FIRST_HOST + n % hosts)
    }
}

/// A run's view of the network.
pub(super) struct Network {
    pool: Pool,
    known: Mutex<Known>,
    next: AtomicU32,
}

/// What a run knows of the network.
#[derive(Debug, Clone, Copy, Default)]
enum Known {
    /// It was never asked for.
    #[default]
    Nothing,
    /// It was asked for, and the engine did not say that it is there.
    Asked(Subnet),
    /// It is there, or was.
    Made(Subnet),
}

impl Network {
    /// Nothing is made yet.
    pub(super) fn new(pool: Pool, run: &RunId) -> Self {
        Self::starting(pool, run.as_str())
    }

    /// The same for what is tried beside a run: its addresses are not those that the run takes next.
    pub(super) fn beside(pool: Pool, run: &RunId) -> Self {
        Self::starting(pool, &format!("beside {run}"))
    }

    fn starting(pool: Pool, seed: &str) -> Self {
        // A new container that gets the address of one that has just gone gets its late packets
        // too: addresses go round, and each run starts at another.
        let start = u32::from_str_radix(&hex_hash(seed.as_bytes(), 7), 16).unwrap_or(0);
        Self {
            pool,
            known: Mutex::default(),
            next: AtomicU32::new(start),
        }
    }

    /// The next address on the network, which is made where it is not there.
    pub(super) async fn attachment<E: Engine>(
        &self,
        engine: &E,
    ) -> Result<NetworkAttachment, EngineError> {
        let mut known = self.known.lock().await;
        let subnet = match *known {
            Known::Made(subnet) => subnet,
            Known::Nothing | Known::Asked(_) => ensure(engine, self.pool, &mut known).await?,
        };
        Ok(NetworkAttachment::Network {
            name: subnet.network(),
            address: subnet.address(self.next.fetch_add(1, Ordering::Relaxed)),
        })
    }

    /// The address of the engine's host on the network; none while it is not there.
    pub(super) async fn gateway(&self) -> Option<Ipv4Addr> {
        match *self.known.lock().await {
            Known::Made(subnet) => Some(Ipv4Addr::from(u32::from(subnet.first) + 1)),
            Known::Nothing | Known::Asked(_) => None,
        }
    }

    /// Says that the network is not there any more: another run was the last to use it.
    pub(super) async fn has_gone(&self) {
        *self.known.lock().await = Known::Nothing;
    }

    /// Removes the network if no container of any run is on it.
    ///
    /// # Errors
    /// As of [`remove_network`].
    pub(super) async fn release<E: Engine>(&self, engine: &E) -> Result<(), EngineError> {
        match *self.known.lock().await {
            Known::Nothing => Ok(()),
            Known::Asked(subnet) | Known::Made(subnet) => {
                remove_network(engine, &subnet.network()).await
            }
        }
    }
}

/// Finds the network, or makes it on the first subnet of the pool that is free.
async fn ensure<E: Engine>(
    engine: &E,
    pool: Pool,
    known: &mut Known,
) -> Result<Subnet, EngineError> {
    let mut last = None;
    for subnet in pool.subnets().take(SUBNETS) {
        *known = Known::Asked(subnet);
        let config = NetworkConfig {
            name: subnet.network(),
            labels: id::network_labels(),
            subnet: subnet.first,
            prefix: subnet.prefix,
        };
        match engine.create_network(&config).await {
            Err(error) if error.kind == ErrorKind::AddressInUse => last = Some(error),
            Err(error) if error.kind != ErrorKind::NameInUse => return Err(error),
            // Another run's is as good as our own.
            Ok(()) | Err(_) => {
                *known = Known::Made(subnet);
                return Ok(subnet);
            }
        }
    }
    Err(last.expect("a pool has a subnet, so that one was tried"))
}

/// What became of networks that no container uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CleanedNetworks {
    /// The names of those that were removed.
    pub removed: Vec<String>,
    /// What could not be removed, each a sentence.
    pub problems: Vec<String>,
    /// What the engine keeps until it is restarted, each a sentence: nobody can do anything about it before.
    pub held: Vec<String>,
}

impl<E: Engine> Cleaner<E> {
    /// Removes the networks of such names that no container uses.
    pub async fn remove_networks(&self, wanted: impl Fn(&str) -> bool) -> CleanedNetworks {
        let mut cleaned = CleanedNetworks::default();
        for object in self.networks().filter(|network| wanted(&network.name)) {
            let error = match self.engine.remove_network(&object.name).await {
                Ok(()) => {
                    cleaned.removed.push(object.name.clone());
                    continue;
                }
                // Of a run that lives.
                Err(error) if error.kind == ErrorKind::InUse => continue,
                Err(error) => error,
            };
            let told = StepError::new("remove", &error).message;
            match error.kind {
                ErrorKind::HeldByNobody => cleaned.held.push(told),
                _ => cleaned.problems.push(told),
            }
        }
        cleaned
    }

    /// The networks, which belong to no run: removed when nobody uses them.
    pub fn networks(&self) -> impl Iterator<Item = &OwnedObject> {
        self.owned.iter().filter(|o| o.kind == OwnedKind::Network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_cut_into_networks_in_one_order() {
        let pool = Pool::default();
        let names: Vec<_> = pool.subnets().map(Subnet::network).collect();
        assert_eq!(names.len(), 16);
        assert_eq!(names[0], "agent-run-net-10.213.0.0-20");
        assert_eq!(names[15], "agent-run-net-10.213.240.0-20");
        let small: Pool = "10.9.8.0/24".parse().expect("a pool");
        let names: Vec<_> = small.subnets().map(Subnet::network).collect();
        assert_eq!(names, ["agent-run-net-10.9.8.0-24"]);
    }

    #[test]
    fn ranges_overlap_where_one_holds_the_other() {
        let overlaps = |text: &str, prefix| {
            Pool::default().overlaps(text.parse().expect("an address"), prefix)
        };
        assert!(overlaps("10.213.7.0", 24) && overlaps("10.0.0.0", 8) && overlaps("0.0.0.0", 0));
        assert!(overlaps("10.213.0.1", 32) && overlaps("10.213.0.0", 16));
        assert!(
            !overlaps("10.212.0.0", 16) && !overlaps("11.0.0.0", 8) && !overlaps("10.214.0.1", 32)
        );
    }

    #[test]
    fn a_pool_is_a_range_with_room_for_a_network() {
        let read = |text: &str| text.parse().map(|pool: Pool| pool.to_string());
        assert_eq!(read("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/x",
            "10.0.0/16",
            "10.0.0.0/25",
            "10.0.0.16/24",
            "10.0.0.0/7",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_address_comes_before_one_comes_again() {
        let first = Ipv4Addr::new(10, 9, 8, 0);
        let subnet = Subnet { first, prefix: 24 };
        let start = u32::MAX / 2;
        let mut seen: Vec<_> = (0..253).map(|n| subnet.address(start + n)).collect();
        assert_eq!(subnet.address(start + 253), seen[0]);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 253);
        assert_eq!(seen[0], Ipv4Addr::new(10, 9, 8, 2));
        assert_eq!(seen[252], Ipv4Addr::new(10, 9, 8, 254));
    }
}
