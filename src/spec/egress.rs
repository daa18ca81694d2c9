//! Reads `egress`, the hosts that a task may reach.

use super::hints::EGRESS_KEYS;
use super::reader::{Fields, Reader};
use super::units::BadValue;
use crate::id::{HostPattern, InvalidName};

pub(super) fn egress(reader: &mut Reader<'_>, task: Fields<'_>) -> Option<Vec<HostPattern>> {
    let field = task.get("egress")?;
    let fields = reader.fields(field, "`allow` and hosts", EGRESS_KEYS)?;
    if let Some(mode) = task.get("network_mode")
        && reader.raw(mode, "a word") == Some("none")
    {
        let title = "`egress` in a task with `network_mode: none`";
        let hint = "keep one: `none` reaches nothing, `egress` the hosts that it names; \
                    `null` resets what `defaults` gives";
        reader.problem(field.span(), title, hint);
    }
    let Some(allow) = fields.get("allow") else {
        let hint = "name the hosts, such as `allow: [registry.npmjs.org]`";
        reader.problem(field.span(), "`egress` has no `allow`", hint);
        return None;
    };
    let items = reader.one_or_many(allow, "a host or a list of hosts");
    let hosts = items.into_iter().filter_map(|item| {
        let host = reader.value(item, "a host", |text| {
            let hint = "write a host, such as example.com, *.example.com or example.com:8443";
            let parsed = text.parse();
            parsed.map_err(|e: InvalidName| BadValue::new(e.problem, hint))
        });
        host.map(|at| at.value)
    });
    let mut hosts: Vec<HostPattern> = hosts.collect();
    hosts.sort();
    hosts.dedup();
    Some(hosts)
}
