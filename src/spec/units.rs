//! Sizes, durations, CPUs and words, as people write them.
//!
//! Texts in, checked numbers out; nothing here knows keys or positions.

use std::time::Duration;

/// Longest duration: far above any use, far below any overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Largest size, 1 EiB.
const LARGEST: u64 = 1 << 60;

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// What is wrong, as a clause that follows the text.
    pub problem: &'static str,
    /// What to write.
    pub hint: String,
}

impl BadValue {
    pub(super) fn new(problem: &'static str, hint: impl Into<String>) -> Self {
        Self {
            problem,
            hint: hint.into(),
        }
    }
}

/// Bytes: a whole number and one of `b k kb m mb g gb`, 1024-based, as compose-spec has them.
pub fn bytes(text: &str) -> Result<i64, BadValue> {
    const HINT: &str = "write a size such as 512m or 4g";
    let bad = |problem| Err(BadValue::new(problem, HINT));
    let text = text.trim();
    if text.starts_with('-') {
        return bad("is negative");
    }
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(digits.unwrap_or(text.len()));
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return bad("is not a size"),
    };
    if digits.is_empty() {
        return bad("is not a size");
    }
    let size = digits.parse::<u64>().ok();
    let size = size.and_then(|n| n.checked_mul(1 << shift));
    match size
        .filter(|n| *n <= LARGEST)
        .and_then(|n| i64::try_from(n).ok())
    {
        Some(size) => Ok(size),
        None => bad("is larger than any machine"),
    }
}

/// A duration: numbers with the units `us ms s m h d`, joined or with blanks: `1h30m`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, BadValue> {
    const HINT: &str = "write a duration such as 90s, 30m or 1h30m";
    let bad = |problem| Err(BadValue::new(problem, HINT));
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number = text.trim_start_matches('0');
        if number.is_empty() {
            return bad("is no time at all");
        }
        let hint = format!("write {number}s or {number}m");
        return Err(BadValue::new("has no unit", hint));
    }
    if text.starts_with('-') {
        return bad("is negative");
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let Some((part, tail)) = duration_part(rest) else {
            return bad("is not a duration");
        };
        let Some(part) = part.filter(|p| *p <= LONGEST) else {
            return bad("is longer than a year");
        };
        total += part;
        if total > LONGEST {
            return bad("is longer than a year");
        }
        rest = tail.trim_start();
    }
    if text.is_empty() {
        bad("is not a duration")
    } else if total.is_zero() {
        bad("is no time at all")
    } else {
        Ok(total)
    }
}

/// The first number and unit of a text (`None` inside where it overflows), and what follows.
fn duration_part(text: &str) -> Option<(Option<Duration>, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at(digits);
    if digits.is_empty() {
        return None;
    }
    let unit = rest.find(|c: char| !c.is_ascii_alphabetic());
    let (unit, rest) = rest.split_at(unit.unwrap_or(rest.len()));
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok();
    let value = number.and_then(|n| n.checked_mul(micros));
    Some((value.map(Duration::from_micros), rest))
}

/// CPUs as billionths of one: a decimal number such as `2` or `0.5`, at least 0.01.
pub fn nano_cpus(text: &str) -> Result<i64, BadValue> {
    let problems = ("is not a number of CPUs", "is more than any machine has");
    let nanos = billionths(text, problems).and_then(|nanos| match nanos {
        0..10_000_000 => Err("is less than 0.01, the least that an engine gives"),
        nanos => Ok(nanos),
    });
    nanos.map_err(|problem| BadValue::new(problem, "write a number such as 2 or 0.5"))
}

/// US dollars as millionths of one: a decimal number such as `2` or `0.50`.
pub fn micro_usd(text: &str) -> Result<u64, BadValue> {
    let problems = ("is not a number of US dollars", "is more than anybody pays");
    let nanos = billionths(text, problems).and_then(|nanos| match nanos {
        0..1000 => Err("is no money at all"),
        nanos => Ok(nanos.unsigned_abs() / 1000),
    });
    nanos.map_err(|problem| BadValue::new(problem, "write a number such as 2 or 0.50"))
}

/// A decimal number as billionths; else the problem that it is no number, or too large a one.
fn billionths(
    text: &str,
    (no_number, too_large): (&'static str, &'static str),
) -> Result<i64, &'static str> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if text.starts_with('-') {
        return Err("is negative");
    }
    if !digits(whole) || !digits(part) {
        return Err(no_number);
    }
    let nanos: String = part.chars().chain("000000000".chars()).take(9).collect();
    let whole = whole.parse::<i64>().ok().filter(|n| *n <= 1 << 20);
    let parts = whole.zip(nanos.parse::<i64>().ok());
    let (whole, nanos) = parts.ok_or(too_large)?;
    Ok(whole * 1_000_000_000 + nanos)
}

/// A size as people write it: the largest unit that divides it.
pub fn show_bytes(bytes: i64) -> String {
    match bytes {
        n if n != 0 && n % (1 << 30) == 0 => format!("{}g", n >> 30),
        n if n != 0 && n % (1 << 20) == 0 => format!("{}m", n >> 20),
        n if n != 0 && n % (1 << 10) == 0 => format!("{}k", n >> 10),
        n => format!("{n}b"),
    }
}
