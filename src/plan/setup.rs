//! What a setup and a cache come to in a plan, and whether the base is as a setup needs it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::id::{TaskId, WorktreePath};
use crate::spec::{
    At, Diagnostic, Diagnostics, RunSpec, SecretGrant, SetupSpec, SetupUser, TaskSpec,
};

/// What prepares the image of a task and directories of its worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupPlan {
    /// Its script.
    pub run: String,
    /// The files of the base that it depends on.
    pub files: Vec<WorktreePath>,
    /// The directories that it makes.
    pub paths: Vec<WorktreePath>,
    /// Who it runs as.
    pub user: SetupUser,
    /// The secrets that it is granted.
    pub secrets: Vec<SecretGrant>,
}

impl From<&SetupSpec> for SetupPlan {
    fn from(spec: &SetupSpec) -> Self {
        let paths = |list: &[At<WorktreePath>]| list.iter().map(|at| at.value.clone()).collect();
        Self {
            run: spec.run.clone(),
            files: paths(&spec.files),
            paths: paths(&spec.paths),
            user: spec.user,
            secrets: spec.secrets.clone(),
        }
    }
}

impl SetupPlan {
    /// The same on what an agent has made, which none of its secrets are for.
    #[must_use]
    pub fn of_result(self) -> Self {
        Self {
            secrets: Vec::new(),
            ..self
        }
    }
}

/// The kind of an entry of a git tree, by its mode.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const TREE: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// These tasks and all that they need.
pub(super) fn selected<'a>(
    spec: &'a RunSpec,
    select: &[TaskId],
) -> impl Iterator<Item = &'a TaskSpec> {
    let selected = spec.with_needs(select);
    let is_selected = move |task: &&TaskSpec| selected.contains(&task.id.value);
    spec.tasks.iter().filter(is_selected)
}

/// Their setups.
fn setups<'a>(spec: &'a RunSpec, select: &[TaskId]) -> impl Iterator<Item = &'a SetupSpec> {
    selected(spec, select).filter_map(|task| task.setup.as_ref())
}

/// What must be known of the base for [`check_setups`]: all paths that setups name, and what leads
/// to them.
pub fn paths_of_setups(spec: &RunSpec, select: &[TaskId]) -> Vec<String> {
    let named = setups(spec, select).flat_map(|setup| setup.files.iter().chain(&setup.paths));
    let all = named.flat_map(|at| at.value.as_path().ancestors());
    let mut all: Vec<String> = all
        .filter_map(Path::to_str)
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Checks the setups of a spec against the base. `modes` are those of the entries of its tree, of
/// the paths that [`paths_of_setups`] names.
///
/// # Errors
/// Each listed file that is missing, and each prepared directory that is not free.
pub fn check_setups(
    spec: &RunSpec,
    select: &[TaskId],
    modes: &BTreeMap<String, u32>,
) -> Result<(), Diagnostics> {
    let mut problems = Vec::new();
    for setup in setups(spec, select) {
        problems.extend(setup.files.iter().filter_map(|at| file_problem(at, modes)));
        problems.extend(setup.paths.iter().filter_map(|at| path_problem(at, modes)));
    }
    Diagnostics::check(&spec.source, problems)
}

fn file_problem(at: &At<WorktreePath>, modes: &BTreeMap<String, u32>) -> Option<Diagnostic> {
    let path = &at.value;
    let (title, hint) = match modes.get(path.as_str()).map(|mode| mode & KIND) {
        Some(REGULAR) => return None,
        None => (
            format!("the base has no file `{path}`, which `setup` depends on"),
            "commit it, or take it out of `files`",
        ),
        Some(_) => (
            format!("`{path}`, which `setup` depends on, is no file in the base"),
            "name files: a setup is made anew when one of them changes",
        ),
    };
    Some(Diagnostic::new(at.span, title, hint))
}

fn path_problem(at: &At<WorktreePath>, modes: &BTreeMap<String, u32>) -> Option<Diagnostic> {
    let path = &at.value;
    if modes.contains_key(path.as_str()) {
        let title = format!("`{path}` is tracked by git, so that no setup can prepare it");
        let hint = "name a directory that git ignores, such as node_modules";
        return Some(Diagnostic::new(at.span, title, hint));
    }
    let mut above = path.as_path().ancestors().skip(1).filter_map(Path::to_str);
    let (name, kind) = above.find_map(|name| {
        let kind = modes.get(name)? & KIND;
        (kind != TREE).then_some((name, kind))
    })?;
    let kind = match kind {
        REGULAR => "a file",
        LINK => "a symbolic link",
        _ => "a submodule",
    };
    let title = format!("`{path}` cannot be prepared: `{name}` is {kind} in the base");
    let hint = "name a directory below directories of the repository";
    Some(Diagnostic::new(at.span, title, hint))
}
