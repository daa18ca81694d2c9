//! Who the agent is inside its container, and whom its files belong to on the host. Pure.

use std::fmt::Write as _;

use crate::engine::EngineInfo;

/// The uid and gid of the agent where agent-run runs as root: 1000 is the log-in user on most VMs.
const AGENT_UID: u32 = 10001;

/// A user inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContainerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The host's uid and gid that the files must be given to; none where they fit already.
    pub(super) owner: Option<(u32, u32)>,
}

/// Decides by the engine, by who runs agent-run, and by the spec's `user`.
///
/// # Errors
/// A clause that says why such a user could not write its worktree.
pub(super) fn container_user(
    info: &EngineInfo,
    runner: (u32, u32),
    wanted: Option<&str>,
) -> Result<ContainerUser, &'static str> {
    let is_root = runner.0 == 0;
    let wanted = wanted.map(parse).transpose()?;
    if info.rootless {
        // Container root is the caller; any other uid is one of his subordinate ones.
        return match wanted {
            None | Some((0, _)) => Ok(user(0, 0, None)),
            Some(_) => Err("a rootless engine can give its worktree to user 0 only"),
        };
    }
    if let Some((root_uid, root_gid)) = info.userns_root {
        let (uid, gid) = wanted.unwrap_or((0, 0));
        let owner = root_uid.checked_add(uid).zip(root_gid.checked_add(gid));
        return match owner {
            Some(owner) if is_root => Ok(user(uid, gid, Some(owner))),
            Some(owner) if owner.0 == runner.0 => Ok(user(uid, gid, None)),
            _ => Err("the engine remaps users, and only root can give the worktree to them"),
        };
    }
    match wanted {
        Some((uid, gid)) if is_root => Ok(user(uid, gid, Some((uid, gid)))),
        Some((uid, gid)) if uid == runner.0 => Ok(user(uid, gid, None)),
        Some(_) => Err("only root can give the worktree to another user"),
        None if is_root => Ok(user(AGENT_UID, AGENT_UID, Some((AGENT_UID, AGENT_UID)))),
        None => Ok(user(runner.0, runner.1, None)),
    }
}

fn user(uid: u32, gid: u32, owner: Option<(u32, u32)>) -> ContainerUser {
    ContainerUser { uid, gid, owner }
}

/// `uid[:gid]`; the plan has checked the form.
fn parse(text: &str) -> Result<(u32, u32), &'static str> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err("`user` must be numbers, `uid` or `uid:gid`"),
    }
}

/// The image's passwd and group files with the agent in them: a nameless uid breaks `whoami`, ssh
/// and Node.
pub(super) fn account_files(user: ContainerUser, passwd: &str, group: &str) -> (String, String) {
    let has = |file: &str, id: u32| {
        file.lines()
            .any(|line| line.split(':').nth(2) == Some(&id.to_string()))
    };
    let mut passwd = ended(passwd);
    let mut group = ended(group);
    let ContainerUser { uid, gid, .. } = user;
    // Writing to a string cannot fail.
    if !has(&passwd, uid) {
        let _ = writeln!(passwd, "agent:x:{uid}:{gid}:agent:/home/agent:/bin/sh");
    }
    if !has(&group, gid) {
        let _ = writeln!(group, "agent:x:{gid}:");
    }
    (passwd, group)
}

fn ended(file: &str) -> String {
    let mut file = file.to_owned();
    if !file.is_empty() && !file.ends_with('\n') {
        file.push('\n');
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(rootless: bool, userns_root: Option<(u32, u32)>) -> EngineInfo {
        EngineInfo {
            id: None,
            endpoint: "test".into(),
            remote: false,
            version: "1".into(),
            api_version: "1.41".into(),
            cpus: 2,
            memory: 1 << 30,
            rootless,
            userns_root,
            missing_limits: Vec::new(),
            runtimes: Vec::new(),
            cgroup_version: None,
            keeps_containers: false,
            data_directory: None,
            components: Vec::new(),
        }
    }

    #[test]
    fn root_gives_the_worktree_to_a_user_that_nobody_logs_in_as() {
        let agent = container_user(&info(false, None), (0, 0), None);
        assert_eq!(agent, Ok(user(10001, 10001, Some((10001, 10001)))));
    }

    #[test]
    fn an_ordinary_user_runs_agents_as_himself_and_as_nobody_else() {
        let engine = info(false, None);
        assert_eq!(
            container_user(&engine, (1000, 100), None),
            Ok(user(1000, 100, None))
        );
        assert!(container_user(&engine, (1000, 100), Some("0:0")).is_err());
    }

    #[test]
    fn container_root_is_the_caller_of_a_rootless_engine() {
        assert_eq!(
            container_user(&info(true, None), (1000, 100), None),
            Ok(user(0, 0, None))
        );
        assert!(container_user(&info(true, None), (1000, 100), Some("7")).is_err());
    }

    #[test]
    fn remapped_users_own_their_files_on_the_host() {
        let engine = info(false, Some((165_536, 165_536)));
        assert_eq!(
            container_user(&engine, (0, 0), Some("5:6")),
            Ok(user(5, 6, Some((165_541, 165_542))))
        );
        assert!(container_user(&engine, (1000, 100), None).is_err());
    }

    #[test]
    fn the_agent_has_a_name_inside() {
        let me = user(10001, 10001, None);
        let (passwd, group) = account_files(me, "root:x:0:0:root:/root:/bin/sh", "");
        assert!(passwd.ends_with("/bin/sh\nagent:x:10001:10001:agent:/home/agent:/bin/sh\n"));
        assert_eq!(group, "agent:x:10001:\n");
        let (again, _) = account_files(me, &passwd, &group);
        assert_eq!(again, passwd);
    }
}
