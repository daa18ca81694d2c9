//! `images`: lists what agent-run keeps for tasks to come: images that it built or prepared, directories
//! that setups prepared, caches; and builds those of agents.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use serde::Serialize;

use super::args::{Format, FormatOption};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::{print_json, print_result};
use crate::agents::{self, IMAGES, Image};
use crate::engine::Engine as _;
use crate::engine::docker::DockerEngine;
use crate::event::Versioned;
use crate::id::{StateDir, label};
use crate::plan::image;
use crate::report::{since, size};
use crate::sanitize;
use crate::spec::nearest;
use crate::workspace::{Kept, KeptKind, WorkspaceError, disk_use};

/// What `images` takes.
#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// What to do; they are listed if nothing is said
    #[command(subcommand)]
    pub action: Option<ImagesAction>,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What is done with the images of agent-run's own.
#[derive(Debug, clap::Subcommand)]
pub enum ImagesAction {
    /// Build the images of agents, and `dev` with tool chains; those that are there stay
    Build {
        /// Which [default: those of all agents, and `dev`]
        names: Vec<String>,
    },
}

#[derive(Serialize)]
struct Images {
    images: Vec<Listed>,
}

/// Something that is kept.
#[derive(Serialize)]
struct Listed {
    /// `built`, `prepared` or `cache`.
    kind: &'static str,
    name: String,
    size_bytes: u64,
    /// Since it was made, or last used, where that is known.
    age_seconds: Option<u64>,
    repository: Option<String>,
}

pub(super) async fn images(
    surroundings: &Surroundings,
    arguments: &ImagesArgs,
) -> Result<Exit, Failure> {
    let engine = DockerEngine::connect(&surroundings.engine).await?;
    if let Some(ImagesAction::Build { names }) = &arguments.action {
        return build(&engine, names).await;
    }
    let mut listed = of_engine(&engine, &surroundings.state).await?;
    let on_disk = on_disk(&surroundings.state);
    listed.extend(on_disk.map_err(|e| Failure::new(Exit::Unexpected, e))?);
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(Images { images: listed }));
    }
    print_result(&render(&listed));
    Ok(Exit::Success)
}

/// Builds images one after the other: they share steps.
async fn build(engine: &DockerEngine, names: &[String]) -> Result<Exit, Failure> {
    let known = || IMAGES.iter().map(|image| image.name);
    let wanted = names.iter().map(|name| {
        agents::image(name).ok_or_else(|| {
            let hint = nearest(name, known(), "the images");
            let why = format!("agent-run has no image `{name}`");
            Failure::new(Exit::Usage, anyhow!(why)).hint(hint)
        })
    });
    let mut wanted = wanted.collect::<Result<Vec<&Image>, Failure>>()?;
    if wanted.is_empty() {
        wanted = IMAGES.iter().collect();
    }
    for image in wanted {
        let request = image::own(image, BTreeMap::new());
        engine.ensure_image(&request).await?;
        print_result(&format!("{}\n", request.reference));
    }
    Ok(Exit::Success)
}

/// The images; those that setups made for another state directory are not ours to tell of.
async fn of_engine(engine: &DockerEngine, state: &StateDir) -> Result<Vec<Listed>, Failure> {
    let own = state.key();
    let mut listed = Vec::new();
    for image in engine.list_images().await? {
        let of_setup = image.labels.get(label::STATE);
        if of_setup.is_some_and(|state| *state != own) {
            continue;
        }
        let made = u64::try_from(image.created).unwrap_or(0);
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(made);
        let name = image.references.first().unwrap_or(&image.id);
        listed.push(Listed {
            kind: if of_setup.is_some() {
                "prepared"
            } else {
                "built"
            },
            name: sanitize::line(name.as_bytes(), false),
            size_bytes: image.size,
            age_seconds: age(made),
            repository: image.labels.get(label::REPO).cloned(),
        });
    }
    Ok(listed)
}

fn on_disk(state: &StateDir) -> Result<Vec<Listed>, WorkspaceError> {
    let kept = Kept::all(state)?.into_iter();
    let listed = kept.map(|kept| Listed {
        kind: match kept.kind {
            KeptKind::Prepared => "prepared",
            KeptKind::Cache => "cache",
        },
        name: kept.path.display().to_string(),
        size_bytes: disk_use(&kept.path).bytes,
        age_seconds: kept.last_used().and_then(age),
        repository: Some(kept.repository.to_string()),
    });
    Ok(listed.collect())
}

fn age(since: SystemTime) -> Option<u64> {
    Some(since.elapsed().ok()?.as_secs())
}

fn render(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "nothing is kept: no image was built or prepared, and there is no cache\n".into();
    }
    let mut text = String::new();
    for Listed {
        kind,
        name,
        size_bytes,
        age_seconds,
        ..
    } in listed
    {
        let age = age_seconds.map_or_else(|| "?".into(), |age| since(Duration::from_secs(age)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{kind:<9} {:>9}  {age:>8}  {name}", size(*size_bytes));
    }
    text
}
