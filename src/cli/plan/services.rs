//! How a plan shows the services of a task.

use super::{cpus, image};
use crate::plan::ServicePlan;
use crate::report::limit;
use crate::spec::units;

/// A service in one line.
pub(super) fn line(service: &ServicePlan) -> String {
    let memory = units::show_bytes(service.limits.memory);
    let cpus = cpus(service.limits.nano_cpus);
    let mut text = format!("{}: {}", service.name, image(&service.image));
    let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
    if !ports.is_empty() {
        text += &format!(", port {}", ports.join(", "));
    }
    text += &format!("; {cpus}, {memory} memory");
    for on in &service.depends_on {
        let how = if on.ready { "ready" } else { "started" };
        text += &format!("; after {} is {how}", on.service);
    }
    if let Some(interval) = service.healthcheck.interval {
        text += &format!("; checked every {}", limit(interval));
    }
    text
}
