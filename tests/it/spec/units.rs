//! Sizes, durations and CPUs.

use std::time::Duration;

use agent_run::spec::units::{bytes, duration, micro_usd, nano_cpus, show_bytes};
use proptest::prelude::*;

#[test]
fn sizes_are_1024_based() {
    let cases = [
        ("512m", 536_870_912),
        ("1k", 1024),
        ("1KB", 1024),
        ("6mb", 6 << 20),
        ("2g", 2 << 30),
        ("2 gb", 2 << 30),
        ("7b", 7),
        ("7", 7),
    ];
    for (text, expected) in cases {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "m",
        "1t",
        "1e30",
        "-1",
        "1.5g",
        "1mm",
        "99999999999g",
        "18446744073709551616",
    ] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn durations_add_up() {
    let cases = [
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1d", 86_400_000),
        ("1h5m30s20ms", 3_930_020),
        ("1500us 500us", 2),
    ];
    for (text, millis) in cases {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "", "30", "0", "0s", "-1s", "1.5h", "1y", "h", "1 h", "s1", "366d 1s",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn cpus_are_decimal() {
    assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
    assert_eq!(nano_cpus("0.5"), Ok(500_000_000));
    assert_eq!(nano_cpus("1.0000000019"), Ok(1_000_000_001));
    for text in [
        "",
        ".",
        "1.",
        ".5",
        "0",
        "0.001",
        "-1",
        "1e3",
        "99999999999999999999",
    ] {
        assert!(nano_cpus(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn sizes_round_trip(size in 1_i64..1 << 60) {
        prop_assert_eq!(bytes(&show_bytes(size)), Ok(size));
    }

    #[test]
    fn durations_round_trip(hours in 0_u64..5000, minutes in 0_u64..60, seconds in 1_u64..60) {
        let total = Duration::from_secs(hours * 3600 + minutes * 60 + seconds);
        prop_assert_eq!(duration(&format!("{hours}h{minutes}m{seconds}s")), Ok(total));
    }

    #[test]
    fn no_text_panics(text in "[0-9]{0,30}[a-zA-Z .-]{0,3}[0-9]{0,5}\\PC{0,4}") {
        let _ = (bytes(&text), duration(&text), nano_cpus(&text));
    }
}

#[test]
fn money_is_read_to_the_millionth_of_a_dollar() {
    assert_eq!(micro_usd("2"), Ok(2_000_000));
    assert_eq!(micro_usd("0.50"), Ok(500_000));
    assert_eq!(micro_usd("0.0000019"), Ok(1));
    for text in [
        "",
        "0",
        "0.0000009",
        "-1",
        "$2",
        "1e3",
        "2000000000",
        "2,50",
    ] {
        assert!(micro_usd(text).is_err(), "{text}");
    }
}
