//! What the proxy's container says, line by line. Its words about hosts are the tasks'.

use std::net::Ipv4Addr;

use crate::sanitize;

/// Longest name of a host that is told, in bytes (RFC 1035).
const LONGEST: usize = 253;

/// A line of the proxy's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Both programs run, and what no list has is refused.
    Ready,
    /// A host of a list was not reached.
    Unreached {
        /// `host:port`.
        target: String,
        /// What the proxy answered; 0 where it did not.
        status: u16,
    },
    /// A connection was asked for.
    Asked(Asked),
    /// Anything else: a program's own words.
    Other,
}

/// A connection that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who asked.
    pub source: Ipv4Addr,
    /// The host, in lower case; untrusted, sanitised. `-` where the request had none.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What became of it.
    pub verdict: Verdict,
}

/// What the proxy decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It let it pass, whether or not it came through.
    Passed,
    /// It refused it.
    Denied,
}

impl Said {
    /// Reads a line.
    pub fn read(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let said = match *words.as_slice() {
            ["ready"] => Some(Self::Ready),
            ["unreached", target, status] => status.parse().ok().map(|status| Self::Unreached {
                target: target.to_owned(),
                status,
            }),
            ["egress", source, result, status, host, port] => {
                asked(source, (result, status), (host, port))
            }
            _ => None,
        };
        said.unwrap_or(Self::Other)
    }
}

fn asked(source: &str, (result, status): (&str, &str), (host, port): (&str, &str)) -> Option<Said> {
    let is_name = (1..=LONGEST).contains(&host.len()) && host != "-";
    // The proxy refuses what it cannot read as well: that has no host. One who hangs up asked for nothing.
    let is_unreadable = !is_name && status.starts_with('4');
    let verdict = match (result.contains("DENIED") || is_unreadable, is_name) {
        (true, _) => Verdict::Denied,
        (false, true) => Verdict::Passed,
        (false, false) => return None,
    };
    Some(Said::Asked(Asked {
        source: source.parse().ok()?,
        host: if is_name {
            sanitize::line(host.to_ascii_lowercase().as_bytes(), false)
        } else {
            "-".to_owned()
        },
        port: port.parse().unwrap_or_default(),
        verdict,
    }))
}
