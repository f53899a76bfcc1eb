//! The list of system calls that a program uses lacks none that strace sees.

use crate::support::{Image, NO_HTTP, Slim, compile, debian_tools, docker};

/// Every call that a command makes, its children's included.
fn traced(image: &Image, command: &[&str]) -> Vec<String> {
    let script = "strace -f -c -U name -o /tmp/calls \"$@\" >/dev/null 2>&1; cat /tmp/calls";
    let traced = docker(&[&["run", "--rm", "--cap-add", "SYS_PTRACE", &image.name, "sh", "-c", script, "sh"], command].concat());
    let is_name = |line: &&str| !line.starts_with('-') && !matches!(*line, "syscall" | "total");
    traced.lines().map(str::trim).filter(is_name).map(str::to_owned).collect()
}

const SHELL: &str = "for file in /etc/*; do test -r $file; done; ls -la /etc | sort | head -3; find /usr/share -type l | xargs readlink; \
    cp -a /etc/passwd /tmp/x; mv /tmp/x /tmp/y; touch -d yesterday /tmp/y; ln -s y /tmp/z; rm /tmp/y; sleep 0.01";
const PYTHON: &str = "import json, mmap, os, select, socket, sqlite3, subprocess, tempfile, threading, time\n\
    thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()\n\
    subprocess.run(['true']); left, right = socket.socketpair(); left.send(b'x'); select.select([right], [], [])\n\
    file = tempfile.TemporaryFile(); file.write(b'x' * 4096); file.flush(); mmap.mmap(file.fileno(), 4096)\n\
    os.sched_getaffinity(0); os.getloadavg(); os.statvfs('/'); sqlite3.connect('/tmp/database').execute('create table t (c)')";
const PERL: &str = "use POSIX; use File::Temp; use IO::Socket; my $pid = fork // die; if (!$pid) { POSIX::setsid(); exit 0 } waitpid $pid, 0; \
    my $file = File::Temp->new; truncate $file, 10; chmod 0600, \"$file\"; utime 1, 1, \"$file\"; \
    my $server = IO::Socket::INET->new(Listen => 1) or die; local $SIG{ALRM} = sub {}; alarm 1; alarm 0; umask 022; `true`";
const NGINX: &str = "nginx -g 'daemon off;' & until perl -MIO::Socket -e 'my $s = IO::Socket::INET->new(\"127.0.0.1:80\") or exit 1; \
    print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; print <$s>'; do sleep 0.05; done; nginx -s reload; nginx -s stop; wait";

#[test]
fn no_call_is_missing() {
    // Programs of each kind, and one that dies.
    let image = debian_tools(&[("deaths", &compile(include_str!("../programs/deaths.c")))], "");
    let saved = image.in_file();
    for command in [
        &["sh", "-c", SHELL][..],
        &["python3", "-c", PYTHON],
        &["perl", "-e", PERL],
        &["sh", "-c", NGINX],
        // Ends by a signal.
        &["/opt/deaths", "abort"],
    ] {
        let traced = traced(&image, command);
        assert!(traced.len() > 10 && traced.iter().any(|call| call == "execve"), "{command:?}: {traced:?}");
        let words = ["--entrypoint", "", "--cmd", &serde_json::to_string(command).unwrap(), "--continue-after", "app-exit"];
        for image in [&saved, &image] {
            let run = Slim::observe(image, &[&words[..], &[NO_HTTP]].concat()).run();
            assert_eq!(run.code(), if command[0] == "/opt/deaths" { 5 } else { 0 }, "{command:?}: {}", run.stderr());
            let report = run.report();
            let known: Vec<&str> = report["syscalls"].as_array().unwrap().iter().map(|call| call.as_str().unwrap()).collect();
            let missing: Vec<&String> = traced.iter().filter(|call| !known.contains(&call.as_str())).collect();
            assert!(missing.is_empty(), "{command:?}, {:?}: {missing:?} of {traced:?}", image.engine());
        }
    }
}
