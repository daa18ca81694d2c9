//! `plan`: shows what a run would do, and does nothing.

use std::fmt::Write as _;

use super::args::PlanArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare::prepare;
use super::print_result;
use super::surroundings::Surroundings;
use crate::plan::{NetworkMode, RunPlan, TaskPlan, Work};
use crate::report::{count, limit};

pub(super) async fn plan(
    surroundings: &Surroundings,
    arguments: &PlanArgs,
) -> Result<Exit, Failure> {
    let prepared = prepare(surroundings, &arguments.spec, arguments.jobs).await?;
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&prepared.plan)
            .map_err(|e| Failure::new(Exit::Unexpected, e))?;
        json + "\n"
    } else {
        render(&prepared.plan)
    };
    print_result(&text);
    Ok(Exit::Success)
}

fn render(plan: &RunPlan) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_plan(&mut text, plan);
    text
}

fn write_plan(text: &mut String, plan: &RunPlan) -> std::fmt::Result {
    let repository = &plan.repository;
    let base = repository.base.short();
    writeln!(text, "repository  {}", repository.path.display())?;
    writeln!(text, "base        {} ({base})", repository.base_ref)?;
    let tasks = count(plan.tasks.len() as u64, "task");
    writeln!(text, "at a time   {} of {tasks}", plan.parallel)?;
    for task in &plan.tasks {
        writeln!(text, "\n{}", task.id)?;
        write_task(text, task)?;
    }
    for warning in &plan.warnings {
        writeln!(text, "\nwarning: {warning}")?;
    }
    Ok(())
}

fn write_task(text: &mut String, task: &TaskPlan) -> std::fmt::Result {
    let limits = &task.limits;
    let mebibytes = limits.memory >> 20;
    let hundredths = limits.nano_cpus / 10_000_000;
    let network = match task.network_mode {
        NetworkMode::Bridge => "its own, open to the outside",
        NetworkMode::None => "none",
    };
    let work = match &task.work {
        Work::Script(script) => format!(
            "a script of {}",
            count(script.lines().count() as u64, "line")
        ),
        Work::Command(Some(words)) => shell_words::join(words),
        Work::Command(None) => "the image's own command".into(),
    };
    writeln!(text, "  runs      {work}")?;
    writeln!(text, "  image     {}", task.image.reference)?;
    writeln!(
        text,
        "  limits    {}.{:02} CPUs, {mebibytes} MiB memory, {} processes, {}",
        hundredths / 100,
        hundredths % 100,
        limits.pids,
        limit(task.timeout)
    )?;
    writeln!(text, "  network   {network}")?;
    if !task.secrets.is_empty() {
        let names: Vec<&str> = task.secrets.iter().map(|s| s.name.as_str()).collect();
        writeln!(text, "  secrets   {}", names.join(", "))?;
    }
    writeln!(text, "  branch    {}", task.branch)
}
