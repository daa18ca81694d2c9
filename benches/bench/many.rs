//! Whether a thousand tasks cost more each than a hundred.

use anyhow::Result;
use serde_json::json;

use crate::rows::{Goal, Row, median};
use crate::scene::Scene;

const JOBS: u32 = 16;
const FEW: u32 = 100;
const MANY: u32 = 1000;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("many", 1000)?;
    let each = |tasks: u32| -> Result<f64> {
        let scripts = vec!["true".to_owned(); tasks as usize];
        let spec = scene.spec(&repository, &scripts, &json!({}))?;
        Ok(scene.run(&spec, JOBS)?.took / f64::from(tasks))
    };
    let (mut few, mut many) = (vec![each(FEW)?], Vec::new());
    for _ in 0..rounds {
        many.push(each(MANY)?);
        few.push(each(FEW)?);
    }
    // What runs before and after it bears the same drift.
    let (few, many) = (median(few), median(many));
    Ok(vec![Row {
        what: format!("time for each of {MANY} tasks that do nothing, {JOBS} parallel"),
        against: format!("for each of {FEW}"),
        goal: Goal::AtMost(1.1),
        measured: many / few,
        unit: "",
        detail: format!("{:.0} ms to {:.0} ms", many * 1000.0, few * 1000.0),
    }])
}
