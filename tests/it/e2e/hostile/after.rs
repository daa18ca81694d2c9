//! What must be so after a run with hostile tasks, whatever they did.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::scene::{Ended, docker, task};
use super::canary::{assert_untold, assert_untold_below};
use super::snapshot::Snapshot;
use super::{Attack, Done, Expected, Hostile, imported};

impl Hostile {
    pub(super) fn assert_after(&self, done: &Done, attacks: &[Attack], before: &Snapshot) {
        self.canary.assert_alive(&done.ended.to_string());
        self.assert_honest(done);
        self.assert_expected(done, attacks);
        self.assert_repository(done, attacks, before);
        self.assert_nothing_left(done, attacks);
        assert_untold(&done.ended.to_string());
        assert_untold_below(&self.scene.state());
        self.look_as_a_user(done, attacks);
        self.canary.assert_alive("after what a user does");
    }

    fn assert_honest(&self, done: &Done) {
        let Done { ended, result, .. } = done;
        for honest in ["honest-first", "honest-last"] {
            let report = task(result, honest);
            assert_eq!(
                report["outcome"]["outcome"], "succeeded",
                "{report:#}\n{ended}"
            );
            let file = format!("{}:{honest}.txt", done.branch(honest));
            assert_eq!(self.scene.git(&["show", &file]), "fine\n", "{ended}");
        }
    }

    /// What became of the attacks, where it is not what was expected.
    fn assert_expected(&self, done: &Done, attacks: &[Attack]) {
        let mut wrong = String::new();
        for attack in attacks {
            let report = task(&done.result, &attack.name);
            let branch = &report["branch"];
            let found = json!({
                "outcome": report["outcome"]["outcome"],
                "result": branch["result"],
                "check": branch["check"],
                "kept": branch["content_left_behind"],
                "teardown_errors": report["teardown_errors"],
            });
            let (result, check, kept) = match attack.expected {
                Expected::Imported => ("created", None, false),
                Expected::ImportedInPart => ("created", None, true),
                Expected::Unchanged => ("no_change", None, false),
                Expected::LeftBehind => ("no_change", None, true),
                Expected::Refused(check) => ("rejected", Some(check), true),
                Expected::Kept => ("kept", None, true),
            };
            let expected = json!({
                "outcome": attack.outcome,
                "result": result,
                "check": check,
                "kept": kept,
                "teardown_errors": [],
            });
            if found != expected {
                let log = self.attempt(done, &attack.name).join("out/handoff.log");
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let _ = writeln!(
                    wrong,
                    "{}: {found}\nnot {expected}\n{branch}\n{log}",
                    attack.name
                );
            }
        }
        assert!(wrong.is_empty(), "{wrong}\n{}", done.ended);
    }

    /// That the user's repository is whole, and as it was but for the results.
    fn assert_repository(&self, done: &Done, attacks: &[Attack], before: &Snapshot) {
        let expected: BTreeSet<String> = imported(attacks)
            .map(|name| format!("refs/heads/{}", done.branch(name)))
            .chain(side_refs(&done.result))
            .collect();
        let repo = self.scene.repo();
        Snapshot::of(&repo).assert_same_but(before, &expected);
        assert_whole(&repo.join(".git"));
        for store in directories(&self.scene.state().join("repos"), 2) {
            if store.extension().is_some_and(|kind| kind == "git") {
                assert_whole(&store);
            }
        }
    }

    /// That no more is left on the engine and in the state directory than is kept on purpose.
    fn assert_nothing_left(&self, done: &Done, attacks: &[Attack]) {
        let tasks = self
            .scene
            .state()
            .join("runs")
            .join(&done.run)
            .join("tasks");
        let is_gone = |a: &&Attack| matches!(a.expected, Expected::Imported | Expected::Unchanged);
        let kept = attacks.iter().filter(|a| !is_gone(a));
        let kept: BTreeSet<_> = kept.map(|a| tasks.join(&a.name)).collect();
        let left: BTreeSet<_> = self.scene.left().into_iter().map(PathBuf::from).collect();
        assert_eq!(left, kept, "{}", done.ended);
        let filter = format!("label=agent-run.run={}", done.run);
        for kind in ["volume", "network"] {
            let left = docker(&[kind, "ls", "-q", "--filter", &filter]);
            assert_eq!((left.code, left.stdout.as_str()), (Some(0), ""), "{left}");
        }
        let state = self.scene.state();
        let own = directories(&state, 2).into_iter().chain(
            kept.iter()
                .flat_map(|task| directories(task, 2))
                .chain(directories(&state.join("repos"), 5)),
        );
        let unfinished: Vec<_> = own.filter(|path| is_unfinished(path)).collect();
        assert_eq!(unfinished, Vec::<PathBuf>::new());
    }

    /// What somebody runs who has a look at the results, and then cleans up.
    fn look_as_a_user(&self, done: &Done, attacks: &[Attack]) {
        let scene = &self.scene;
        let look = |arguments: &[&str]| assert_untold(&scene.git(arguments));
        look(&["status"]);
        look(&["log", "--all", "--stat"]);
        for name in imported(attacks) {
            look(&["diff", &format!("main..{}", done.branch(name))]);
        }
        for name in attacks.iter().map(|attack| &*attack.name) {
            let shown = scene.agent_run(&["show", "--run", &done.run, name]);
            assert_eq!(shown.code, Some(0), "{shown}");
            assert_untold(&shown.to_string());
            let patch = scene.agent_run(&["diff", "--run", &done.run, name]);
            assert_untold(&patch.to_string());
        }
        let cleaned = scene.agent_run(&["clean"]);
        assert_eq!(cleaned.code, Some(0), "{cleaned}");
        assert_untold(&cleaned.to_string());
    }
}

fn side_refs(result: &Value) -> impl Iterator<Item = String> {
    let tasks = result["tasks"].as_array().expect("tasks").iter();
    let refs = tasks.filter_map(|task| task["branch"]["side_refs"].as_array());
    refs.flatten()
        .map(|pair| pair[0].as_str().expect("a ref").to_owned())
}

/// What lies in a directory, and in those in it, so many levels deep.
fn directories(top: &Path, levels: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(top) else {
        return found;
    };
    for entry in entries.map(|e| e.expect("an entry").path()) {
        if levels > 1 && entry.is_dir() && !entry.is_symlink() {
            found.extend(directories(&entry, levels - 1));
        }
        found.push(entry);
    }
    found
}

/// Whether a name is of something that is there only while it is being made.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let begins = ["quarantine-", "tmp_", ".tmp", "incoming-"];
    begins.iter().any(|begin| name.starts_with(begin))
        || [".keep", ".making"].iter().any(|end| name.ends_with(end))
}

/// That git finds no fault in a repository, and no object that nothing leads to.
fn assert_whole(git_dir: &Path) {
    let checked: Ended = Command::new("git")
        .arg("--git-dir")
        .arg(git_dir)
        .args([
            "fsck",
            "--strict",
            "--full",
            "--unreachable",
            "--no-progress",
        ])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git")
        .into();
    let mut said = checked.stdout.lines().chain(checked.stderr.lines());
    // A bare repository of ours has no branch.
    let clean = said.all(|line| line.starts_with("notice: HEAD points to an unborn branch"));
    assert!(
        checked.code == Some(0) && clean,
        "{}: {checked}",
        git_dir.display()
    );
}
