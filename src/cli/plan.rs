//! `plan`: shows what a run would do, and does nothing.

mod graph;
mod services;

use std::fmt::Write as _;

use super::args::{PlanArgs, PlanFormat};
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare::{Asked, Prepared, Request, prepare};
use super::surroundings::{self, Surroundings};
use super::{print_json, print_result};
use crate::engine::config::{BuildConfig, ImageRequest, PullPolicy};
use crate::id::{HostPattern, PathPattern, WorktreePath};
use crate::plan::{
    AgentSpec, CacheMode, History, HostCommand, Identity, NetworkMode, Retry, RetryCause, RunPlan,
    SecretOrigin, SecretSource, TaskPlan, VerifyPlan, When, Work,
};
use crate::report::{count, limit, usd};
use crate::sanitize;
use crate::spec::units;

/// The most columns that a script's or a prompt's first line takes.
const LINE_WIDTH: usize = 66;

pub(super) async fn plan(
    surroundings: &Surroundings,
    asked: Asked,
    arguments: &PlanArgs,
) -> Result<Exit, Failure> {
    let prepared = prepare(surroundings, Request::Spec(Box::new(asked)), arguments.over).await?;
    print(surroundings, prepared, arguments.format)
}

/// Prints a plan.
pub(super) fn print(
    surroundings: &Surroundings,
    mut prepared: Prepared,
    format: PlanFormat,
) -> Result<Exit, Failure> {
    let missing = missing_secrets(surroundings, &prepared.plan);
    prepared.plan.warnings.extend(missing);
    match format {
        PlanFormat::Json => return print_json(&prepared.plan),
        PlanFormat::Text => print_result(&render(&prepared.plan)),
        PlanFormat::Mermaid => print_result(&graph::mermaid(&prepared.plan.tasks)),
    }
    Ok(Exit::Success)
}

/// A run would not start without them; whoever looks at a plan need not have them.
fn missing_secrets(surroundings: &Surroundings, plan: &RunPlan) -> Vec<String> {
    let missing = |source: &SecretSource| match &source.origin {
        SecretOrigin::Environment(name) if surroundings::exact(name).is_none() => Some(format!(
            "secret {}: the variable {name} is not set",
            source.name
        )),
        SecretOrigin::File(path) if !surroundings.directory.join(path).exists() => Some(format!(
            "secret {}: there is no file {}",
            source.name,
            path.display()
        )),
        SecretOrigin::Command(command) if !is_there(surroundings, command) => Some(format!(
            "secret {}: there is no program {}",
            source.name, command.words[0]
        )),
        SecretOrigin::Environment(_) | SecretOrigin::File(_) | SecretOrigin::Command(_) => None,
    };
    plan.secrets.iter().filter_map(missing).collect()
}

fn is_there(surroundings: &Surroundings, command: &HostCommand) -> bool {
    let program = &command.words[0];
    if program.contains('/') {
        return command.directory.join(program).is_file();
    }
    std::env::split_paths(&surroundings.search_path).any(|place| place.join(program).is_file())
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
    write!(text, "base        {} ({base})", repository.base_ref)?;
    match repository.history {
        History::Full => writeln!(text)?,
        History::Depth(depth) => {
            let commits = count(depth.into(), "commit");
            writeln!(text, ", the newest {commits} of its history")?;
        }
    }
    let Identity { name, email } = &plan.author;
    writeln!(text, "commits by  {name} <{email}>")?;
    let tasks = count(plan.tasks.len() as u64, "task");
    writeln!(
        text,
        "at a time   {} of {tasks} at most, with {} and {} of {} memory",
        plan.parallel,
        cpus(graph::most_cpus(plan)),
        units::show_bytes(graph::most_memory(plan)),
        units::show_bytes(plan.memory),
    )?;
    if let Some(most) = plan.max_fail {
        let failures = count(most.into(), "failure");
        writeln!(text, "fail fast   after {failures} nothing more is started")?;
    }
    graph::write_order(text, plan)?;
    if let Some(timeout) = plan.timeout {
        writeln!(text, "time limit  {}", limit(timeout))?;
    }
    for source in &plan.secrets {
        if let SecretOrigin::Command(command) = &source.origin {
            let words = one_line(&shell_words::join(&command.words));
            writeln!(text, "on the host {words}, for the secret {}", source.name)?;
        }
    }
    for task in &plan.tasks {
        writeln!(text, "\n{}", task.id)?;
        write_task(text, task)?;
        // Each plan has an id of its own: that of the run will be another.
        let branch = task.branch.as_str().replace(plan.run.as_str(), "<run>");
        writeln!(text, "  branch    {branch}")?;
    }
    for warning in &plan.warnings {
        writeln!(text, "\nwarning: {warning}")?;
    }
    Ok(())
}

fn write_task(text: &mut String, task: &TaskPlan) -> std::fmt::Result {
    graph::write_needs(text, task)?;
    match &task.agent {
        Some(agent) => writeln!(text, "  agent     {}", self::agent(agent))?,
        None => writeln!(text, "  runs      {}", work(&task.work))?,
    }
    if let Some(words) = &task.entrypoint {
        writeln!(text, "  by        {}", one_line(&shell_words::join(words)))?;
    }
    if let Some(prompt) = &task.prompt {
        writeln!(text, "  prompt    {}", one_line(prompt))?;
    }
    writeln!(text, "  image     {}", image(&task.image))?;
    if let Some(setup) = &task.setup {
        writeln!(text, "  setup     {}", one_line(&setup.run))?;
        if !setup.paths.is_empty() {
            let paths: Vec<&str> = setup.paths.iter().map(WorktreePath::as_str).collect();
            writeln!(text, "  prepares  {}", paths.join(", "))?;
        }
    }
    for cache in &task.cache {
        let how = match cache.mode {
            CacheMode::Shared => "",
            CacheMode::Private => ", its own while it runs",
        };
        writeln!(text, "  cache     {} at {}{how}", cache.key, cache.path)?;
    }
    if let Some(user) = &task.user {
        writeln!(text, "  user      {user}")?;
    }
    writeln!(text, "  limits    {}", limits(task))?;
    if task.retry.max > 0 {
        writeln!(text, "  retry     {}", retry(&task.retry))?;
    }
    if task.allow_failure {
        writeln!(text, "  failure   allowed")?;
    }
    writeln!(text, "  network   {}", network(task))?;
    for service in &task.services {
        writeln!(text, "  service   {}", services::line(service))?;
    }
    if let Some(runtime) = &task.runtime {
        writeln!(text, "  runtime   {runtime}")?;
    }
    if !task.environment.is_empty() {
        let names: Vec<&str> = task.environment.keys().map(String::as_str).collect();
        writeln!(text, "  sets      {}", names.join(", "))?;
    }
    for grant in &task.secrets {
        let place = match &grant.environment {
            Some(variable) => format!("${variable}"),
            None => format!("/run/secrets/{}", grant.name),
        };
        writeln!(text, "  secret    {} as {place}", grant.name)?;
    }
    if let Some(claim) = &task.claim {
        writeln!(text, "  claim     {claim}")?;
    }
    if let Some(touches) = &task.touches {
        let paths: Vec<&str> = touches.paths.iter().map(PathPattern::as_str).collect();
        let strict = if touches.strict { ", nothing else" } else { "" };
        writeln!(text, "  touches   {}{strict}", paths.join(", "))?;
    }
    if let Some(verify) = &task.verify {
        writeln!(text, "  verify    {}", self::verify(verify, task.feedback))?;
    }
    if let Some(artifacts) = &task.artifacts {
        let paths: Vec<&str> = artifacts.paths.iter().map(PathPattern::as_str).collect();
        let when = match artifacts.when {
            When::Always => "",
            When::Success => ", if it succeeds",
            When::Failure => ", if it fails",
        };
        writeln!(text, "  artifacts {}{when}", paths.join(", "))?;
    }
    Ok(())
}

fn verify(verify: &VerifyPlan, feedback: u32) -> String {
    let mut text = format!("{}, {}", one_line(&verify.run), limit(verify.timeout));
    if let Some(own) = &verify.image {
        text += &format!(", in {}", image(&own.request));
    }
    for grant in &verify.secrets {
        text += &format!(", with the secret {}", grant.name);
    }
    if feedback > 0 {
        let attempts = count(feedback.into(), "further attempt");
        text += &format!("; {attempts} from its result after a failure");
    }
    text
}

fn agent(agent: &AgentSpec) -> String {
    let mut text = agent.name.clone();
    if let Some(version) = &agent.version {
        text += &format!(" {}", one_line(version));
    }
    if let Some(model) = &agent.model {
        text += &format!(", {}", one_line(model));
    }
    if let Some(turns) = agent.max_turns {
        text += &format!(", {} at most", count(turns.into(), "turn"));
    }
    if let Some(budget) = agent.budget {
        let tokens = budget.tokens.map(|tokens| count(tokens, "token"));
        let usd = budget.micro_usd.map(usd);
        let parts: Vec<String> = tokens.into_iter().chain(usd).collect();
        text += &format!(", {} at most", parts.join(" and "));
    }
    if !agent.session.is_empty() {
        text += ", in a session that is kept";
    }
    if !agent.args.is_empty() {
        text += &format!(", with {}", one_line(&shell_words::join(&agent.args)));
    }
    text
}

fn work(work: &Work) -> String {
    match work {
        Work::Script(script) => one_line(script),
        Work::Command(Some(words)) => one_line(&shell_words::join(words)),
        Work::Command(None) => "the image's own command".into(),
    }
}

fn image(image: &ImageRequest) -> String {
    let how = match (&image.build, image.pull_policy) {
        (Some(BuildConfig::Directory { context, .. }), PullPolicy::Build) => {
            format!(", built from {}", context.display())
        }
        (Some(BuildConfig::Directory { context, .. }), _) => {
            format!(", built from {} where missing", context.display())
        }
        (Some(BuildConfig::Dockerfile { .. }), PullPolicy::Build) => ", built".into(),
        (Some(BuildConfig::Dockerfile { .. }), PullPolicy::Never) => ", never built".into(),
        (Some(BuildConfig::Dockerfile { .. }), _) => ", built where missing".into(),
        (
            Some(
                BuildConfig::EmbeddedBase
                | BuildConfig::EmbeddedEgressProxy
                | BuildConfig::EmbeddedMail,
            ),
            _,
        ) => ", pulled or built where missing".into(),
        (None, PullPolicy::Always) => ", pulled".into(),
        (None, PullPolicy::Missing) => ", pulled where missing".into(),
        (None, PullPolicy::Never | PullPolicy::Build) => ", never pulled".into(),
    };
    format!("{}{how}", image.reference)
}

fn limits(task: &TaskPlan) -> String {
    let limits = &task.limits;
    let (cpus, memory) = (cpus(limits.nano_cpus), units::show_bytes(limits.memory));
    let time = limit(task.timeout);
    format!("{cpus}, {memory} memory, {} processes, {time}", limits.pids)
}

fn cpus(nanos: i64) -> String {
    let hundredths = nanos / 10_000_000;
    let cpus = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let cpus = cpus.trim_end_matches('0').trim_end_matches('.');
    let noun = if cpus == "1" { "CPU" } else { "CPUs" };
    format!("{cpus} {noun}")
}

fn retry(retry: &Retry) -> String {
    let attempts = count(retry.max.into(), "further attempt");
    let cause = |cause: &RetryCause| match cause {
        RetryCause::InfraFailure => "infra_failure",
        RetryCause::PullFailure => "pull_failure",
        RetryCause::ServiceFailure => "service_failure",
        RetryCause::Timeout => "timeout",
        RetryCause::Oom => "oom",
        RetryCause::ExitCode => "exit_code",
        RetryCause::VerifyFailure => "verify_failure",
        RetryCause::RateLimited => "rate_limited",
    };
    let causes: Vec<&str> = retry.when.iter().map(cause).collect();
    let mut text = match causes.join(", ") {
        any if any.is_empty() => format!("{attempts} after any failure"),
        causes => format!("{attempts} after {causes}"),
    };
    let codes: Vec<String> = retry.exit_codes.iter().map(u8::to_string).collect();
    if !codes.is_empty() {
        text += &format!(" ({})", codes.join(", "));
    }
    if !retry.backoff.is_zero() {
        text += &format!(", {} apart at first", limit(retry.backoff));
    }
    text
}

/// The first line that says something, and how many follow.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = sanitize::line(lines.next().unwrap_or_default().trim().as_bytes(), false);
    let first = console::truncate_str(&first, LINE_WIDTH, "…");
    match lines.count() {
        0 => first.into_owned(),
        more => format!("{first} (and {})", count(more as u64, "more line")),
    }
}

/// What a task reaches, in words.
fn network(task: &TaskPlan) -> String {
    match (&task.egress, task.network_mode) {
        (Some(hosts), _) if hosts.is_empty() => "nothing: its `egress` allows no host".into(),
        (Some(hosts), _) => {
            let hosts: Vec<&str> = hosts.iter().map(HostPattern::as_str).collect();
            format!("nothing but {}", hosts.join(", "))
        }
        (None, NetworkMode::Bridge) => "its own, open to the outside".into(),
        (None, NetworkMode::None) => "none".into(),
    }
}
