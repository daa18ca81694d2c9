//! `doctor`: whether agent-run can run here, what its tasks could reach, and what to do about it.

mod advisories;
mod containers;
mod finding;
pub(super) mod firewall;
mod host;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::args::{DoctorArgs, Format};
use super::error::Failure;
use super::exit_code::{Exit, of_stop};
use super::prepare::new_run_id;
use super::signals::{Controls, Signals};
use super::surroundings::{self, Surroundings};
use super::{exposure, print_error, print_json, print_result};
use crate::engine::config::{ImageRequest, PullPolicy};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine as _, EngineError, EngineInfo, ErrorKind, ImageInfo};
use crate::id::{ImageRef, RunId, StateDir};
use crate::journal::{self, RunDirectory};
use crate::runner::{Examination, Examiner, Pool, Shutdown};
use crate::sanitize;
use finding::Finding;
use trust::Trust;

/// How long an engine may take for an answer that it knows.
const ANSWER: Duration = Duration::from_secs(10);
/// What to do about an engine that fails.
const ENGINE_FIX: &str = "see what the engine logs (journalctl -u docker), and restart it";
/// What to do about addresses that others use.
const POOL_FIX: &str =
    "name a free range with --network-pool or AGENT_RUN_NETWORK_POOL, as 10.214.0.0/16";

pub(super) async fn doctor(
    surroundings: &Surroundings,
    arguments: &DoctorArgs,
) -> Result<Exit, Failure> {
    if arguments.firewall {
        print_result(&firewall::rules(
            arguments.network_pool,
            &firewall::name_servers(),
        ));
        return Ok(Exit::Success);
    }
    let mut findings = host::git(surroundings);
    let mut trust = None;
    findings.push(host::disk("state directory", surroundings.state.path()));
    findings.push(host::logins(surroundings));
    match reach_engine(surroundings).await {
        Ok((engine, info)) => {
            let asked = ask_engine(surroundings, arguments.network_pool, engine, info);
            match Box::pin(asked).await? {
                Asked::All(found, reaches) => {
                    findings.extend(found);
                    trust = reaches;
                }
                Asked::Stopped(exit) => return Ok(exit),
            }
        }
        Err(error) => findings.push(no_engine(&error)),
    }
    match arguments.print.format {
        Format::Text => {
            let columns = surroundings::columns();
            let text = finding::text(&findings, columns, surroundings.result_paint);
            let trust = trust.map(|trust| trust.text(surroundings.result_paint));
            print_result(&(text + &trust.unwrap_or_default()));
        }
        Format::Json => {
            print_json(&finding::Report::new(&findings, trust.as_ref()))?;
        }
    }
    Ok(if finding::usable(&findings) {
        Exit::Success
    } else {
        Exit::EnvironmentUnusable
    })
}

async fn reach_engine(
    surroundings: &Surroundings,
) -> Result<(DockerEngine, EngineInfo), EngineError> {
    let engine = DockerEngine::connect(&surroundings.engine).await?;
    let info = timeout(ANSWER, engine.info()).await;
    let info = info.unwrap_or(Err(EngineError {
        operation: crate::engine::Operation::Info,
        subject: "the container engine".into(),
        kind: ErrorKind::Timeout,
        source: None,
    }))?;
    Ok((engine, info))
}

/// The engine that is not there, with every place where it was looked for.
fn no_engine(error: &EngineError) -> Finding {
    let fix = match &error.kind {
        // The system's words for EACCES, which the client hands on.
        ErrorKind::Unreachable(tried) if tried.iter().any(|t| t.contains("Permission denied")) => {
            "join the group that may use Docker (sudo usermod -aG docker $USER), and log in again"
        }
        ErrorKind::Unreachable(_) => {
            "start Docker (systemctl start docker), or name an engine with --host or DOCKER_HOST"
        }
        ErrorKind::TooOld(_) => "install Docker 20.10 or newer",
        ErrorKind::Timeout => ENGINE_FIX,
        _ => "name an engine that agent-run can use with --host or DOCKER_HOST",
    };
    let found = match &error.kind {
        ErrorKind::Unreachable(tried) => {
            Finding::fail("engine", "no engine answers").details(tried.iter().map(|t| line(t)))
        }
        _ => Finding::fail("engine", line(&error.to_string())),
    };
    found.fix(fix)
}

fn engine_says(info: &EngineInfo) -> Finding {
    let kind = match (info.rootless, info.userns_root) {
        (true, _) => ", rootless",
        (false, Some(_)) => ", with user namespaces",
        (false, None) => "",
    };
    let cgroups = match info.cgroup_version {
        Some(version) => format!(", cgroup v{version}"),
        None => String::new(),
    };
    let memory = host::gib(u64::try_from(info.memory).unwrap_or(0));
    let message = format!(
        "{} at {}, API {}{kind}{cgroups}, {} CPUs, {memory:.1} GiB",
        info.version, info.endpoint, info.api_version, info.cpus
    );
    Finding::ok("engine", line(&message))
}

/// The base image if the engine has it. It is not made here: that takes minutes.
async fn base_image(engine: &DockerEngine) -> Result<ImageInfo, Finding> {
    let request = ImageRequest {
        reference: ImageRef::base(),
        pull_policy: PullPolicy::Never,
        build: None,
    };
    let check = "base image";
    match timeout(ANSWER, engine.ensure_image(&request)).await {
        Ok(Ok(image)) => Ok(image),
        Ok(Err(error)) if matches!(error.kind, ErrorKind::ImageUnavailable(_)) => {
            let message = format!(
                "{} is not there: limits, mounts and networks are not tried",
                request.reference
            );
            let fix = "start a task without `image`, which pulls or builds it (some minutes, with \
                       a way to an image registry), then ask again";
            Err(Finding::warn(check, message).fix(fix))
        }
        Ok(Err(error)) => Err(Finding::fail(check, line(&error.to_string())).fix(ENGINE_FIX)),
        Err(_) => Err(Finding::fail(check, "the engine gave no answer in time").fix(ENGINE_FIX)),
    }
}

/// What became of asking the engine.
enum Asked {
    /// What was found, and what that comes to for tasks.
    All(Vec<Finding>, Option<Trust>),
    /// A signal came; everything that was made is removed, or told of.
    Stopped(Exit),
}

/// What the engine says, and what throw-away containers find.
async fn ask_engine(
    surroundings: &Surroundings,
    pool: Pool,
    engine: DockerEngine,
    info: EngineInfo,
) -> Result<Asked, Failure> {
    let mut findings = vec![
        engine_says(&info),
        host::engine_data(&info),
        host::pool(pool),
    ];
    let advisories = advisories::findings(&info);
    let image = match base_image(&engine).await {
        Ok(image) => image,
        Err(finding) => {
            findings.push(finding);
            findings.extend(advisories);
            return Ok(Asked::All(findings, Some(Trust::new(&info, None))));
        }
    };
    findings.push(Finding::ok("base image", ImageRef::base().to_string()));
    let run = new_run_id();
    let directory = match run_directory(&surroundings.state, &run) {
        Ok(directory) => directory,
        Err(finding) => {
            findings.push(*finding);
            findings.extend(advisories);
            return Ok(Asked::All(findings, Some(Trust::new(&info, None))));
        }
    };
    let (sender, shutdown) = watch::channel(Shutdown::None);
    let examiner = Examiner {
        engine: Arc::new(engine),
        info,
        image,
        state: surroundings.state.clone(),
        run,
        owner: journal::owner(),
        pool,
        shutdown,
    };
    let found = examine(&examiner, &directory, sender).await?;
    let stopped = match *examiner.shutdown.borrow() {
        Shutdown::None => None,
        Shutdown::Graceful(reason) | Shutdown::Forced(reason) => Some(reason),
    };
    if let Some(reason) = stopped {
        for left in found.left {
            print_error(&format!("left behind: {}\n", line(&left)));
        }
        return Ok(Asked::Stopped(of_stop(reason)));
    }
    findings.extend(containers::findings(&found, &examiner.run, pool));
    findings.extend(advisories);
    if let Ok(reach) = &found.reach {
        exposure::note(&examiner.state, &examiner.info, (pool, *reach));
    }
    let trust = Trust::new(&examiner.info, found.reach.as_ref().ok().copied());
    Ok(Asked::All(findings, Some(trust)))
}

/// The directory by which `clean` finds what is left if this process dies.
fn run_directory(state: &StateDir, run: &RunId) -> Result<RunDirectory, Box<Finding>> {
    let check = "containers";
    if !state.path().is_dir() {
        return Err(Box::new(Finding::skip(
            check,
            "none started without a state directory",
        )));
    }
    RunDirectory::create(state, run).map_err(|error| {
        let error = anyhow::Error::new(error);
        let message = format!("none started: {}", line(&format!("{error:#}")));
        Box::new(Finding::fail(check, message).fix("name another directory with --state-dir"))
    })
}

/// Lets the containers run under the name of a run, and hears signals meanwhile.
async fn examine(
    examiner: &Examiner<DockerEngine>,
    directory: &RunDirectory,
    sender: watch::Sender<Shutdown>,
) -> Result<Examination, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let signals = Signals::catch()?;
    let controls = Controls {
        shutdown: sender,
        area: None,
        keys: None,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "signals are heard while the engine works"
    )]
    tokio::spawn(signals.forward(examiner.run.clone(), controls));
    let found = examiner.examine().await;
    if found.left.is_empty() {
        // What cannot be deleted is an empty run that `clean` passes over.
        let _ = std::fs::remove_dir_all(directory.path());
    }
    Ok(found)
}

/// Words of the engine on one line.
fn line(text: &str) -> String {
    sanitize::line(text.replace('\n', " ").as_bytes(), false)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of an engine with nothing but `runc`.
    pub(in crate::cli) fn info() -> EngineInfo {
        EngineInfo {
            id: None,
            endpoint: "test".into(),
            remote: false,
            version: "1".into(),
            api_version: "1.41".into(),
            cpus: 2,
            memory: 1 << 30,
            rootless: false,
            userns_root: None,
            missing_limits: Vec::new(),
            runtimes: vec!["runc".into()],
            cgroup_version: None,
            keeps_containers: false,
            data_directory: None,
            components: Vec::new(),
        }
    }

    #[test]
    fn what_to_do_about_an_engine_depends_on_why_it_does_not_answer() {
        let fix = |tried: &str| {
            let error = EngineError {
                operation: crate::engine::Operation::Connect,
                subject: "the container engine".into(),
                kind: ErrorKind::Unreachable(vec!["a: there is no socket".into(), tried.into()]),
                source: None,
            };
            let plain = crate::report::Paint { color: false };
            finding::text(&[no_engine(&error)], None, plain)
        };
        let absent = fix("b: there is no socket");
        assert!(absent.contains("fix: start Docker"), "{absent}");
        let closed = fix("b: client error (Connect): Permission denied (os error 13)");
        assert!(closed.contains("usermod -aG docker"), "{closed}");
        assert!(closed.contains("- a: there is no socket"), "{closed}");
    }
}
