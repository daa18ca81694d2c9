//! Claims on real repositories and remotes: of many who want one, exactly one gets it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use agent_run::claims::{Claim, ClaimError, ClaimRecord, Claims, HOLDS, Taken, Wanted};
use agent_run::event::BranchResult;
use agent_run::git::Repository;
use agent_run::id::{ClaimKey, RunId, TaskId};
use agent_run::journal;
use jiff::Timestamp;

use crate::collect::{Asked, collect_with};
use crate::git::fixture::{Scratch, commit, git, program};
use crate::workspace::Site;

/// A process of another machine.
const ELSEWHERE: &str = "0e1d3a5c-0000-4000-8000-000000000000:12:345";

/// To the second, as records have it.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// Somebody who wants something.
struct Contender {
    key: ClaimKey,
    run: RunId,
    task: TaskId,
    owner: String,
}

impl Contender {
    fn new(task: &str, owner: &str) -> Self {
        Self {
            key: "issue 12".parse().unwrap(),
            run: "261120-101500-abcd".parse().unwrap(),
            task: task.parse().unwrap(),
            owner: owner.to_owned(),
        }
    }

    fn here(task: &str) -> Self {
        Self::new(task, &journal::owner())
    }

    fn take(&self, claims: Claims<'_>, now: Timestamp) -> Result<Taken, ClaimError> {
        let wanted = Wanted {
            key: &self.key,
            holder: "Tester <t@example.org>",
            host: "here",
            owner: &self.owner,
            run: &self.run,
            task: &self.task,
        };
        claims.take(&wanted, now)
    }

    /// Takes what nobody else has.
    fn get(&self, claims: Claims<'_>, now: Timestamp) -> Claim {
        match self.take(claims, now) {
            Ok(Taken::Ours(claim)) => claim,
            other => panic!("not ours: {other:?}"),
        }
    }
}

/// Whose it is.
fn holder(claims: Claims<'_>) -> ClaimRecord {
    let all = claims.list().unwrap();
    let [(_, found)] = all.as_slice() else {
        panic!("not one claim: {all:?}")
    };
    found.record.clone().unwrap()
}

fn is_theirs(taken: &Result<Taken, ClaimError>, task: &str) -> bool {
    matches!(taken, Ok(Taken::Theirs(record)) if record.task.as_str() == task)
}

fn name() -> String {
    Contender::here("t").key.ref_name()
}

/// Lets several contend for one claim, in so many rounds: in each of them one gets it.
fn contend(contenders: usize, rounds: usize, place: impl Fn(usize) -> (Repository, bool) + Sync) {
    let start = Barrier::new(contenders);
    let winners = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..contenders {
            let (start, winners, place) = (&start, &winners, &place);
            scope.spawn(move || {
                let (repository, shares_remote) = place(number);
                let claims = Claims::of(&repository, shares_remote.then_some("origin"));
                let me = Contender::here(&format!("t{number}"));
                for round in 0..rounds {
                    start.wait();
                    let taken = me.take(claims, Timestamp::now()).unwrap();
                    // Nobody gives it back before all have asked.
                    start.wait();
                    if let Taken::Ours(claim) = taken {
                        winners.lock().unwrap().push(round);
                        claims.release(&claim).unwrap();
                    }
                }
            });
        }
    });
    let winners = winners.into_inner().unwrap();
    assert_eq!(winners, (0..rounds).collect::<Vec<_>>());
}

fn contend_here(contenders: usize, rounds: usize) {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    contend(contenders, rounds, |_| (scratch.open(&dir), false));
    assert_eq!(git(&dir, &["for-each-ref", "refs/agent-run"]), "");
    git(&dir, &["fsck", "--strict"]);
}

/// A bare repository, and a clone of it for each number.
fn remote(scratch: &Scratch, clones: usize) -> (PathBuf, Vec<PathBuf>) {
    let (origin, bare) = (scratch.repository("first"), scratch.path("origin.git"));
    let root = scratch.path(".");
    let at = |path: &Path| path.to_str().unwrap().to_owned();
    git(&root, &["clone", "-q", "--bare", &at(&origin), &at(&bare)]);
    let clone = |number| {
        let clone = scratch.path(&format!("clone{number}"));
        git(&root, &["clone", "-q", &at(&bare), &at(&clone)]);
        clone
    };
    (bare.clone(), (0..clones).map(clone).collect())
}

fn contend_on_a_remote(contenders: usize, rounds: usize) {
    let scratch = Scratch::new();
    let (bare, clones) = remote(&scratch, contenders);
    contend(contenders, rounds, |number| {
        (scratch.open(&clones[number]), true)
    });
    for dir in clones.iter().chain([&bare]) {
        assert_eq!(git(dir, &["for-each-ref", "refs/agent-run"]), "");
    }
    git(&bare, &["fsck", "--strict"]);
}

#[test]
fn of_many_who_contend_one_gets_it() {
    contend_here(40, 2);
}

#[test]
fn of_many_who_share_a_remote_only_one_gets_it() {
    contend_on_a_remote(8, 2);
}

#[test]
#[ignore = "a hundred rounds take minutes"]
fn of_forty_who_contend_a_hundred_times_one_gets_it_each_time() {
    contend_here(40, 100);
}

#[test]
#[ignore = "a hundred rounds take minutes"]
fn of_forty_who_share_a_remote_one_gets_it_a_hundred_times() {
    contend_on_a_remote(40, 100);
}

#[test]
fn a_claim_is_taken_over_once_its_process_has_ended_and_no_sooner() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    let claims = Claims::of(&repository, None);
    let now = now();
    let living = Contender::here("living").get(claims, now);
    // Of a process of this machine no clock says that it has ended.
    let next = Contender::here("next");
    let year = Duration::from_secs(365 * 24 * 3600);
    assert!(is_theirs(&next.take(claims, now + year), "living"));
    let first = holder(claims).fence;
    claims.release(&living).unwrap();

    let mut child = program("sleep").arg("600").spawn().unwrap();
    let me = journal::owner();
    let boot = me.split(':').next().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let since = stat.split_whitespace().nth(21).unwrap();
    let owner = format!("{boot}:{}:{since}", child.id());
    let dying = Contender::new("dying", &owner);
    let dead = dying.get(claims, now);
    assert!(is_theirs(&next.take(claims, now), "dying"));
    child.kill().unwrap();
    child.wait().unwrap();
    next.get(claims, now);
    let record = holder(claims);
    assert_eq!(record.task.as_str(), "next");
    assert!(record.fence > first, "{record:?}");
    // Who has lost it neither renews it nor gives it back.
    assert!(!claims.renew(&mut dead.clone(), now).unwrap());
    assert!(!claims.is_held(&dead).unwrap());
    claims.release(&dead).unwrap();
    assert_eq!(holder(claims).task.as_str(), "next");
}

#[test]
fn a_claim_of_another_machine_holds_until_its_time_is_over() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    let claims = Claims::of(&repository, None);
    let now = now();
    let far = Contender::new("far", ELSEWHERE);
    let mut claim = far.get(claims, now);
    let (near, minute) = (Contender::here("near"), Duration::from_secs(60));
    assert!(is_theirs(&near.take(claims, now + HOLDS), "far"));
    assert!(claims.renew(&mut claim, now + minute).unwrap());
    assert!(is_theirs(
        &near.take(claims, now + HOLDS + minute * 2),
        "far"
    ));
    let fence = holder(claims).fence;
    near.get(claims, now + HOLDS + minute * 3);
    assert!(holder(claims).fence > fence);
    assert!(!claims.renew(&mut claim, now + minute).unwrap());
}

#[test]
fn a_task_takes_its_own_claim_up_again() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    let claims = Claims::of(&repository, None);
    let before = Contender::new("t", ELSEWHERE).get(claims, Timestamp::now());
    let fence = holder(claims).fence;
    let again = Contender::here("t").get(claims, Timestamp::now());
    assert!(!claims.is_held(&before).unwrap() && claims.is_held(&again).unwrap());
    assert!(holder(claims).fence > fence);
}

#[test]
fn a_ref_that_is_no_claim_is_nobodys_and_stays() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let repository = scratch.open(&dir);
    let claims = Claims::of(&repository, None);
    let me = Contender::here("t");
    let large = commit(&dir, "large.txt", &"x".repeat(100_000));
    let large = format!("{large}:large.txt");
    for target in ["HEAD", "HEAD:a.txt", "HEAD^{tree}", &large] {
        git(&dir, &["update-ref", &name(), target]);
        let before = git(&dir, &["rev-parse", &name()]);
        let taken = me.take(claims, Timestamp::now());
        assert!(
            matches!(taken, Err(ClaimError::Unreadable { .. })),
            "{taken:?}"
        );
        assert!(claims.list().unwrap()[0].1.record.is_err());
        assert_eq!(git(&dir, &["rev-parse", &name()]), before);
    }
    // Somebody else's claim under this name is no better.
    let claim = Contender {
        key: "other".parse().unwrap(),
        ..Contender::here("t")
    };
    let (other, commit) = claim.get(claims, Timestamp::now()).guard();
    assert_ne!(other, name());
    git(&dir, &["update-ref", &name(), commit.as_str()]);
    let taken = me.take(claims, Timestamp::now());
    assert!(
        matches!(taken, Err(ClaimError::Unreadable { .. })),
        "{taken:?}"
    );
}

#[test]
fn who_has_lost_a_claim_gets_no_branch_and_loses_no_work() {
    let site = Site::new();
    let claims = Claims::of(&site.repository, None);
    let claim = Contender::here("t").get(claims, Timestamp::now());
    let guard = claim.guard();
    for (task, is_held) in [("held", true), ("lost", false)] {
        if !is_held {
            git(&site.dir, &["update-ref", &guard.0, "HEAD"]);
        }
        let inside = site.workspace(task);
        commit(&inside.tree(), "a.txt", "work\n");
        inside.hand_off();
        let asked = Asked {
            guard: Some(&guard),
            ..Asked::default()
        };
        let report = collect_with(&site, &inside, task, &asked);
        let branch = format!("refs/heads/agent/{task}");
        let made = git(&site.dir, &["for-each-ref", &branch]);
        assert_eq!(made.is_empty(), !is_held, "{report:?}");
        match report.result {
            BranchResult::Created { .. } => assert!(is_held),
            BranchResult::SetAside { kept_ref, .. } => {
                let work = git(&site.dir, &["show", &format!("{kept_ref}:a.txt")]);
                assert!(!is_held && work == "work", "{work}");
                assert!(report.notes[0].contains("taken over"), "{:?}", report.notes);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn on_a_remote_it_is_renewed_lost_and_released() {
    let scratch = Scratch::new();
    let (bare, clones) = remote(&scratch, 2);
    let places: Vec<_> = clones.iter().map(|dir| scratch.open(dir)).collect();
    let [one, two] = [0, 1].map(|number| Claims::of(&places[number], Some("origin")));
    let now = now();
    let far = Contender::new("far", ELSEWHERE);
    let mut claim = far.get(one, now);
    let near = Contender::here("near");
    assert!(is_theirs(&near.take(two, now), "far"));
    assert!(one.renew(&mut claim, now).unwrap() && one.is_held(&claim).unwrap());
    // What was asked is kept nowhere: no ref of the other clone, and no file beside its own.
    assert_eq!(git(&clones[1], &["for-each-ref", "refs/agent-run"]), "");
    assert!(!clones[1].join(".git/FETCH_HEAD").exists());
    let later = now + HOLDS + Duration::from_secs(600);
    let taken_over = near.get(two, later);
    assert_eq!(holder(one).task.as_str(), "near");
    assert!(!one.is_held(&claim).unwrap());
    assert!(!one.renew(&mut claim, later).unwrap());
    one.release(&claim).unwrap();
    assert!(two.is_held(&taken_over).unwrap());
    two.release(&taken_over).unwrap();
    let all: BTreeSet<_> = clones.iter().chain([&bare]).collect();
    for dir in all {
        assert_eq!(git(dir, &["for-each-ref", "refs/agent-run"]), "");
    }
}

#[test]
fn a_renewal_whose_answer_was_lost_is_no_loss_of_the_claim() {
    let scratch = Scratch::new();
    let (_, clones) = remote(&scratch, 1);
    let repository = scratch.open(&clones[0]);
    let claims = Claims::of(&repository, Some("origin"));
    let now = now();
    let mut claim = Contender::here("t").get(claims, now);
    let (name, before) = claim.guard();
    let minute = Duration::from_secs(60);
    assert!(claims.renew(&mut claim.clone(), now + minute).unwrap());
    git(&clones[0], &["update-ref", &name, before.as_str()]);
    assert!(claims.is_held(&claim).unwrap());
    assert!(claims.renew(&mut claim, now + minute * 2).unwrap());
    assert_ne!(claim.guard().1, before);
    assert!(claims.is_held(&claim).unwrap());
}

#[test]
fn a_remote_that_refuses_gives_no_claim_and_says_why() {
    let scratch = Scratch::new();
    let (bare, clones) = remote(&scratch, 1);
    let hook = bare.join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho 'no claims here' >&2\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).unwrap();
    let repository = scratch.open(&clones[0]);
    let me = Contender::here("t");
    for (remote, words) in [("origin", "no claims here"), ("nowhere", "nowhere")] {
        let taken = me.take(Claims::of(&repository, Some(remote)), Timestamp::now());
        let Err(ClaimError::Refused { detail, .. }) = &taken else {
            panic!("{taken:?}")
        };
        assert!(detail.contains(words), "{detail}");
        assert_eq!(git(&clones[0], &["for-each-ref", "refs/agent-run"]), "");
    }
}

#[test]
#[ignore = "waits for the minute that a remote may take"]
fn a_remote_that_hangs_gives_no_claim_and_says_so() {
    let scratch = Scratch::new();
    let dir = scratch.repository("repo");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("git://{}/repo", silent.local_addr().unwrap());
    let repository = scratch.open(&dir);
    let claims = Claims::of(&repository, Some(&address));
    let taken = Contender::here("t").take(claims, Timestamp::now());
    let Err(ClaimError::Refused { detail, .. }) = &taken else {
        panic!("{taken:?}")
    };
    assert!(detail.contains("no answer within 60 s"), "{detail}");
}
