//! The same without root: this executable again, as a user without any rights.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use slim::engine::embedded::{Runner, RunnerError, Tier, probe_tiers};

use super::{Ground, PART, block, part};

/// A user of nothing and nobody.
const USER: u32 = 20001;

/// Somebody without any rights, in a place of his own.
pub(super) struct PlainUser {
    place: tempfile::TempDir,
}

impl PlainUser {
    /// With subordinate ids where they are to be granted.
    pub(super) fn new(with_ids: bool) -> PlainUser {
        let place = tempfile::Builder::new().prefix("slim-rootless-").tempdir().unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = PlainUser { place };
        std::fs::create_dir(user.home()).unwrap();
        nix::unistd::chown(&user.home(), Some(USER.into()), Some(USER.into())).unwrap();
        // Another /etc, seen by his processes alone.
        let etc = user.place.path().join("etc");
        let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status().unwrap();
        assert!(copied.success());
        let append = |file: &str, line: &str| {
            let path = etc.join(file);
            let mut text = std::fs::read_to_string(&path).unwrap_or_default();
            text += line;
            std::fs::write(path, text).unwrap();
        };
        append("passwd", "slim-test:x:20001:20001::/:/bin/sh\n");
        if with_ids {
            append("subuid", "slim-test:300000:65536\n");
            append("subgid", "20001:300000:65536\n");
        }
        user
    }

    /// What he may write to.
    pub(super) fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    /// A copy of an executable: the build directory may be nobody's but ours.
    pub(super) fn copy(&self, executable: &Path, name: &str) -> PathBuf {
        let copy = self.place.path().join(name);
        std::fs::copy(executable, &copy).unwrap();
        copy
    }

    /// A command of his, at home.
    pub(super) fn command(&self, executable: &Path, words: &[&str]) -> Command {
        let script = "mount --make-rprivate / && mount --bind \"$1\" /etc && cd \"$2\" && shift 2 && \
                      exec setpriv --reuid 20001 --regid 20001 --clear-groups -- \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", script, "sh"]).arg(self.place.path().join("etc")).arg(self.home()).arg(executable);
        command.args(words).env("TMPDIR", self.home()).env("XDG_CACHE_HOME", self.home().join("cache"));
        command
    }
}

/// Plays the rest of a test as the plain user.
fn as_user(name: &str, with_ids: bool) {
    let user = PlainUser::new(with_ids);
    let test = user.copy(&std::env::current_exe().unwrap(), "test");
    let slim = user.copy(Path::new(super::SLIM), "slim");
    let name = format!("embedded::{name}");
    let mut command = user.command(&test, &[&name, "--exact", "--nocapture", "--test-threads=1"]);
    let status = command.env(PART, &slim).status().expect("util-linux is installed");
    assert!(status.success());
}

/// Runs a script in a container of a tier.
async fn run(ground: &Ground, slim: &str, tier: Tier, user: u32, script: &str) -> (i32, String, String) {
    let mut spec = ground.shell(script);
    (spec.process.uid, spec.process.gid) = (user, user);
    let (running, streams) = Runner::new(slim.into(), tier).start(&spec, &[]).await.unwrap();
    let (output, errors) = super::all(streams).await;
    let code = running.wait().await.unwrap();
    assert_eq!(std::fs::read_dir(&spec.state).unwrap().count(), 0, "the state directory is empty at the end");
    (code, output, errors)
}

#[test]
fn with_subordinate_ids_users_are_real() {
    let Some(slim) = part() else { return as_user("rootless::with_subordinate_ids_users_are_real", true) };
    let ground = Ground::new();
    block(async {
        let runner = Runner::choose(slim.clone().into(), ground.folder.path(), false).await.unwrap();
        assert_eq!(runner.tier(), Tier::SubordinateIds);
        let script = "id -u; touch /tmp/x && chown 33:33 /tmp/x && stat -c '%u %g' /tmp/x; echo y >/tmp/y; \
                      grep -E '^(CapEff|Groups)' /proc/self/status; echo $$; (echo x >/dev/null) && echo null; \
                      ls -d /proc/[0-9]* | head -c 0; hostname";
        let said = run(&ground, &slim, Tier::SubordinateIds, 0, script).await;
        let wanted = "0\n33 33\nGroups:\t0 \nCapEff:\t00000000a80425fb\n1\nnull\nslim\n";
        assert_eq!(said.1, wanted, "{}", said.2);
        let said =
            run(&ground, &slim, Tier::SubordinateIds, 1000, "id -u; touch /tmp/x; stat -c %u /tmp/x; echo x >/dev/stdout").await;
        assert_eq!((said.0, said.1.as_str()), (0, "1000\n1000\nx\n"), "{}", said.2);
        // Beyond what is granted.
        let mut spec = ground.spec(&["true"]);
        spec.process.uid = 70000;
        let Err(RunnerError::Start(failure)) = runner.start(&spec, &[]).await else { panic!("started") };
        let wanted =
            "cannot take the user 70000: invalid argument; this user may not have that id in a user namespace: see subuid(5)";
        assert_eq!(failure.reason, wanted);
    });
}

#[test]
fn with_one_id_changes_of_ids_are_faked() {
    let Some(slim) = part() else { return as_user("rootless::with_one_id_changes_of_ids_are_faked", false) };
    let ground = Ground::new();
    block(async {
        let reports = probe_tiers(Path::new(&slim), ground.folder.path()).await;
        let works: Vec<bool> = reports.iter().map(|report| report.outcome.is_ok()).collect();
        assert_eq!(works, [false, false, true], "{reports:?}");
        let reasons: Vec<&String> = reports.iter().filter_map(|report| report.outcome.as_ref().err()).collect();
        assert!(reasons[0].starts_with("cannot make namespaces: operation not permitted; run as root"), "{}", reasons[0]);
        assert!(
            reasons[1].starts_with("there are no subordinate ids for `slim-test` in `/etc/subuid`; add them"),
            "{}",
            reasons[1]
        );

        let script = "id -u; touch /tmp/x && chown 33:33 /tmp/x && stat -c '%u' /tmp/x; grep Seccomp_filters /proc/self/status; \
                      echo x >/dev/stdout; echo $$; mknod /tmp/n c 1 3 2>/dev/null || echo no device";
        let said = run(&ground, &slim, Tier::SingleId, 0, script).await;
        assert_eq!((said.0, said.1.as_str()), (0, "0\n0\nSeccomp_filters:\t2\nx\n1\nno device\n"), "{}", said.2);
        // The one id is that of the user of the image.
        let said = run(&ground, &slim, Tier::SingleId, 1000, "id -u; stat -c %u /bin/busybox; touch /tmp/x").await;
        assert_eq!((said.0, said.1.as_str()), (0, "1000\n1000\n"), "{}", said.2);

        // A stub has its capabilities whatever the id is called.
        let mut spec = ground.spec(&["command"]);
        (spec.process.uid, spec.process.stub_capabilities) = (1000, 1 << 21 | 1);
        spec.process.stub = ["sh", "-c", "id -u; grep -E '^Cap(Eff|Bnd)' /proc/self/status"].map(str::to_owned).to_vec();
        let (_running, streams) = Runner::new(slim.clone().into(), Tier::SingleId).start(&spec, &[]).await.unwrap();
        let said = super::all(streams).await;
        assert_eq!(said.0, "1000\nCapEff:\t0000000000200001\nCapBnd:\t0000000000200001\n", "{}", said.1);

        // A server, reached through the helper; a command beside it; the end.
        let spec = ground.spec(&["httpd", "-f", "-p", "80", "-h", "/"]);
        let (running, _streams) = Runner::new(slim.into(), Tier::SingleId).start(&spec, &[]).await.unwrap();
        while running.listening().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        running.connect_port(80).await.unwrap();
        let (exec, streams) = running.exec(&running.command(vec!["id".into(), "-u".into()]), &[]).await.unwrap();
        assert_eq!((super::all(streams).await.0.as_str(), exec.wait().await.unwrap()), ("0\n", 0));
        running.kill(libc::SIGKILL).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), 137);
    });
}

#[test]
fn root_can_use_every_tier() {
    let ground = Ground::new();
    block(async {
        for report in probe_tiers(Path::new(super::SLIM), ground.folder.path()).await {
            assert_eq!(report.outcome, Ok(vec![]), "{}", report.tier);
        }
        // Root maps its own ids, whatever is granted to others.
        let script = "id -u; touch /tmp/x && chown 70000:33 /tmp/x && stat -c '%u %g' /tmp/x; cat /proc/self/uid_map";
        let said = run(&ground, super::SLIM, Tier::SubordinateIds, 0, script).await;
        assert!(said.1.starts_with("0\n70000 33\n"), "{said:?}");
        assert_eq!(said.1.split_ascii_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["0", "0"], "{said:?}");
        assert_eq!(Runner::choose(super::SLIM.into(), ground.folder.path(), false).await.unwrap().tier(), Tier::Root);
    });
}
