//! A `dockerd` of a test's own, with its own containerd, which the test may kill, stop and restart.
//!
//! All of it lies below one directory, and goes with it: processes, containers and mounts. It has a network
//! namespace of its own, so that it touches nothing of the machine's; its containers have no network, unless
//! that is asked for.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::docker::BASE_IMAGE;
use crate::e2e::scene::{Ended, docker, until};

pub struct Daemon {
    directory: TempDir,
    /// Names and programs of its runtimes, beside its own.
    runtimes: Vec<(String, PathBuf)>,
    has_networks: bool,
    containerd: Option<Child>,
    dockerd: Option<Child>,
}

impl Daemon {
    /// One that runs and has the base image.
    pub fn start(live_restore: bool) -> Self {
        Self::made(live_restore, &[], false)
    }

    /// One with further runtimes: scripts, run by `sh`.
    pub fn with_runtimes(scripts: &[(&str, &str)]) -> Self {
        Self::made(false, scripts, false)
    }

    /// One whose containers have networks, and whose host is its network namespace.
    pub fn with_networks() -> Self {
        Self::made(false, &[], true)
    }

    fn made(live_restore: bool, scripts: &[(&str, &str)], has_networks: bool) -> Self {
        let directory = TempDir::new().expect("a directory");
        let written = scripts.iter().map(|(name, script)| {
            let path = directory.path().join(name);
            std::fs::write(&path, script).expect("a script");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("a mode");
            ((*name).to_owned(), path)
        });
        let mut daemon = Self {
            runtimes: written.collect(),
            directory,
            has_networks,
            containerd: None,
            dockerd: None,
        };
        daemon.start_containerd();
        daemon.restart(live_restore);
        daemon.load_image();
        daemon
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    fn start_containerd(&mut self) {
        let at = |name| self.path(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("ctr-root"),
            at("ctr-state"),
            at("ctr.sock"),
            at("ctr.sock.ttrpc")
        );
        std::fs::write(self.path("ctr.toml"), config).expect("a configuration");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.path("ctr.toml"));
        self.containerd = Some(self.spawn(command));
        let socket = self.path("ctr.sock");
        until("containerd listens", || {
            UnixStream::connect(&socket).is_ok()
        });
    }

    /// Starts the engine, and waits until it answers.
    pub fn restart(&mut self, live_restore: bool) {
        assert!(self.dockerd.is_none(), "it runs");
        // An engine takes `docker0` away, whose ever it is, where it is to have no bridge: it gets a
        // network namespace of its own.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--containerd", "ctr.sock"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        // One that was killed leaves its number behind, which may be another's by then.
        let _ = std::fs::remove_file(self.path("pid"));
        command
            .arg("--host")
            .arg(self.url())
            .arg("--ip6tables=false");
        if !self.has_networks {
            command.args([
                "--bridge=none",
                "--iptables=false",
                "--ip-masq=false",
                "--ip-forward=false",
            ]);
        }
        command.arg(format!("--live-restore={live_restore}"));
        for (name, path) in &self.runtimes {
            let runtime = format!("{name}={}", path.display());
            command.args(["--add-runtime", &runtime]);
        }
        self.dockerd = Some(self.spawn(command));
        until("the engine answers", || {
            self.docker(&["version"]).code == Some(0)
        });
    }

    fn spawn(&self, mut command: Command) -> Child {
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.path("log"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        command.spawn().expect("an engine's programs, as root")
    }

    fn load_image(&self) {
        let image = self.path("image.tar");
        let image = image.to_str().expect("a path");
        let saved = docker(&["save", "-o", image, BASE_IMAGE]);
        assert_eq!(saved.code, Some(0), "{saved}");
        let loaded = self.docker(&["load", "-q", "-i", image]);
        assert_eq!(loaded.code, Some(0), "{loaded}");
        std::fs::remove_file(image).expect("an image");
    }

    /// Runs the docker command on it.
    pub fn docker(&self, arguments: &[&str]) -> Ended {
        docker(&[&["--host", &self.url()], arguments].concat())
    }

    /// A command in its network namespace.
    pub fn inside(&self, program: &str) -> Command {
        let dockerd = self.dockerd.as_ref().expect("it runs");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", dockerd.id()));
        command.arg("--").arg(program);
        command
    }

    /// Lets it stand still, or go on.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.dockerd.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("a signal");
    }

    /// Ends it with a signal, and waits for its end.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let mut dockerd = self.dockerd.take().expect("it runs");
        dockerd.wait().expect("an end");
    }
}

impl Daemon {
    /// Asks the containerd below it.
    fn ctr(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("ctr.sock"));
        let ended = command.args(["--namespace", "moby"]).args(arguments);
        ended
            .output()
            .expect("ctr, which comes with containerd")
            .into()
    }

    /// Whether a container runs, though the engine may not.
    pub fn runs_containers(&self) -> bool {
        self.ctr(&["task", "ls"]).stdout.contains("RUNNING")
    }
}

impl Drop for Daemon {
    /// Whatever has happened: containers first, as long as somebody can end them.
    fn drop(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            let _ = dockerd.kill();
            let _ = dockerd.wait();
        }
        for task in self.ctr(&["task", "ls", "-q"]).stdout.lines() {
            self.ctr(&["task", "rm", "-f", task]);
        }
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.directory.path())) {
            // What is left of it fails the removal of the directory, which nobody hears.
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}
