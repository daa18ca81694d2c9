//! A repository, a plan and the fake engine: all that a run needs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{Engine as _, EngineInfo};
use agent_run::event::{Event, RunSummary, TaskReport};
use agent_run::git::{Git, Repository};
use agent_run::id::{AttemptId, RunId, StateDir};
use agent_run::journal::log::{LogReader, LogRecord};
use agent_run::journal::{FoundRun, RunDirectory};
use agent_run::plan::{
    self, EngineCapacity, History, Identity, Over, PlanInputs, RepositoryPlan, RunPlan,
};
use agent_run::runner::{
    self, CleanReport, Cleaner, LogLine, Observer, Patience, Pool, Record, RunContext, RunError,
    Secrets, Shutdown, TaskStops, Tidied, TidyContext, Tidying,
};
use agent_run::secrets::Needles;
use agent_run::spec::{self, Context, SourceFile};
use agent_run::workspace::BaseStore;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::fake::{FakeEngine, Script, host_path};
use crate::git::fixture::git;

/// One run on the fake engine.
pub struct Scene {
    directory: TempDir,
    pub engine: FakeEngine,
    pub shutdown: watch::Sender<Shutdown>,
    pub patience: Option<Duration>,
    pub stops: watch::Sender<TaskStops>,
    pub over: Over,
    repository: Repository,
    pub run: RunId,
    /// What the latest run works with.
    world: Mutex<Weak<FakeEngine>>,
}

/// What an observer saw.
#[derive(Default)]
pub struct Seen {
    pub events: Vec<Event>,
    pub lines: Vec<String>,
}

impl Observer for Seen {
    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }

    fn line(&mut self, line: &LogLine) {
        self.lines.push(format!("{} | {}", line.task, line.text));
    }
}

impl Scene {
    /// A scene whose images have a shell and whose collectors find nothing changed.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let repo = directory.path().join("repo");
        std::fs::create_dir(&repo).unwrap();
        git_in(&repo, &["init", "-q", "-b", "main"]);
        std::fs::write(repo.join("readme.md"), "one\n").unwrap();
        git_in(&repo, &["add", "-A"]);
        git_in(&repo, &["commit", "-q", "-m", "first"]);
        let search_path = search_path();
        let git = Git::new(&search_path, &directory.path().join("git")).unwrap();
        let repository = Repository::open(&git, &repo).unwrap();
        Self::on(directory, repository, "261120-101500-abcd".parse().unwrap())
    }

    fn on(directory: TempDir, repository: Repository, run: RunId) -> Self {
        let engine = FakeEngine::new();
        engine.script(
            "probe",
            Script::exits(0).replies(|config, _| answer_probe(config)),
        );
        engine.script("collector", Script::exits(0).on_exit(nothing_changed));
        Self {
            directory,
            engine,
            shutdown: watch::channel(Shutdown::None).0,
            patience: None,
            stops: watch::channel(TaskStops::new()).0,
            over: Over::default(),
            repository,
            run,
            world: Mutex::default(),
        }
    }

    /// The same place for another run, on an engine of its own. What the runs before it learned of
    /// images and mounts is known.
    pub fn again(self) -> Self {
        let second = self.run.second();
        let (day, time) = second.split_once('-').unwrap();
        let time: u32 = time.parse().unwrap();
        let run = format!("{day}-{:06}-abcd", time + 1);
        Self::on(self.directory, self.repository, run.parse().unwrap())
    }

    /// A script of a task that ends with `code` and hands off that nothing changed.
    pub fn hands_off(code: i64) -> Script {
        Script::exits(code).on_exit(nothing_changed)
    }

    pub fn repository(&self) -> Repository {
        self.repository.clone()
    }

    /// A script of a task that commits a file and hands that off.
    pub fn commits(file: &'static str, text: &'static str) -> Script {
        Script::exits(0).on_exit(move |config| commit(config, file, text))
    }

    /// What git says in the user's repository.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(self.repository.directory(), arguments)
    }

    pub fn state(&self) -> StateDir {
        StateDir::new(self.directory.path().join("state"))
    }

    /// What a task's log says, without what stands before each record.
    pub fn log(&self, task: &str) -> String {
        let path = self.state().log(&AttemptId {
            run: self.run.clone(),
            task: task.parse().unwrap(),
            number: 1,
        });
        let mut text = Vec::new();
        let each = |record: LogRecord<'_>| {
            text.extend_from_slice(record.text);
            if record.ends_line {
                text.push(b'\n');
            }
            Ok(())
        };
        LogReader::open(&path).unwrap().read(each).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn plan(&self, yaml: &str, info: &EngineInfo) -> RunPlan {
        let source = SourceFile::new("spec.yaml", yaml.to_owned());
        let context = Context {
            run: &self.run,
            directory: self.directory.path(),
            environment: &|_| None,
        };
        let spec = spec::parse(&source, &context).unwrap_or_else(|e| panic!("{e}"));
        let inputs = PlanInputs {
            run: self.run.clone(),
            repository: RepositoryPlan {
                path: self.repository.directory().to_owned(),
                git_dir: self.repository.common_dir().to_owned(),
                key: self.repository.key().clone(),
                base_ref: "main".into(),
                base: self.repository.resolve_base("main").unwrap(),
                history: History::Full,
            },
            branches: &["main".to_owned()],
            engine: EngineCapacity {
                own: 0,
                cpus: info.cpus,
                memory: info.memory,
            },
            runtimes: &info.runtimes,
            identity_default: Identity {
                name: "agent-run".into(),
                email: "a@example.org".into(),
            },
            select: &[],
            over: self.over,
            spec_path: None,
        };
        plan::plan(&spec, inputs).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a spec, showing it to an observer.
    pub async fn observed(
        &self,
        yaml: &str,
        observer: &mut impl Observer,
    ) -> Result<RunSummary, RunError> {
        let info = self.engine.info().await.unwrap();
        let plan = self.plan(yaml, &info);
        let directory = RunDirectory::create(&self.state(), &self.run).unwrap();
        directory.write_json("plan.json", &plan).unwrap();
        let record = directory.journal().unwrap().into();
        self.carry_out((plan, info), record, observer).await
    }

    /// Runs the preview of the task of a spec, for so long, as `preview` does.
    pub async fn previews(
        &self,
        yaml: &str,
        time: Duration,
        observer: &mut impl Observer,
    ) -> RunSummary {
        let info = self.engine.info().await.unwrap();
        let plan = self.plan(yaml, &info);
        let task = plan.tasks.first().unwrap();
        let plan = plan.preview_of(task, task.preview.as_ref().unwrap(), time);
        let directory = RunDirectory::create(&self.state(), &self.run).unwrap();
        directory.write_json("plan.json", &plan).unwrap();
        let record = directory.journal().unwrap().into();
        let ended = self.carry_out((plan, info), record, observer).await;
        ended.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes on with a run, as `resume` does.
    pub async fn resumed(
        &self,
        yaml: &str,
        observer: &mut impl Observer,
    ) -> Result<RunSummary, RunError> {
        let info = self.engine.info().await.unwrap();
        let plan = self.plan(yaml, &info);
        let directory = RunDirectory::take_over(&self.state(), &self.run).unwrap();
        let (journal, events) = directory.journal().unwrap();
        let owned = self.engine.list_owned().await.unwrap();
        let record = Record {
            journal,
            events,
            owned,
        };
        self.carry_out((plan, info), record, observer).await
    }

    /// Collects and removes what the run left, as `clean` does.
    pub async fn cleaned(&self) -> CleanReport {
        let cleaner = self.cleaner().await;
        let open = |_: &RunPlan| Ok(self.repository.clone());
        let report = cleaner.clean(&self.run, open, false).await.unwrap();
        let networks = cleaner.remove_networks(|_| true).await;
        assert_eq!(networks.problems, Vec::<String>::new());
        report
    }

    /// What cleans.
    pub async fn cleaner(&self) -> Cleaner<FakeEngine> {
        Cleaner {
            engine: Arc::new(self.engine.clone()),
            info: self.engine.info().await.unwrap(),
            state: self.state(),
            owned: self.engine.list_owned().await.unwrap(),
        }
    }

    /// Tidies up beside another run, as each start does, to the end.
    pub async fn tidied(&self) -> Tidied {
        let tidying = self.tidies().await;
        let mut tidied = tidying.end(Patience::ForAll).await;
        tidied.removed.retain(|removed| removed.what != "network");
        tidied
    }

    /// Begins to tidy up.
    pub async fn tidies(&self) -> Tidying {
        let engine = Arc::new(self.engine.clone());
        *self.world.lock().unwrap() = Arc::downgrade(&engine);
        let context = TidyContext {
            info: self.engine.info().await.unwrap(),
            engine,
            state: self.state(),
            repository: self.repository.clone(),
            pool: Pool::default(),
        };
        Tidying::begin(context, FoundRun::all(&self.state()).unwrap())
    }

    /// Runs until `killed` returns, and is dead then.
    pub async fn killed(
        &self,
        yaml: &str,
        observer: &mut impl Observer,
        killed: impl Future<Output = ()>,
    ) {
        tokio::select! {
            biased;
            () = killed => {}
            ended = self.observed(yaml, observer) => drop(ended.unwrap()),
        }
        self.is_dead().await;
    }

    /// Returns once nothing of a run that was dropped goes on any more.
    pub async fn is_dead(&self) {
        let began = std::time::Instant::now();
        let world = self.world.lock().unwrap().clone();
        while world.strong_count() > 0 {
            assert!(began.elapsed().as_secs() < 60, "it goes on");
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    }

    async fn carry_out(
        &self,
        (plan, info): (RunPlan, EngineInfo),
        record: Record,
        observer: &mut impl Observer,
    ) -> Result<RunSummary, RunError> {
        let state = self.state();
        let engine = Arc::new(self.engine.clone());
        *self.world.lock().unwrap() = Arc::downgrade(&engine);
        let base = plan.repository.base.clone();
        let store = BaseStore::ensure(&self.repository, &state, &base, None).unwrap();
        let context = RunContext {
            engine,
            info,
            plan,
            repository: self.repository.clone(),
            store,
            state,
            secrets: Secrets::none(),
            needles: Needles::default(),
            owner: "test".into(),
            pool: Pool::default(),
            patience: self.patience,
            stops: self.stops.subscribe(),
        };
        runner::run(context, record, self.shutdown.subscribe(), observer).await
    }

    /// Runs a spec to its summary.
    pub async fn run(&self, yaml: &str) -> RunSummary {
        let mut seen = Seen::default();
        let ended = self.observed(yaml, &mut seen).await;
        ended.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Expects that nothing is left on the engine, on disk, or in the repository.
    pub fn assert_nothing_left(&self) {
        self.engine.assert_no_leaks();
        assert_eq!(self.left_on_disk(), Vec::<PathBuf>::new());
    }

    /// Task directories, trash and pins that are left.
    pub fn left_on_disk(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut left = Vec::new();
        let tasks = state.run(&self.run).join("tasks");
        for directory in [tasks, state.views(&self.run), state.trash()] {
            let entries = std::fs::read_dir(directory).into_iter().flatten();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        }
        let format = "--format=%(refname)";
        let refs = git(
            self.repository.directory(),
            &["for-each-ref", format, "refs/agent-run"],
        );
        left.extend(refs.lines().map(PathBuf::from));
        left
    }
}

/// A task's report.
pub fn report<'a>(summary: &'a RunSummary, task: &str) -> &'a TaskReport {
    let found = summary.tasks.iter().find(|t| t.task.as_str() == task);
    found.unwrap_or_else(|| panic!("no task {task} in {summary:#?}"))
}

/// A probe's answer in which nothing of ours has arrived.
pub fn nothing_arrived(config: &ContainerConfig) -> Vec<u8> {
    let mark = variable(config, "AGENT_MARK").expect("a mark");
    format!("git\n{mark}\n{mark}\n{mark}\nnothing\n").into_bytes()
}

/// What the probe's script prints and writes, done by hand.
pub fn answer_probe(config: &ContainerConfig) -> Vec<u8> {
    let mark = &config
        .environment
        .iter()
        .find(|(name, _)| name == "AGENT_MARK")
        .expect("a mark")
        .1;
    let sent = match config.mounts.first().map(|mount| mount.target.as_str()) {
        Some("/agent/probe") => {
            let sent = std::fs::read_to_string(host_path(config, "/agent/probe/sent")).unwrap();
            std::fs::write(host_path(config, "/agent/probe/received"), &sent).unwrap();
            sent
        }
        _ => String::new(),
    };
    if !config.volumes.is_empty() {
        use_view(
            &host_path(config, "/agent/probe").with_file_name("upper"),
            &sent,
        );
    }
    format!("git\n{mark}\nroot:x:0:0::/root:/bin/sh\n{mark}\nroot:x:0:\n{mark}\n{sent}")
        .into_bytes()
}

/// What the kernel makes of the probe's changes to a view.
fn use_view(upper: &std::path::Path, sent: &str) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    std::fs::write(upper.join("new"), sent).unwrap();
    std::fs::create_dir(upper.join("moved")).unwrap();
    let (gone, device) = (upper.join("gone"), makedev(0, 0));
    mknodat(CWD, gone, FileType::CharacterDevice, Mode::empty(), device).unwrap();
}

/// Ends a hand-off: its status is there as a whole or not at all.
fn hand_off(config: &ContainerConfig, status: &str) {
    let out = host_path(config, "/agent/out");
    let begun = out.with_extension("begun");
    std::fs::write(&begun, status).unwrap();
    std::fs::rename(begun, out.join("status")).unwrap();
}

/// The hand-off of a task that changed nothing.
pub fn nothing_changed(config: &ContainerConfig) {
    let base = &config
        .environment
        .iter()
        .find(|(name, _)| name == "AGENT_BASE")
        .expect("the base")
        .1;
    let status = format!("format=1\nhead={base}\nchanged=0\n");
    hand_off(config, &status);
}

/// The hand-off of a task that committed a file, done by hand where its container has its mounts from.
pub fn commit(config: &ContainerConfig, file: &str, text: &str) {
    let (git_dir, tree) = (
        host_path(config, "/agent/git"),
        host_path(config, "/workspace"),
    );
    let out = host_path(config, "/agent/out");
    std::fs::write(tree.join(file), text).unwrap();
    let borrowed = config
        .mounts
        .iter()
        .filter(|m| m.target.starts_with("/agent/base/"));
    let borrowed: Vec<String> = borrowed.map(|m| m.source.display().to_string()).collect();
    let variables = config.environment.iter();
    let variables = variables
        .filter(|(name, _)| name.starts_with("GIT_AUTHOR") || name.starts_with("GIT_COMMITTER"));
    let variables: Vec<_> = variables.cloned().collect();
    let run = |arguments: &[&str]| {
        let output = crate::git::fixture::program("git")
            .arg("--git-dir")
            .arg(&git_dir)
            .arg("--work-tree")
            .arg(&tree)
            .args(["-c", "safe.directory=*"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", borrowed.join(":"))
            .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
            .envs(variables.iter().cloned())
            .current_dir(&tree)
            .output()
            .expect("git");
        assert!(output.status.success(), "{arguments:?} {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let base = &config
        .environment
        .iter()
        .find(|(name, _)| name == "AGENT_BASE");
    let base = format!("^{}", base.expect("the base").1);
    run(&["add", "-A"]);
    run(&["commit", "-qm", file]);
    let head = run(&["rev-parse", "HEAD"]);
    let name = "refs/agent-run/out/head";
    run(&["update-ref", name, &head]);
    let bundle = out.join("result.bundle").display().to_string();
    run(&["bundle", "create", "-q", &bundle, name, &base]);
    let status = format!("format=1\nhead={head}\nchanged=1\nbundle=1\n");
    hand_off(config, &status);
}

/// The hand-off of a task that commits `text` as `file`, on top of what its branch stands on.
pub fn commits(scene: &Scene, file: &str, text: &str) -> impl Fn(&ContainerConfig) + use<> {
    let repo = scene.repository.directory().to_owned();
    let (file, text) = (file.to_owned(), text.to_owned());
    move |config| {
        let refs = std::fs::read_to_string(host_path(config, "/agent/git/packed-refs")).unwrap();
        let of_branch = |line: &&str| line.contains(" refs/heads/");
        let (start, _) = refs
            .lines()
            .find(of_branch)
            .unwrap()
            .split_once(' ')
            .unwrap();
        let scratch = TempDir::new().unwrap();
        let work = scratch.path().join("work");
        let work = work.to_str().unwrap();
        git_in(&repo, &["worktree", "add", "-q", "--detach", work, start]);
        let work = std::path::Path::new(work);
        std::fs::write(work.join(&file), &text).unwrap();
        git_in(work, &["add", "-A"]);
        git_in(work, &["commit", "-q", "-m", &file]);
        let tip = git(work, &["rev-parse", "HEAD"]).trim().to_owned();
        let (bundle, exclude) = (
            host_path(config, "/agent/out/result.bundle"),
            format!("^{}", variable(config, "AGENT_BASE").unwrap()),
        );
        let name = "refs/agent-run/out/head";
        git_in(work, &["update-ref", name, "HEAD"]);
        let path = bundle.to_str().unwrap();
        git_in(work, &["bundle", "create", "-q", path, name, &exclude]);
        git_in(work, &["update-ref", "-d", name]);
        git_in(
            &repo,
            &["worktree", "remove", "--force", work.to_str().unwrap()],
        );
        let status = format!("format=1\nhead={tip}\nchanged=1\nbundle=1\n");
        hand_off(config, &status);
    }
}

/// A variable of a container.
pub fn variable(config: &ContainerConfig, name: &str) -> Option<String> {
    let mut variables = config.environment.iter();
    let found = variables.find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's repository is made with plain git"
)]
fn git_in(directory: &std::path::Path, arguments: &[&str]) {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=Tester", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "{output:?}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "host git is found as the command finds it"
)]
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
