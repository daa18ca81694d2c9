//! What runs the containers of tasks: whether the engine has it, and which kernel it promises.

use crate::spec::{SetupUser, TaskSpec, did_you_mean};

/// What is wrong with a runtime that the engine does not have, and what to do about it; nothing where it
/// has it. `known` are the engine's.
pub fn missing(asked: &str, known: &[String]) -> Option<(String, String)> {
    if known.iter().any(|name| name == asked) {
        return None;
    }
    let title = format!("the engine has no runtime `{asked}`");
    let near = did_you_mean(asked, known.iter().map(String::as_str));
    if !near.is_empty() {
        return Some((title, near));
    }
    let install = if is_gvisor(asked) {
        "install gVisor (https://gvisor.dev/docs/user_guide/install), and tell the engine: runsc install, \
         systemctl reload docker"
    } else {
        "name it under `runtimes` in the engine's daemon.json, and systemctl reload docker"
    };
    let known = match known.join(", ") {
        none if none.is_empty() => "it names none".to_owned(),
        names => format!("it has {names}"),
    };
    Some((title, format!("{known}; {install}")))
}

/// Whether a runtime of this name promises the kernel of gVisor: `runsc`, or `runsc-` and a word, as those
/// of other platforms are registered (gvisor.dev, "Changing Platforms").
pub fn is_gvisor(name: &str) -> bool {
    name == "runsc" || name.starts_with("runsc-")
}

/// What a task needs that gVisor does only if it is told to, each a sentence (gvisor.dev, "Filesystem";
/// google/gvisor, `runsc/config/flags.go`).
pub(super) fn needs(task: &TaskSpec) -> Vec<String> {
    let asked = task.runtime.as_ref().map(|at| at.value.as_str());
    let Some(runtime) = asked.filter(|name| is_gvisor(name)) else {
        return Vec::new();
    };
    let id = &task.id.value;
    let mut needs = Vec::new();
    if task
        .setup
        .as_ref()
        .is_some_and(|setup| setup.user == SetupUser::Root)
    {
        needs.push(format!(
            "task `{id}`: what `setup` writes into the image is kept only if {runtime} has `--overlay2=none` \
             among its runtimeArgs in daemon.json"
        ));
    }
    if task.egress.is_some() {
        needs.push(format!(
            "task `{id}`: `egress` lets nothing pass unless {runtime} has `--host-uds=open` among its \
             runtimeArgs in daemon.json"
        ));
    }
    needs
}
