//! `agents`: lists the agents that agent-run brings along, and shows the preset of one.

use std::fmt::Write as _;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::{Format, FormatOption};
use super::error::Failure;
use super::exit_code::Exit;
use super::{print_json, print_result};
use crate::agents::{self, PRESETS, Preset};
use crate::event::Versioned;
use crate::plan::image;
use crate::spec::nearest;

/// What `agents` takes.
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// What to do; they are listed if nothing is said
    #[command(subcommand)]
    pub action: Option<AgentsAction>,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What is done with an agent.
#[derive(Debug, Subcommand)]
pub enum AgentsAction {
    /// Print the preset of an agent: what it gives a task, as it would stand under `agents`
    Show {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Listed {
    agents: Vec<Agent>,
}

/// An agent of agent-run's.
#[derive(Serialize)]
struct Agent {
    name: &'static str,
    /// Of the client that its image installs.
    version: Option<&'static str>,
    image: Option<String>,
    description: &'static str,
}

pub(super) fn agents(arguments: &AgentsArgs) -> Result<Exit, Failure> {
    if let Some(AgentsAction::Show { name }) = &arguments.action {
        return show(name);
    }
    let agents: Vec<Agent> = PRESETS.iter().map(agent).collect();
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(Listed { agents }));
    }
    let mut text = String::new();
    for agent in agents {
        let version = agent.version.unwrap_or("-");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<15} {version:<9} {}",
            agent.name, agent.description
        );
    }
    print_result(&text);
    Ok(Exit::Success)
}

fn show(name: &str) -> Result<Exit, Failure> {
    let Some(preset) = agents::preset(name) else {
        let hint = nearest(name, PRESETS.iter().map(|preset| preset.name), "the agents");
        let why = format!("agent-run has no agent `{name}`");
        return Err(Failure::new(Exit::Usage, anyhow!(why)).hint(hint));
    };
    let agent = agent(preset);
    let mut text = String::new();
    if let (Some(version), Some(image)) = (agent.version, agent.image) {
        let _ = writeln!(text, "# {name} {version}, in {image}");
    }
    text += preset.text;
    print_result(&text);
    Ok(Exit::Success)
}

fn agent(preset: &Preset) -> Agent {
    let image = agents::image(preset.name);
    let description = preset.text.lines().next().unwrap_or_default();
    Agent {
        name: preset.name,
        version: agents::version(preset.name),
        image: image.map(|own| {
            image::own(own, std::collections::BTreeMap::new())
                .reference
                .to_string()
        }),
        description: description.trim_start_matches("description: "),
    }
}
