//! The target can't tell: a program that prints all it can learn about itself prints the same in a plain container and
//! under observation, with whatever options.
//!
//! What does differ is listed here, each with its sign, and explained in `docs/fidelity.md`.

use std::sync::OnceLock;

use crate::support::{Builder, Engine, Image, Shared, Slim, compile, docker, on_both_engines};

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nextra:x:2000:web,root\nweb:x:1000:\nlast:x:900:web\n";

on_both_engines!(
    users,
    capabilities,
    security_options,
    surroundings,
    what_the_image_says,
    a_shell_form_command,
    an_image_of_one_file,
    sudo,
    file_capabilities_count,
    a_command_that_cannot_start_is_told_in_the_engines_words,
);

pub fn facts() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| compile(include_str!("../programs/facts.c")))
}

/// An image with the program that tells facts, and users.
pub fn image() -> Builder {
    Image::scratch()
        .file("/facts", facts(), 0o755)
        .file("/set-user-id", facts(), 0o4755)
        .file("/bin/facts", facts(), 0o755)
        .file("/etc/passwd", PASSWD, 0o644)
        .file("/etc/group", GROUP, 0o644)
        .directory("/tmp", 0o1777)
}

/// The same, which tells them whatever it is given.
static FACTS: Shared = Shared::new(|| image().change(r#"ENTRYPOINT ["/facts"]"#));

/// Lines of facts, less what is by chance: the container's random name and its address.
fn lines(output: &str) -> Vec<String> {
    let output = output.replace('\r', "");
    let name = output.lines().find_map(|line| line.strip_prefix("host ")?.split(' ').next()).unwrap_or_default().to_owned();
    let is_random = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = |line: &str| if is_random { line.replace(&name, "NAME") } else { line.to_owned() };
    let without_address = |line: String| match line.strip_prefix("/etc/hosts: ") {
        Some(entry) if entry.split_whitespace().any(|word| word == named(&name)) => "/etc/hosts: ADDRESS".to_owned(),
        _ => line,
    };
    output.lines().map(|line| without_address(named(line))).collect()
}

/// Sorts the lines that begin so among themselves.
fn sort(lines: &mut [String], beginning: &str) {
    let mut sorted: Vec<String> = lines.iter().filter(|line| line.starts_with(beginning)).cloned().collect();
    sorted.sort();
    let places = lines.iter_mut().filter(|line| line.starts_with(beginning));
    places.zip(sorted).for_each(|(place, line)| *place = line);
}

/// The known differences, taken out of what the observed program says; each has to be there.
fn without_the_known(engine: Engine, observed: &mut Vec<String>, plain: &mut Vec<String>) {
    let ours = |line: &String| line.contains("/.slim-");
    let of_ours = if engine == Engine::Embedded { 0 } else { 2 };
    assert_eq!(observed.iter().filter(|line| ours(line)).count(), of_ours, "our directory in `/` and its mount");
    observed.retain(|line| !ours(line));
    let rings = ["call io_uring_setup:", "call 425:", "call 32-bit 425:"];
    let ring = |line: &String| rings.iter().any(|ring| line.starts_with(ring));
    let denied = rings.map(|ring| format!("{ring} error 1 signal 0"));
    assert_eq!(observed.iter().filter(|line| ring(line)).collect::<Vec<_>>(), denied.iter().collect::<Vec<_>>());
    observed.retain(|line| !ring(line));
    plain.retain(|line| !ring(line));
    // Under `seccomp=unconfined` the only filter is ours.
    let unfiltered = |line: &String| line == "/proc/self/status: Seccomp:\t0";
    if let Some(at) = plain.iter().position(unfiltered) {
        plain[at] = "/proc/self/status: Seccomp:\t2".to_owned();
    }
}

/// Runs the image plainly and observed, with the same options, and compares what the program says.
#[track_caller]
fn compare(image: &Image, options: &[&str]) {
    compare_with(image, options, &[], options);
}

/// The same where docker spells the options in another way, or takes a command.
#[track_caller]
pub fn compare_with(image: &Image, docker_options: &[&str], command: &[&str], options: &[&str]) {
    let plain = image.run(docker_options, command);
    let words =
        [&["--http-probe=false", "--continue-after", "app-exit", "--show-clogs", "--observation-out", "seen.jsonl"], options]
            .concat();
    let run = Slim::observe(image, &words).run().ok();
    let log: String = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(|line| format!("{line}\n")).collect();
    // The engine itself mounts, and sets what `--env` gives, in another order each time. That of the image's ENV counts.
    let by_chance = [("--volume", "mount "), ("--mount", "mount "), ("--tmpfs", "mount "), ("--env", "variable ")];
    let by_chance = by_chance.into_iter().filter(|(option, _)| options.contains(option)).map(|(_, beginning)| beginning);
    compare_facts(image.engine(), options, &String::from_utf8_lossy(&plain.stdout), &log, by_chance);
    let observation = run.observation("seen.jsonl");
    assert_eq!(observation.end.exit_code, plain.status.code().map(i64::from), "{options:?}");
    assert_eq!((observation.end.counters.lost, observation.end.complete), (0, true), "{options:?}");
}

/// Compares what the program says plainly and observed; lines that begin in one of these ways come in any order.
#[track_caller]
pub fn compare_facts<'a>(
    engine: Engine,
    options: &[&str],
    plain: &str,
    observed: &str,
    by_chance: impl IntoIterator<Item = &'a str>,
) {
    let (mut plain_lines, mut observed_lines) = (lines(plain), lines(observed));
    assert!(plain_lines.len() > 500, "{options:?}: the plain run says {plain:?}");
    without_the_known(engine, &mut observed_lines, &mut plain_lines);
    for beginning in by_chance {
        sort(&mut observed_lines, beginning);
        sort(&mut plain_lines, beginning);
    }
    let lacks = |lines: &[String], others: &[String]| -> Vec<String> {
        others.iter().filter(|line| !lines.contains(line)).cloned().collect()
    };
    let first = observed_lines.iter().zip(&plain_lines).find(|(observed, plain)| observed != plain);
    assert!(
        observed_lines == plain_lines,
        "{options:?}\nonly plain: {:#?}\nonly observed: {:#?}\nthe first: {first:#?}",
        lacks(&observed_lines, &plain_lines),
        lacks(&plain_lines, &observed_lines)
    );
}

fn users(engine: Engine) {
    let image = FACTS.on(engine);
    for user in ["", "web", "1000", "5000", "5000:2000", "web:extra", "web:77", "root:web", "0:0"] {
        if user.is_empty() {
            compare(&image, &[]);
        } else {
            compare(&image, &["--user", user]);
        }
    }
}

fn capabilities(engine: Engine) {
    let image = FACTS.on(engine);
    for options in [
        &["--cap-drop", "ALL"][..],
        &["--cap-drop", "ALL", "--cap-add", "CHOWN", "--user", "web"],
        &["--cap-add", "NET_ADMIN"],
        &["--cap-add", "SYS_PTRACE"],
        &["--cap-add", "SYS_ADMIN"],
        &["--cap-add", "SYSLOG", "--cap-drop", "MKNOD"],
        &["--cap-add", "SYS_ADMIN", "--user", "web"],
    ] {
        compare(&image, options);
    }
}

fn security_options(engine: Engine) {
    let image = FACTS.on(engine);
    for options in [
        &["--security-opt", "no-new-privileges"][..],
        &["--security-opt", "no-new-privileges", "--user", "web"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", "seccomp=unconfined", "--user", "web", "--cap-drop", "ALL"],
        &["--security-opt", "systempaths=unconfined"],
        &["--read-only"],
        &["--read-only", "--user", "web", "--tmpfs", "/tmp"],
    ] {
        compare(&image, options);
    }
}

fn surroundings(engine: Engine) {
    let image = FACTS.on(engine);
    for options in [
        &["--init"][..],
        &["--init", "--user", "web"],
        &["--network", "none"],
        &["--network", "host"],
        &["--tty"],
        &["--tty", "--user", "web"],
        &["--hostname", "some.host", "--add-host", "other:10.1.2.3", "--dns", "10.9.8.7"],
        &["--env", "B=2", "--env", "A=1", "--env", "PATH=/bin", "--env", "EMPTY=", "--workdir", "/made/by/engine"],
        &["--env", "HOME=/elsewhere", "--user", "web"],
        &["--env", "HOME=", "--user", "web"],
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "8m", "--tmpfs", "/scratch:size=1m"],
    ] {
        // A process before the program is a daemon's.
        if engine == Engine::Docker || !options.contains(&"--init") {
            compare(&image, options);
        }
    }
}

fn what_the_image_says(engine: Engine) {
    let plain = || image().change("ENV B=2 A=1 B=3");
    compare(&plain().change(r#"CMD ["/facts", "7"]"#).change("USER web:extra").change("WORKDIR /srv").build_for(engine), &[]);
    compare(&plain().change(r#"ENTRYPOINT ["/facts"]"#).change(r#"CMD ["3", "word two"]"#).build_for(engine), &[]);
    compare(&plain().change(r#"CMD ["facts"]"#).build_for(engine), &[]);
    compare(
        &plain()
            .change(r#"CMD ["facts"]"#)
            .change("ENV PATH=/nowhere:/etc/passwd::/bin")
            .change("WORKDIR /srv")
            .build_for(engine),
        &[],
    );
    compare(&plain().change(r#"CMD ["./facts"]"#).change("WORKDIR /bin").build_for(engine), &[]);
    compare(&plain().change(r#"CMD ["bin/../facts"]"#).build_for(engine), &[]);
    compare(&plain().change(r#"CMD ["/set-user-id"]"#).change("USER web").build_for(engine), &[]);
    compare(
        &plain().change(r#"CMD ["/set-user-id"]"#).change("USER web").build_for(engine),
        &["--security-opt", "no-new-privileges"],
    );
    compare(&plain().change("CMD [\"/facts\", \"\", \"a\\nb\", \"\\u00e9\"]").build_for(engine), &[]);
}

fn a_shell_form_command(engine: Engine) {
    let image = crate::support::busybox().file("/facts", facts(), 0o755).change("CMD A=1 exec /facts 9").build_for(engine);
    compare(&image, &[]);
    let image = crate::support::busybox().file("/facts", facts(), 0o755).change("ENTRYPOINT /facts && exit 0").build_for(engine);
    compare(&image, &["--user", "web"]);
}

fn an_image_of_one_file(engine: Engine) {
    let bare = || Image::scratch().file("/facts", facts(), 0o755).change(r#"CMD ["/facts"]"#).build_for(engine);
    compare(&bare(), &[]);
    compare(&bare(), &["--user", "1234"]);
}

/// Adds programs and libraries of this machine at their own paths, with the libraries that they need.
fn with_libraries(image: Builder, files: &[(&str, u32)]) -> Builder {
    let mut all = std::collections::BTreeMap::new();
    for (path, mode) in files {
        let output = std::process::Command::new("ldd").arg(path).output().expect("ldd is part of the C library");
        let needed = String::from_utf8(output.stdout).unwrap();
        all.extend(needed.split_whitespace().filter(|word| word.starts_with('/')).map(|library| (library.to_owned(), 0o755)));
        all.insert((*path).to_owned(), *mode);
    }
    all.iter().fold(image, |image, (path, mode)| {
        let content = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error} (`tests/run` installs it)"));
        image.file(path, &content, *mode)
    })
}

/// A user without rights gets them by a set-user-id program that reads its own configuration and loads modules.
fn sudo(engine: Engine) {
    let rules = b"Defaults !use_pty\nweb ALL=(ALL) NOPASSWD: ALL\n";
    let permit = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
    let modules = format!("/lib/{}-linux-gnu/security", std::env::consts::ARCH);
    let permit_module = format!("{modules}/pam_permit.so");
    let files = [("/usr/bin/sudo", 0o4755), ("/usr/libexec/sudo/sudoers.so", 0o644), (permit_module.as_str(), 0o644)];
    let builder = with_libraries(image(), &files);
    let builder = builder.file("/etc/sudoers", rules, 0o440).file("/etc/pam.d/sudo", permit.as_bytes(), 0o644);
    let image = builder.change(r#"CMD ["sudo", "-n", "/facts", "by sudo"]"#).change("USER web").build_for(engine);
    compare(&image, &[]);
    // Where it may not, it says the same.
    let words = ["--security-opt", "no-new-privileges"];
    let plain = image.run(&words, &[]);
    let reason = "The \"no new privileges\" flag is set";
    assert!(String::from_utf8_lossy(&plain.stderr).contains(reason), "{plain:?}");
    Slim::build(&image, &[&["--http-probe=false"], &words[..]].concat()).run().fails(5, reason);
}

fn file_capabilities_count(engine: Engine) {
    let mut builder = image();
    // Version 2, effective; permitted: CAP_NET_RAW.
    let attribute = [0x01, 0, 0, 0x02, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    builder.archive().append_pax_extensions([("SCHILY.xattr.security.capability", &attribute[..])]).unwrap();
    let image = builder.file("/capable", facts(), 0o755).change(r#"CMD ["/capable"]"#).change("USER web").build_for(engine);
    compare(&image, &[]);
    compare(&image, &["--security-opt", "no-new-privileges"]);
    compare(&image, &["--user", "0"]);
}

fn a_command_that_cannot_start_is_told_in_the_engines_words(engine: Engine) {
    let image = image().file("/etc/facts", facts(), 0o755).file("/data", b"no program", 0o644);
    let image = image.file("/garbage", b"\x7fELF", 0o755).file("/script", b"#!/no/shell\n", 0o755);
    let image = image.change("ENV PATH=:").change("WORKDIR /etc").build_for(engine);
    for (command, reason) in [
        ("/missing", "exec: \"/missing\": stat /missing: no such file or directory"),
        ("missing", "exec: \"missing\": executable file not found in $PATH"),
        ("/data", "exec: \"/data\": permission denied"),
        ("/data/x", "exec: \"/data/x\": stat /data/x: not a directory"),
        ("/etc", "exec: \"/etc\": permission denied"),
        ("./passwd", "exec: \"./passwd\": permission denied"),
        ("facts", "exec: \"facts\": cannot run executable found relative to current directory"),
        ("/garbage", "exec /garbage: exec format error"),
        ("/script", "exec /script: no such file or directory"),
    ] {
        let plain = image.run(&[], &[command]);
        let said = String::from_utf8_lossy(&plain.stderr).into_owned();
        // runc says since 1.2 why it is denied where it is a directory.
        let said = said.replace("is a directory: ", "");
        assert!(said.contains(reason), "{engine:?} says {said}");
        Slim::build(&image, &["--http-probe=false", "--cmd", command]).run().fails(5, reason);
    }
    Slim::build(&image, &["--cmd", "/facts", "--user", "nobody"])
        .run()
        .fails(5, "unable to find user nobody: no matching entries in passwd file");
    Slim::build(&image, &["--cmd", "/facts", "--user", "web:none"])
        .run()
        .fails(5, "unable to find group none: no matching entries in group file");
    if engine == Engine::Docker {
        let left = docker(&["ps", "-aq", "--filter", &format!("ancestor={}", image.name)]);
        assert_eq!(left, "");
    }
}
