//! From arguments to a plan: finds and reads the spec, the repository and the engine.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{OverArgs, ProfileArgs, RunArgs, SpecArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::repeat::{self, Repeat};
use super::select;
use super::surroundings::{self, Surroundings};
use crate::engine::config::{ImageRequest, PullPolicy};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine as _, EngineInfo, ErrorKind};
use crate::git::{self, Git, GitError, Repository};
use crate::id::{CommitId, ImageRef, RunId, TaskId};
use crate::plan::{self, EngineCapacity, Identity, PlanInputs, RepositoryPlan, RunPlan, TaskPlan};
use crate::report::limit;
use crate::spec::{self, Context, RunSpec, SourceFile};

/// The names that are looked for where no spec is named.
pub(super) const DEFAULT_NAMES: [&str; 2] = ["agent-run.yaml", "agent-run.yml"];
/// What a command gets between TERM and KILL on GitHub, at most.
const GITHUB_GRACE: Duration = Duration::from_millis(1500);

/// A spec as it was asked for.
pub(super) struct Asked {
    /// What people call it.
    pub(super) name: String,
    /// The directory that its paths are relative to.
    pub(super) directory: PathBuf,
    pub(super) spec: RunSpec,
    pub(super) select: Vec<TaskId>,
    /// The run that the spec was read for.
    pub(super) run: RunId,
    /// The file that it was read from, absolute.
    path: Option<PathBuf>,
}

/// What a run is asked to do.
pub(super) enum Request {
    Spec(Box<Asked>),
    Plan(Box<Repeat>),
}

/// All that a run needs before it may touch anything.
pub(super) struct Prepared {
    pub(super) plan: RunPlan,
    pub(super) repository: Repository,
    pub(super) engine: Arc<DockerEngine>,
    pub(super) info: EngineInfo,
}

/// The id of a run that starts now.
pub(super) fn new_run_id() -> RunId {
    let now = jiff::Timestamp::now();
    let entropy = now.subsec_nanosecond().unsigned_abs() ^ std::process::id().rotate_left(12);
    RunId::new(now, entropy)
}

/// Reads and checks the spec that the words name, and the files that it names. Without profiles all of
/// its tasks are meant where none is named.
pub(super) fn read_spec(
    here: &Path,
    arguments: &SpecArgs,
    profiles: Option<&ProfileArgs>,
) -> Result<Asked, Failure> {
    let run = new_run_id();
    let (path, tasks) = split_words(arguments);
    let (source, directory, path) = if path.as_deref() == Some(Path::new("-")) {
        let source = SourceFile::from_reader("standard input", std::io::stdin().lock())?;
        (source, here.to_owned(), None)
    } else {
        let name = match path {
            Some(path) => path,
            None => find_spec(here)?,
        };
        let path = here.join(&name);
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        (SourceFile::read(&name)?, directory, Some(path))
    };
    let name = source.name().to_owned();
    let context = Context {
        run: &run,
        directory: &directory,
        environment: &surroundings::exact,
    };
    let mut spec = spec::parse(&source, &context)?;
    spec::read_files(&mut spec, &context)?;
    let profiles = profiles.map(|profiles| profiles.profiles.as_slice());
    let tasks = (tasks, arguments.exact);
    let select = select::of_spec(&spec, &name, tasks, profiles)?;
    Ok(Asked {
        name,
        directory,
        spec,
        select,
        run,
        path,
    })
}

/// The spec is what `--file` names, else the first word iff it is `-`, has a `/`, or ends in .yaml
/// or .yml, else what the variable names.
pub(super) fn split_words(arguments: &SpecArgs) -> (Option<PathBuf>, &[String]) {
    let words = &arguments.words;
    let is_spec = |word: &str| {
        word == "-" || word.contains('/') || word.ends_with(".yaml") || word.ends_with(".yml")
    };
    match (&arguments.file, words.split_first()) {
        (Some(file), _) => (Some(file.clone()), words),
        (None, Some((spec, tasks))) if is_spec(spec) => (Some(spec.into()), tasks),
        (None, _) => (surroundings::path("AGENT_RUN_FILE"), words),
    }
}

/// Looks for a spec from here upwards to the repository's root.
fn find_spec(from: &Path) -> Result<PathBuf, Failure> {
    for directory in from.ancestors() {
        for name in DEFAULT_NAMES {
            let path = directory.join(name);
            if path.is_file() {
                return Ok(path);
            }
        }
        if directory.join(".git").exists() {
            break;
        }
    }
    let error =
        anyhow::anyhow!("there is no agent-run.yaml here or above, up to the repository's root");
    Err(Failure::new(Exit::Usage, error)
        .hint("`agent-run init` writes one; else name a spec: agent-run path/to/spec.yaml"))
}

/// Reads what a run is asked to do.
pub(super) fn read(here: &Path, arguments: &RunArgs) -> Result<Request, Failure> {
    let spec = &arguments.spec;
    Ok(match &arguments.plan {
        Some(plan) => Request::Plan(Box::new(repeat::read(here, plan, spec)?)),
        None => Request::Spec(Box::new(read_spec(here, spec, Some(&arguments.profiles))?)),
    })
}

fn open(git: &Git, place: &Path) -> Result<Repository, Failure> {
    Repository::open(git, place).map_err(|error| match error {
        GitError::NotARepository { .. } => Failure::from(error).hint(
            "a run works on the repository that its spec lies in; `repo` in the spec names another",
        ),
        error => error.into(),
    })
}

/// Plans a run: nothing is created on the way, neither on the engine nor in the repository.
pub(super) async fn prepare(
    surroundings: &Surroundings,
    request: Request,
    over: OverArgs,
) -> Result<Prepared, Failure> {
    let asked = match request {
        Request::Spec(asked) => *asked,
        Request::Plan(repeat) => return repeat.prepare(surroundings, over).await,
    };
    let place = asked.spec.repo.as_ref();
    let place = place.map_or_else(
        || asked.directory.clone(),
        |r| asked.directory.join(&r.value),
    );
    let base_ref = asked.spec.base.as_ref();
    let base_ref = base_ref.map_or("HEAD", |base| base.value.as_str());
    // Neither waits for the other; what is wrong with the repository is told first.
    let (read, reached) = tokio::join!(
        read_repository(surroundings, place, base_ref.to_owned()),
        reach_engine(surroundings)
    );
    let Read {
        repository,
        base,
        branches,
        uncommitted,
    } = read?;
    refuse_state_inside(surroundings, &repository)?;
    let base = base?;
    check_setups(&asked, &repository, &base)?;
    let (engine, info) = reached?;
    refuse_state_unseen(surroundings, &engine)?;
    let email = repository.user_email().unwrap_or("agent-run@localhost");
    let inputs = PlanInputs {
        run: asked.run,
        repository: RepositoryPlan {
            path: repository.directory().to_owned(),
            git_dir: repository.common_dir().to_owned(),
            key: repository.key().clone(),
            base_ref: base_ref.to_owned(),
            base,
            history: asked.spec.history.unwrap_or_default(),
        },
        branches: &branches?,
        engine: EngineCapacity {
            cpus: info.cpus,
            memory: info.memory,
            own: 0,
        },
        runtimes: &info.runtimes,
        identity_default: Identity {
            name: "agent-run".into(),
            email: email.to_owned(),
        },
        select: &asked.select,
        over: over.into(),
        spec_path: asked.path,
    };
    let mut plan = plan::plan(&asked.spec, inputs)?;
    let graces = asked.spec.tasks.iter();
    let graces: Vec<Duration> = graces.filter_map(|task| task.stop_grace_period).collect();
    let uncommitted = uncommitted?;
    adapt(&mut plan, &graces, (&repository, uncommitted), &info);
    pin_images(&engine, &mut plan.tasks).await?;
    Ok(Prepared {
        plan,
        repository,
        engine: Arc::new(engine),
        info,
    })
}

/// Whether the base is as the setups and snapshots of the spec need it.
fn check_setups(asked: &Asked, repository: &Repository, base: &CommitId) -> Result<(), Failure> {
    let paths = plan::paths_of_setups(&asked.spec, &asked.select);
    let found = git::entries(repository.git(), repository.git_dir(), base, &paths)?;
    let modes = found.into_iter().map(|(path, entry)| (path, entry.mode));
    plan::check_setups(&asked.spec, &asked.select, &modes.collect())?;
    if plan::has_snapshots(&asked.spec, &asked.select) {
        let files = git::files(repository.git(), repository.git_dir(), base)?;
        let paths = files.keys().map(String::as_str);
        plan::check_snapshots(&asked.spec, &asked.select, &paths)?;
    }
    Ok(())
}

/// A repository, its base, its local branches, and what is not committed in it.
struct Read {
    repository: Repository,
    base: Result<CommitId, GitError>,
    branches: Result<Vec<String>, GitError>,
    uncommitted: Result<Option<String>, GitError>,
}

async fn read_repository(
    surroundings: &Surroundings,
    place: PathBuf,
    base_ref: String,
) -> Result<Read, Failure> {
    let search_path = surroundings.search_path.clone();
    let own = surroundings.state.path().join("git");
    let reading = tokio::task::spawn_blocking(move || {
        let repository = open(&Git::new(&search_path, &own)?, &place)?;
        // It looks at each file: beside the rest.
        let (base, branches, uncommitted) = std::thread::scope(|scope| {
            let uncommitted = scope.spawn(|| repository.uncommitted());
            let (base, branches) = (repository.resolve_base(&base_ref), repository.branches());
            let uncommitted = uncommitted.join().unwrap_or_else(|p| resume_unwind(p));
            (base, branches, uncommitted)
        });
        Ok(Read {
            repository,
            base,
            branches,
            uncommitted,
        })
    });
    let read = reading.await;
    read.map_err(|error| Failure::new(Exit::Unexpected, error))?
}

async fn reach_engine(surroundings: &Surroundings) -> Result<(DockerEngine, EngineInfo), Failure> {
    let engine = DockerEngine::connect(&surroundings.engine).await?;
    let info = engine.info().await?;
    Ok((engine, info))
}

/// Notes what the images of tasks are on the engine just now, where nothing else is asked for: a
/// digest, else an id, and nothing where one is not there. Each image is looked at once.
async fn pin_images(engine: &DockerEngine, tasks: &mut [TaskPlan]) -> Result<(), Failure> {
    let mut known = HashMap::new();
    for (image, pinned) in tasks.iter_mut().flat_map(TaskPlan::images_mut) {
        let reference = &image.reference;
        if !matches!(image.pull_policy, PullPolicy::Missing | PullPolicy::Never) {
            continue;
        }
        if !known.contains_key(reference) {
            known.insert(reference.clone(), look_up(engine, reference).await?);
        }
        *pinned = known.get(reference).cloned().flatten();
    }
    Ok(())
}

async fn look_up(engine: &DockerEngine, name: &ImageRef) -> Result<Option<ImageRef>, Failure> {
    let request = ImageRequest {
        reference: name.clone(),
        pull_policy: PullPolicy::Never,
        build: None,
    };
    match engine.ensure_image(&request).await {
        Ok(image) => {
            let pinned = image.digest(name.repository()).unwrap_or(&image.id);
            Ok(pinned.parse().ok())
        }
        Err(error) if matches!(error.kind, ErrorKind::ImageUnavailable(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Adapts a plan to where it will run, and adds what people should know of that before it starts.
/// `graces` are those that the spec says itself; with the repository comes what is not committed in it.
pub(super) fn adapt(
    plan: &mut RunPlan,
    graces: &[Duration],
    (repository, uncommitted): (&Repository, Option<String>),
    info: &EngineInfo,
) {
    if surroundings::is_github() {
        plan.warnings.extend(less_grace(graces, &mut plan.tasks));
    }
    let base = plan.repository.base.short();
    // What is looked at is a result, whatever lies beside it.
    let uncommitted = uncommitted.filter(|_| plan.previews.is_none());
    let uncommitted = uncommitted.map(|what| {
        format!(
            "not committed in {}: {what}; tasks start from {base} without it",
            repository.directory().display()
        )
    });
    plan.warnings.extend(uncommitted);
    plan.warnings.extend(missing_limits(info));
    plan.warnings.extend(foreign_repository(repository));
}

/// An agent could otherwise reach our own files through a commit, and git would list them.
pub(super) fn refuse_state_inside(
    surroundings: &Surroundings,
    repository: &Repository,
) -> Result<(), Failure> {
    let state = surroundings.state.path();
    let inside = |directory: &Path| state.starts_with(directory);
    if !repository.work_tree().is_some_and(inside) && !inside(repository.common_dir()) {
        return Ok(());
    }
    // Nothing of ours stays in somebody's working tree; what was there before does.
    if let Some(made) = &surroundings.state_made {
        let _ = std::fs::remove_dir_all(made);
    }
    let error = anyhow::anyhow!(
        "the state directory {} lies inside the repository",
        state.display()
    );
    Err(Failure::new(Exit::EnvironmentUnusable, error).hint("name another with --state-dir"))
}

/// In a container with the host's engine, tasks are mounted from the host: what is in our own file
/// system cannot be.
fn refuse_state_unseen(surroundings: &Surroundings, engine: &DockerEngine) -> Result<(), Failure> {
    let state = surroundings.state.path();
    if engine.host_path(state).is_some() {
        return Ok(());
    }
    let state = state.display();
    let shared = engine.shared_directories();
    let shared = shared.iter().map(|path| path.display().to_string());
    let shared: Vec<String> = shared.collect();
    let here = match shared.join(", ") {
        none if none.is_empty() => "nothing is mounted here yet".to_owned(),
        some => format!("mounted here: {some}"),
    };
    let error = anyhow::anyhow!(
        "the state directory {state} lies in this container's own file system, which the engine \
         cannot mount into tasks"
    );
    let hint = format!(
        "start this container with -v {state}:{state}, or name a directory in what is mounted from \
         the host with --state-dir ({here})"
    );
    Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint))
}

/// GitHub kills a cancelled step after 10 s, whatever the spec says. Says so where the spec does.
fn less_grace(explicit: &[Duration], tasks: &mut [TaskPlan]) -> Option<String> {
    for task in tasks {
        task.stop_grace_period = task.stop_grace_period.min(GITHUB_GRACE);
    }
    let is_cut = explicit.iter().any(|grace| *grace > GITHUB_GRACE);
    is_cut.then(|| {
        let grace = limit(GITHUB_GRACE);
        format!("on GitHub `stop_grace_period` is {grace} at most: a cancelled step has 7.5 s")
    })
}

/// What root makes in somebody's repository is root's: he could not delete the branches.
fn foreign_repository(repository: &Repository) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(repository.common_dir()).ok()?.uid();
    let foreign = rustix::process::geteuid().is_root() && owner != 0;
    foreign.then(|| {
        let path = repository.directory().display();
        format!("{path} belongs to user {owner}, and what root makes in it will belong to root")
    })
}

fn missing_limits(info: &EngineInfo) -> Option<String> {
    let missing = info.missing_limits.join(", ");
    let found = !missing.is_empty();
    found.then(|| format!("the engine says that it cannot limit: {missing}"))
}
