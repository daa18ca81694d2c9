//! The way out of tasks with an allow-list: what the proxy's container is configured with, and what it
//! says. Pure.
//!
//! A task with a list has no network. What it has is a socket, one per task, at which the proxy's
//! container listens: a forwarder in the task's container carries connections from its loopback
//! to that, so that its programs find a proxy as any other. In the proxy's container `HAProxy` hands
//! each socket's connections to Squid, with an address of the loopback that is the task's own: by
//! that Squid tells tasks apart, and by the names of hosts it decides. It knows names by dnsmasq, which
//! keeps the addresses of the inside from it.

mod said;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

pub use said::{Asked, Said, Verdict};

use crate::id::HostPattern;

/// What the proxy's container runs, with `bash`.
pub const ENTRY: &str = include_str!("entry.sh");
/// What that tries the proxy with, by `perl`.
pub const TRIAL: &str = include_str!("trial.pl");
/// Where the container has these files and its configuration.
pub const PROXY_FILES: &str = "/agent/proxy";
/// Where it has what it shares with tasks: a directory for each, and the forwarder's.
pub const SHARED: &str = "/egress";
/// The directory of the forwarder, and where a task has it.
pub const FORWARDER: &str = "forward";
/// Where a task has its socket.
pub const WAY: &str = "/agent/egress";
/// Where a task has the forwarder.
pub const FORWARDER_INSIDE: &str = "/agent/forward";

/// What its container may use, in bytes.
pub const MEMORY: i64 = 256 << 20;

/// Where the forwarder listens, in a task's container.
const PROXY: &str = "http://127.0.0.1:3128";
/// What needs no proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";
/// Connections of a task at once.
const CONNECTIONS: usize = 512;
/// The address that stands for nobody's task; those of tasks come after it.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// What no task reaches by way of the proxy, whatever name has such an address: this host and the ones
/// around it, their networks, and the metadata of clouds (IANA's registries of special-purpose
/// addresses, RFC 6890; of IPv6 all but what is global).
const INSIDE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/3",
    "2001::/32",
    "2002::/16",
    "4000::/2",
    "8000::/1",
];
/// How many addresses a line of the configuration has.
const IN_A_LINE: usize = 64;
/// How many hosts of a list are tried.
const TRIALS: usize = 3;

/// The lists of a run: of each task that has one, by the task's place in the plan.
#[derive(Debug, Clone, Default)]
pub struct Lists(BTreeMap<usize, Vec<HostPattern>>);

impl FromIterator<(usize, Vec<HostPattern>)> for Lists {
    fn from_iter<T: IntoIterator<Item = (usize, Vec<HostPattern>)>>(lists: T) -> Self {
        Self(lists.into_iter().collect())
    }
}

/// The directory of a task's socket, by the task's place in the plan.
pub fn way(task: usize) -> String {
    format!("way-{task}")
}

/// The variables by which programs in a task's container find the proxy. Some read one spelling, some
/// the other; Node.js reads them where it is asked to.
pub fn environment() -> Vec<(String, String)> {
    let names = [
        ("HTTP_PROXY", PROXY),
        ("HTTPS_PROXY", PROXY),
        ("NO_PROXY", NO_PROXY),
    ];
    let both = names.into_iter().flat_map(|(name, value)| {
        let spellings = [name.to_lowercase(), name.to_owned()];
        spellings.map(|name| (name, value.to_owned()))
    });
    let own = ("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned());
    both.chain([own]).collect()
}

/// The configuration of what tells the proxy the addresses of names: none of the inside.
pub fn dnsmasq() -> String {
    let mut text = "port=53\nlisten-address=127.0.0.1\nbind-interfaces\nno-hosts\nno-negcache\n\
                    cache-size=1000\nuser=\ngroup=\npid-file=\n"
        .to_owned();
    for range in INSIDE {
        let _ = writeln!(text, "bogus-nxdomain={range}");
    }
    text
}

/// The configuration of the forwarder.
pub fn forwarder() -> String {
    haproxy(&listen(
        "forward",
        "127.0.0.1:3128",
        "unix@/agent/egress/proxy.sock",
    ))
}

impl Lists {
    /// Whether no task has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places of the tasks that have one.
    pub fn tasks(&self) -> impl Iterator<Item = usize> {
        self.0.keys().copied()
    }

    /// The configuration of what hands each task's connections on.
    pub fn haproxy(&self) -> String {
        let to = |source: Ipv4Addr| format!("127.0.0.1:3128 source {source}");
        let mut text = listen("trial", "unix@/tmp/trial.sock", &to(FIRST_SOURCE));
        for task in self.tasks() {
            let name = way(task);
            let from = format!("unix@{SHARED}/{name}/proxy.sock mode 666");
            text += &listen(&name, &from, &to(source(task)));
        }
        haproxy(&text)
    }

    /// The configuration of what decides.
    pub fn squid(&self) -> String {
        let mut text = include_str!("squid.conf").to_owned();
        for range in INSIDE {
            let _ = writeln!(text, "acl inside dst {range}");
        }
        for (number, (list, tasks)) in self.distinct().iter().enumerate() {
            let mut sources = vec![FIRST_SOURCE];
            sources.extend(tasks.iter().map(|task| source(*task)));
            for sources in sources.chunks(IN_A_LINE) {
                let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "acl tasks{number} src {}", sources.join(" "));
            }
            rules(&mut text, number, list);
        }
        text + "http_access deny all\n"
    }

    /// The hosts that are tried: of each list the first that are whole names, `host:port` each.
    pub fn trials(&self) -> Vec<String> {
        let mut trials = Vec::new();
        for list in self.distinct().keys() {
            let names = list.iter().filter(|pattern| !pattern.is_wildcard());
            let names = names.filter_map(|p| Some(format!("{}:{}", p.host(), p.ports().last()?)));
            trials.extend(names.take(TRIALS));
        }
        trials.sort();
        trials.dedup();
        trials
    }

    /// The task that an address of the loopback stands for.
    pub fn task(&self, source: Ipv4Addr) -> Option<usize> {
        let offset = source.to_bits().checked_sub(FIRST_SOURCE.to_bits() + 1)?;
        let task = usize::try_from(offset).ok()?;
        self.0.contains_key(&task).then_some(task)
    }

    /// Each list once, with the tasks that have it.
    fn distinct(&self) -> BTreeMap<&[HostPattern], Vec<usize>> {
        let mut distinct: BTreeMap<&[HostPattern], Vec<usize>> = BTreeMap::new();
        for (task, list) in &self.0 {
            distinct.entry(list).or_default().push(*task);
        }
        distinct
    }
}

/// The address that a task's connections come from.
fn source(task: usize) -> Ipv4Addr {
    let offset = u32::try_from(task).unwrap_or(u32::MAX >> 10);
    Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + 1 + offset)
}

/// What lets the tasks of a list pass, by the ports of its hosts.
fn rules(text: &mut String, number: usize, list: &[HostPattern]) {
    let mut by_ports: BTreeMap<Vec<u16>, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for pattern in list {
        let (names, ends) = by_ports.entry(pattern.ports()).or_default();
        if pattern.is_wildcard() {
            let end = pattern.host().replace('.', r"\.");
            ends.push(format!(r"^([-_a-z0-9]+\.)+{end}$"));
        } else {
            names.push(pattern.host());
        }
    }
    for (part, (ports, (names, ends))) in by_ports.iter().enumerate() {
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "acl ports{number}-{part} port {}", ports.join(" "));
        // `-n`: an address is no name, whatever the one who has it calls himself.
        for name in names {
            let _ = writeln!(text, "acl names{number}-{part} dstdomain -n {name}");
        }
        for end in ends {
            let _ = writeln!(text, "acl ends{number}-{part} dstdom_regex -n -i {end}");
        }
        for (kind, is_empty) in [("names", names.is_empty()), ("ends", ends.is_empty())] {
            if !is_empty {
                // In this order: only a name that is on the list is looked up.
                let _ = writeln!(
                    text,
                    "http_access allow tasks{number} ports{number}-{part} {kind}{number}-{part} !inside"
                );
            }
        }
    }
}

fn listen(name: &str, from: &str, to: &str) -> String {
    format!("listen {name}\n    bind {from}\n    server next {to}\n")
}

/// A configuration of `HAProxy` that only carries bytes: what its own HTTP client would trust is not read
/// at its start.
fn haproxy(listeners: &str) -> String {
    format!(
        "global\n    nbthread 1\n    httpclient.ssl.verify none\ndefaults\n    mode tcp\n    retries 0\n    \
         maxconn {CONNECTIONS}\n    timeout connect 10s\n    timeout client 1d\n    timeout server 1d\n{listeners}"
    )
}
