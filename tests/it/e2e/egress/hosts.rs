//! Hosts of a test's own, by names that a proxy on their networks finds.

use super::super::scene::{Scene, docker};
use crate::docker::BASE_IMAGE;

/// Answers HTTP at 80 with who it is and the host that it was asked as, speaks WebSocket (RFC 6455) there where
/// asked for it, one frame each way, and echoes what comes at other ports.
const SERVER: &str = r#"
import base64, hashlib, http.server, socketserver, sys, threading
who = sys.argv[1]
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        port = self.server.server_address[1]
        self.request.sendall(f"echo {who} {port} ".encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers["Upgrade"] == "websocket":
            return self.websocket()
        moved = self.path == "/redirect"
        body = f"{who} as {self.headers['Host']}".encode()
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "http://denied.test/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        kind, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        masked = self.rfile.read(length & 127)
        said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
        body = who.encode() + b" heard " + said
        self.wfile.write(bytes([kind, len(body)]) + body)
        self.close_connection = True
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 512
for port in (22, 443, 8443):
    threading.Thread(target=Server(("", port), Echo).serve_forever).start()
Server(("", 80), Web).serve_forever()
"#;

/// The servers by what they are: what each is called on a network with addresses that count as public,
/// and on one with private ones.
const SERVERS: &[(&str, &[&str], &[&str])] = &[
    (
        "listed",
        &["allowed.test", "www.wild.test", "other.test"],
        &["inside.test"],
    ),
    (
        "unlisted",
        &[
            "denied.test",
            "wild.test",
            "xwild.test",
            "allowed.test.evil.test",
            "evilallowed.test",
        ],
        &[],
    ),
];

/// The servers, and the networks on which they are found; gone with the test.
pub struct Hosts {
    networks: [String; 2],
    servers: Vec<String>,
    /// Of the first one, on the first network.
    pub address: String,
}

impl Hosts {
    /// With subnets that no other test has: of a range for measurements, and of a private one.
    pub fn new(scene: &Scene, slot: u8) -> Self {
        let first = 8 * slot;
        let name = |what: &str| format!("{}-{what}", scene.network().replace("agent-run", "test"));
        let hosts = Self {
            networks: [name("outside"), name("inside")],
            servers: SERVERS.iter().map(|(who, ..)| name(who)).collect(),
            address: format!("198.18.0.{}", first + 2),
        };
        for (network, range) in hosts.networks.iter().zip(["198.18.0", "10.254.253"]) {
            let subnet = format!("{range}.{first}/29");
            good(&["network", "create", "--subnet", &subnet, network]);
        }
        for (server, (who, outside, inside)) in hosts.servers.iter().zip(SERVERS) {
            let mut create = vec!["create", "--name", server, "--network", &hosts.networks[0]];
            create.extend(outside.iter().flat_map(|name| ["--network-alias", name]));
            create.extend([BASE_IMAGE, "python3", "-c", SERVER, who]);
            good(&create);
            let mut connect = vec!["network", "connect"];
            connect.extend(inside.iter().flat_map(|name| ["--alias", name]));
            connect.extend([hosts.networks[1].as_str(), server]);
            good(&connect);
            good(&["start", server]);
        }
        hosts
    }

    /// Puts a proxy where it finds them.
    pub fn join(&self, proxy: &str) {
        for network in &self.networks {
            good(&["network", "connect", network, proxy]);
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for network in &self.networks {
            let format = "{{range .Containers}}{{.Name}} {{end}}";
            let on_it = docker(&["network", "inspect", network, "--format", format]).stdout;
            for container in on_it.split_whitespace() {
                docker(&["network", "disconnect", "-f", network, container]);
            }
        }
        for server in &self.servers {
            docker(&["rm", "-f", server]);
        }
        for network in &self.networks {
            docker(&["network", "rm", network]);
        }
    }
}

#[track_caller]
pub fn good(arguments: &[&str]) -> String {
    let ended = docker(arguments);
    assert_eq!(ended.code, Some(0), "docker {arguments:?}: {ended}");
    ended.stdout
}
