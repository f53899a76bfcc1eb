//! What lines of a Dockerfile say of an image's configuration.

use serde_json::{Value, json};

/// Changes `config`, the part of a configuration with that name, as Docker does for a line of a Dockerfile.
///
/// # Panics
/// Where the line is none that only changes the configuration.
pub fn apply(config: &mut Value, line: &str) {
    let (instruction, rest) = line.split_once(' ').unwrap();
    let rest = rest.trim();
    match instruction {
        "CMD" => config["Cmd"] = words(config, rest),
        "ENTRYPOINT" => config["Entrypoint"] = words(config, rest),
        "SHELL" => config["Shell"] = serde_json::from_str(rest).unwrap(),
        "USER" => config["User"] = rest.into(),
        "WORKDIR" => config["WorkingDir"] = rest.into(),
        "STOPSIGNAL" => config["StopSignal"] = rest.into(),
        "ENV" => rest.split(' ').for_each(|variable| set_variable(config, variable)),
        "EXPOSE" => rest.split(' ').for_each(|port| {
            let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
            config["ExposedPorts"][port] = json!({});
        }),
        "VOLUME" => config["Volumes"][rest] = json!({}),
        "LABEL" => {
            let (name, value) = rest.split_once('=').unwrap();
            config["Labels"][name] = value.into();
        }
        "ONBUILD" => push(&mut config["OnBuild"], rest.into()),
        "HEALTHCHECK" => config["Healthcheck"] = health_check(rest),
        other => panic!("{other} is not translated"),
    }
}

/// A list of words, or a line for the image's shell.
fn words(config: &Value, text: &str) -> Value {
    if text.starts_with('[') {
        return serde_json::from_str(text).unwrap();
    }
    let mut shell = match &config["Shell"] {
        Value::Null => json!(["/bin/sh", "-c"]),
        shell => shell.clone(),
    };
    push(&mut shell, text.into());
    shell
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

fn set_variable(config: &mut Value, variable: &str) {
    let name = &variable[..=variable.find('=').unwrap()];
    let known = config["Env"].as_array_mut().into_iter().flatten().find(|known| known.as_str().unwrap().starts_with(name));
    match known {
        Some(known) => *known = variable.into(),
        None => push(&mut config["Env"], variable.into()),
    }
}

fn health_check(mut rest: &str) -> Value {
    if rest == "NONE" {
        return json!({"Test": ["NONE"]});
    }
    let mut check = json!({});
    while let Some((option, after)) = rest.strip_prefix("--").and_then(|option| option.split_once(' ')) {
        let (name, value) = option.split_once('=').unwrap();
        match name {
            "interval" => check["Interval"] = nanoseconds(value).into(),
            "timeout" => check["Timeout"] = nanoseconds(value).into(),
            "retries" => check["Retries"] = value.parse::<u64>().unwrap().into(),
            other => panic!("--{other} is not translated"),
        }
        rest = after;
    }
    let test = rest.strip_prefix("CMD ").unwrap();
    check["Test"] = match test.starts_with('[') {
        true => {
            let words: Vec<Value> = serde_json::from_str(test).unwrap();
            [vec!["CMD".into()], words].concat().into()
        }
        false => json!(["CMD-SHELL", test]),
    };
    check
}

fn nanoseconds(text: &str) -> u64 {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1_000_000),
        None => (text.strip_suffix('s').unwrap(), 1_000_000_000),
    };
    number.parse::<u64>().unwrap() * unit
}
