//! What the proxy's container says, line by line. Its words about hosts are the tasks'.

use std::net::Ipv4Addr;

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
    Asked {
        /// Who asked.
        source: Ipv4Addr,
        /// The host; untrusted. None where the request had none.
        host: Option<String>,
        /// The port.
        port: u16,
        /// What became of it.
        verdict: Verdict,
    },
    /// Anything else: a program's own words.
    Other,
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
    Some(Said::Asked {
        source: source.parse().ok()?,
        host: is_name.then(|| host.to_ascii_lowercase()),
        port: port.parse().unwrap_or_default(),
        verdict,
    })
}
