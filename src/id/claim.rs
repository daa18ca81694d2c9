//! Keys of claims, and the refs that hold them.

use std::str::FromStr;

use super::{ClaimKey, InvalidName, invalid, is_bidi};

/// Longest key, in bytes: percent-encoded it still fits into a file name.
const LONGEST: usize = 80;

impl ClaimKey {
    /// What the names of all claims' refs begin with, in the user's repository and on a remote.
    pub const PREFIX: &str = "refs/agent-run/claims/";

    /// The ref that holds the claim. Every key has one, and no two share one: what git refuses in
    /// a ref's name is percent-encoded, and what would make one ref the directory of another.
    pub fn ref_name(&self) -> String {
        let mut name = Self::PREFIX.to_owned();
        for byte in self.as_str().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        name
    }
}

impl FromStr for ClaimKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("claim", text, problem));
        if text.trim().is_empty() {
            refuse("is empty")
        } else if text.len() > LONGEST {
            refuse("is longer than 80 bytes")
        } else if text.contains(|c: char| c.is_control() || is_bidi(c)) {
            refuse("holds control characters")
        } else if text.trim() != text {
            refuse("begins or ends with a blank")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_such_as_git_takes_and_each_has_one_key() {
        let name = |key: &str| key.parse::<ClaimKey>().map(|key| key.ref_name());
        let cases = [
            ("issue-12", "issue-12"),
            ("JIRA_7", "JIRA_7"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("v1..2.lock", "v1%2E%2E2%2Elock"),
            ("-x", "-x"),
            ("@{ü}", "%40%7B%C3%BC%7D"),
        ];
        for (key, wanted) in cases {
            assert_eq!(name(key), Ok(format!("refs/agent-run/claims/{wanted}")));
        }
    }

    #[test]
    fn a_key_is_short_and_one_line() {
        for bad in ["", " ", " a", "a\nb", "a\u{202e}b", &"x".repeat(81)] {
            assert!(bad.parse::<ClaimKey>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(80).parse::<ClaimKey>().is_ok());
    }
}
