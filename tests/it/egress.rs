//! What the proxy is configured with, and what its words mean.

use std::net::Ipv4Addr;

use agent_run::egress::{Asked, Lists, Said, Verdict, forwarder};
use agent_run::event::{HostUse, TaskEgress};
use agent_run::id::HostPattern;
use agent_run::report::egress;
use insta::assert_snapshot;

use crate::ended;

fn lists(lists: &[(usize, &[&str])]) -> Lists {
    let parse = |text: &&str| text.parse::<HostPattern>().expect("a host");
    let lists = lists
        .iter()
        .map(|(task, list)| (*task, list.iter().map(parse).collect()));
    lists.collect()
}

fn two() -> Lists {
    let npm: &[&str] = &["registry.npmjs.org", "*.npmjs.org", "git.example.com:22"];
    lists(&[(0, npm), (2, npm), (3, &[])])
}

#[test]
fn each_list_is_a_rule_for_its_tasks_and_all_else_is_denied() {
    let squid = two().squid();
    let (_, rules) = squid
        .split_once("http_access deny manager\n")
        .expect("rules");
    assert_snapshot!(rules);
}

#[test]
fn each_task_has_a_socket_and_an_address_of_its_own() {
    assert_snapshot!(two().haproxy());
    assert_eq!(two().task(Ipv4Addr::new(127, 64, 0, 1)), Some(0));
    assert_eq!(two().task(Ipv4Addr::new(127, 64, 0, 4)), Some(3));
    for nobodys in [
        [127, 64, 0, 0],
        [127, 64, 0, 2],
        [127, 0, 0, 1],
        [10, 0, 0, 1],
    ] {
        assert_eq!(two().task(Ipv4Addr::from(nobodys)), None, "{nobodys:?}");
    }
    let thousand = lists(
        &(0..1000)
            .map(|task| (task, &["a.example"][..]))
            .collect::<Vec<_>>(),
    );
    assert_eq!(thousand.squid().matches("acl tasks0 src ").count(), 16);
    assert_eq!(thousand.task(Ipv4Addr::new(127, 64, 3, 232)), Some(999));
}

#[test]
fn the_forwarder_only_carries() {
    assert_snapshot!(forwarder());
}

#[test]
fn whole_names_are_tried() {
    assert_eq!(
        two().trials(),
        ["git.example.com:22", "registry.npmjs.org:443"]
    );
}

#[test]
fn lines_that_are_no_words_of_ours_mean_nothing() {
    let asked = |host: &str, port, verdict| {
        Said::Asked(Asked {
            source: Ipv4Addr::new(127, 64, 0, 1),
            host: host.to_owned(),
            port,
            verdict,
        })
    };
    for (line, wanted) in [
        ("ready", Said::Ready),
        (
            "egress 127.64.0.1 TCP_TUNNEL 200 A.example 443",
            asked("a.example", 443, Verdict::Passed),
        ),
        (
            "egress 127.64.0.1 TCP_MISS 404 a.example 80",
            asked("a.example", 80, Verdict::Passed),
        ),
        (
            "egress 127.64.0.1 TCP_DENIED 403 a.example 443",
            asked("a.example", 443, Verdict::Denied),
        ),
        (
            "egress 127.64.0.1 NONE_NONE 400 - 0",
            asked("-", 0, Verdict::Denied),
        ),
        ("egress 127.64.0.1 NONE_NONE 000 - 0", Said::Other),
        ("egress nobody TCP_TUNNEL 200 a.example 443", Said::Other),
        ("egress 127.64.0.1 TCP_TUNNEL 200 a.example", Said::Other),
        ("ready or not", Said::Other),
        ("", Said::Other),
    ] {
        assert_eq!(Said::read(line), wanted, "{line}");
    }
}

#[test]
fn a_report_is_a_list_to_paste() {
    let mut run = ended::run(Vec::new());
    assert_snapshot!(egress(&run));
    let used = |host: &str, port, passed, denied| HostUse {
        host: host.into(),
        port,
        passed,
        denied,
    };
    run.egress = vec![
        TaskEgress {
            task: "fetch".parse().expect("an id"),
            hosts: vec![
                used("registry.npmjs.org", 443, 3, 0),
                used("registry.npmjs.org", 80, 1, 0),
                used("git.example.com", 22, 1, 0),
                used("evil.example", 8443, 0, 2),
                used("10.0.0.1", 80, 0, 3),
                used("x: {y", 80, 0, 1),
            ],
            others: 4,
        },
        TaskEgress {
            task: "other".parse().expect("an id"),
            hosts: vec![used("evil.example", 443, 0, 1)],
            others: 0,
        },
    ];
    assert_snapshot!(egress(&run));
}
