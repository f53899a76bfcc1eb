//! Docker's daemon behind TCP and TLS, named by variables, by an option and by contexts.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::check;
use crate::support::{Daemon, Image, Slim, web};

#[test]
fn a_daemon_behind_tcp() {
    let daemon = Daemon::docker(&["--host", "tcp://127.0.0.1:2375"]);
    let image = web().load_in(&daemon.client);
    let far = "tcp://127.0.0.1:2375";
    check(&image, Slim::build(&image, &["--http-probe"]).env("DOCKER_HOST", far).run());
    let run =
        Slim::keep(&image, &["--http-probe", "--verbose", "--host", far]).env("DOCKER_HOST", "tcp://127.0.0.1:1").run().ok();
    assert!(run.stderr().contains("at tcp://127.0.0.1:2375\n"), "{}", run.stderr());
    let folder = tempfile::tempdir().unwrap();
    context(folder.path(), "far", far);
    by_context(&image, folder.path(), "far");
    daemon.assert_nothing_is_left();
}

#[test]
fn a_daemon_behind_tls() {
    let keys = Keys::new();
    let [authority, certificate, key] = ["ca.pem", "server-cert.pem", "server-key.pem"].map(|name| keys.path(name));
    let far = "tcp://127.0.0.1:2376";
    let daemon =
        Daemon::docker(&["--host", far, "--tlsverify", "--tlscacert", &authority, "--tlscert", &certificate, "--tlskey", &key]);
    let image = web().load_in(&daemon.client);
    let named = || Slim::keep(&image, &["--http-probe"]).env("DOCKER_HOST", far).env("DOCKER_TLS_VERIFY", "1");
    check(&image, named().env("DOCKER_CERT_PATH", &keys.path("")).run());

    let folder = tempfile::tempdir().unwrap();
    context(folder.path(), "far", far);
    let own = folder.path().join("contexts/tls").join(digest("far")).join("docker");
    std::fs::create_dir_all(&own).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(keys.path(name), own.join(name)).unwrap();
    }
    by_context(&image, folder.path(), "far");

    // Without the keys, with those of somebody else, and where the daemon is somebody else's.
    let strangers = Keys::new();
    named().env("DOCKER_CERT_PATH", "/nonexistent").run().fails(3, "no Docker daemon answers at `tcp://127.0.0.1:2376`");
    named().env("DOCKER_CERT_PATH", &strangers.path("")).run().fails(3, "no Docker daemon answers at");
    Slim::build(&image, &["--http-probe"]).env("DOCKER_HOST", far).run().fails(3, "no Docker daemon answers at");
    daemon.assert_nothing_is_left();
}

/// Builds with a context of that name, as the current one and by the variable.
fn by_context(image: &Image, folder: &Path, name: &str) {
    let run = |variables: &[(&str, &str)]| {
        let mut slim = Slim::keep(image, &["--http-probe", "--verbose"]);
        slim.command().env_remove("DOCKER_HOST").env("DOCKER_CONFIG", folder).envs(variables.iter().copied());
        check(image, slim.run())
    };
    let by_variable = run(&[("DOCKER_CONTEXT", name)]);
    assert!(by_variable.stderr().contains("at tcp://127.0.0.1:"), "{}", by_variable.stderr());
    std::fs::write(folder.join("config.json"), format!(r#"{{"auths": {{}}, "currentContext": "{name}"}}"#)).unwrap();
    run(&[]);
}

/// A context as docker writes it.
fn context(folder: &Path, name: &str, host: &str) {
    let meta = folder.join("contexts/meta").join(digest(name));
    std::fs::create_dir_all(&meta).unwrap();
    let text = serde_json::json!({
        "Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": false}}
    });
    std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
}

fn digest(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An authority with a certificate for a server at 127.0.0.1, and one for a client.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        let keys = Keys(tempfile::tempdir().unwrap());
        let new_key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"];
        keys.openssl(
            &[&new_key, &["/CN=authority", "-x509", "-days", "2", "-keyout", "ca-key.pem", "-out", "ca.pem"][..]].concat(),
        );
        for (prefix, name, purpose) in [("server-", "/CN=daemon", "serverAuth"), ("", "/CN=client", "clientAuth")] {
            let [key, certificate] = ["key.pem", "cert.pem"].map(|name| format!("{prefix}{name}"));
            keys.openssl(&[&new_key, &[name, "-keyout", &key, "-out", "request.pem"][..]].concat());
            let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={purpose}\n");
            std::fs::write(keys.path("extensions"), extensions).unwrap();
            let sign = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"];
            keys.openssl(&[&sign[..], &["-days", "2", "-extfile", "extensions", "-out", &certificate]].concat());
        }
        keys
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let output = output.expect("openssl is installed (`tests/run` does that)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> String {
        PathBuf::from(self.0.path()).join(name).display().to_string()
    }
}
