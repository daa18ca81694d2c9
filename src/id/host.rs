//! Hosts that a task may reach, as an allow-list names them.

use std::str::FromStr;

use super::{HostPattern, InvalidName, invalid};

/// Longest name of a host and of one of its labels, in bytes (RFC 1035).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;
/// The ports of a host that is named without one: those of HTTP and HTTPS.
const WEB: &[u16] = &[80, 443];

impl HostPattern {
    /// The host, or what comes before all of its names where [`Self::is_wildcard`]; lower case, ASCII.
    pub fn host(&self) -> &str {
        let host = self.0.strip_prefix("*.").unwrap_or(&self.0);
        host.split(':').next().unwrap_or_default()
    }

    /// Whether it stands for every name that ends in `.` and [`Self::host`], and not for that itself.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The ports that it may be reached at.
    pub fn ports(&self) -> Vec<u16> {
        let port = self
            .0
            .split_once(':')
            .and_then(|(_, port)| port.parse().ok());
        port.map_or_else(|| WEB.to_vec(), |port| vec![port])
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    /// `host`, `*.host` or either with `:port`; brought to lower case and ASCII (RFC 5891), so that
    /// both spellings of an international name are the same.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("host", text, problem));
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.contains("://") {
            return refuse(
                "is a URL; name the host alone, such as example.com or example.com:8443",
            );
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse("has blanks or control characters");
        }
        if text.contains(['/', '@', '?', '#', '\\']) {
            return refuse("is more than a host; name the host alone, such as example.com");
        }
        if text.matches(':').count() > 1 || text.starts_with('[') {
            return refuse("is an address; name the host: addresses change");
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let port = match port.map(parse_port) {
            None => None,
            Some(Some(port)) => Some(port),
            Some(None) => return refuse("has a port that is none from 1 to 65535"),
        };
        let (is_wildcard, name) = match name.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        if name.contains('*') {
            return refuse("has a `*` that is not the whole first part, as in *.example.com");
        }
        let Ok(host) = idna::domain_to_ascii(name.strip_suffix('.').unwrap_or(name)) else {
            return refuse("is no host name");
        };
        let labels: Vec<&str> = host.split('.').collect();
        if host.len() > LONGEST || !labels.iter().all(|label| is_label(label)) {
            return refuse("is no host name");
        }
        if is_address(&labels) {
            return refuse("is an address; name the host: addresses change");
        }
        match (labels.len(), is_wildcard) {
            (1, false) => refuse("has no dot: nothing outside is called so"),
            (1, true) => {
                refuse("stands for everything below a top-level domain; name one more part")
            }
            _ => {
                let star = if is_wildcard { "*." } else { "" };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                Ok(Self(format!("{star}{host}{port}")))
            }
        }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number)?;
    (port != 0).then_some(port)
}

fn is_label(label: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether programs read a name as an IPv4 address: its last part is a number, in any notation.
fn is_address(labels: &[&str]) -> bool {
    let last = labels.last().copied().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x");
    last.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        let read = text.parse::<HostPattern>();
        read.map(Into::into).map_err(|error| error.problem)
    }

    #[test]
    fn hosts_are_brought_to_one_spelling() {
        for (text, wanted) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("example.com:8443", "example.com:8443"),
            ("*.example.com:22", "*.example.com:22"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("*.bücher.example", "*.xn--bcher-kva.example"),
            ("a_b.example.com", "a_b.example.com"),
            ("1.example.com", "1.example.com"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (text, why) in [
            ("", "is empty"),
            ("http://x.example", "is a URL"),
            ("x.example/path", "is more than a host"),
            ("user@x.example", "is more than a host"),
            ("x y.example", "has blanks"),
            ("x.example\0", "has blanks or control"),
            ("*", "has a `*`"),
            ("*.com", "stands for everything"),
            ("a.*.com", "has a `*`"),
            ("*x.example.com", "has a `*`"),
            ("localhost", "has no dot"),
            ("x.example:0", "has a port"),
            ("x.example:65536", "has a port"),
            ("x.example:+1", "has a port"),
            ("x.example:", "has a port"),
            ("x.example:http", "has a port"),
            ("127.0.0.1", "is an address"),
            ("127.1", "is an address"),
            ("0x7f.0.0.0x1", "is an address"),
            ("*.0.0.1", "is an address"),
            ("::1", "is an address"),
            ("[::1]:443", "is an address"),
            ("a..example", "is no host name"),
            (".example.com", "is no host name"),
            ("-a.example", "is no host name"),
            ("xn--\u{df}.example", "is no host name"),
            ("xn--a.example", "is no host name"),
            (&format!("{}.example", "x".repeat(64)), "is no host name"),
            (&"abc.".repeat(64), "is no host name"),
        ] {
            let problem = read(text).expect_err(text);
            assert!(problem.starts_with(why), "{text}: {problem}");
        }
    }

    #[test]
    fn a_pattern_has_a_host_and_ports() {
        let pattern: HostPattern = "*.example.com:8443".parse().expect("a host");
        assert_eq!(
            (pattern.host(), pattern.is_wildcard()),
            ("example.com", true)
        );
        assert_eq!(pattern.ports(), [8443]);
        let pattern: HostPattern = "example.com".parse().expect("a host");
        assert_eq!(
            (pattern.host(), pattern.is_wildcard()),
            ("example.com", false)
        );
        assert_eq!(pattern.ports(), [80, 443]);
    }
}
