//! How the image of a task is asked for: pulled, built from a directory, or from a Dockerfile of
//! agent-run's own.

use std::collections::BTreeMap;

use crate::agents::{self, Image, OWN};
use crate::engine::config::{BuildConfig, ImageRequest, PullPolicy};
use crate::id::ImageRef;
use crate::spec::{BuildContext, BuildSpec, TaskSpec};

/// The build argument that names the image below.
const BASE: &str = "BASE";

pub(super) fn of_task(task: &TaskSpec) -> ImageRequest {
    let named = task.image.as_ref().map(|i| i.value.clone());
    match (&task.build, named) {
        (None, None) => ImageRequest {
            pull_policy: task.pull_policy.unwrap_or_default(),
            ..base()
        },
        (None, Some(reference)) => ImageRequest {
            reference,
            pull_policy: task.pull_policy.unwrap_or_default(),
            build: None,
        },
        (Some(build), named) => built(build, named, task.pull_policy),
    }
}

/// The base image.
fn base() -> ImageRequest {
    ImageRequest {
        reference: ImageRef::base(),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::EmbeddedBase),
    }
}

/// The version of what an image of agent-run's own is named after.
pub(super) fn version(request: &ImageRequest) -> Option<String> {
    match &request.build {
        Some(BuildConfig::Dockerfile { args, .. }) => args.get("VERSION").cloned(),
        _ => None,
    }
}

fn built(build: &BuildSpec, named: Option<ImageRef>, policy: Option<PullPolicy>) -> ImageRequest {
    let context = match &build.context {
        BuildContext::Directory(context) => context.value.clone(),
        BuildContext::Own(image) => {
            let own = own(image, build.args.clone());
            return ImageRequest {
                reference: named.unwrap_or(own.reference),
                pull_policy: policy.unwrap_or(own.pull_policy),
                build: own.build,
            };
        }
    };
    let build = BuildConfig::Directory {
        context,
        dockerfile: build.dockerfile.value.clone(),
        target: build.target.clone(),
        args: build.args.clone(),
    };
    ImageRequest {
        reference: named.unwrap_or_else(|| ImageRef::for_build(format!("{build:?}").as_bytes())),
        // Its files may have changed, and the engine's cache makes a second build cheap.
        pull_policy: policy.unwrap_or(PullPolicy::Build),
        build: Some(build),
    }
}

/// An image of agent-run's own, on the base image where `args` name no other: its tag says what it is
/// built from, so that one that is there is the right one.
pub fn own(image: &Image, mut args: BTreeMap<String, String>) -> ImageRequest {
    for (name, of) in [("VERSION", image.name), ("NODE", "node")] {
        let is_asked = image.dockerfile.contains(&format!("ARG {name}\n"));
        if let Some(version) = agents::version(of).filter(|_| is_asked) {
            args.entry(name.to_owned())
                .or_insert_with(|| version.to_owned());
        }
    }
    let named = args.get(BASE).map(String::as_str);
    let below = match named.map(|base| base.strip_prefix(OWN).and_then(agents::image)) {
        None => Some(base()),
        // On itself it would have no end.
        Some(Some(other)) if other.name != image.name => Some(own(other, BTreeMap::new())),
        Some(_) => None,
    };
    if let Some(below) = &below {
        args.insert(BASE.to_owned(), below.reference.to_string());
    }
    let recipe = format!("{args:?}\n{}", image.dockerfile);
    let version = args.get("VERSION").map(String::as_str);
    ImageRequest {
        reference: ImageRef::own(image.name, version, recipe.as_bytes()),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::Dockerfile {
            text: image.dockerfile.to_owned(),
            args,
            below: below.map(Box::new),
        }),
    }
}
