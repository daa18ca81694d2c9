//! Which process something belongs to, so that others can tell whether it has ended.
//!
//! `boot_id:pid:starttime` is of one process only, also where its number is given to another one.

use std::fs;

/// `boot_id:pid:starttime` of this process.
///
/// Start time is field 22 of `/proc/self/stat`, proc(5). Where there is no `/proc`, the two others
/// stay empty.
pub fn owner() -> String {
    let since = since("self").unwrap_or_default();
    format!("{}:{}:{since}", boot(), std::process::id())
}

/// The pid namespace of this process, in which its number means something; empty where there is no
/// `/proc`.
pub fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Whether the process that an [`owner`] in a [`pid_namespace`] names has ended. None where that
/// cannot be told from here: another machine, another boot, another namespace.
pub fn has_ended(owner: &str, namespace: &str) -> Option<bool> {
    let mut parts = owner.split(':');
    let (of_boot, pid, began) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    let is_here = is_number && !began.is_empty() && of_boot == boot() && !namespace.is_empty();
    if !is_here || namespace != pid_namespace() {
        return None;
    }
    Some(since(pid).as_deref() != Some(began))
}

/// The name of this machine.
pub fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

/// When a process began, in ticks since the boot; none where there is no such process, or only what
/// its parent has not asked for yet.
fn since(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Its name, in brackets, may hold blanks and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let since = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| since.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_one_that_began_at_another_time_does_not() {
        let (me, here) = (owner(), pid_namespace());
        assert_eq!(has_ended(&me, &here), Some(false));
        let (place, since) = me.rsplit_once(':').expect("three parts");
        let earlier = since.parse::<u64>().expect("a number of ticks") - 1;
        assert_eq!(has_ended(&format!("{place}:{earlier}"), &here), Some(true));
    }

    #[test]
    fn nothing_is_said_of_processes_elsewhere_and_of_nonsense() {
        let (me, here) = (owner(), pid_namespace());
        assert_eq!(has_ended(&me, "pid:[1]"), None);
        assert_eq!(has_ended(&me, ""), None);
        assert_eq!(has_ended(&format!("x{me}"), &here), None);
        let boot = boot();
        for bad in [
            "",
            ":",
            "::",
            &format!("{boot}:../1:2"),
            &format!("{boot}:1:"),
        ] {
            assert_eq!(has_ended(bad, &here), None, "{bad}");
        }
    }
}
