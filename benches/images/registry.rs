//! Debian's registry on loopback, with a storage folder that goes with it.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::support::Result;

/// A registry that does not answer by now won't.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry; it ends with this value, and at the latest with this program.
pub(crate) struct Registry {
    server: Child,
    pub(crate) address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Result<Registry> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = folder.path().join("config.yml");
        let content = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&config, content)?;
        // `setpriv` becomes the registry, so the process is this one's child, and does not outlive this one if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(config);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut registry = Registry { server, address, _folder: folder };
        registry.wait()?;
        Ok(registry)
    }

    /// Waits until it answers.
    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if let Some(status) = self.server.try_wait()? {
                return Err(format!("docker-registry has ended ({status}); is it installed?").into());
            }
            if begun.elapsed() > PATIENCE {
                return Err("docker-registry does not answer".into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The name of an image in it.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
