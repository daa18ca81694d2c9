//! Reads `ports`: what people at the engine's machine reach of a task.

use std::net::Ipv4Addr;

use super::reader::{Fields, Reader};
use super::units::BadValue;
use crate::engine::config::Publish;

/// Reads them, and says what a task cannot have beside them.
pub(super) fn ports(reader: &mut Reader<'_>, task: Fields<'_>) -> Vec<Publish> {
    let mut ports: Vec<Publish> = Vec::new();
    let Some(field) = task.get("ports") else {
        return ports;
    };
    for item in reader.items(field, "a list of ports") {
        let Some(port) = reader.value(item, "a port", port) else {
            continue;
        };
        if ports.iter().any(|known| known.port == port.value.port) {
            let title = format!("`ports` has port {} twice", port.value.port);
            reader.problem(item.span(), title, "keep one of them");
        } else {
            ports.push(port.value);
        }
    }
    let mode = task.get("network_mode");
    let mode = mode.and_then(|f| reader.raw(f, "a word"));
    let refused = if ports.is_empty() {
        None
    } else if mode == Some("none") {
        let hint = "keep one: a task without a network is reached by nobody";
        Some(("with `network_mode: none`", hint))
    } else if task.get("egress").is_some() {
        let hint = "keep one: a task with a list of hosts has no interface at which it could be reached; \
                    `null` resets what `defaults` gives";
        Some(("with `egress`", hint))
    } else if runs_in_gvisor(reader, task) {
        Some(("with gVisor as its `runtime`", GVISOR))
    } else {
        None
    };
    if let Some((what, hint)) = refused {
        reader.problem(field.span(), format!("`ports` in a task {what}"), hint);
    }
    ports
}

/// What to do about it where nobody would reach a port.
pub(super) const GVISOR: &str = "keep one: each container of gVisor has a network of its own, and the ports are published by another one";

/// Whether a task runs in gVisor, as far as the name of its runtime says.
pub(super) fn runs_in_gvisor(reader: &mut Reader<'_>, task: Fields<'_>) -> bool {
    let runtime = task.get("runtime");
    let runtime = runtime.and_then(|f| reader.raw(f, "a name"));
    runtime.is_some_and(|name| name == "runsc" || name.starts_with("runsc-"))
}

pub(super) fn port(text: &str) -> Result<Publish, BadValue> {
    let hint = "write a port of the task, such as 3000, or `0.0.0.0::3000` for all who reach the engine's machine";
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if protocol != "tcp" {
        return Err(BadValue::new("is no TCP port", hint));
    }
    let (address, own) = match text.split_once("::") {
        Some((address, own)) => (address.parse(), own),
        None => (Ok(Ipv4Addr::LOCALHOST), text),
    };
    let Ok(address) = address else {
        return Err(BadValue::new("has no IPv4 address before `::`", hint));
    };
    if own.contains(':') {
        let hint =
            "write the second half alone: the port on the engine's machine is one that is free";
        return Err(BadValue::new("names a port of the engine's machine", hint));
    }
    match own.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Publish { port, address }),
        _ => Err(BadValue::new("is no port", hint)),
    }
}
