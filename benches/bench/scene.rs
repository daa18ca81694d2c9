//! Where everything is compared: a directory in memory, repositories, agent-run on them. What a
//! comparison that fails leaves on the engine is removed at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whether somebody pressed Ctrl-C: nothing more is started then.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What every container of both sides may use; the shell loop's flags say the same.
pub const MEMORY: &str = "256m";
pub const PIDS: u32 = 512;
pub const SHM: &str = "64m";

pub struct Scene {
    scratch: TempDir,
    /// On what the engine has of the shell loop.
    pub label: String,
    pub image: String,
}

/// A run of agent-run that ended well.
pub struct Ran {
    /// From the start of the command to its end, in seconds.
    pub took: f64,
    /// Its `result.json`.
    pub result: Value,
    /// What it printed to standard error.
    pub printed: String,
}

impl Scene {
    pub fn new() -> Result<Self> {
        watch_for_interrupt()?;
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory
        } else {
            &std::env::temp_dir()
        };
        let image = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
        run(command("docker").args(["image", "inspect", &image]))
            .context("the base image is missing: `make image` makes it")?;
        Ok(Self {
            scratch: TempDir::with_prefix_in("agent-run-bench.", place)?,
            label: format!("agent-run-bench={}", std::process::id()),
            image,
        })
    }

    /// A path in the directory that goes with the scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// An empty directory.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A repository with one commit of so many files.
    pub fn repository(&self, name: &str, files: u32) -> Result<PathBuf> {
        let path = self.directory(name)?;
        for index in 0..files {
            let folder = path.join(format!("folder-{}", index / 20));
            if index % 20 == 0 {
                fs::create_dir(&folder)?;
            }
            let text = format!("line of file {index}\n").repeat(40);
            fs::write(folder.join(format!("file-{index}.txt")), text)?;
        }
        git(&path, &["init", "-q", "-b", "main"])?;
        git(&path, &["config", "user.name", "bench"])?;
        git(&path, &["config", "user.email", "bench@localhost"])?;
        git(&path, &["add", "."])?;
        git(&path, &["commit", "-qm", "base"])?;
        Ok(path)
    }

    /// The spec of tasks that run these scripts, all with the same limits; `defaults` are added to
    /// those, and may take their place.
    pub fn spec(&self, repository: &Path, scripts: &[String], defaults: &Value) -> Result<PathBuf> {
        self.spec_with(repository, scripts, defaults, &json!({}))
    }

    /// The same, with declarations of secrets.
    pub fn spec_with(
        &self,
        repository: &Path,
        scripts: &[String],
        defaults: &Value,
        secrets: &Value,
    ) -> Result<PathBuf> {
        let tasks = scripts.iter().enumerate().map(|(index, script)| {
            let task = json!({ "run": script, "environment": { "TASK": index.to_string() } });
            (format!("t{index}"), task)
        });
        let mut all = json!({
            "cpus": 1, "mem_limit": MEMORY, "pids_limit": PIDS, "shm_size": SHM,
        });
        for (key, value) in defaults.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let spec = json!({
            "version": 1,
            "repo": repository,
            "secrets": secrets,
            "defaults": all,
            "tasks": tasks.collect::<serde_json::Map<_, _>>(),
        });
        let path = self.path("spec.yaml");
        // JSON is YAML.
        fs::write(&path, spec.to_string())?;
        Ok(path)
    }

    /// agent-run, to run a spec.
    pub fn agent_run(&self, spec: &Path, jobs: u32) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_agent-run"));
        self.arguments(&mut command, spec, jobs);
        command
    }

    /// What agent-run is told to run a spec.
    pub fn arguments(&self, command: &mut Command, spec: &Path, jobs: u32) {
        command.arg("run").arg(spec).args(["-j", &jobs.to_string()]);
        command.arg("--state-dir").arg(self.state());
    }

    /// agent-run's state directory.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Runs a spec to its end. What it keeps of the run is removed, what warms later runs is not.
    pub fn run(&self, spec: &Path, jobs: u32) -> Result<Ran> {
        let mut command = self.agent_run(spec, jobs);
        command.stdin(Stdio::null());
        let began = Instant::now();
        let output = run(&mut command)?;
        let took = began.elapsed().as_secs_f64();
        let result = fs::read(self.run_directory()?.join("result.json"))?;
        self.forget_runs()?;
        Ok(Ran {
            took,
            result: serde_json::from_slice(&result)?,
            printed: output.stderr,
        })
    }

    /// The directory of the one run that has not been forgotten.
    pub fn run_directory(&self) -> Result<PathBuf> {
        let runs = fs::read_dir(self.state().join("runs"))?;
        let paths: Vec<_> = runs.map(|run| Ok(run?.path())).collect::<Result<_>>()?;
        ensure!(paths.len() == 1, "there are {} runs, not 1", paths.len());
        Ok(paths.into_iter().next().expect("one run"))
    }

    /// Removes what is kept of runs.
    pub fn forget_runs(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.state().join("runs"))?)
    }
}

impl Scene {
    /// Removes what a comparison that failed left: runs, and what the shell loop has on the engine.
    pub fn clean_up(&self) {
        let interrupted = INTERRUPTED.swap(false, Ordering::Relaxed);
        if self.state().join("runs").exists() {
            let mut clean = command(env!("CARGO_BIN_EXE_agent-run"));
            tell(run(clean.arg("clean").arg("--state-dir").arg(self.state())));
            tell(self.forget_runs());
        }
        let labelled = format!("label={}", self.label);
        for (kind, list, remove) in [
            ("container", ["ls", "-aq"], ["rm", "-fv"]),
            ("network", ["ls", "-q"], ["rm", "-f"]),
            ("image", ["ls", "-q"], ["rm", "-f"]),
        ] {
            let mut list_them = command("docker");
            list_them.arg(kind).args(list).args(["--filter", &labelled]);
            let Ok(listed) = run(&mut list_them) else {
                continue;
            };
            let names: Vec<&str> = listed.stdout.lines().collect();
            if !names.is_empty() {
                tell(run(command("docker").arg(kind).args(remove).args(names)));
            }
        }
        INTERRUPTED.fetch_or(interrupted, Ordering::Relaxed);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn tell<T>(removed: Result<T>) {
    if let Err(error) = removed {
        eprintln!("bench: not removed: {error:#}");
    }
}

/// What a program printed.
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

/// A program to start.
pub fn command(program: &str) -> Command {
    Command::new(program)
}

/// Runs a program to its end, which must be a good one.
pub fn run(command: &mut Command) -> Result<Output> {
    refuse_if_interrupted()?;
    let program = command.get_program().to_owned();
    let output = command.output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        bail!(
            "{} ended with {}:\n{stdout}{stderr}",
            program.display(),
            output.status
        );
    }
    Ok(Output { stdout, stderr })
}

/// How long a program ran to its good end, in seconds.
pub fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    run(command)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Git in a repository; what it printed.
pub fn git(repository: &Path, arguments: &[&str]) -> Result<String> {
    Ok(run(command("git").arg("-C").arg(repository).args(arguments))?.stdout)
}

/// An error once somebody pressed Ctrl-C.
pub fn refuse_if_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Lets Ctrl-C end what is compared, and leaves this process to clean up.
fn watch_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut interrupts = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            while interrupts.recv().await.is_some() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(())
}
