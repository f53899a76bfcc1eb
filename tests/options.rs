//! Run options reach the container as those of `docker run` do: by what the engine says of the container, and by what
//! the program finds in it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sensor::alike::{compare_with, image};
use crate::support::{Client, Image, NO_HTTP, Slim, busybox, docker, docker_output, unique};

/// Something named in the daemon, removed when it goes out of scope.
struct Named(&'static str, String);

impl Named {
    fn new(kind: &'static str, options: &[&str]) -> Named {
        let name = unique(kind);
        docker(&[&[kind, "create"], options, &[name.as_str()]].concat());
        Named(kind, name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        docker_output(&[self.0, "rm", &self.1]);
    }
}

/// What the engine says of a container's configuration: each value by its way from the top. Empty ones are as good as none.
fn configuration(container: &str) -> BTreeMap<String, String> {
    fn flatten(at: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&format!("{at}.{name}"), value, into)),
            Value::Array(items) if items.iter().any(|item| item.is_object()) => {
                items.iter().for_each(|item| {
                    let name = item["Target"].as_str().or(item["Name"].as_str()).unwrap_or("item");
                    flatten(&format!("{at}[{name}]"), item, into);
                });
            }
            Value::Null | Value::Bool(false) => {}
            Value::String(text) if text.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Number(number) if number.as_i64() == Some(0) => {}
            // The client sends them in any order.
            Value::Array(items) if at.ends_with(".Binds") => {
                let sorted: std::collections::BTreeSet<String> = items.iter().map(Value::to_string).collect();
                drop(into.insert(at.to_owned(), format!("{sorted:?}")));
            }
            other => drop(into.insert(at.to_owned(), other.to_string())),
        }
    }
    let inspected: Value = serde_json::from_str(&docker(&["inspect", container])).unwrap();
    let mut values = BTreeMap::new();
    for part in ["Config", "HostConfig"] {
        flatten(part, &inspected[0][part], &mut values);
    }
    values
}

/// What is different in the observed container by design: what the stub undoes, and what is ours.
fn is_ours(way: &str) -> bool {
    let exact = [
        "Config.Cmd",
        "Config.Entrypoint",
        "Config.Image",
        "Config.User",
        "Config.Healthcheck.Test",
        "HostConfig.CapAdd",
        "HostConfig.CapDrop",
        "HostConfig.LogConfig.Type",
        "HostConfig.LogConfig.Config.max-size",
        "HostConfig.LogConfig.Config.max-file",
        "HostConfig.PortBindings.80/tcp[item].HostIp",
    ];
    // What docker's client says for itself.
    let attached = ["Config.AttachStdout", "Config.AttachStderr", "HostConfig.RestartPolicy.Name", "HostConfig.ConsoleSize"];
    exact.contains(&way)
        || attached.contains(&way)
        || way.starts_with("HostConfig.Mounts[/.slim-")
        || way.starts_with("Config.Labels.") && way.contains("slim") && !way.contains("slim-test")
}

/// The configuration of a container that docker creates with these options, and of the one that slim watches.
#[track_caller]
fn compare_configuration(image: &Image, docker_options: &[&str], command: &[&str], options: &[&str]) {
    let label = format!("slim-test-of={}", unique("label"));
    let labelled = ["--label", &label];
    let plain = docker(&[&["create"], &labelled[..], docker_options, &[image.name.as_str()], command].concat());
    let mut plain_values = configuration(&plain);
    docker(&["rm", "-v", &plain]);

    let words = [&[NO_HTTP, "--continue-after", "60"], &labelled[..], options].concat();
    let mut slim = Slim::build(image, &words);
    let mut child = slim.command().stderr(std::process::Stdio::piped()).spawn().unwrap();
    let labelled = || Client::default().labelled(&label);
    let container = loop {
        if let Some(container) = labelled().iter().find(|container| container["State"] == "running") {
            break container["Id"].as_str().unwrap().to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "slim has ended: {}",
            std::io::read_to_string(child.stderr.take().unwrap()).unwrap()
        );
    };
    let mut values = configuration(&container);
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(labelled(), [Value::Null; 0], "it is removed");

    for values in [&mut values, &mut plain_values] {
        // A random name is the engine's own.
        let is_random = |way: &str, value: &str| way == "Config.Hostname" && value.len() == "\"0123456789ab\"".len();
        values.retain(|way, value| !(is_ours(way) || is_random(way, value)));
    }
    assert_eq!(values, plain_values, "{options:?}");
}

#[test]
fn the_engine_is_asked_for_the_same_container() {
    let image = busybox().change("ENV A=1").change("EXPOSE 80").change(r#"CMD ["sleep", "50"]"#).load();
    let (volume, network) = (Named::new("volume", &[]), Named::new("network", &[]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("variables");
    std::fs::write(&file, "# comment\nFROM_FILE=x y\n").unwrap();
    let (file, folder) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
    let named = format!("{}:/named", volume.1);
    let bind = format!("{folder}:/bound:ro");
    let mount = format!("type=bind,source={folder},target=/mounted,readonly");
    let named_mount = format!("type=volume,source={},target=/named2", volume.1);

    compare_configuration(&image, &[], &[], &[]);
    let same = [
        "--env",
        "B=2",
        "--env-file",
        file,
        "--workdir",
        "/work",
        "--volume",
        &named,
        "--volume",
        &bind,
        "--volume",
        "/anonymous",
        "--mount",
        &mount,
        "--mount",
        &named_mount,
        "--mount",
        "type=tmpfs,target=/fast,tmpfs-size=1000000",
        "--tmpfs",
        "/scratch:size=2m,mode=1700",
        "--hostname",
        "given",
        "--add-host",
        "other:10.1.2.3",
        "--dns",
        "10.9.8.7",
        "--expose",
        "9000",
        "--expose",
        "9001/udp",
        "--shm-size",
        "8m",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--security-opt",
        "no-new-privileges",
        "--label",
        "slim-test=x",
        "--label",
        "slim-test-bare",
        "--runtime",
        "runc",
    ];
    compare_configuration(
        &image,
        &[&same[..], &["--publish", "127.0.0.1::9000", "--publish", "9002/udp"]].concat(),
        &["sleep", "40"],
        &[&same[..], &["--publish-port", "127.0.0.1::9000", "--publish-port", "9002/udp", "--cmd", "sleep 40"]].concat(),
    );
    let other = ["--read-only", "--init", "--tty", "--user", "web", "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--network"];
    for network in ["none", "host", &network.1] {
        let options = [&other[..], &[network]].concat();
        compare_configuration(&image, &options, &[], &options);
    }
}

#[test]
fn files_of_the_user_are_in_the_container() {
    let builder = image().file("/data/of-image", b"x", 0o640).file("/declared/of-image", b"x", 0o604).change("VOLUME /declared");
    let words = ["/data", "/declared", "/bound", "/named"];
    let image = builder.change(r#"ENTRYPOINT ["/facts"]"#).load();
    let command = words.join(" ");
    let volume = Named::new("volume", &[]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("of-host"), "x").unwrap();
    let folder = folder.path().to_str().unwrap();
    let (read_write, read_only) = (format!("{folder}:/bound"), format!("{folder}:/bound:ro"));
    let (bind, short) = (format!("type=bind,source={folder},target=/bound,readonly"), format!("{folder}:/bound:ro"));
    let named = format!("{}:/named", volume.1);
    for (plain, observed) in [
        (&["--volume", &read_write][..], &["--volume", &read_write][..]),
        (&["--volume", &read_only], &["--volume", &read_only]),
        (&["--mount", &bind], &["--mount", &bind]),
        // docker-slim's own spelling.
        (&["--mount", &bind], &["--mount", &short]),
        (&["--volume", &named, "--volume", "/data"], &["--volume", &named, "--volume", "/data"]),
        (
            &["--mount", "type=tmpfs,target=/data,tmpfs-mode=0700", "--tmpfs", "/named:size=1m,uid=7"],
            &["--mount", "type=tmpfs,target=/data,tmpfs-mode=0700", "--tmpfs", "/named:size=1m,uid=7"],
        ),
    ] {
        compare_with(&image, plain, &words, &[observed, &["--cmd", &command]].concat());
    }
}

#[test]
fn what_is_run() {
    let image = image().file("/bin/other", b"", 0o755).change(r#"ENTRYPOINT ["/bin/other"]"#).change(r#"CMD ["/tmp"]"#).load();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("variables");
    std::fs::write(&file, "A=1\n\n#B=2\nC= spaced \nD=\"quoted\"\nNOT_SET_ANYWHERE\n").unwrap();
    let file = file.to_str().unwrap();
    compare_with(&image, &["--entrypoint", "/facts"], &[], &["--entrypoint", "/facts"]);
    compare_with(
        &image,
        &["--entrypoint", "facts"],
        &["one", "two words"],
        &["--entrypoint", "facts", "--cmd", "one 'two words'"],
    );
    compare_with(&image, &["--entrypoint", ""], &["/facts", "x"], &["--entrypoint", "", "--cmd", r#"["/facts", "x"]"#]);
    let words = ["--entrypoint", "/facts", "--env-file", file, "--env", "C=later", "--workdir", "/bin", "--user", "1000:7"];
    compare_with(&image, &words, &[], &words);
}

#[test]
fn a_network_of_the_users() {
    let image = image().change(r#"ENTRYPOINT ["/facts"]"#).load();
    let network = Named::new("network", &["--internal"]);
    let words = ["--network", network.1.as_str(), "--hostname", "here"];
    compare_with(&image, &words, &[], &words);
}
