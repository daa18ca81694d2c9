//! What a container has used: the engine's answers to `GET /containers/{id}/stats` and, of disk, to
//! `GET /containers/{id}/json?size=true`.

use std::time::Duration;

use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::{InspectContainerOptions, StatsOptions};
use futures::StreamExt;

use super::DockerEngine;
use super::call::{Call, QUICK};
use crate::engine::{ContainerUsage, EngineError, ErrorKind, Operation};

impl DockerEngine {
    /// One answer, not a stream: the caller says how often. Streams have the engine measure every
    /// second; measured, that takes Docker 20.10 13 % of a core for 50 containers.
    pub(super) async fn measure(
        &self,
        container: &str,
    ) -> Result<Option<ContainerUsage>, EngineError> {
        let call = Call::new(Operation::Usage, container);
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut answers = self.docker.stats(container, Some(options));
        match call
            .within(QUICK, async { answers.next().await.transpose() })
            .await?
        {
            Some(stats) => Ok(usage(&stats)),
            None => Err(call.error(ErrorKind::Broken("the engine stopped answering".into()))),
        }
    }

    /// The engine adds up the lengths of the files that the container made or changed (moby
    /// `pkg/directory`): an empty file counts nothing, a sparse one as if it were full.
    pub(super) async fn measure_disk(&self, container: &str) -> Result<Option<u64>, EngineError> {
        let call = Call::new(Operation::DiskUse, container);
        let options = InspectContainerOptions { size: true };
        let inspected = self.docker.inspect_container(container, Some(options));
        let size = call.within(QUICK, inspected).await?.size_rw;
        Ok(size.and_then(|size| u64::try_from(size).ok()))
    }
}

/// The counters of an answer; of a container that does not run the engine sends none, or zeros.
fn usage(stats: &ContainerStatsResponse) -> Option<ContainerUsage> {
    let cpu = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let memory = stats.memory_stats.as_ref()?;
    let in_use = memory.usage.filter(|bytes| *bytes > 0)?;
    let networks = || stats.networks.iter().flat_map(|networks| networks.values());
    Some(ContainerUsage {
        cpu: Duration::from_nanos(cpu),
        memory: in_use,
        droppable: droppable(memory).min(in_use),
        highest_memory: memory.max_usage.filter(|highest| *highest >= in_use),
        received: networks().filter_map(|network| network.rx_bytes).sum(),
        sent: networks().filter_map(|network| network.tx_bytes).sum(),
    })
}

/// Pages of files, also of those that were used lately: under pressure the kernel drops both (the
/// kernel's `admin-guide/cgroup-v1/memory.rst` and `cgroup-v2.rst`; tmpfs is not among them). The
/// `total_` ones are cgroup v1's counts of the whole tree. `docker stats` leaves out the inactive ones
/// only.
fn droppable(memory: &ContainerMemoryStats) -> u64 {
    let counter = |name: &str| memory.stats.as_ref()?.get(name).copied();
    let pages = |kind: &str| counter(&format!("total_{kind}")).or_else(|| counter(kind));
    let kinds = ["active_file", "inactive_file"];
    kinds.into_iter().filter_map(pages).sum()
}
