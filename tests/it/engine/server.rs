//! A small HTTP server with scripted answers: an engine that is old, broken or hostile, and a
//! registry that asks who one is.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use agent_run::engine::EngineError;
use agent_run::engine::docker::{DockerEngine, EngineLocator};
use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `METHOD /path`, without API version and query.
    pub what: String,
    /// What follows the question mark, as sent.
    pub query: String,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
pub enum Reply {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A status, a header line and no body.
    Header(u16, &'static str),
    /// These bytes, whatever they are.
    Raw(&'static str),
    /// Nothing, ever.
    Hang,
}

type Answer = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A running server; it runs until the test's process ends.
pub struct Server {
    requests: Arc<Mutex<Vec<Request>>>,
    url: String,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    /// An engine on a socket of its own. `answer` sees every request but `GET /version`, which is
    /// answered as Docker 20.10 does.
    pub fn engine(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::any_engine(move |request| match request.what.as_str() {
            "GET /version" => Reply::Json(200, json!({"Version": "20.10.1", "ApiVersion": "1.41"})),
            _ => answer(request),
        })
    }

    /// An engine whose every answer is scripted.
    pub fn any_engine(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (requests, answer) = (Arc::default(), Arc::new(answer));
        let url = format!("unix://{}", socket.display());
        let accept = move || listener.accept().unwrap().0;
        serve(accept, Arc::clone(&requests), answer);
        Self {
            requests,
            url,
            _dir: Some(dir),
        }
    }

    /// A server on loopback, and where it is: a registry, or an engine behind TCP.
    pub fn tcp(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let accept = move || listener.accept().unwrap().0;
        serve(accept, Arc::clone(&requests), Arc::new(answer));
        let server = Self {
            requests,
            url: format!("tcp://{address}"),
            _dir: None,
        };
        (server, address)
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects to it as `--host` does.
    pub async fn connect(&self) -> Result<DockerEngine, EngineError> {
        let locator = EngineLocator {
            host: Some(self.url.clone()),
            ..EngineLocator::default()
        };
        DockerEngine::connect(&locator).await
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Whether this was asked.
    pub fn was_asked(&self, what: &str) -> bool {
        self.requests().iter().any(|request| request.what == what)
    }
}

fn serve<S: Read + Write + Send + 'static>(
    accept: impl Fn() -> S + Send + 'static,
    requests: Arc<Mutex<Vec<Request>>>,
    answer: Answer,
) {
    std::thread::spawn(move || {
        loop {
            let (stream, requests, answer) = (accept(), Arc::clone(&requests), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let Some(request) = read(&mut stream) else {
                    return;
                };
                requests.lock().unwrap().push(request.clone());
                let bytes = match answer(&request) {
                    Reply::Json(status, body) => {
                        let body = body.to_string();
                        head(status, "Content-Type: application/json", body.len()) + &body
                    }
                    Reply::Header(status, line) => head(status, line, 0),
                    Reply::Raw(bytes) => bytes.to_owned(),
                    Reply::Hang => loop {
                        std::thread::park();
                    },
                };
                // A client that went away is no fault of the server.
                drop(stream.get_mut().write_all(bytes.as_bytes()));
            });
        }
    });
}

fn head(status: u16, line: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} Scripted\r\nConnection: close\r\n{line}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (what, query) = (format!("{method} {path}"), query.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let length = headers.get("content-length");
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        what,
        query,
        headers,
        body,
    })
}
