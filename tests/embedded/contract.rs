//! What a process finds in a container: as it would under Docker.

use nix::sys::signal::Signal;
use slim_sensor::container::spec::{CapabilitySets, ResourceLimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ground, all, block};
use crate::sensor::alike;
use crate::support::{compile, docker};

#[test]
fn the_target_is_process_one_with_its_own_namespaces() {
    let ground = Ground::new();
    let output = ground.says(&ground.shell("echo $$; ps -o pid,args | cat; hostname; umask; pwd"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1", "PID   COMMAND"), "{output}");
    assert!(lines[2].trim_start().starts_with("1 sh -c"), "{output}");
    assert_eq!(&lines[lines.len() - 3..], ["slim", "0022", "/"], "{output}");
    for name in ["pid", "mnt", "net", "ipc", "uts"] {
        let inside = ground.says(&ground.spec(&["readlink", &format!("/proc/self/ns/{name}")]));
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside.trim(), outside.to_str().unwrap(), "{name}");
    }
}

#[test]
fn identity_and_capabilities_are_those_asked_for() {
    let ground = Ground::new();
    let script = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn|SigCgt)' /proc/self/status";
    let status = |spec| ground.says(&spec);
    let root = status(ground.shell(&format!("exec {script}")));
    for line in [
        "Uid:\t0\t0\t0\t0",
        "Groups:\t0 ",
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
    ] {
        assert!(root.contains(line), "{line} is not in\n{root}");
    }
    let mut spec = ground.shell(&format!("exec {script}"));
    (spec.process.uid, spec.process.gid, spec.process.groups) = (1000, 1001, vec![1001, 7]);
    spec.process.no_new_privileges = true;
    spec.process.seccomp = false;
    let user = status(spec);
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1001\t1001\t1001\t1001",
        "Groups:\t7 1001 ",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t0",
    ] {
        assert!(user.contains(line), "{line} is not in\n{user}");
    }
    // What a user other than root keeps when it is asked for.
    let mut spec = ground.shell(&format!("exec {script}"));
    spec.process.uid = 1000;
    let net_bind = 1 << 10;
    spec.process.capabilities = CapabilitySets { inheritable: net_bind, ambient: net_bind, ..CapabilitySets::docker(net_bind) };
    let ambient = status(spec);
    assert!(ambient.contains("CapEff:\t0000000000000400") && ambient.contains("CapAmb:\t0000000000000400"), "{ambient}");
}

#[test]
fn the_seccomp_profile_refuses_what_dockers_does() {
    let ground = Ground::new();
    let (code, _, errors) = block(ground.run(&ground.shell("mount -t tmpfs x /tmp")));
    assert_eq!((code, errors.contains("permission denied")), (1, true), "{errors}");
    // With the capability it is allowed by the profile, and succeeds.
    let mut spec = ground.shell("mount -t tmpfs x /tmp && grep ' /tmp ' /proc/mounts");
    spec.process.capabilities = CapabilitySets::docker(spec.process.capabilities.bounding | 1 << 21);
    assert!(ground.says(&spec).starts_with("x /tmp tmpfs"));
}

#[test]
fn environment_directory_limits_and_descriptors_are_given() {
    let ground = Ground::new();
    let mut spec = ground.shell("env; pwd; ulimit -n; cat /proc/self/oom_score_adj; cat <&7; ls /proc/$$/fd; exit");
    spec.process.env.push("GREETING=hällo = there".to_owned());
    spec.process.cwd = "/made/for/it".to_owned();
    spec.process.limits = vec![ResourceLimit { name: "nofile".to_owned(), soft: 77, hard: 88 }];
    spec.process.oom_score_adjustment = Some(300);
    spec.process.descriptors = vec![7, 3];
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"through seven\n").unwrap();
    drop(writer);
    let other = std::fs::File::open("/dev/null").unwrap();
    let output = block(async {
        let (running, streams) = ground.runner().start(&spec, &[reader.into(), other.into()]).await.unwrap();
        let (output, errors) = all(streams).await;
        assert_eq!((running.wait().await.unwrap(), errors.as_str()), (0, ""));
        output
    });
    let mut lines: Vec<&str> = output.lines().collect();
    lines.retain(|line| !line.starts_with("SHLVL=") && !line.starts_with("PWD="));
    lines[..2].sort_unstable();
    assert_eq!(
        lines,
        [
            "GREETING=hällo = there",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "/made/for/it",
            "77",
            "300",
            "through seven",
            "0",
            "1",
            "2",
            "3",
            "7"
        ]
    );
}

#[test]
fn exit_codes_and_signals_arrive() {
    let ground = Ground::new();
    block(async {
        assert_eq!(ground.run(&ground.shell("exit 42")).await.0, 42);
        assert_eq!(ground.run(&ground.shell("kill -TERM $$; echo as process one it is not killed")).await.0, 0);
        let spec = ground.shell("trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.01; done");
        let (running, mut streams) = ground.runner().start(&spec, &[]).await.unwrap();
        let mut word = [0; 6];
        streams.output.read_exact(&mut word).await.unwrap();
        running.kill(Signal::SIGUSR1 as i32).await.unwrap();
        assert_eq!((running.wait().await.unwrap(), all(streams).await.0.as_str()), (3, "got it\n"));
        // After the end it is not an error.
        running.kill(Signal::SIGTERM as i32).await.unwrap();

        let (running, streams) = ground.runner().start(&ground.spec(&["sleep", "1000"]), &[]).await.unwrap();
        running.kill(Signal::SIGKILL as i32).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), 137);
        drop(streams);
    });
}

#[test]
fn input_is_a_pipe_where_it_was_asked_for() {
    let ground = Ground::new();
    let mut spec = ground.spec(&["cat"]);
    assert_eq!(ground.says(&spec), "", "else it is empty");
    spec.process.input = true;
    let text = block(async {
        let (running, mut streams) = ground.runner().start(&spec, &[]).await.unwrap();
        streams.input.as_mut().unwrap().write_all(b"there and back").await.unwrap();
        let (text, _) = all(streams).await;
        assert_eq!(running.wait().await.unwrap(), 0);
        text
    });
    assert_eq!(text, "there and back");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let ground = Ground::new();
    let mut spec =
        ground.shell("tty; tty </dev/console; test -t 0 && test -t 1 && test -t 2 && read line && echo \"read $line\"");
    spec.process.terminal = true;
    spec.process.uid = 1000;
    let (code, text) = block(async {
        let (running, mut streams) = ground.runner().start(&spec, &[]).await.unwrap();
        assert!(streams.errors.is_none());
        streams.input.as_mut().unwrap().write_all(b"a line\n").await.unwrap();
        let mut text = String::new();
        streams.output.read_to_string(&mut text).await.unwrap();
        (running.wait().await.unwrap(), text)
    });
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("/dev/pts/0\r\n") || text.starts_with("a line\r\n"), "{text}");
    assert!(text.ends_with("read a line\r\n") && text.contains("/dev/console\r\n"), "{text}");
}

#[test]
fn what_cannot_be_executed_has_the_engines_status_and_words() {
    let ground = Ground::new();
    block(async {
        for (argv, status, reason) in [
            (&["no-such"][..], 127, "exec: \"no-such\": executable file not found in $PATH"),
            (&["/no/such"], 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
            (&["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        ] {
            assert_eq!(ground.refusal(&ground.spec(argv)).await, (status, reason.to_owned()));
        }
        std::fs::write(ground.root().join("bin/garbage"), "garbage").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(ground.root().join("bin/garbage"), executable).unwrap();
        let refusal = ground.refusal(&ground.spec(&["garbage"])).await;
        assert_eq!(refusal, (126, "exec /bin/garbage: exec format error".to_owned()));
    });
}

#[test]
fn commands_run_beside_the_target() {
    let ground = Ground::new();
    let mut spec = ground.shell("touch /tmp/made; trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    spec.process.env.push("FROM=container".to_owned());
    spec.process.uid = 1000;
    block(async {
        let (running, mut streams) = ground.runner().start(&spec, &[]).await.unwrap();
        let mut word = [0; 6];
        streams.output.read_exact(&mut word).await.unwrap();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();

        let command = running.command(words(&["sh", "-c", "ls /tmp; id -u; echo $FROM; hostname; echo err >&2; exit 9"]));
        let (exec, output) = running.exec(&command, &[]).await.unwrap();
        let said = all(output).await;
        assert_eq!((exec.wait().await.unwrap(), said), (9, ("made\n1000\ncontainer\nslim\n".into(), "err\n".into())));

        // As somebody else, with input, and in the same namespaces: its parent is outside.
        let mut command = running.command(words(&["sh", "-c", "cat; id -u; echo $PPID; grep CapBnd /proc/self/status"]));
        (command.uid, command.input) = (0, true);
        let (exec, mut output) = running.exec(&command, &[]).await.unwrap();
        output.input.as_mut().unwrap().write_all(b"in\n").await.unwrap();
        let said = all(output).await.0;
        assert_eq!((exec.wait().await.unwrap(), said.as_str()), (0, "in\n0\n0\nCapBnd:\t00000000a80425fb\n"));

        // With a terminal.
        let mut command = running.command(words(&["tty"]));
        command.terminal = true;
        let (exec, mut output) = running.exec(&command, &[]).await.unwrap();
        let mut text = String::new();
        output.output.read_to_string(&mut text).await.unwrap();
        assert_eq!((exec.wait().await.unwrap(), text.as_str()), (0, "/dev/pts/0\r\n"));

        // Killed by us, and what can't be started.
        let (exec, _output) = running.exec(&running.command(words(&["sleep", "1000"])), &[]).await.unwrap();
        exec.kill(Signal::SIGTERM as i32).await.unwrap();
        assert_eq!(exec.wait().await.unwrap(), 143);
        let refused = running.exec(&running.command(words(&["no-such"])), &[]).await.map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "exec: \"no-such\": executable file not found in $PATH");

        // The end of the first process is the end of all.
        let (left, _output) = running.exec(&running.command(words(&["sleep", "1000"])), &[]).await.unwrap();
        running.kill(Signal::SIGTERM as i32).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), 0);
        assert_eq!(left.wait().await.unwrap(), 137);
        let late = running.exec(&running.command(words(&["true"])), &[]).await.map(drop).unwrap_err();
        assert!(late.to_string().contains("helper"), "{late}");
    });
}

#[test]
fn a_stub_is_executed_as_root_with_its_own_capabilities() {
    let ground = Ground::new();
    let mut spec = ground.spec(&["the", "command"]);
    let script = "id -u; grep CapEff /proc/self/status; echo $0 $@";
    spec.process.stub = ["sh", "-c", script, "stub"].map(str::to_owned).to_vec();
    spec.process.stub_capabilities = 1 << 21 | 1;
    spec.process.uid = 1000;
    assert_eq!(ground.says(&spec), "0\nCapEff:\t0000000000200001\nstub the command\n");
}

/// Facts that differ, each for a reason: mounts are other ones (device files are bound, there are no control groups), the
/// profile is that of one version of Docker, addresses and files of the root are the test's own, and the first process is
/// bound to its helper.
fn facts(output: &str) -> Vec<String> {
    let differs = ["mount ", "call ", "/etc/hosts: ", "//", "/etc/resolv.conf: "];
    let lines = output.lines().filter(|line| !differs.iter().any(|beginning| line.starts_with(beginning)));
    lines.map(|line| line.replace(" deathsig 9 ", " deathsig 0 ")).collect()
}

#[test]
fn a_program_learns_of_itself_what_it_learns_under_docker() {
    let image = alike::image().load();
    let ground = Ground::new();
    let program = ground.root().join("facts");
    std::fs::write(&program, compile(include_str!("../programs/facts.c"))).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for user in [0, 1000] {
        let name = user.to_string();
        let options = ["run", "--rm", "--network", "none", "--hostname", "slim", "--user", &name];
        let plain = docker(&[&options[..], &[&image.name, "/facts", "/dev"]].concat());
        let mut spec = ground.spec(&["/facts", "/dev"]);
        spec.process.env.extend(["HOSTNAME=slim".to_owned(), format!("HOME={}", if user == 0 { "/root" } else { "/home/web" })]);
        (spec.process.uid, spec.process.gid) = (user, user);
        // As the image's group file says.
        spec.process.groups = if user == 0 { vec![0, 2000] } else { vec![user, 900, 2000] };
        let (plain, own) = (facts(&plain), facts(&ground.says(&spec)));
        assert!(plain.len() > 60, "{plain:#?}");
        let lacks = |lines: &[String], others: &[String]| -> Vec<String> {
            others.iter().filter(|line| !lines.contains(line)).cloned().collect()
        };
        assert!(plain == own, "only docker: {:#?}\nonly here: {:#?}", lacks(&own, &plain), lacks(&plain, &own));
    }
}
