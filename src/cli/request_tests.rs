//! Command lines, and what they come to.

use super::super::engines::EngineChoice;
use super::*;
use crate::cli::args::{Cli, Verb};
use crate::engine::options::mounts::MountRequest;
use crate::pack::compression::Compression;
use crate::verify::Level;

/// A machine with a few files and one variable.
struct Machine;

impl Outside for Machine {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match path {
            "app.env" => Ok(b"# comment\nA=file\nTOKEN=secret\nHOME\n".to_vec()),
            "bad.env" => Ok(b"A=1\nB = secret\n".to_vec()),
            "paths" => Ok(b"# comment\n\n  /etc/app \r\n/srv/*.py\n/run/app:0750#1000#1000\n".to_vec()),
            "bad.paths" => Ok(b"/etc\nsrv\n".to_vec()),
            "bytes" => Ok(b"/\xff".to_vec()),
            "seccomp.json" => Ok(b"{ }".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }
}

fn request(words: &[&str]) -> Result<BuildRequest, UsageError> {
    let cli = Cli::read(["slim", "build"].iter().chain(words)).unwrap();
    let Verb::Build(args) = cli.verb else { panic!("not `build`") };
    BuildRequest::new(*args, &Machine)
}

#[test]
fn a_bare_command_line() {
    let got = request(&["app"]).unwrap();
    let expected = BuildRequest {
        engine: EngineChoice::Auto,
        image: ImageSource::parse("app").unwrap(),
        platform: Platform::of_host(),
        max_unpacked_size: 100 << 30,
        cache_size: 20 << 30,
        pull: true,
        registries: RegistryFlags::default(),
        force: false,
        run: RunOptions::default(),
        sensor: Sensor::Auto,
        probes: ProbeFlags {
            http: HttpProbe::Auto,
            ports: vec![],
            commands: vec![],
            command_file: None,
            timeout: Duration::from_secs(30),
            retry_count: 5,
            retry_wait: Duration::from_secs(1),
            crawl: CrawlFlags {
                default_request: true,
                max_depth: 3,
                max_page_count: 1000,
                concurrency: 10,
                timeout: Duration::from_secs(60),
                exclude: vec!["/logout".into(), "/delete".into()],
            },
            exec: vec![],
            exec_file: None,
            continue_after: ContinueAfter { probe: true, ..ContinueAfter::default() },
            start_timeout: Duration::from_secs(60),
            exec_timeout: Duration::from_secs(600),
            show_log: false,
        },
        keep: KeepFlags {
            paths: vec![],
            binaries: vec![],
            executables: vec![],
            shell: false,
            certificates: true,
            zoneinfo: false,
            working_directory: false,
            exclude: vec![],
            permissions: vec![],
            looked_at: KeepLookedAt::Checked,
        },
        verification: VerificationFlags {
            level: Level::Strict,
            is_demanded: false,
            repair_rounds: 20,
            keep_unverified: false,
            runs: 1,
            check_reproducible: false,
        },
        plan: None,
        output: OutputFlags {
            tags: vec![],
            outputs: vec![],
            compression: Compression::Gzip(6),
            report: Some("slim.report.json".into()),
            observation: None,
            plan: None,
        },
    };
    assert_eq!(got, expected);
}

#[test]
fn a_plan_says_all_and_runs_nothing_unless_asked() {
    let with_plan = request(&["app", "--plan", "p.json"]).unwrap();
    assert_eq!((with_plan.verification.level, with_plan.verification.is_demanded), (Level::Off, false));
    let verified = request(&["app", "--plan", "p.json", "--verify=strict"]).unwrap().verification;
    assert_eq!((verified.level, verified.is_demanded), (Level::Strict, true));
    assert!(!request(&["app", "--verify", "off"]).unwrap().verification.is_demanded);
    let error = request(&["app", "--plan", "p.json", "--include-shell"]).unwrap_err();
    assert!(error.to_string().contains("leave `--include-shell` out"), "{error}");
}

#[test]
fn every_run_option_is_described_without_secrets() {
    let words = "--target app --env A=secret --env UNSET --env-file app.env --user 1000 --workdir /srv --volume /h:/x:ro \
                 --mount type=tmpfs,target=/y --tmpfs /t --network none --hostname h --add-host db=10.0.0.5 --dns 1.1.1.1 \
                 --expose 80-81 --publish-port 8080:80 --shm-size 1m --ulimit core=0 --cap-add net_admin --cap-drop ALL \
                 --security-opt seccomp=seccomp.json --read-only --init=false --tty --label a=b --runtime runc";
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.extend(["--entrypoint", "sh -c", "--cmd", " "]);
    let run = request(&words).unwrap().run;
    assert_eq!(
        run.described,
        [
            "--env A",
            "--env TOKEN",
            "--env HOME",
            "--env A",
            "--env UNSET",
            "--volume /h:/x:ro",
            "--mount type=tmpfs,target=/y",
            "--cap-add net_admin",
            "--cap-drop ALL",
            "--security-opt seccomp=seccomp.json",
            "--user 1000",
            "--entrypoint sh -c",
            "--cmd  ",
            "--workdir /srv",
            "--tmpfs /t",
            "--network none",
            "--hostname h",
            "--add-host db=10.0.0.5",
            "--dns 1.1.1.1",
            "--expose 80-81",
            "--publish-port 8080:80",
            "--shm-size 1m",
            "--ulimit core=0",
            "--read-only=true",
            "--init=false",
            "--tty=true",
            "--label a=b",
            "--runtime runc",
        ]
    );
    let environment: Vec<String> = run.environment.iter().map(|variable| variable.to_api()).collect();
    assert_eq!(environment, ["A=file", "TOKEN=secret", "HOME=/root", "A=secret", "UNSET"]);
    assert_eq!(run.entrypoint, Some(vec!["sh".into(), "-c".into()]));
    assert_eq!(run.command, Some(vec![]));
    assert_eq!(run.mounts[0], MountRequest::Bind("/h:/x:ro".into()));
    assert_eq!(run.exposed_ports, ["80/tcp", "81/tcp"]);
    assert_eq!(run.capabilities.asked(), (vec!["CAP_NET_ADMIN".into()], vec!["ALL".into()]));
    assert_eq!(run.security.words, ["seccomp={}"]);
    assert!(!format!("{run:?}").contains("secret"));
}

#[test]
fn probes() {
    for (words, http) in [
        (&["app", "--http-probe"][..], HttpProbe::On),
        (&["app", "--http-probe=false"], HttpProbe::Off),
        (&["app", "--http-probe-off"], HttpProbe::Off),
        (&["app", "--http-probe-off=false"], HttpProbe::Auto),
    ] {
        assert_eq!(request(words).unwrap().probes.http, http, "{words:?}");
    }
    let words = ["app", "--exec", "ls /", "--exec", "-x", "--continue-after", "probe&5", "--http-probe-cmd", "POST:/x"];
    let probes = request(&words).unwrap().probes;
    assert_eq!(probes.exec, ["ls /", "-x"]);
    assert_eq!(probes.commands, ["POST:/x"]);
    assert_eq!(probes.continue_after.timeout, Some(Duration::from_secs(5)));
}

#[test]
fn what_to_keep() {
    let words = [
        "app",
        "--include-path",
        "/a:b",
        "--include-path",
        "/c:644",
        "--include-path-file",
        "paths",
        "--path-perms",
        "/d:0755#0",
        "--include-cert-all=false",
        "--include-bin",
        "/bin/ls",
        "--include-exe",
        "ls",
        "--exclude-pattern",
        "/x/**",
        "--keep-looked-at",
        "all",
    ];
    let keep = request(&words).unwrap().keep;
    assert_eq!(keep.paths, ["/a:b", "/c", "/etc/app", "/srv/*.py", "/run/app"]);
    let permissions = |path: &str, mode, uid, gid| PathPermissions { path: path.into(), mode, uid, gid };
    assert_eq!(
        keep.permissions,
        [
            permissions("/c", 0o644, None, None),
            permissions("/run/app", 0o750, Some(1000), Some(1000)),
            permissions("/d", 0o755, Some(0), None),
        ]
    );
    assert!(!keep.certificates);
    assert_eq!((keep.binaries, keep.executables), (vec!["/bin/ls".into()], vec!["ls".into()]));
    assert_eq!((keep.exclude, keep.looked_at), (vec!["/x/**".into()], KeepLookedAt::All));
}

#[test]
fn what_to_write() {
    let output = request(&["app", "--tag", "a", "--tag", "r:5000/b:1", "--report", "off"]).unwrap().output;
    assert_eq!(output.tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:latest", "r:5000/b:1"]);
    assert_eq!(output.report, None);
    assert!(output.outputs.is_empty(), "what it is then depends on the image");

    let request = |words: &[&str]| request(&[&["app", "--output", "oci:a"], words].concat());
    let output = request(&["--output", "oci:a:v1", "--compression", "zstd:9"]).unwrap().output;
    assert_eq!((output.files().count(), output.is_for_daemon(), output.compression), (2, false, Compression::Zstd(9)));
    assert!(request(&["--output", "docker-daemon:b"]).unwrap().output.is_for_daemon());
    for same in ["oci:a", "docker-archive:a", "oci-archive:a:v1"] {
        let error = request(&["--output", same]).unwrap_err().to_string();
        assert_eq!(error, format!("`--output {same}`: another `--output` goes to the same path"));
    }
}

#[test]
fn complaints_name_the_flag_and_never_a_secret() {
    let permissions = "permissions are written `PATH:MODE[#UID[#GID]]`, such as `/srv/data:0750#1000#1000`";
    for (words, message) in [
        (&["App"][..], "`IMAGE App`: `App` is not the name of an image: `App` must be lower-case letters and digits"),
        (&["--target", "docker://x"], "`--target docker://x`: say where the result goes: `--output oci-archive:FILE`"),
        (&["docker://X", "--tag", "x"], "`IMAGE docker://X`: `X` is not the name of an image"),
        (
            &["app", "--insecure-registry", "http://x.y"],
            "`--insecure-registry http://x.y`: it must be a host with an optional port",
        ),
        (&["app", "--env", "=secret"], "`--env `: there is no name before the `=`"),
        (&["app", "--env-file", "none"], "`--env-file none`: can't be read: entity not found"),
        (&["app", "--env-file", "bad.env"], "`--env-file bad.env`: line 2: the name holds a blank"),
        (&["app", "--user", ""], "`--user `: it is empty"),
        (&["app", "--cmd", "a 'b"], "`--cmd a 'b`: a `'` is not closed"),
        (&["app", "--workdir", "srv"], "`--workdir srv`: the path in the container must be absolute"),
        (&["app", "--volume", "./x:/y"], "`--volume ./x:/y`: the host path `./x` is relative"),
        (&["app", "--cap-drop", "FLY"], "`--cap-drop FLY`: there is no capability `FLY`"),
        (&["app", "--security-opt", "x"], "`--security-opt x`: a security option is written"),
        (&["app", "--dns", "x"], "`--dns x`: `x` is not an IP address"),
        (&["app", "--continue-after", "x"], "`--continue-after x`: `x` is not known"),
        (&["app", "--include-path", "x"], "`--include-path x`: the path in the container must be absolute"),
        (
            &["app", "--include-path-file", "bad.paths"],
            "`--include-path-file bad.paths`: `srv`: the path in the container must be absolute",
        ),
        (&["app", "--include-path-file", "bytes"], "`--include-path-file bytes`: it is not UTF-8"),
        (&["app", "--include-bin", "ls"], "`--include-bin ls`: the path in the container must be absolute"),
        (&["app", "--path-perms", "/x"], &format!("`--path-perms /x`: {permissions}")),
        (&["app", "--path-perms", "/x:999"], &format!("`--path-perms /x:999`: {permissions}")),
        (&["app", "--path-perms", "/x:17777"], &format!("`--path-perms /x:17777`: {permissions}")),
        (&["app", "--path-perms", "/x:755#a"], &format!("`--path-perms /x:755#a`: {permissions}")),
        (&["app", "--path-perms", "/x:755#1#2#3"], &format!("`--path-perms /x:755#1#2#3`: {permissions}")),
        (&["app", "--output", "x.tar"], "`--output x.tar`: it must begin with where the result goes"),
        (&["app", "--tag", "A"], "`--tag A`: `A` is not the name of an image"),
    ] {
        let got = request(words).unwrap_err().to_string();
        assert!(got.starts_with(message) && !got.contains("secret"), "{words:?}: {got}");
    }
}

#[test]
fn files_are_bounded() {
    let error = System.read("/dev/zero").unwrap_err();
    assert_eq!(error.to_string(), "it is larger than 16 MiB");
}
