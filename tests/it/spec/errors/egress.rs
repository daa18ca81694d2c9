//! Errors of `egress`.

use insta::assert_snapshot;

use super::super::{bad, good, with_task};

fn allowed(lines: &str) -> Vec<String> {
    let text = with_task(&format!("command: [make]\n{lines}"));
    let task = good(&text).tasks.remove(0);
    let hosts = task.egress.expect("a list").into_iter();
    hosts.map(|host| host.to_string()).collect()
}

#[test]
fn all_forms_mean_what_they_say() {
    assert_eq!(allowed("egress: { allow: Example.com }"), ["example.com"]);
    assert_eq!(allowed("egress: { allow: [] }"), Vec::<String>::new());
    assert_eq!(
        allowed(
            "egress: { allow: [b.example, '*.a.example:22', B.example., '${TOKEN:-x}.example'] }"
        ),
        ["*.a.example:22", "b.example", "hunter2-very-secret.example"]
    );
}

#[test]
fn a_list_names_hosts() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { command: x, egress: {} }
  b: { command: x, egress: [example.com] }
  c: { command: x, egress: { allow: { host: example.com } } }
  d: { command: x, egress: { hosts: [example.com] } }
  e: { command: x, egress: { allow: ['http://example.com', '*', '*.com', 'a b.example', ''] } }
  f: { command: x, egress: { allow: ['10.0.0.1', '[::1]:443', 'example.com:0', 'example.com:65536', 'localhost'] } }
  g: { command: x, egress: { allow: ['xn--a.example', 'a..example', 'user@example.com', 'example.com/path'] } }
"));
}

#[test]
fn a_list_and_no_network_are_no_pair() {
    assert_snapshot!(bad("\
version: 1
defaults: { egress: { allow: [example.com] } }
tasks:
  a: { command: x, network_mode: none }
  b: { command: x, network_mode: bridge }
  c: { command: x, network_mode: none, egress: null }
"));
}
