//! The shell loop that agent-run is compared with: a worktree and a container for each task, with the
//! repository's `.git` mounted writable, as people write it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::scene::{MEMORY, PIDS, SHM, Scene, command, git};

/// Parallel `git worktree add` in one repository fails now and then, so the loop takes a lock for it.
const TASK: &str = r#"
set -eu
name=shell-$ROUND-$1 tree=$TREES/$1 network=bridge
flock "$TREES.lock" git -C "$REPO" worktree add -q -b "$name" "$tree"
if [ "$NETWORKS" = own ]; then
    network=agent-run-bench-$name
    docker network create --label "$LABEL" "$network" >/dev/null
fi
# shellcheck disable=SC2086 # a list of flags
docker run --rm --init --label "$LABEL" --network "$network" $LIMITS --user "$IDS" \
    -e GIT_AUTHOR_NAME=bench -e GIT_AUTHOR_EMAIL=bench@localhost \
    -e GIT_COMMITTER_NAME=bench -e GIT_COMMITTER_EMAIL=bench@localhost -e TASK="$1" \
    -v "$REPO/.git:$REPO/.git" -v "$tree:$tree" -w "$tree" "$IMAGE" sh -c "$WORK"
if [ "$NETWORKS" = own ]; then docker network rm "$network" >/dev/null; fi
flock "$TREES.lock" git -C "$REPO" worktree remove --force "$tree"
"#;

/// A loop over tasks that do the same.
pub struct Loop<'a> {
    pub scene: &'a Scene,
    pub repository: &'a Path,
    pub work: &'a str,
    pub tasks: u32,
    pub jobs: u32,
    pub networks: Networks,
}

/// What the loop's containers are on.
#[derive(Clone, Copy)]
pub enum Networks {
    /// A network of its own each, made before and removed after.
    Own,
    /// The engine's default bridge, all of them.
    DefaultBridge,
}

/// The flags that give a container of `docker run` the limits that agent-run's have.
pub fn limits() -> String {
    format!(
        "--cpus 1 --memory {MEMORY} --memory-swap {MEMORY} --pids-limit {PIDS} --shm-size {SHM}"
    )
}

impl Loop<'_> {
    /// The loop as a program, for a round whose branches bear this name.
    pub fn command(&self, round: &str) -> Result<Command> {
        let trees = self.scene.directory("trees")?;
        let mut command = command("xargs");
        command.args(["-P", &self.jobs.to_string()]);
        command.args(["-n", "1", "sh", "-c", TASK, "task"]);
        let networks = match self.networks {
            Networks::Own => "own",
            Networks::DefaultBridge => "default",
        };
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        command
            .env("ROUND", round)
            .env("NETWORKS", networks)
            .env("TREES", trees)
            .env("REPO", self.repository)
            .env("LABEL", &self.scene.label)
            .env("LIMITS", limits())
            .env("IDS", format!("{}:{}", uid.as_raw(), gid.as_raw()))
            .env("IMAGE", &self.scene.image)
            .env("WORK", self.work)
            .stdin(self.numbers()?);
        Ok(command)
    }

    /// The tasks' numbers, a line each.
    fn numbers(&self) -> Result<Stdio> {
        let path: PathBuf = self.scene.path("numbers");
        let mut file = fs::File::create(&path)?;
        for number in 0..self.tasks {
            writeln!(file, "{number}")?;
        }
        Ok(fs::File::open(path)?.into())
    }
}

/// How many branches a repository has whose names match a pattern.
pub fn branches(repository: &Path, pattern: &str) -> Result<usize> {
    let listed = git(
        repository,
        &["for-each-ref", "--format=%(refname)", pattern],
    )?;
    Ok(listed.lines().count())
}
