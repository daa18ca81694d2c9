//! `doctor --firewall`: the commands that keep tasks on the bridge from the engine's host, from metadata
//! services and from private networks. It only prints them: what a machine lets pass is its owner's.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::runner::Pool;

/// Where name servers are, and where systemd-resolved has those that it asks itself: the engine reads the
/// latter where the former names only that (moby `libnetwork/resolvconf`).
const RESOLV_CONF: &str = "/etc/resolv.conf";
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The chains of the rules, so that they are found and removed again.
const FORWARDED: &str = "AGENT-RUN";
const TO_HOST: &str = "AGENT-RUN-HOST";

/// What tasks need no way to, and why.
const CLOSED: [(&str, &str); 5] = [
    (
        "169.254.0.0/16",
        "Metadata of clouds, and what else is link-local",
    ),
    (
        "100.64.0.0/10",
        "Networks of providers and VPNs (RFC 6598), with the metadata service 100.100.100.200",
    ),
    ("10.0.0.0/8", "Private networks (RFC 1918)"),
    (
        "172.16.0.0/12",
        "Private networks, with those of other containers",
    ),
    ("192.168.0.0/16", "Private networks"),
];

/// The name servers of this machine that its containers ask by their own address; those on loopback the
/// engine asks for them.
pub(super) fn name_servers() -> Vec<Ipv4Addr> {
    let read = |path: &str| read_name_servers(&std::fs::read_to_string(path).unwrap_or_default());
    let named = read(RESOLV_CONF);
    let is_resolved = named
        .iter()
        .all(|server| server.octets() == [127, 0, 0, 53]);
    let servers = if !named.is_empty() && is_resolved && Path::new(BEHIND_RESOLVED).exists() {
        read(BEHIND_RESOLVED)
    } else {
        named
    };
    servers
        .into_iter()
        .filter(|server| !server.is_loopback())
        .collect()
}

/// The name servers of a resolv.conf(5), those with IPv4 addresses.
fn read_name_servers(text: &str) -> Vec<Ipv4Addr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(server).collect()
}

/// The commands, each with what it is for. `resolvers` are let pass.
pub(super) fn rules(pool: Pool, resolvers: &[Ipv4Addr]) -> String {
    let again = command(pool);
    let mut text = format!(
        "# Keeps tasks with `network_mode: bridge` ({pool}) from the engine's machine, from metadata services\n\
         # and from private networks; the internet stays open. For root on that machine, as by\n\
         #   {again} | sudo sh -e\n\
         # Its name servers are taken to be those of this machine. It lasts until the next boot. agent-run\n\
         # itself changes nothing. There is nothing for IPv6: the network of tasks has none.\n"
    );
    let mut line = |what: &str, command: &str| {
        // Writing to a string cannot fail.
        let _ = write!(text, "# {what}\n{command}\n");
    };
    line(
        "Chains of their own: for what is sent on, and for what is meant for the machine",
        &format!("iptables -w -N {FORWARDED}\niptables -w -N {TO_HOST}"),
    );
    for chain in [FORWARDED, TO_HOST] {
        line(
            "Answers pass",
            &format!("iptables -w -A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"),
        );
        for server in resolvers {
            for protocol in ["udp", "tcp"] {
                line(
                    "The name server, which tasks ask by way of the engine",
                    &format!(
                        "iptables -w -A {chain} -d {server} -p {protocol} --dport 53 -j RETURN"
                    ),
                );
            }
        }
    }
    for (range, what) in CLOSED {
        line(
            what,
            &format!("iptables -w -A {FORWARDED} -d {range} -j DROP"),
        );
    }
    line(
        "All of the machine itself, at each of its addresses",
        &format!("iptables -w -A {TO_HOST} -j DROP"),
    );
    line(
        "From now on, for what tasks send: before the engine's own rules",
        &format!("iptables -w -I DOCKER-USER -s {pool} -j {FORWARDED}"),
    );
    line(
        "From now on, for what tasks send to the machine: before all else",
        &format!("iptables -w -I INPUT -s {pool} -j {TO_HOST}"),
    );
    text += "#\n# To remove all of it:\n";
    for command in removal(pool) {
        let _ = writeln!(text, "#   {command}");
    }
    text
}

/// What undoes the commands.
fn removal(pool: Pool) -> Vec<String> {
    let jumps = [("DOCKER-USER", FORWARDED), ("INPUT", TO_HOST)];
    let unhook = jumps.map(|(from, chain)| format!("iptables -w -D {from} -s {pool} -j {chain}"));
    let drop =
        [FORWARDED, TO_HOST].map(|chain| format!("iptables -w -F {chain}; iptables -w -X {chain}"));
    unhook.into_iter().chain(drop).collect()
}

/// How somebody gets to see the commands for a pool.
pub(in crate::cli) fn command(pool: Pool) -> String {
    let pool = pool.to_string();
    if pool == Pool::default().to_string() {
        "agent-run doctor --firewall".to_owned()
    } else {
        format!("agent-run doctor --firewall --network-pool {pool}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_is_for_and_is_undone_by_another() {
        let text = rules(Pool::default(), &[Ipv4Addr::new(10, 0, 0, 2)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with(['#', 'i'])));
        let is_open = |line: &&&str| {
            line.contains("-d 10.0.0.2 -p ") && line.contains("--dport 53 -j RETURN")
        };
        assert_eq!(lines.iter().filter(is_open).count(), 4, "{text}");
        // Before what closes the range that it is in.
        let place = |words: &str| lines.iter().position(|line| line.contains(words));
        assert!(
            place("AGENT-RUN -d 10.0.0.2") < place("AGENT-RUN -d 10.0.0.0/8"),
            "{text}"
        );
        for made in lines
            .iter()
            .filter_map(|line| line.strip_prefix("iptables -w -I "))
        {
            assert!(
                text.contains(&format!("#   iptables -w -D {made}\n")),
                "{made}: {text}"
            );
        }
        for chain in [FORWARDED, TO_HOST] {
            let gone = format!("#   iptables -w -F {chain}; iptables -w -X {chain}\n");
            assert!(text.contains(&gone), "{text}");
        }
    }

    #[test]
    fn name_servers_are_those_with_addresses_of_ipv4() {
        let text = "# nameserver 1.1.1.1\nsearch example\nnameserver 10.0.0.2\nnameserver fe80::1%2\n nameserver\t127.0.0.53 x\nnameserver\n";
        let expected = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 53)];
        assert_eq!(read_name_servers(text), expected);
    }
}
