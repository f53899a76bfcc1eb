//! Debian's registry on loopback, and a way to it that counts and cuts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Client, Image, docker, until};

/// A registry, which takes one account where it has one.
pub struct Registry {
    server: Child,
    pub address: String,
    /// In whose network it is.
    client: Client,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub fn start(account: Option<(&str, &str)>) -> Registry {
        Registry::start_as(&Client::default(), account, "")
    }

    /// With more in its configuration of HTTP.
    pub fn start_with(http: &str) -> Registry {
        Registry::start_as(&Client::default(), None, &format!(", {http}"))
    }

    /// Where a daemon finds it on its own loopback, at the port 5000.
    pub fn start_beside(client: &Client) -> Registry {
        Registry::start_as(client, None, "")
    }

    fn start_as(client: &Client, account: Option<(&str, &str)>, http: &str) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = match client.network_of {
            None => free.local_addr().unwrap().to_string(),
            Some(_) => "127.0.0.1:5000".to_owned(),
        };
        drop(free);
        let data = folder.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}{http}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            data.display()
        );
        if let Some((name, secret)) = account {
            let made = Command::new("htpasswd").args(["-nbB", name, secret]).output();
            let made = made.expect("apache2-utils is installed (`tests/run` does that)");
            std::fs::write(folder.path().join("accounts"), made.stdout).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", folder.path().join("accounts").display());
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut server = client.in_network(&["docker-registry", "serve", file.to_str().unwrap()]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("docker-registry is installed (`tests/run` does that)");
        let ping = ["curl", "--silent", "--output", "/dev/null", &address];
        until("the start of the registry", || client.in_network(&ping).status().unwrap().success());
        Registry { server, address, client: client.clone(), _folder: folder }
    }

    /// Pushes an image under a name of this registry, and removes it from the daemon.
    pub fn push(&self, image: &Image, docker_config: Option<&Path>) -> String {
        let name = self.push_copy(image, docker_config);
        docker(&["rmi", &image.name]);
        name
    }

    /// Pushes the image or the index that is in an OCI layout; its name.
    pub fn push_layout(&self, layout: &Path) -> String {
        let name = format!("{}/team/index:1", self.address);
        let (source, target) = (format!("oci:{}", layout.display()), format!("docker://{name}"));
        let copy = ["copy", "--insecure-policy", "--all", "--preserve-digests", "--dest-tls-verify=false", &source, &target];
        let output = self.client.in_network(&[&["skopeo"], &copy[..]].concat()).output();
        let output = output.expect("skopeo is installed (`tests/run` does that)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        name
    }

    /// Pushes an image under a name of this registry.
    pub fn push_copy(&self, image: &Image, docker_config: Option<&Path>) -> String {
        let name = format!("{}/team/app:1", self.address);
        docker(&["tag", &image.name, &name]);
        let config = docker_config.map_or(String::from("/nonexistent"), |path| path.display().to_string());
        docker(&["--config", &config, "push", "-q", &name]);
        docker(&["rmi", &name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Passes on what is said between clients and a server; the lines of requests are noted.
pub struct Passage {
    pub address: String,
    /// What was asked for, as `METHOD PATH`, how often.
    requests: Arc<Mutex<BTreeMap<String, usize>>>,
    cuts: Arc<AtomicU64>,
}

/// From so many bytes on, in either direction, a connection can be cut.
const CUT_AFTER: u64 = 1 << 20;

impl Passage {
    /// To a server.
    pub fn to(server: &str) -> Passage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passage = Passage { address, requests: Arc::default(), cuts: Arc::default() };
        let (server, requests, cuts) = (server.to_owned(), Arc::clone(&passage.requests), Arc::clone(&passage.cuts));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // The server may be gone; then so is the client.
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (requests, cuts) = (Arc::clone(&requests), Arc::clone(&cuts));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let may_pass = |cuts: Arc<AtomicU64>| {
                    let mut passed = 0;
                    move |part: &[u8]| {
                        passed += part.len() as u64;
                        let take = || cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                        passed < CUT_AFTER || !take()
                    }
                };
                let (mut there, back) = (may_pass(Arc::clone(&cuts)), may_pass(cuts));
                std::thread::spawn(move || pass(&from, &to, |part| note(&requests, part) && there(part)));
                std::thread::spawn(move || pass(&server, &client, back));
            }
        });
        passage
    }

    /// So many of the next connections are cut in the middle of long requests or answers.
    pub fn cut(&self, connections: u64) {
        self.cuts.store(connections, Ordering::SeqCst);
    }

    /// How many connections are still to be cut.
    pub fn cuts_left(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// How often something was asked for whose line begins so.
    pub fn count(&self, method_and_path: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(line, _)| line.starts_with(method_and_path)).map(|(_, count)| count).sum()
    }

    /// What was asked for since the last time.
    pub fn take_requests(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Passes parts on as long as `may_pass` says so, and closes both then.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !may_pass(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A client writes the head of a request at once.
fn note(requests: &Mutex<BTreeMap<String, usize>>, part: &[u8]) -> bool {
    let line = part.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if let Ok(line) = std::str::from_utf8(line)
        && let Some(line) = line.strip_suffix(" HTTP/1.1")
    {
        *requests.lock().unwrap().entry(line.to_owned()).or_default() += 1;
    }
    true
}

/// A server that answers as a test wants: by the head of the request, with a status and headers, and a body.
pub struct Fake {
    pub address: String,
}

/// See [`Fake`].
pub type Answer = (String, Vec<u8>);

impl Fake {
    /// `answer` is given the address and the head of a request.
    pub fn start(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (own, answer) = (address.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                std::thread::spawn(move || serve(client, |head| answer(&own, head)));
            }
        });
        Fake { address }
    }
}

fn serve(mut client: TcpStream, answer: impl Fn(&str) -> Answer) {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // Who wants to speak TLS is hung up on.
        if !matches!(client.read(&mut byte), Ok(1)) || byte[0] == 0x16 {
            return;
        }
        head.push(byte[0]);
    }
    let (headers, body) = answer(&String::from_utf8_lossy(&head));
    let length = if headers.contains("Content-Length") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let _ = client.write_all(format!("HTTP/1.1 {headers}\r\n{length}Connection: close\r\n\r\n").as_bytes());
    let _ = client.write_all(&body);
}
