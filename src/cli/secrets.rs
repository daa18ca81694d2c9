//! Where the values of secrets come from: the environment, files, programs of the host.

use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::ci;
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::{self, Surroundings};
use crate::git;
use crate::plan::{HostCommand, RunPlan, SecretOrigin, SecretSource};
use crate::runner;
use crate::secrets::{Needles, SecretString};

/// The largest secret, in bytes.
const LIMIT: u64 = 1 << 20;
/// How long a program may take to print one. It has no terminal to ask anybody.
const PATIENCE: Duration = Duration::from_secs(30);

/// The secrets of a run, as they are read before it begins.
pub(super) struct Secrets {
    pub(super) values: runner::Secrets,
    pub(super) needles: Needles,
    /// Values that are read while it runs, where GitHub must be told them.
    pub(super) further: Receiver<SecretString>,
}

/// Reads the secrets that some task is granted. Their values go nowhere but into containers. The plan
/// is to warn of those that are too short to be masked.
pub(super) fn read_all(
    surroundings: &Surroundings,
    plan: &mut RunPlan,
) -> Result<Secrets, Failure> {
    let values = plan
        .secrets
        .iter()
        .map(|source| Ok((source.name.clone(), read(&surroundings.directory, source)?)))
        .collect::<anyhow::Result<Vec<_>>>();
    let values = values.map_err(|error| {
        let failure = Failure::new(Exit::EnvironmentUnusable, error);
        failure.hint("`secrets` in the spec says where each value comes from")
    })?;
    ci::mask(values.iter().map(|(_, value)| value));
    let (needles, too_short) = Needles::new(values.iter().map(|(_, value)| value));
    for index in too_short {
        let name = &values[index].0;
        let warning = format!("secret {name} is too short to be masked in output");
        plan.warnings.push(warning);
    }
    let (tell, further) = channel();
    let directory = surroundings.directory.clone();
    let values = runner::Secrets::new(values, move |source| {
        let value = read(&directory, source).map_err(|error| format!("{error:#}"))?;
        if ci::masks_values() {
            // Whoever shows the run lives as long as it does.
            let _ = tell.send(value.clone());
        }
        Ok(value)
    });
    Ok(Secrets {
        values,
        needles,
        further,
    })
}

/// Reads a secret as it is now. Paths of plans that were written by hand are relative to `directory`.
fn read(directory: &Path, source: &SecretSource) -> anyhow::Result<SecretString> {
    let name = &source.name;
    match &source.origin {
        SecretOrigin::Environment(variable) => match surroundings::exact(variable) {
            Some(value) => Ok(SecretString::new(value)),
            None => bail!("secret {name}: the variable {variable} is not set"),
        },
        SecretOrigin::File(path) => read_file(&directory.join(path))
            .with_context(|| format!("secret {name}: cannot read {}", path.display())),
        SecretOrigin::Command(command) => {
            printed_by(directory, command).with_context(|| format!("secret {name} cannot be had"))
        }
    }
}

fn read_file(path: &Path) -> anyhow::Result<SecretString> {
    let mut value = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LIMIT + 1).read_to_string(&mut value)?;
    if value.len() as u64 > LIMIT {
        bail!("it is larger than 1 MiB");
    }
    Ok(SecretString::new(value))
}

/// What a program prints, without the end of its last line, as `$(…)` has it in a shell.
fn printed_by(directory: &Path, command: &HostCommand) -> anyhow::Result<SecretString> {
    let HostCommand {
        words,
        directory: own,
    } = command;
    let limit = usize::try_from(LIMIT).unwrap_or(usize::MAX);
    let printed = git::output_of_program(words, &directory.join(own), PATIENCE, limit)?;
    let printed = printed.expose();
    let value = printed.strip_suffix('\n').unwrap_or(printed);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.trim().is_empty() {
        bail!("`{}` printed nothing", words[0]);
    }
    Ok(SecretString::new(value.to_owned()))
}
