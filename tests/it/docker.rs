//! The real engine for tests: how it is found, names of a test's own, and removal on every path.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_run::engine::Engine;
use agent_run::engine::docker::{DockerEngine, EngineLocator};
use agent_run::id::hex_hash;

/// The base image, which `make engine` builds.
pub const BASE_IMAGE: &str = concat!("agent-run-base:", env!("CARGO_PKG_VERSION"));

/// Where the environment says that the engine is.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are started as the command is"
)]
pub fn locator() -> EngineLocator {
    let text = |name| std::env::var(name).ok();
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    EngineLocator {
        host: None,
        docker_host: text("DOCKER_HOST"),
        docker_context: text("DOCKER_CONTEXT"),
        docker_config_dir: path("DOCKER_CONFIG"),
        home: path("HOME"),
        xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
    }
}

/// The engine of this machine.
///
/// # Panics
/// Where there is none: a test that needs an engine never passes without.
pub async fn engine() -> DockerEngine {
    match DockerEngine::connect(&locator()).await {
        Ok(engine) => engine,
        Err(error) => panic!("{error}\nstart an engine with: make engine"),
    }
}

/// Removes images that a test built. The trait has no call for it: agent-run keeps its images.
async fn remove_images(references: &[String]) {
    let endpoint = engine().await.info().await.unwrap().endpoint;
    let docker = bollard::Docker::connect_with_host(&endpoint).unwrap();
    for reference in references {
        let options = None::<bollard::query_parameters::RemoveImageOptions>;
        // A build that failed left none.
        if docker.inspect_image(reference).await.is_ok() {
            docker.remove_image(reference, options, None).await.unwrap();
        }
    }
}

/// A test's own names on the engine; everything under them is removed when it is dropped.
pub struct Scope {
    name: String,
    made: Mutex<Made>,
    next: AtomicU32,
    on_engine: bool,
}

#[derive(Default)]
struct Made {
    containers: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<String>,
    images: Vec<String>,
}

impl Scope {
    /// A scope with a name that no other test, process or earlier run has.
    pub fn new(test: &str) -> Self {
        static SCOPES: AtomicU32 = AtomicU32::new(0);
        let number = SCOPES.fetch_add(1, Ordering::Relaxed);
        let now = std::time::SystemTime::now();
        let seed = format!("{test} {} {number} {now:?}", std::process::id());
        Self {
            name: format!("agent-run-it-{test}-{}", hex_hash(seed.as_bytes(), 8)),
            made: Mutex::default(),
            next: AtomicU32::new(0),
            on_engine: true,
        }
    }

    /// A scope for names that are never given to the engine.
    pub fn unused(test: &str) -> Self {
        let mut scope = Self::new(test);
        scope.on_engine = false;
        scope
    }

    /// The name that all its names start with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A name for a container.
    pub fn container(&self) -> String {
        let name = self.name_for("c");
        self.made.lock().unwrap().containers.push(name.clone());
        name
    }

    /// A name for a container that agent-run would not give.
    pub fn foreign_container(&self) -> String {
        let name = format!("foreign-{}", self.name_for("c"));
        self.made.lock().unwrap().containers.push(name.clone());
        name
    }

    /// A name for a network.
    pub fn network(&self) -> String {
        let name = self.name_for("n");
        self.made.lock().unwrap().networks.push(name.clone());
        name
    }

    /// A name for a volume.
    pub fn volume(&self) -> String {
        let name = self.name_for("v");
        self.made.lock().unwrap().volumes.push(name.clone());
        name
    }

    /// A reference for an image that is built.
    pub fn image(&self) -> String {
        let reference = format!("localhost/{}:1", self.name_for("i"));
        self.made.lock().unwrap().images.push(reference.clone());
        reference
    }

    /// A /28 of 10.214.0.0/16, which no run of agent-run uses, by this scope's name.
    pub fn subnet(&self) -> Ipv4Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let hash = hex_hash(format!("{} {number}", self.name).as_bytes(), 3);
        let slot = u32::from_str_radix(&hash, 16).unwrap();
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 214, 0, 0).to_bits() + slot * 16)
    }

    fn name_for(&self, letter: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{letter}{number}", self.name)
    }
}

impl Drop for Scope {
    /// Runs beside the test's own runtime, also while the test panics.
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        if !self.on_engine {
            return;
        }
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let engine = engine().await;
                for name in &made.containers {
                    engine.remove_container(name).await.unwrap();
                }
                for name in &made.networks {
                    engine.remove_network(name).await.unwrap();
                }
                for name in &made.volumes {
                    engine.remove_volume(name).await.unwrap();
                }
                remove_images(&made.images).await;
            });
        });
        let removed = removal.join();
        assert!(
            std::thread::panicking() || removed.is_ok(),
            "{} left something",
            self.name
        );
    }
}
