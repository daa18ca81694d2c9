//! A log whose stream breaks in the middle: what the engine has kept completes it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::scene::{Scene, task};
use super::assert_numbers;

/// After how many bytes of an answer its connection breaks, one after the other.
type Cuts = Arc<Mutex<VecDeque<u64>>>;

/// Puts a socket before an engine that cuts what is read of the output of a container whose name has
/// these words.
fn cutting(socket: &Path, engine: PathBuf, words: &'static str, cuts: &Cuts) {
    let (listener, cuts) = (UnixListener::bind(socket).expect("a socket"), cuts.clone());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a client");
            let engine = UnixStream::connect(&engine).expect("the engine");
            let ends = || {
                let clone = |stream: &UnixStream| stream.try_clone().expect("a socket");
                (clone(&client), clone(&engine))
            };
            let left = Arc::new(AtomicU64::new(u64::MAX));
            let ((from, to), cuts, limit) = (ends(), cuts.clone(), left.clone());
            std::thread::spawn(move || ask(from, to, words, &cuts, &limit));
            let (to, from) = ends();
            std::thread::spawn(move || answer(from, to, &left));
        }
    });
}

fn ask(mut from: UnixStream, mut to: UnixStream, words: &str, cuts: &Cuts, left: &AtomicU64) {
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..read]);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let reads = path.contains("/attach?") || path.contains("/logs?");
        if reads && path.contains(words) {
            let cut = cuts.lock().expect("the cuts").pop_front();
            left.store(cut.unwrap_or(u64::MAX), Ordering::SeqCst);
        }
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn answer(mut from: UnixStream, mut to: UnixStream, left: &AtomicU64) {
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let allowed = left.load(Ordering::SeqCst);
        let passed = u64::try_from(read).expect("a size").min(allowed);
        let bytes = &buffer[..usize::try_from(passed).expect("a size")];
        if to.write_all(bytes).is_err() || passed == allowed {
            break;
        }
        if allowed != u64::MAX {
            left.store(allowed - passed, Ordering::SeqCst);
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

#[test]
fn a_hundred_thousand_lines_are_whole_wherever_their_stream_breaks() {
    let scene = Scene::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let endpoint = runtime.block_on(async {
        use agent_run::engine::Engine as _;
        let info = crate::docker::engine().await.info().await;
        info.expect("the engine's information").endpoint
    });
    let engine = PathBuf::from(endpoint.strip_prefix("unix://").expect("a unix socket"));
    let socket = scene.path().join("engine.sock");
    // Attached; what is read to find the place; and each stream that goes on from there.
    let all = u64::MAX;
    let cuts = [
        300, 150, all, 40_003, all, 300_000, all, 600_000, all, 1_000_000,
    ];
    let cuts: Cuts = Arc::new(Mutex::new(cuts.into()));
    cutting(&socket, engine, "-long", &cuts);
    let spec = scene.spec(
        "version: 1\ntasks:\n  long:\n    network_mode: none\n    run: |\n      \
         for i in $(seq 0 9); do seq -f 'line %.0f' ${i}0000 ${i}9999; sleep 0.5; done\n",
    );
    let host = format!("unix://{}", socket.display());
    let ended = scene.agent_run(&["run", "--host", &host, spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let left = cuts.lock().expect("the cuts").len();
    assert_eq!(left, 0, "not all cuts were made: {ended}");
    assert_numbers(&scene, 100_000);
    assert!(!ended.stderr.contains("the log is not whole"), "{ended}");
    assert!(!ended.stderr.contains("the log may lack"), "{ended}");
    assert_eq!(task(&scene.result(), "long")["attempt"], 1);
    assert_eq!(scene.left(), Vec::<String>::new());
}
