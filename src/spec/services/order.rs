//! Whether services fit together, and to their task.

use std::collections::BTreeSet;

use super::super::hints::did_you_mean;
use super::super::reader::{Field, Fields, Reader};
use super::model::ServiceSpec;
use crate::id::ServiceName;

/// Where the way out of a task with an allow-list listens.
const EGRESS_PORT: u16 = 3128;

/// Says what is wrong among services: dependencies on none, in a circle, two on one port.
pub(in super::super) fn check(reader: &mut Reader<'_>, services: &[ServiceSpec]) {
    let names = || services.iter().map(|service| service.name.value.as_str());
    for service in services {
        for on in &service.depends_on {
            let wanted = on.service.value.as_str();
            if !names().any(|name| name == wanted) {
                let title = format!("`depends_on` names `{wanted}`, which is no service here");
                let hint = did_you_mean(wanted, names());
                reader.problem(on.service.span, title, hint);
            }
        }
    }
    if let Some(circle) = circle(services) {
        let first = circle[0];
        let on = first
            .depends_on
            .first()
            .map_or(first.name.span, |on| on.service.span);
        let mut names: Vec<&str> = circle.iter().map(|s| s.name.value.as_str()).collect();
        names.push(names[0]);
        let title = format!(
            "services depend on each other in a circle: {}",
            names.join(" → ")
        );
        reader.problem(on, title, "take one of these out of `depends_on`");
    }
    for (index, service) in services.iter().enumerate() {
        for port in &service.ports {
            let has = |other: &&ServiceSpec| other.ports.iter().any(|p| p.value == port.value);
            if let Some(other) = services[..index].iter().find(has) {
                let title = format!(
                    "services `{}` and `{}` both listen on port {}",
                    other.name.value, service.name.value, port.value
                );
                let hint = "give one another port: the services of a task share its network";
                reader.problem(service.name.span, title, hint);
            }
        }
    }
}

/// Services that depend on each other in a circle, each on the next.
fn circle(services: &[ServiceSpec]) -> Option<Vec<&ServiceSpec>> {
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for service in services {
        let mut path = Vec::new();
        if let Some(circle) = walk(services, service, &mut path, &mut done) {
            return Some(circle);
        }
    }
    None
}

fn walk<'a>(
    services: &'a [ServiceSpec],
    service: &'a ServiceSpec,
    path: &mut Vec<&'a ServiceSpec>,
    done: &mut BTreeSet<&'a ServiceName>,
) -> Option<Vec<&'a ServiceSpec>> {
    let name = &service.name.value;
    if let Some(at) = path.iter().position(|other| other.name.value == *name) {
        return Some(path[at..].to_vec());
    }
    if !done.insert(name) {
        return None;
    }
    path.push(service);
    for on in &service.depends_on {
        let next = services.iter().find(|s| s.name.value == on.service.value);
        if let Some(circle) = next.and_then(|next| walk(services, next, path, done)) {
            return Some(circle);
        }
    }
    path.pop();
    None
}

/// Says what a task cannot have beside services.
pub(super) fn check_task(reader: &mut Reader<'_>, task: Fields<'_>, services: Field<'_>) {
    let runtime = task.get("runtime").and_then(|f| reader.raw(f, "a name"));
    if runtime.is_some_and(|name| name == "runsc" || name.starts_with("runsc-")) {
        let title = "`services` in a task with gVisor as its `runtime`";
        let hint = "keep one: each container of gVisor has a network of its own, so that no service is reached";
        reader.problem(services.span(), title, hint);
    }
}

/// Says which service is in the place of the way out of a task with an allow-list.
pub(in super::super) fn check_egress(reader: &mut Reader<'_>, services: &[ServiceSpec]) {
    for service in services {
        if let Some(port) = service.ports.iter().find(|port| port.value == EGRESS_PORT) {
            let title = format!(
                "service `{}` listens on port {EGRESS_PORT}",
                service.name.value
            );
            let hint = "give it another one: with `egress` that is where the task's way out begins";
            reader.problem(port.span, title, hint);
        }
    }
}
