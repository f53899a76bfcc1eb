//! A way to the daemon that can be cut, or stand still.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockWriteGuard};

/// See the module.
pub struct Proxy {
    folder: tempfile::TempDir,
    is_cut: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
    /// Held, by many at once, while a part goes through.
    gate: Arc<RwLock<()>>,
}

impl Proxy {
    pub fn new() -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let proxy = Proxy { folder, is_cut: Arc::default(), connections: Arc::default(), gate: Arc::default() };
        let (is_cut, connections, gate) = (Arc::clone(&proxy.is_cut), Arc::clone(&proxy.connections), Arc::clone(&proxy.gate));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let daemon = UnixStream::connect("/var/run/docker.sock").unwrap();
                connections.lock().unwrap().extend([client.try_clone().unwrap(), daemon.try_clone().unwrap()]);
                for (from, to) in [(&client, &daemon), (&daemon, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let gate = Arc::clone(&gate);
                    std::thread::spawn(move || {
                        pass_on(&mut from, &mut to, &gate);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        proxy
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// The daemon is gone, or back.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        if is_cut {
            for connection in self.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Nothing goes through as long as the result is held.
    pub fn stall(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap()
    }
}

fn pass_on(from: &mut UnixStream, to: &mut UnixStream, gate: &RwLock<()>) {
    let mut buffer = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let _open = gate.read().unwrap();
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
