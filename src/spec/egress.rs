//! Reads `egress`, the hosts that a task may reach.

use super::agent::read_hosts;
use super::hints::EGRESS_KEYS;
use super::reader::{Fields, Reader};
use crate::id::HostPattern;

/// The hosts, those that its agent needs among them; nothing where there is no list.
pub(super) fn egress(
    reader: &mut Reader<'_>,
    task: Fields<'_>,
    of_agent: &[HostPattern],
) -> Option<Vec<HostPattern>> {
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
    let mut hosts = read_hosts(reader, allow);
    hosts.extend_from_slice(of_agent);
    hosts.sort();
    hosts.dedup();
    Some(hosts)
}
