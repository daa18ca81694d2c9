//! `doctor`: whether agent-run can run here, what its tasks could reach, and what to do about it.

mod advisories;
mod finding;
mod host;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::args::{DoctorArgs, Format};
use super::error::Failure;
use super::exit_code::{Exit, of_stop};
use super::prepare::new_run_id;
use super::signals::Signals;
use super::surroundings::{self, Surroundings};
use super::{print_error, print_result};
use crate::engine::config::{ImageRequest, PullPolicy};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine as _, EngineError, EngineInfo, ErrorKind, ImageInfo};
use crate::id::{ImageRef, RunId};
use crate::journal::{self, RunDirectory};
use crate::runner::{Examination, ExamineError, Examiner, Internet, Pool, Reach, Shutdown};
use crate::sanitize;
use finding::Finding;

/// How long an engine may take for an answer that it knows.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn doctor(
    surroundings: &Surroundings,
    arguments: &DoctorArgs,
) -> Result<Exit, Failure> {
    let mut findings = host::git(surroundings);
    findings.push(host::disk("state directory", surroundings.state.path()));
    findings.push(host::logins(surroundings));
    match reach_engine(surroundings).await {
        Ok((engine, info)) => {
            let asked = ask_engine(surroundings, arguments.network_pool, engine, info);
            match Box::pin(asked).await? {
                Asked::All(found) => findings.extend(found),
                Asked::Stopped(exit) => return Ok(exit),
            }
        }
        Err(error) => findings.push(no_engine(&error)),
    }
    let text = match arguments.format {
        Format::Text => {
            let columns = surroundings::columns();
            finding::text(&findings, columns, surroundings.result_paint)
        }
        Format::Json => finding::json(&findings).map_err(|e| Failure::new(Exit::Unexpected, e))?,
    };
    print_result(&text);
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
        ErrorKind::Unreachable(_) => {
            "start Docker (systemctl start docker), or name an engine with --host or DOCKER_HOST"
        }
        ErrorKind::TooOld(_) => "install Docker 20.10 or newer",
        ErrorKind::Timeout => "restart Docker: systemctl restart docker",
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
        Ok(Err(error)) => Err(Finding::fail(check, line(&error.to_string()))),
        Err(_) => Err(Finding::fail(check, "the engine gave no answer in time")
            .fix("restart Docker: systemctl restart docker")),
    }
}

/// What became of asking the engine.
enum Asked {
    All(Vec<Finding>),
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
            return Ok(Asked::All(findings));
        }
    };
    findings.push(Finding::ok("base image", ImageRef::base().to_string()));
    let (sender, shutdown) = watch::channel(Shutdown::None);
    let examiner = Examiner {
        engine: Arc::new(engine),
        info,
        image,
        state: surroundings.state.clone(),
        run: new_run_id(),
        owner: journal::owner(),
        pool,
        shutdown,
    };
    let found = examine(&examiner, sender).await?;
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
    findings.extend(of_examination(&found, &examiner.run, pool));
    findings.extend(advisories);
    Ok(Asked::All(findings))
}

/// Lets the containers run under the name of a run, and hears signals meanwhile.
async fn examine(
    examiner: &Examiner<DockerEngine>,
    sender: watch::Sender<Shutdown>,
) -> Result<Examination, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let signals = Signals::catch()?;
    // So that `clean` finds what is left if this process dies.
    let directory = RunDirectory::create(&examiner.state, &examiner.run)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "signals are heard while the engine works"
    )]
    tokio::spawn(signals.forward(examiner.run.clone(), sender));
    let found = examiner.examine().await;
    if found.left.is_empty() {
        // What cannot be deleted is an empty run that `clean` passes over.
        let _ = std::fs::remove_dir_all(directory.path());
    }
    Ok(found)
}

fn of_examination(found: &Examination, run: &RunId, pool: Pool) -> Vec<Finding> {
    let mut findings = vec![mounts(&found.bind_mounts), limits(&found.limits)];
    match &found.reach {
        Ok(reach) => findings.extend(reached(*reach, pool)),
        Err(error) => {
            let fix = "see what the engine logs: journalctl -u docker";
            findings.push(Finding::fail("task network", line(&error.to_string())).fix(fix));
        }
    }
    if !found.left.is_empty() {
        findings.push(
            Finding::warn(
                "left behind",
                "not everything made for these checks is gone",
            )
            .details(found.left.iter().map(|left| line(left)))
            .fix(format!("agent-run clean --run {run}")),
        );
    }
    findings
}

fn mounts(proof: &Result<(), ExamineError>) -> Finding {
    let check = "bind mounts";
    match proof {
        Ok(()) => Finding::ok(
            check,
            "directories arrive in containers, and what they write here",
        ),
        Err(error) => failed(check, error),
    }
}

/// As a run would fail, with its hint.
fn failed(check: &str, error: &ExamineError) -> Finding {
    let found = Finding::fail(check, line(&error.to_string()));
    match error {
        ExamineError::Run(error) => found.fix(super::error::hint_of(error)),
        ExamineError::Container(_) | ExamineError::Stopped => {
            found.fix("see what the engine logs: journalctl -u docker")
        }
    }
}

fn limits(read: &Result<Vec<(&'static str, bool)>, ExamineError>) -> Finding {
    let check = "limits";
    let read = match read {
        Ok(read) => read,
        Err(error) => return failed(check, error),
    };
    let names = |wanted: bool| -> Vec<&str> {
        let of_kind = read.iter().filter(|(_, holds)| *holds == wanted);
        of_kind.map(|(key, _)| *key).collect()
    };
    let (hold, missing) = (names(true).join(", "), names(false));
    if missing.is_empty() {
        return Finding::ok(check, format!("{hold} hold, as a container reads them"));
    }
    let missing = missing.join(", ");
    Finding::warn(check, format!("a container does not see {missing} in force"))
        .fix("with a rootless engine delegate the cgroup controllers to its user, else enable them in the kernel")
}

fn reached(reach: Reach, pool: Pool) -> Vec<Finding> {
    let isolation = if reach.peer {
        Finding::fail("isolation", "one task can connect to another")
            .fix("let the engine manage the firewall (\"iptables\": true in daemon.json), and restart it")
    } else {
        Finding::ok("isolation", "a task cannot connect to another")
    };
    let internet = match reach.internet {
        Internet::Reached => Finding::ok("internet", "tasks reach it, by name"),
        Internet::NoConnections => {
            Finding::warn("internet", "tasks look up names but connect to nothing").fix(
                "let the engine's host forward: sysctl net.ipv4.ip_forward=1, and its firewall",
            )
        }
        Internet::NoNames => Finding::warn(
            "internet",
            "tasks cannot look up names: no agent reaches its model",
        )
        .fix("check the DNS of the engine's host, and `dns` in the engine's daemon.json"),
    };
    let metadata = if reach.metadata {
        Finding::warn(
            "metadata",
            "tasks reach 169.254.169.254, and with it this machine's cloud identity",
        )
        .fix("iptables -I DOCKER-USER -d 169.254.0.0/16 -j DROP, or network_mode: none")
    } else {
        Finding::ok("metadata", "no cloud metadata service answers tasks")
    };
    let host = match reach.host {
        Some(true) => Finding::warn(
            "host",
            "tasks reach what listens on all addresses of this machine",
        )
        .fix(format!(
            "network_mode: none, or iptables -I INPUT -s {pool} -j DROP"
        )),
        Some(false) => Finding::ok("host", "tasks do not reach what listens on this machine"),
        None => Finding::skip("host", "the engine's machine is another one"),
    };
    vec![isolation, internet, metadata, host]
}

/// Words of the engine on one line.
fn line(text: &str) -> String {
    sanitize::line(text.replace('\n', " ").as_bytes(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(reach: Reach) -> String {
        let found = reached(reach, Pool::default());
        finding::text(&found, None, crate::report::Paint { color: false })
    }

    #[test]
    fn a_task_that_reaches_another_makes_the_engine_unusable() {
        let apart = Reach {
            internet: Internet::Reached,
            metadata: false,
            host: Some(false),
            peer: false,
        };
        let text = verdicts(apart);
        assert!(text.ends_with("\nagent-run can run here\n"), "{text}");
        let text = verdicts(Reach {
            peer: true,
            ..apart
        });
        assert!(
            text.contains("fail  isolation") && text.contains("iptables"),
            "{text}"
        );
        let open = Reach {
            internet: Internet::NoConnections,
            metadata: true,
            host: Some(true),
            peer: false,
        };
        let text = verdicts(open);
        assert!(
            text.ends_with("\nagent-run can run here: 3 warnings\n"),
            "{text}"
        );
        assert!(
            text.contains("iptables -I INPUT -s 10.213.0.0/16 -j DROP"),
            "{text}"
        );
    }

    #[test]
    fn limits_that_are_not_in_force_are_named() {
        let found = limits(&Ok(vec![("mem_limit", true), ("cpus", false)]));
        let text = finding::text(&[found], None, crate::report::Paint { color: false });
        assert!(
            text.contains("warn  limits") && text.contains("does not see cpus"),
            "{text}"
        );
    }
}
