//! Where things lie in the state directory. Paths only: nothing here touches the disk.

use std::path::{Path, PathBuf};

use super::{AttemptId, RepoKey, Role, RunId, ServiceName, TaskId, hex_hash};

/// The directory that holds all of agent-run's own files; never inside a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory at an absolute path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Tells state directories apart.
    pub fn key(&self) -> String {
        hex_hash(self.0.as_os_str().as_encoded_bytes(), 16)
    }

    /// What belongs to repositories.
    pub fn repos(&self) -> PathBuf {
        self.0.join("repos")
    }

    /// What belongs to one repository: base stores, results, locks.
    pub fn repo(&self, repo: &RepoKey) -> PathBuf {
        self.repos().join(repo.as_str())
    }

    /// The bare store of the objects that tasks borrow; `key` tells stores of a repository apart.
    pub fn base_store(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(Self::base_store_name(key))
    }

    /// The file name of the base store with this key.
    pub fn base_store_name(key: &str) -> String {
        format!("base-{key}.git")
    }

    /// The key of the base store with this file name, also while it is being made.
    pub fn base_store_key(name: &str) -> Option<&str> {
        let key = name.strip_prefix("base-")?;
        key.strip_suffix(".git").or(key.strip_suffix(".making"))
    }

    /// The checkout that views of one base share; `key` tells those of a repository apart.
    pub fn shared_checkout(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(format!("checkout-{key}"))
    }

    /// The key of the shared checkout with this file name, also while it is being made.
    pub fn shared_checkout_key(name: &str) -> Option<&str> {
        let key = name.strip_prefix("checkout-")?;
        Some(key.strip_suffix(".making").unwrap_or(key))
    }

    /// What a setup prepared for tasks of a repository; `key` tells setups apart.
    pub fn prepared(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(format!("prepared-{key}"))
    }

    /// What is locked while that is made or removed.
    pub fn prepared_lock(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(format!("prepared-{key}.lock"))
    }

    /// The directories of a cache of a repository.
    pub fn cache(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(format!("cache-{key}"))
    }

    /// The key of the cache with this file name.
    pub fn cache_key(name: &str) -> Option<&str> {
        name.strip_prefix("cache-")
    }

    /// The key of what was prepared with this file name, also while it is being made.
    pub fn prepared_key(name: &str) -> Option<&str> {
        let key = name.strip_prefix("prepared-")?;
        let key = key.strip_suffix(".making").unwrap_or(key);
        Some(key).filter(|key| !key.contains('.'))
    }

    /// The bare repository that receives every accepted result of tasks that borrow from the base
    /// store with this key.
    pub fn results(&self, repo: &RepoKey, key: &str) -> PathBuf {
        self.repo(repo).join(format!("results-{key}.git"))
    }

    /// All run directories.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// One run's directory.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.runs().join(run.as_str())
    }

    /// The logs of a run.
    pub fn logs(&self, run: &RunId) -> PathBuf {
        self.run(run).join("logs")
    }

    /// The log of one attempt.
    pub fn log(&self, attempt: &AttemptId) -> PathBuf {
        let number = attempt.number.to_string();
        let name = Self::log_prefix(&attempt.task) + &number + Self::LOG_SUFFIX;
        self.logs(&attempt.run).join(name)
    }

    /// The number of the attempt whose log has this file name, if it is one of this task.
    pub fn logged_attempt(task: &TaskId, name: &str) -> Option<u32> {
        let rest = name.strip_prefix(&Self::log_prefix(task))?;
        rest.strip_suffix(Self::LOG_SUFFIX)?.parse().ok()
    }

    /// The same for the log of a service of it.
    pub fn attempt_of_service(task: &TaskId, service: &ServiceName, name: &str) -> Option<u32> {
        let rest = name.strip_prefix(&Self::log_prefix(task))?;
        let (number, rest) = rest.split_once('.')?;
        let of_service = format!("{}.{service}{}", Role::Service.as_str(), Self::LOG_SUFFIX);
        (rest == of_service).then(|| number.parse().ok())?
    }

    const LOG_SUFFIX: &str = ".log";

    fn log_prefix(task: &TaskId) -> String {
        format!("{}.", task.slug())
    }

    /// The log of the check of one attempt's result.
    pub fn verify_log(&self, attempt: &AttemptId) -> PathBuf {
        let (prefix, number) = (Self::log_prefix(&attempt.task), attempt.number);
        let name = format!("{prefix}{number}.verify{}", Self::LOG_SUFFIX);
        self.logs(&attempt.run).join(name)
    }

    /// The log of a service of one attempt, or of its check, whose container is in `role`.
    pub fn service_log(&self, attempt: &AttemptId, role: Role, service: &ServiceName) -> PathBuf {
        let (prefix, number) = (Self::log_prefix(&attempt.task), attempt.number);
        let role = role.as_str();
        let name = format!("{prefix}{number}.{role}.{service}{}", Self::LOG_SUFFIX);
        self.logs(&attempt.run).join(name)
    }

    /// The log of a setup that a run carried out.
    pub fn setup_log(&self, run: &RunId, key: &str) -> PathBuf {
        self.logs(run).join(format!("setup-{key}.log"))
    }

    /// What the proxy of a run's tasks with an allow-list has said.
    pub fn egress_log(&self, run: &RunId) -> PathBuf {
        self.logs(run).join("egress.log")
    }

    /// What that is configured with, and the sockets by which tasks reach it; there while it is.
    pub fn egress(&self, run: &RunId) -> PathBuf {
        self.run(run).join("egress")
    }

    /// What was copied out of one attempt's worktree.
    pub fn artifacts(&self, attempt: &AttemptId) -> PathBuf {
        let artifacts = self.run(&attempt.run).join("artifacts");
        artifacts
            .join(&*attempt.task.slug())
            .join(attempt.number.to_string())
    }

    /// What the agent of one attempt has told of its work.
    pub fn transcript(&self, attempt: &AttemptId) -> PathBuf {
        let transcripts = self.run(&attempt.run).join("transcripts");
        transcripts
            .join(&*attempt.task.slug())
            .join(attempt.number.to_string())
    }

    /// What the agent of one attempt has kept of its conversation.
    pub fn session(&self, attempt: &AttemptId) -> PathBuf {
        let sessions = self.run(&attempt.run).join("sessions");
        sessions
            .join(&*attempt.task.slug())
            .join(attempt.number.to_string())
    }

    /// All attempts of one task of a run.
    pub fn task(&self, run: &RunId, task: &TaskId) -> PathBuf {
        task_directory(&self.run(run), task)
    }

    /// One attempt's directory: worktree, private git directory, home, hand-off.
    pub fn attempt(&self, attempt: &AttemptId) -> PathBuf {
        self.task(&attempt.run, &attempt.task)
            .join(attempt.number.to_string())
    }

    /// The directory of the check of one attempt's result, in the attempt's: with that it goes.
    pub fn check(&self, attempt: &AttemptId) -> PathBuf {
        self.attempt(attempt).join("check")
    }

    /// What the views of a run need besides the attempts' directories, and the keys of the shared
    /// checkouts that they are of. It stays until nothing of the run is mounted.
    pub fn views(&self, run: &RunId) -> PathBuf {
        self.run(run).join("views")
    }

    /// The kernel's own directory for the view of the `index`th prepared directory of the worktree
    /// that one attempt's container in `role` has.
    pub fn prepared_view(&self, attempt: &AttemptId, role: Role, index: usize) -> PathBuf {
        let (task, role) = (attempt.task.slug(), role.as_str());
        let name = format!("{task}.{}.{role}{index}", attempt.number);
        self.views(&attempt.run).join(name)
    }

    /// The kernel's own directory for the view of one attempt.
    pub fn view(&self, attempt: &AttemptId) -> PathBuf {
        let name = format!("{}.{}", attempt.task.slug(), attempt.number);
        self.views(&attempt.run).join(name)
    }

    /// Whose lock the process holds that tidies up after runs which died.
    pub fn tidy_lock(&self) -> PathBuf {
        self.0.join("tidy.lock")
    }

    /// Directories that are being deleted.
    pub fn trash(&self) -> PathBuf {
        self.0.join("trash")
    }

    /// Whether directories of ours arrived in containers; `key` tells engines and users apart.
    pub fn mount_proof(&self, key: &str) -> PathBuf {
        self.0.join("mounts").join(key)
    }

    /// What tasks on the bridge reach; `key` tells engines and networks apart.
    pub fn reach(&self, key: &str) -> PathBuf {
        self.0.join("reach").join(key)
    }

    /// What is known of an image, by its id.
    pub fn image_facts(&self, image_id: &str) -> PathBuf {
        let name = format!("{}.json", hex_hash(image_id.as_bytes(), 32));
        self.0.join("images").join(name)
    }
}

/// The directories of the tasks of a run, in that run's.
pub fn task_directories(run: &Path) -> PathBuf {
    run.join("tasks")
}

/// All attempts of one task, in the directory of its run.
pub fn task_directory(run: &Path, task: &TaskId) -> PathBuf {
    task_directories(run).join(&*task.slug())
}
