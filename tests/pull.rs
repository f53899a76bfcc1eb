//! Images that the daemon has to fetch first.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Image, Slim, docker, docker_output, until, web};

/// A registry on loopback, which takes one account where it has one.
struct Registry {
    server: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(account: Option<(&str, &str)>) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let data = folder.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}}}\n\
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
        let server = Command::new("docker-registry").arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("docker-registry is installed (`tests/run` does that)");
        until("the start of the registry", || std::net::TcpStream::connect(&address).is_ok());
        Registry { server, address, _folder: folder }
    }

    /// Pushes an image under a name of this registry, and removes it from the daemon.
    fn push(&self, image: &Image, docker_config: Option<&Path>) -> String {
        let name = format!("{}/team/app:1", self.address);
        docker(&["tag", &image.name, &name]);
        let config = docker_config.map_or(String::from("/nonexistent"), |path| path.display().to_string());
        docker(&["--config", &config, "push", "-q", &name]);
        docker(&["rmi", &name]);
        docker(&["rmi", &image.name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn remove_both(name: &str) {
    let (path, tag) = name.rsplit_once(':').unwrap();
    docker_output(&["rmi", name, &format!("{path}.slim:{tag}")]);
}

#[test]
fn images_are_pulled_where_they_are_missing() {
    let registry = Registry::start(None);
    let name = registry.push(&web().build(), None);
    Slim::new(&["build", &name, "--pull=false"]).run().fails(4, &format!("the daemon has no image `{name}`"));
    let run = Slim::new(&["build", &name, "--http-probe", "--pull"]).run().ok();
    assert!(run.keeps("/www/large") && run.stderr().contains(&format!("pulling `{name}`")), "{}", run.stderr());
    remove_both(&name);
    // It is the default.
    Slim::new(&["build", "--target", &name]).run().ok();
    remove_both(&name);
    let missing = format!("{}/team/missing:1", registry.address);
    Slim::new(&["build", &missing]).run().fails(4, &format!("cannot pull `{missing}`: ")).fails(4, "not found");
}

#[test]
fn pulls_use_the_users_account() {
    let registry = Registry::start(Some(("me", "secret")));
    let config = tempfile::tempdir().unwrap();
    // "me:secret" in base64.
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, registry.address);
    std::fs::write(config.path().join("config.json"), auths).unwrap();
    let name = registry.push(&web().build(), Some(config.path()));
    let build = |words: &[&str], config: &str| {
        let run = Slim::new(&[&["build", &name, "--http-probe"], words].concat()).env("DOCKER_CONFIG", config).run();
        remove_both(&name);
        run
    };
    let nobody = "/nonexistent";
    build(&[], nobody).fails(4, &format!("cannot pull `{name}`: ")).fails(4, "no basic auth credentials");
    build(&[], config.path().to_str().unwrap()).ok();
    build(&["--registry-account", "me", "--registry-secret", "secret"], nobody).ok();
    let wrong = build(&["--registry-account", "me", "--registry-secret", "wrong-secret"], config.path().to_str().unwrap());
    let wrong = wrong.fails(4, "unauthorized");
    assert!(!wrong.stderr().contains("wrong-secret"));
    let run = Slim::new(&["build", &name, "--report", "off"]).env("DOCKER_CONFIG", nobody);
    let run = run.env("SLIM_REGISTRY_ACCOUNT", "me").env("SLIM_REGISTRY_SECRET", "secret").run();
    remove_both(&name);
    run.ok();
}
