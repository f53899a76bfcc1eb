//! The files of a container: layers, /dev, /proc, /etc, and what is mounted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use slim_sensor::container::spec::{Mount, Mounted, Root};

use super::{Ground, block};

#[test]
fn layers_lie_over_each_other_and_are_never_written() {
    let ground = Ground::new();
    let upper = ground.path("upper");
    fs::create_dir_all(upper.join("etc")).unwrap();
    fs::write(upper.join("etc/passwd"), "from above\n").unwrap();
    let whiteout = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&upper.join("root"), whiteout, nix::sys::stat::Mode::empty(), 0).unwrap();
    let mut spec = ground.shell("cat /etc/passwd; test -e /root || echo gone; echo new >/etc/new; rm /bin/true; stat -c %a /");
    spec.root = Root::Layers(vec![upper.clone(), ground.root()]);
    assert_eq!(ground.says(&spec), "from above\ngone\n755\n");
    assert!(!upper.join("etc/new").exists() && !ground.root().join("etc/new").exists());
    assert!(ground.root().join("bin/true").exists());

    // A hundred layers, with names that mount options would have to escape.
    let many: Vec<_> = (0..100).map(|number| ground.path(&format!("layer:{number},with\\all"))).collect();
    for (number, layer) in many.iter().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
    }
    let mut spec = ground.shell("ls / | grep -c ^file-");
    spec.root = Root::Layers(many.into_iter().chain([ground.root()]).collect());
    assert_eq!(ground.says(&spec), "100\n");
}

#[test]
fn a_directory_is_used_as_it_is() {
    let ground = Ground::new();
    let mut spec = ground.shell("echo written >/etc/new");
    spec.root = Root::Directory(ground.root());
    assert_eq!(ground.says(&spec), "");
    assert_eq!(fs::read_to_string(ground.root().join("etc/new")).unwrap(), "written\n");
}

#[test]
fn devices_are_those_that_docker_makes() {
    let ground = Ground::new();
    let script = "ls -1 /dev; ls -1 /dev/pts; stat -c '%a %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
                  for link in fd ptmx stdin; do readlink /dev/$link; done; stat -c %a /dev/shm; echo x >/dev/null; \
                  grep -E '^[^ ]+ /dev(/pts|/shm|/mqueue|) ' /proc/mounts | while read a b c d; do echo $b $c; done; test -c /dev/console || echo none";
    let output = ground.says(&ground.shell(script));
    let output = output.strip_prefix("core\n").unwrap_or(&output);
    let wanted = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\nptmx\n\
                  666 1:3\n666 1:5\n666 1:7\n666 1:8\n666 1:9\n666 5:0\n/proc/self/fd\npts/ptmx\n/proc/self/fd/0\n1777\n\
                  /dev tmpfs\n/dev/pts devpts\n/dev/shm tmpfs\n/dev/mqueue mqueue\nnone\n";
    assert_eq!(output, wanted);
    let mut spec = ground.shell("grep ' /dev/shm ' /proc/mounts");
    spec.shared_memory = 3 << 20;
    assert!(ground.says(&spec).contains("size=3072k"));
}

#[test]
fn devices_that_a_program_makes_cannot_be_opened() {
    let ground = Ground::new();
    let shared = ground.path("shared");
    fs::create_dir(&shared).unwrap();
    let mut spec = ground.shell(
        "for place in /tmp /dev /dev/shm /volume; do rm -f $place/made; mknod $place/made c 1 5 && head -c 1 $place/made; done; \
         head -c 1 /dev/zero | wc -c",
    );
    spec.mounts = vec![Mount { target: "/volume".into(), what: Mounted::Bind(shared), read_only: false }];
    let (code, output, errors) = block(ground.run(&spec));
    assert_eq!((code, output.as_str(), errors.matches("Permission denied").count()), (0, "1\n", 4), "{errors}");
    spec.root = Root::Directory(ground.root());
    let (code, output, errors) = block(ground.run(&spec));
    assert_eq!((code, output.as_str(), errors.matches("Permission denied").count()), (0, "1\n", 4), "{errors}");
}

#[test]
fn proc_and_sys_are_hidden_and_protected() {
    let ground = Ground::new();
    let script = "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/scsi 2>&1; \
                  for path in /proc/sys/kernel/domainname /proc/sysrq-trigger /sys/kernel/x; do \
                  (echo x >$path) 2>/dev/null && echo $path can be written; done; ls /sys/fs/cgroup; echo end";
    assert_eq!(
        ground.says(&ground.shell(script)).replace("ls: /proc/scsi: No such file or directory\n", ""),
        "/sys/firmware:\nend\n".replace(
            "/sys/firmware:\n",
            if std::path::Path::new("/proc/scsi").exists() { "/proc/scsi:\n\n/sys/firmware:\n" } else { "/sys/firmware:\n" }
        )
    );
    let mut spec = ground
        .shell("cat /proc/timer_list | grep -c . ; echo >/proc/sys/kernel/domainname ours; cat /proc/sys/kernel/domainname");
    (spec.masked_paths, spec.read_only_paths) = (vec![], vec![]);
    assert!(ground.says(&spec).ends_with("\nours\n"));
}

#[test]
fn names_are_given_in_etc() {
    let ground = Ground::new();
    // A link that leads nowhere, as systemd's images have it, and one that leads out.
    symlink("../run/systemd/resolve/stub-resolv.conf", ground.root().join("etc/resolv.conf")).unwrap();
    symlink("../../../../../../../../hosts-outside", ground.root().join("etc/hosts")).unwrap();
    let mut spec = ground.shell("cat /etc/hostname /etc/resolv.conf /etc/hosts; hostname");
    spec.hostname = "box".to_owned();
    spec.hosts = vec![("10.1.2.3".to_owned(), "db db.local".to_owned())];
    spec.resolv_conf = Some("nameserver 10.9.8.7\n".to_owned());
    let output = ground.says(&spec);
    assert!(output.starts_with("box\nnameserver 10.9.8.7\n127.0.0.1\tlocalhost\n"), "{output}");
    assert!(output.ends_with("10.1.2.3\tdb db.local\n127.0.0.1\tbox\nbox\n"), "{output}");
    assert!(!std::path::Path::new("/hosts-outside").exists());
    assert!(!ground.root().join("run").exists(), "the layer is untouched");
}

#[test]
fn a_read_only_root_leaves_mounts_writable() {
    let ground = Ground::new();
    let mut spec =
        ground.shell("echo x >/x && echo written; echo x >/memory/x; echo x >/dev/shm/x; cat /memory/x /dev/shm/x; pwd");
    spec.read_only = true;
    spec.process.cwd = "/work".to_owned();
    spec.mounts = vec![Mount { target: "/memory".into(), what: Mounted::Tmpfs(vec![]), read_only: false }];
    let (code, output, errors) = block(ground.run(&spec));
    assert_eq!((code, output.as_str(), errors.contains("Read-only file system")), (0, "x\nx\n/work\n", true), "{errors}");
}

#[test]
fn memory_and_binds_are_mounted_in_order() {
    let ground = Ground::new();
    let shared = ground.path("shared");
    fs::create_dir_all(shared.join("inner")).unwrap();
    fs::write(ground.path("file"), "one file\n").unwrap();
    fs::set_permissions(ground.root().join("root"), fs::Permissions::from_mode(0o711)).unwrap();
    let mount = |target: &str, what, read_only| Mount { target: target.to_owned(), what, read_only };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut spec = ground.shell(
        "echo from inside >/data/new; cat /file /data/inner/kept; echo x >/readable/x || echo protected; \
         stat -c %a /root; grep ' /root ' /proc/mounts; grep ' /exec ' /proc/mounts",
    );
    spec.mounts = vec![
        mount("/data/inner", Mounted::Tmpfs(words(&["size=1m"])), false),
        mount("/data", Mounted::Bind(shared.clone()), false),
        mount("/data/inner/kept", Mounted::Bind(ground.path("file")), true),
        mount("/readable", Mounted::Bind(shared.clone()), true),
        mount("/file", Mounted::Bind(ground.path("file")), false),
        mount("/root", Mounted::Tmpfs(words(&["size=64k"])), false),
        mount("/exec", Mounted::Tmpfs(words(&["exec,mode=700"])), true),
    ];
    let (code, output, _) = block(ground.run(&spec));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((code, &lines[..4]), (0, &["one file", "one file", "protected", "711"][..]), "{output}");
    assert!(lines[4].starts_with("tmpfs /root tmpfs rw,nosuid,nodev,noexec,"), "{output}");
    assert!(lines[5].starts_with("tmpfs /exec tmpfs ro,nosuid,nodev,relatime") && lines[5].contains("mode=700"), "{output}");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "from inside\n");
    assert!(!shared.join("inner/kept").exists(), "made in memory, not in the user's directory");
    assert_eq!(fs::metadata(shared.join("new")).unwrap().uid(), 0);
}

#[test]
fn slim_itself_can_be_mounted_and_executed() {
    let ground = Ground::new();
    let mut spec = ground.spec(&["/.slim/program", "--version"]);
    let what = Mounted::Bind(super::SLIM.into());
    spec.mounts = vec![Mount { target: "/.slim/program".into(), what, read_only: true }];
    assert!(ground.says(&spec).starts_with("slim "));
}

#[test]
fn what_cannot_be_mounted_is_told_with_its_name() {
    let ground = Ground::new();
    let mount = |target: &str, what| Mount { target: target.to_owned(), what, read_only: false };
    block(async {
        for (mount, message) in [
            (
                mount("/x", Mounted::Bind("/no/such".into())),
                "cannot mount `/no/such` at `/x`: no such file or directory".to_owned(),
            ),
            (
                mount("/etc", Mounted::Bind("/etc/passwd".into())),
                "cannot mount `/etc/passwd` at `/etc`: not a directory; mount a directory on a directory, and a file on a file"
                    .to_owned(),
            ),
            (
                mount("/x", Mounted::Tmpfs(vec!["size=many".into()])),
                "cannot mount memory at `/x`: invalid argument; its options were `size=many`".to_owned(),
            ),
        ] {
            let mut spec = ground.spec(&["true"]);
            spec.mounts = vec![mount];
            assert_eq!(ground.refusal(&spec).await, (125, message));
        }
        let mut spec = ground.spec(&["true"]);
        spec.root = Root::Layers(vec!["/no/such/layer".into()]);
        let refusal = ground.refusal(&spec).await;
        assert_eq!(refusal, (125, "cannot open the layer `/no/such/layer`: no such file or directory".to_owned()));
    });
}
