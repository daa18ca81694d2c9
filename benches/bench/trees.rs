//! What a worktree of a large repository takes, against `git worktree add`.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::loops::phase;
use crate::rows::{Goal, Pair, Row};
use crate::scene::{Scene, command, git, timed};

const FILES: u32 = 60_000;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("large", FILES)?;
    let keys = json!({ "network_mode": "none" });
    let spec = scene.spec(&repository, &["true".to_owned()], &keys)?;
    let mut pairs = Vec::new();
    for _ in 0..=rounds {
        pairs.push(Pair {
            ours: phase(&scene.run(&spec, 1)?.result, "preparing")?,
            theirs: worktree_add(scene, &repository)?,
        });
    }
    let what = format!("a worktree of {FILES} files, and its container made");
    Ok(vec![Row::ratio(
        &what,
        "`git worktree add`",
        Goal::AtMost(1.1),
        &pairs,
    )])
}

/// How long git takes for a worktree, in seconds. It is removed again.
fn worktree_add(scene: &Scene, repository: &Path) -> Result<f64> {
    let tree = scene.path("tree").display().to_string();
    let mut add = command("git");
    add.arg("-C")
        .arg(repository)
        .args(["worktree", "add", "-q", "--detach", &tree]);
    let took = timed(&mut add)?;
    git(repository, &["worktree", "remove", "--force", &tree])?;
    Ok(took)
}
