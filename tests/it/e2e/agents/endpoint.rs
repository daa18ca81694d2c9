//! A model endpoint of a test's own, by a name that a proxy on its network finds.

use std::fs::File;
use std::path::Path;

use serde_json::Value;

use super::super::scene::{Scene, docker};
use crate::docker::BASE_IMAGE;

const SERVER: &str = include_str!("model.py");

/// The endpoint and its network; gone with the test.
pub struct Endpoint {
    network: String,
    server: String,
}

impl Endpoint {
    /// With a subnet that no other test has, of a range for measurements, which counts as public.
    pub fn new(scene: &Scene, slot: u8) -> Self {
        let name = scene.network().replace("agent-run", "test");
        let endpoint = Self {
            network: format!("{name}-model"),
            server: format!("{name}-endpoint"),
        };
        let subnet = format!("198.18.1.{}/29", 8 * slot);
        good(&["network", "create", "--subnet", &subnet, &endpoint.network]);
        let place = ["--name", &endpoint.server, "--network", &endpoint.network];
        let command = [BASE_IMAGE, "python3", "-c", SERVER, "8080"];
        let alias = ["--network-alias", "model.test"];
        good(&[&["run", "-d"][..], &place, &alias, &command].concat());
        endpoint
    }

    /// Lets a proxy find it.
    pub fn join(&self, proxy: &str) {
        good(&["network", "connect", &self.network, proxy]);
    }

    /// All that it was asked.
    pub fn asked(&self) -> Vec<Value> {
        let told = good(&["logs", &self.server]);
        let lines = told.lines().filter(|line| line.starts_with('{'));
        let asked = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        asked
            .filter(|told: &Value| told["asked"].is_object())
            .collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.server]);
        let format = "{{range .Containers}}{{.Name}} {{end}}";
        let on_it = docker(&["network", "inspect", &self.network, "--format", format]).stdout;
        for container in on_it.split_whitespace() {
            docker(&["network", "disconnect", "-f", &self.network, container]);
        }
        docker(&["network", "rm", &self.network]);
    }
}

/// Builds the images of all agents, once for all tests: two builds of one would each do all of it.
pub fn build_images(scene: &Scene) {
    let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agent-images");
    let lock = File::create(lock).expect("a lock");
    lock.lock().expect("the lock");
    let built = scene.agent_run(&["images", "build"]);
    assert_eq!(built.code, Some(0), "{built}");
}

#[track_caller]
pub fn good(arguments: &[&str]) -> String {
    let ended = docker(arguments);
    assert_eq!(ended.code, Some(0), "docker {arguments:?}: {ended}");
    ended.stdout
}
