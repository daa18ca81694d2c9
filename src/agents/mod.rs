//! The agents that agent-run knows, as data: a preset of each, the Dockerfiles of their images, and the
//! versions that those install.
//!
//! Nothing is read or checked here: what a preset means is `spec`'s, which reads those of users too.

/// An agent as agent-run brings it along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What a spec calls it.
    pub name: &'static str,
    /// Keys of a task and those of an agent, in YAML.
    pub text: &'static str,
}

/// An image that agent-run can build: a Dockerfile that needs nothing beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Its name behind [`OWN`].
    pub name: &'static str,
    /// The Dockerfile.
    pub dockerfile: &'static str,
}

/// What stands before the name of an image of ours where a build context is meant.
pub const OWN: &str = "agent-run:";

/// What every preset's script begins with.
pub const PRELUDE: &str = include_str!("prelude.sh");

/// The versions of what the images install, one in a line.
const VERSIONS: &str = include_str!("../../images/versions");

macro_rules! presets {
    ($($name:literal),+) => {
        &[$(Preset {
            name: $name,
            text: include_str!(concat!("presets/", $name, ".yaml")),
        }),+]
    };
}

macro_rules! images {
    ($($name:literal),+) => {
        &[$(Image {
            name: $name,
            dockerfile: include_str!(concat!("../../images/", $name, "/Dockerfile")),
        }),+]
    };
}

/// The presets, in the order in which they are listed.
pub const PRESETS: &[Preset] = presets!(
    "claude-code",
    "codex",
    "gemini",
    "opencode",
    "aider",
    "mini-swe-agent",
    "shell"
);

/// The images besides the base image.
pub const IMAGES: &[Image] = images!(
    "dev",
    "claude-code",
    "codex",
    "gemini",
    "opencode",
    "aider",
    "mini-swe-agent"
);

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The image of that name.
pub fn image(name: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.name == name)
}

/// The version of what an image is named after, or of `node`.
pub fn version(name: &str) -> Option<&'static str> {
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(known, version)| (known == name).then_some(version))
}
