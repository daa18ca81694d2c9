//! Run directories as those find them who did not make them: alive, dead, half-written, too new.

use std::fs;
use std::path::PathBuf;

use agent_run::event::TaskPhase;
use agent_run::id::{RepoKey, RunId, StateDir};
use agent_run::journal::{FoundRun, JournalError, RunDirectory, RunState, TidyLock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::records::record;

/// A state directory of a test's own.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { directory }
    }

    fn state(&self) -> StateDir {
        StateDir::new(self.directory.path().to_owned())
    }

    /// A run of `repo` that is alive for as long as the directory is held.
    fn run(&self, id: &str, repo: &str) -> RunDirectory {
        let directory = RunDirectory::create(&self.state(), &run(id)).unwrap();
        let plan = json!({ "version": 1, "repository": { "key": repo, "path": "/somewhere" } });
        directory.write_json("plan.json", &plan).unwrap();
        directory
    }

    fn find(&self, id: &str) -> Result<FoundRun, JournalError> {
        FoundRun::of(&self.state(), &run(id))
    }

    fn latest(&self, repo: &str) -> Option<String> {
        let repo: RepoKey = repo.parse().unwrap();
        let found = FoundRun::latest(&self.state(), &repo).unwrap();
        found.map(|found| found.run.to_string())
    }

    fn file(&self, id: &str, name: &str) -> PathBuf {
        self.state().run(&run(id)).join(name)
    }
}

fn run(id: &str) -> RunId {
    id.parse().unwrap()
}

const FIRST: &str = "261120-101500-aaaa";
const SECOND: &str = "261120-101501-aaaa";
const THIRD: &str = "261120-101502-aaaa";

#[test]
fn a_run_is_live_interrupted_or_finished() {
    let place = Place::new();
    let directory = place.run(FIRST, "repo-1");
    let state = || place.find(FIRST).unwrap().state;
    assert_eq!(state(), RunState::Live);
    directory.write_json("result.json", &json!({})).unwrap();
    assert_eq!(state(), RunState::Live, "what is left is still removed");
    drop(directory);
    assert_eq!(state(), RunState::Finished);
    fs::remove_file(place.file(FIRST, "result.json")).unwrap();
    assert_eq!(state(), RunState::Interrupted);
    fs::remove_file(place.file(FIRST, "lock")).unwrap();
    assert_eq!(state(), RunState::Interrupted);
}

#[test]
fn looking_at_a_run_takes_nothing_from_it() {
    let place = Place::new();
    drop(place.run(FIRST, "repo-1"));
    let found = place.find(FIRST).unwrap();
    let taken = RunDirectory::take_over(&place.state(), &found.run).unwrap();
    assert_eq!(place.find(FIRST).unwrap().state, RunState::Live);
    drop(taken);
}

#[test]
fn the_latest_run_is_that_of_the_repository() {
    let place = Place::new();
    assert_eq!(place.latest("repo-1"), None);
    drop(place.run(FIRST, "repo-1"));
    drop(place.run(THIRD, "repo-2"));
    let _live = place.run(SECOND, "repo-1");
    assert_eq!(place.latest("repo-1").as_deref(), Some(SECOND));
    assert_eq!(place.latest("repo-2").as_deref(), Some(THIRD));
    assert_eq!(place.latest("repo-3"), None);
    let all = FoundRun::all(&place.state()).unwrap();
    let all: Vec<&str> = all.iter().map(|found| found.run.as_str()).collect();
    assert_eq!(all, [FIRST, SECOND, THIRD]);
}

#[test]
fn of_two_runs_of_one_second_the_one_that_began_later_is_the_latest() {
    let place = Place::new();
    for (first, second) in [
        ("261120-101500-aaaa", "261120-101500-bbbb"),
        ("261120-101501-bbbb", "261120-101501-aaaa"),
    ] {
        let now = std::time::SystemTime::now();
        for (id, ago) in [(first, 2), (second, 1)] {
            drop(place.run(id, "repo-1"));
            let lock = fs::File::open(place.file(id, "lock")).unwrap();
            let began = now - std::time::Duration::from_millis(ago);
            lock.set_modified(began).unwrap();
        }
        assert_eq!(place.latest("repo-1").as_deref(), Some(second));
        // Taken over later, it is no younger.
        drop(RunDirectory::take_over(&place.state(), &run(first)).unwrap());
        assert_eq!(place.latest("repo-1").as_deref(), Some(second));
    }
}

#[test]
fn a_run_that_is_tidied_up_after_stays_what_it_is_and_is_waited_for() {
    let place = Place::new();
    let lives = place.run(FIRST, "repo-1");
    let visit = || RunDirectory::visit(&place.state(), &run(FIRST));
    assert!(matches!(visit(), Err(JournalError::Live(_))));
    drop(lives);
    let visited = visit().unwrap();
    assert_eq!(place.find(FIRST).unwrap().state, RunState::Interrupted);
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| RunDirectory::take_over(&place.state(), &run(FIRST)));
        assert_eq!(place.find(FIRST).unwrap().state, RunState::Interrupted);
        drop(visited);
        let taken = taking.join().unwrap().unwrap();
        assert_eq!(place.find(FIRST).unwrap().state, RunState::Live);
        let refused = RunDirectory::take_over(&place.state(), &run(FIRST));
        assert!(matches!(refused, Err(JournalError::Live(_))), "{refused:?}");
        drop(taken);
    });
}

#[test]
fn one_process_tidies_up_at_a_time() {
    let place = Place::new();
    let first = TidyLock::take(&place.state()).unwrap();
    assert!(first.is_some());
    assert!(TidyLock::take(&place.state()).unwrap().is_none());
    drop(first);
    assert!(TidyLock::take(&place.state()).unwrap().is_some());
}

#[test]
fn a_run_without_a_readable_plan_is_nobodys_and_listed_all_the_same() {
    let place = Place::new();
    drop(place.run(FIRST, "repo-1"));
    for broken in ["", "{", "[]", "{\"repository\": {\"key\": \"../x\"}}"] {
        drop(place.run(SECOND, "repo-1"));
        fs::write(place.file(SECOND, "plan.json"), broken).unwrap();
        assert_eq!(place.latest("repo-1").as_deref(), Some(FIRST), "{broken}");
        assert_eq!(place.find(SECOND).unwrap().repo(), None, "{broken}");
        fs::remove_dir_all(place.state().run(&run(SECOND))).unwrap();
    }
    drop(place.run(SECOND, "repo-1"));
    fs::remove_file(place.file(SECOND, "plan.json")).unwrap();
    // Nothing of these is a run.
    fs::write(place.state().run(&run(THIRD)), "a file").unwrap();
    fs::create_dir(place.state().runs().join(".new-261120-101503-aaaa")).unwrap();
    let all = FoundRun::all(&place.state()).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].repo(), None);
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let place = Place::new();
    let gone = place.find(FIRST).unwrap_err();
    assert!(gone.to_string().contains(FIRST), "{gone}");
    assert!(matches!(gone, JournalError::NoSuchRun { .. }), "{gone}");
    let directory = place.run(FIRST, "repo-1");
    let read = |text: &str| {
        fs::write(place.file(FIRST, "plan.json"), text).unwrap();
        place
            .find(FIRST)
            .unwrap()
            .read_json::<Value>("plan.json", 3)
    };
    for whole in ["{\"version\": 3}", "{\"version\": 1, \"a\": 2}", "{}"] {
        assert!(read(whole).is_ok(), "{whole}");
    }
    for torn in ["", "{\"version\": 1", "{\"version\": -1}", "3", "\u{0}"] {
        let error = read(torn).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    }
    let newer = read("{\"version\": 4, \"what\": [\"nobody\", \"knows\"]}").unwrap_err();
    assert!(
        matches!(newer, JournalError::NewerVersion { version: 4, .. }),
        "{newer}"
    );
    fs::remove_file(directory.path().join("plan.json")).unwrap();
    let found = place.find(FIRST).unwrap();
    let absent = found.read_json::<Value>("plan.json", 3).unwrap_err();
    assert!(matches!(absent, JournalError::Io { .. }), "{absent}");
}

#[test]
fn a_run_started_when_its_id_says() {
    let started = run(FIRST).started().unwrap();
    assert_eq!(started.to_string(), "2026-11-20T10:15:00Z");
    assert_eq!(run("269999-101500-aaaa").started(), None);
}

#[test]
fn progress_is_read_from_the_journal_as_far_as_it_makes_sense() {
    let place = Place::new();
    let directory = place.run(FIRST, "repo-1");
    let found = place.find(FIRST).unwrap();
    assert!(
        found.progress().unwrap().is_empty(),
        "it has written none yet"
    );
    let events = [
        r#"{"seq":0,"at":"2026-11-20T10:15:01Z","elapsed_ms":1,"task":"a","kind":{"type":"phase","phase":"preparing"}}"#,
        r#"{"seq":1,"at":"2026-11-20T10:15:02Z","elapsed_ms":2,"task":"a","kind":{"type":"of_a_later_version"}}"#,
        r#"{"seq":2,"at":"2026-11-20T10:15:03Z","elapsed_ms":3,"task":"a","kind":{"type":"phase","phase":"running"}}"#,
        r#"{"seq":3,"at":"2026-11-20T10:15:04Z","elapsed_ms":4,"task":"a","kind":{"type":"phase","phase":"stopping"}}"#,
    ];
    let records: String = events.iter().map(|event| record(event)).collect();
    // Torn in its last record.
    fs::write(
        directory.path().join("journal"),
        &records[..records.len() - 1],
    )
    .unwrap();
    let progress = found.progress().unwrap();
    let task = &progress[&"a".parse().unwrap()];
    assert_eq!(task.phase, TaskPhase::Running);
    assert_eq!(task.since.as_deref(), Some("2026-11-20T10:15:03Z"));
    assert_eq!(task.report, None);
}
