//! Whether directories of ours arrive in containers: as bind mounts, without which no task can run,
//! and as copy-on-write views, without which worktrees are checkouts.
//!
//! One throw-away container tries both, where the tasks' own directories will be.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use tokio::time::timeout;

use super::probe::{MARK, Prober, QUESTIONS, too_late};
use super::proof::Proof;
use super::teardown::again;
use super::user::ContainerUser;
use super::{RunError, StepError, blocking};
use crate::engine::config::{ContainerConfig, Mount, VolumeConfig, VolumeMount};
use crate::engine::{Engine, EngineError, ErrorKind, ImageInfo};
use crate::id::{Role, hex_hash, label, run_container_name, run_labels};

/// Writes to a view, deletes a file of the directory below and renames a directory of it.
const USE_VIEW: &str = r"
if cd /agent/view 2>/dev/null; then { cat folder/below >new; rm gone; mv folder moved; } 2>/dev/null; fi
";

/// Sends a number into a container through a directory of the state directory and reads it back;
/// with `try_views` through a view of one too.
///
/// The outer error is one of this image; the inner one means that no task can run at all.
pub(super) async fn prove_mounts<E: Engine>(
    prober: &Prober<'_, E>,
    image: &ImageInfo,
    user: ContainerUser,
    try_views: bool,
) -> Result<Result<Proof, RunError>, StepError> {
    let place = Place::of(prober);
    let made = blocking({
        // Of a run that is dropped this goes on until it is done: it is not over before.
        let (engine, place) = (prober.engine.clone(), place.clone());
        move || {
            let made = place.make(user, try_views);
            drop(engine);
            made
        }
    });
    made.await.map_err(|e| StepError::new("bind mounts", &e))?;
    let mut config = prober.config("mounts", &image.id, &[USE_VIEW, QUESTIONS].concat());
    config.environment = vec![("AGENT_MARK".into(), MARK.into())];
    config.user = format!("{}:{}", user.uid, user.gid);
    config.mounts = vec![Mount {
        source: place.shared(),
        target: "/agent/probe".into(),
        read_only: false,
    }];
    let answer = ask(prober, &place, &config, try_views).await;
    let (received, view_arrived) = blocking({
        let (engine, place) = (prober.engine.clone(), place.clone());
        move || {
            let found = (
                read_small(&place.shared().join("received")),
                place.view_arrived(),
            );
            let _ = fs::remove_dir_all(&place.top);
            drop(engine);
            found
        }
    })
    .await;
    let not_there = |error: &EngineError| matches!(&error.kind, ErrorKind::Refused(text) if text.contains("bind source path"));
    let (said, views) = match answer {
        Ok(answer) => answer,
        Err(error) if not_there(&error) => (None, Ok(())),
        Err(error) => return Err(StepError::engine("bind mounts")(error)),
    };
    let sent = place.sent.as_str();
    let is_sent = |text: Option<&str>| text.map(str::trim) == Some(sent);
    let said = said.as_deref().and_then(|text| text.rsplit(MARK).next());
    if !is_sent(said) || !is_sent(received.as_deref()) {
        return Ok(Err(RunError::BindMounts {
            path: prober.state.path().to_owned(),
            endpoint: prober.endpoint.to_owned(),
        }));
    }
    let lost = "what a container writes to a view does not arrive as it should";
    let views = views.and_then(|()| view_arrived.then_some(()).ok_or_else(|| lost.to_owned()));
    Ok(Ok(Proof { views }))
}

/// What the container says, and why it had no view.
type Answer = (Option<String>, Result<(), String>);

/// Runs the container, with a view if that can be had.
async fn ask<E: Engine>(
    prober: &Prober<'_, E>,
    place: &Place,
    config: &ContainerConfig,
    try_views: bool,
) -> Result<Answer, EngineError> {
    if !try_views {
        return Ok((prober.ask(config).await?, Err("it was not tried".into())));
    }
    let volume = place.volume(prober);
    let mut with_view = config.clone();
    with_view.volumes = vec![VolumeMount {
        volume: volume.name.clone(),
        target: "/agent/view".into(),
    }];
    let made = timeout(prober.limit, prober.engine.create_volume(&volume)).await;
    let answer = match made.unwrap_or(Err(too_late(&volume.name))) {
        Ok(()) => prober.ask(&with_view).await,
        Err(error) => Err(error),
    };
    let removed = again(|| async {
        let removed = timeout(prober.limit, prober.engine.remove_volume(&volume.name)).await;
        removed.unwrap_or(Err(too_late(&volume.name)))
    })
    .await;
    match answer {
        // What it cannot mount an engine says when it makes or starts a container.
        Err(error) if matches!(error.kind, ErrorKind::Refused(_)) => {
            removed?;
            Ok((prober.ask(config).await?, Err(error.kind.describe())))
        }
        Err(error) => Err(error),
        Ok(answer) => removed.map(|()| (answer, Ok(()))),
    }
}

/// The directories of a proof.
#[derive(Clone)]
struct Place {
    top: PathBuf,
    /// The kernel's own for the view; goes with those of the tasks.
    work: PathBuf,
    /// What is sent.
    sent: String,
}

impl Place {
    fn of<E: Engine>(prober: &Prober<'_, E>) -> Self {
        let seed = format!("{} {}", prober.run, prober.owner);
        Self {
            top: prober.state.run(prober.run).join("probe"),
            work: prober.state.views(prober.run).join("probe"),
            sent: hex_hash(seed.as_bytes(), 32),
        }
    }

    /// What is bind-mounted.
    fn shared(&self) -> PathBuf {
        self.top.join("shared")
    }

    fn make(&self, user: ContainerUser, try_views: bool) -> io::Result<()> {
        let (shared, upper, lower) = (
            self.shared(),
            self.top.join("upper"),
            self.top.join("lower"),
        );
        let folder = lower.join("folder");
        fs::create_dir(&self.top)?;
        for directory in [&shared, &upper, &lower, &folder] {
            fs::create_dir(directory)?;
        }
        if try_views {
            fs::create_dir_all(&self.work)?;
        }
        let files = [
            shared.join("sent"),
            folder.join("below"),
            lower.join("gone"),
        ];
        for file in &files {
            fs::write(file, &self.sent)?;
        }
        if let Some((uid, gid)) = user.owner {
            for path in [&shared, &upper, &lower, &folder].into_iter().chain(&files) {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        Ok(())
    }

    fn volume<E: Engine>(&self, prober: &Prober<'_, E>) -> VolumeConfig {
        let mut labels = run_labels(prober.run, Role::Probe);
        labels.push((label::OWNER.into(), prober.owner.to_owned()));
        VolumeConfig {
            name: run_container_name(prober.run, Role::Probe, "view"),
            labels,
            lower: self.top.join("lower"),
            upper: self.top.join("upper"),
            work: self.work.clone(),
        }
    }

    /// Whether all that was done to the view is in its upper layer, and the lower one is as it was. A
    /// renamed directory is there without its files: where the kernel cannot do that, `mv` copies,
    /// and git fails.
    fn view_arrived(&self) -> bool {
        let (upper, lower) = (self.top.join("upper"), self.top.join("lower"));
        let is = |path: PathBuf, what: fn(&fs::FileType) -> bool| {
            fs::symlink_metadata(path).is_ok_and(|found| what(&found.file_type()))
        };
        read_small(&upper.join("new")).as_ref() == Some(&self.sent)
            && is(upper.join("gone"), fs::FileType::is_char_device)
            && is(upper.join("moved"), fs::FileType::is_dir)
            && fs::symlink_metadata(upper.join("moved/below")).is_err()
            && is(lower.join("gone"), fs::FileType::is_file)
            && is(lower.join("folder/below"), fs::FileType::is_file)
    }
}

/// A regular file of at most 1 KiB; the container wrote it, so no link is followed.
fn read_small(file: &Path) -> Option<String> {
    use std::io::Read as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).ok()?)
        .open(file)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text).ok()?;
    Some(text)
}
