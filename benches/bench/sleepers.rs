//! Tasks that sleep, side by side: what more of them cost.

use anyhow::Result;
use serde_json::json;

use crate::rows::{Goal, Pair, Row};
use crate::scene::Scene;

const SLEEP: u32 = 10;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("sleepers", 1000)?;
    let time = |tasks: u32| -> Result<f64> {
        let scripts = vec![format!("sleep {SLEEP}"); tasks as usize];
        let spec = scene.spec(&repository, &scripts, &json!({}))?;
        Ok(scene.run(&spec, tasks)?.took)
    };
    let (mut three, mut five) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let theirs = time(1)?;
        three.push(Pair {
            ours: time(3)?,
            theirs,
        });
        five.push(Pair {
            ours: time(5)?,
            theirs,
        });
    }
    let row = |tasks: &str, pairs: &[Pair]| {
        let what = format!("{tasks} tasks that sleep for {SLEEP} s, at once");
        Row::ratio(&what, "one of them", Goal::AtMost(1.1), pairs)
    };
    Ok(vec![row("three", &three), row("five", &five)])
}
