//! `init`: looks at the repository and writes a spec that runs as it is.
//!
//! Nothing of the repository but the name of its default branch gets into the text, so that no file
//! name can make another spec of it.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::args::InitArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare::{DEFAULT_NAMES, refuse_state_inside};
use super::print_result;
use super::surroundings::Surroundings;
use crate::git::{Git, GitError, Repository};
use crate::report::count;
use crate::sanitize;

/// What is asked for: where the file lies in the repository, what such a repository is called, and
/// the task for it.
const TOOLS: [(&str, &str, &str); 7] = [
    ("Cargo.toml", "Rust", include_str!("init/rust.yaml")),
    ("package.json", "Node", include_str!("init/node.yaml")),
    ("pyproject.toml", "Python", include_str!("init/python.yaml")),
    ("setup.py", "Python", include_str!("init/python.yaml")),
    (
        "requirements.txt",
        "Python",
        include_str!("init/python.yaml"),
    ),
    ("go.mod", "Go", include_str!("init/go.yaml")),
    ("Makefile", "make", include_str!("init/make.yaml")),
];
/// Where CI systems look for what they should do.
const CI: [&str; 5] = [
    ".github/workflows",
    ".gitlab-ci.yml",
    "Jenkinsfile",
    ".buildkite",
    ".circleci",
];

/// What a repository was found to be.
struct Found {
    /// The name of its default branch, if one can be told.
    branch: Option<String>,
    /// Names of tools and their tasks, each once.
    tools: Vec<(&'static str, &'static str)>,
    /// Where it configures CI.
    ci: Vec<&'static str>,
}

/// `elsewhere` says that the commands to type next are typed in another directory.
pub(super) fn init(
    surroundings: &Surroundings,
    arguments: &InitArgs,
    elsewhere: bool,
) -> Result<Exit, Failure> {
    let git = Git::new(
        &surroundings.search_path,
        &surroundings.state.path().join("git"),
    )?;
    let repository = Repository::open(&git, &surroundings.directory)?;
    refuse_state_inside(surroundings, &repository)?;
    let found = look_at(&repository)?;
    let text = spec(&found);
    if arguments.stdout {
        print_result(&text);
        return Ok(Exit::Success);
    }
    let Some(top) = repository.work_tree() else {
        let error = anyhow::anyhow!("a bare repository has no place for a spec");
        let hint = "print one with --stdout, and name the repository in it with `repo`";
        return Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint));
    };
    write(top, &text)?;
    print_result(&told(top, &found, elsewhere));
    Ok(Exit::Success)
}

fn look_at(repository: &Repository) -> Result<Found, Failure> {
    let base = repository.resolve_base("HEAD")?;
    let paths = TOOLS.iter().map(|(file, _, _)| *file).chain(CI);
    let listing = ["ls-tree", "--full-tree", "-z", "--name-only", base.as_str()];
    let listed = repository.call(listing.into_iter().chain(paths)).run()?;
    let has = |path: &str| {
        listed
            .split(|b| *b == 0)
            .any(|name| name == path.as_bytes())
    };
    let mut tools: Vec<(&str, &str)> = TOOLS
        .iter()
        .filter(|(file, _, _)| has(file))
        .map(|(_, name, task)| (*name, *task))
        .collect();
    tools.dedup();
    Ok(Found {
        branch: default_branch(repository)?,
        tools,
        ci: CI.into_iter().filter(|path| has(path)).collect(),
    })
}

/// The branch that a clone of the repository's origin starts on, else the one that is checked out.
fn default_branch(repository: &Repository) -> Result<Option<String>, GitError> {
    let of_origin = repository.full_ref_name("refs/remotes/origin/HEAD")?;
    let of_origin = of_origin.and_then(|name| {
        let branch = name.strip_prefix("refs/remotes/origin/")?;
        (branch != "HEAD").then(|| branch.to_owned())
    });
    if of_origin.is_some() {
        return Ok(of_origin);
    }
    let here = repository.full_ref_name("HEAD")?;
    Ok(here.and_then(|name| name.strip_prefix("refs/heads/").map(str::to_owned)))
}

fn spec(found: &Found) -> String {
    let branch = found.branch.as_deref().unwrap_or("main");
    let branch = sanitize::line(branch.as_bytes(), false);
    let mut notes =
        format!("# base: {branch}\n# (what every worktree starts from; HEAD if it is not said)");
    if !found.ci.is_empty() {
        let places = found.ci.join(", ");
        notes += &format!("\n# CI is set up in {places}: a branch that is pushed may start it.");
    }
    let mut text = include_str!("init/head.yaml").replace("{base}", &notes);
    let common = [
        include_str!("init/inventory.yaml"),
        include_str!("init/history.yaml"),
    ];
    let tasks: Vec<&str> = common
        .into_iter()
        .chain(found.tools.iter().map(|(_, task)| *task))
        .collect();
    text += &tasks.join("\n");
    text + include_str!("init/agent.yaml")
}

/// Makes the file; one that is there, under either name that is looked for, stays as it is.
fn write(top: &Path, text: &str) -> Result<(), Failure> {
    let existing = DEFAULT_NAMES.iter().map(|name| top.join(name));
    if let Some(path) = existing
        .into_iter()
        .find(|path| path.symlink_metadata().is_ok())
    {
        let error = anyhow::anyhow!("{} is there already", shown(&path));
        let hint = "it stays as it is; agent-run init --stdout prints another";
        return Err(Failure::new(Exit::Usage, error).hint(hint));
    }
    let path = top.join(DEFAULT_NAMES[0]);
    let written = std::fs::File::create_new(&path).and_then(|mut file| {
        let written = file.write_all(text.as_bytes());
        if written.is_err() {
            // Half a spec is worse than none.
            let _ = std::fs::remove_file(&path);
        }
        written
    });
    written
        .with_context(|| format!("cannot write {}", shown(&path)))
        .map_err(|e| Failure::new(Exit::EnvironmentUnusable, e))
}

fn told(top: &Path, found: &Found, elsewhere: bool) -> String {
    let path = shown(&top.join(DEFAULT_NAMES[0]));
    let names: Vec<&str> = found.tools.iter().map(|(name, _)| *name).collect();
    let kind = match names.as_slice() {
        [] => String::new(),
        names => format!(" for {}", names.join(", ")),
    };
    let tasks = count(2 + found.tools.len() as u64, "task");
    let spec = if elsewhere {
        format!(" {}", shell_words::quote(&path))
    } else {
        String::new()
    };
    format!(
        "wrote {path}: {tasks}{kind}\n\nNext\n  agent-run plan{spec}    shows what a run would do\n  \
         agent-run run{spec}     runs it, and makes a branch of each task's work\n"
    )
}

fn shown(path: &Path) -> String {
    sanitize::line(path.as_os_str().as_bytes(), false)
}
