//! Keys of compose-spec that are not taken over: each is refused by name, never ignored.

/// Why a key is refused.
pub(super) struct Refusal {
    /// As the end of a sentence that begins with the key.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) hint: &'static str,
}

const BREAKS: &str = "breaks the isolation of the task";
const REMOVE: &str = "remove it: a service has no more of the host than its task";

/// Why a key of a service is refused; none where it is not one of compose-spec's.
pub(super) fn of_service(key: &str) -> Option<Refusal> {
    let (what, hint) = match key {
        "ipc"
        | "uts"
        | "userns_mode"
        | "cgroup"
        | "cgroup_parent"
        | "device_cgroup_rules"
        | "device_read_bps"
        | "device_read_iops"
        | "device_write_bps"
        | "device_write_iops"
        | "gpus"
        | "security_opt"
        | "sysctls"
        | "volumes_from"
        | "group_add"
        | "oom_kill_disable"
        | "oom_score_adj"
        | "credential_spec"
        | "isolation"
        | "use_api_socket" => (BREAKS, REMOVE),
        "network_mode" => (
            BREAKS,
            "remove it: a service is on the network of its task, and on no other",
        ),
        "networks" | "links" | "external_links" | "extra_hosts" | "dns" | "dns_opt"
        | "dns_search" | "mac_address" | "hostname" | "domainname" => (
            "is not supported",
            "remove it: services share the network of their task, where each has its name",
        ),
        "restart" => (
            "is not supported",
            "remove it: a service that ends stays ended, and the task is told",
        ),
        "build" => ("is not supported", "write `image`, and build that before"),
        "env_file" => ("is not supported", "write `environment`"),
        "deploy" | "cpu_count" | "cpu_percent" | "cpu_shares" | "cpu_period" | "cpu_quota"
        | "cpu_rt_runtime" | "cpu_rt_period" | "cpuset" => (
            "is not supported",
            "write `cpus`, `mem_limit` and `pids_limit`",
        ),
        "memswap_limit" | "mem_reservation" | "mem_swappiness" => (
            "is not supported",
            "write `mem_limit`: a service has no swap",
        ),
        "cap_drop" => (
            "is not supported",
            "remove it: a service keeps six capabilities and has no others",
        ),
        "container_name" => (
            "is not supported",
            "remove it: every task has a container of its own",
        ),
        "stop_signal" | "stop_grace_period" | "post_start" | "pre_stop" => (
            "is not supported",
            "remove it: a service is killed after its task",
        ),
        "annotations" | "attach" | "blkio_config" | "configs" | "develop" | "extends" | "init"
        | "label_file" | "labels" | "logging" | "models" | "platform" | "profiles" | "provider"
        | "runtime" | "scale" | "secrets" | "stdin_open" | "storage_opt" | "tty" => {
            ("is not supported", "remove it")
        }
        _ => return None,
    };
    Some(Refusal { what, hint })
}
