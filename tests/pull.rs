//! Images that the daemon has to fetch first.

use crate::support::{Registry, Slim, docker_output, web};

fn remove_both(name: &str) {
    let (path, tag) = name.rsplit_once(':').unwrap();
    docker_output(&["rmi", name, &format!("{path}.slim:{tag}")]);
}

#[test]
fn images_are_pulled_where_they_are_missing() {
    let registry = Registry::start(None);
    let name = registry.push(&web().load(), None);
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
    let name = registry.push(&web().load(), Some(config.path()));
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
    assert!(wrong.code() == 4 && wrong.stderr().to_lowercase().contains("unauthorized"), "{}", wrong.stderr());
    assert!(!wrong.stderr().contains("wrong-secret"));
    let run = Slim::new(&["build", &name, "--report", "off"]).env("DOCKER_CONFIG", nobody);
    let run = run.env("SLIM_REGISTRY_ACCOUNT", "me").env("SLIM_REGISTRY_SECRET", "secret").run();
    remove_both(&name);
    run.ok();
}
