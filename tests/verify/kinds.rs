//! One small server with an answer for each kind of thing that an image can lack.

use std::process::Command;

use super::Change;
use crate::support::{Builder, busybox, compile, compile_with};

/// A kind of thing, an answer that needs it, and how it gets lost.
pub(super) struct Kind {
    /// Of the request `/cgi-bin/NAME`, unless [`Kind::script`] is empty: then any request will do.
    pub(super) name: &'static str,
    /// What answers, as user `web`.
    script: &'static str,
    pub(super) lost: Change,
    pub(super) repair: Repair,
}

/// What comes of the repair.
pub(super) enum Repair {
    /// It is back, for this reason.
    Restored(&'static str),
    /// A plan that changes permissions is taken at its word, so it can only be told.
    Told,
}

impl Kind {
    /// What is asked for.
    pub(super) fn request(&self) -> String {
        if self.script.is_empty() { "/index.html".to_owned() } else { format!("/cgi-bin/{}", self.name) }
    }

    /// In which part of a verification it shows.
    pub(super) fn probe(&self) -> String {
        match self.name {
            "entrypoint" => "program".to_owned(),
            "health" => "health check".to_owned(),
            _ => format!("GET {} on port 8080", self.request()),
        }
    }
}

pub(super) const KINDS: [Kind; 12] = [
    Kind {
        name: "template",
        script: "cat /app/page.html",
        lost: Change::Remove("/app/page.html"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        name: "library",
        script: "/app/load /app/lib/greeting.so",
        lost: Change::Remove("/app/lib/greeting.so"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        name: "zone",
        script: "TZ=Test/Zone date -d @0 '+%H:%M %Z'",
        lost: Change::Remove("/usr/share/zoneinfo/Test/Zone"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        name: "link",
        script: "cat /app/current/text",
        lost: Change::Remove("/app/current"),
        repair: Repair::Restored("repair"),
    },
    Kind { name: "mode", script: "/app/tool", lost: Change::Mode("/app/tool", "0644"), repair: Repair::Told },
    Kind { name: "owner", script: "cat /app/private", lost: Change::Owner("/app/private", 0, 0), repair: Repair::Told },
    Kind {
        // What is kept is kept with its capabilities, so the file goes, and must come back with them.
        name: "capability",
        script: "/app/capable /app/of-root",
        lost: Change::Remove("/app/capable"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        name: "folder",
        script: "echo 1 > /var/spool/app/file && echo written",
        lost: Change::Remove("/var/spool/app"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        name: "bundle",
        script: "SSL_CERT_FILE=/etc/ssl/bundle.pem openssl verify /app/certificate.pem",
        lost: Change::Remove("/etc/ssl/bundle.pem"),
        repair: Repair::Restored("repair"),
    },
    Kind {
        // Python lists the folder and doesn't look for what is not in it.
        name: "python",
        script: "exec python3 -S -E /srv/python/main.py",
        lost: Change::Remove("/srv/python/greeting.py"),
        repair: Repair::Restored("used"),
    },
    Kind { name: "entrypoint", script: "", lost: Change::Remove("/opt/ash"), repair: Repair::Restored("link") },
    Kind { name: "health", script: "", lost: Change::Remove("/app/check"), repair: Repair::Restored("used") },
];

/// The words that ask for everything once.
pub(super) fn all_requests() -> Vec<String> {
    KINDS.iter().flat_map(|kind| ["--http-probe-cmd".to_owned(), kind.request()]).collect()
}

/// The server.
pub(super) fn image() -> Builder {
    image_with(&CAPABLE)
}

/// The server as it comes out of a tool that loses capabilities.
pub(super) fn image_without_capability() -> Builder {
    image_with(&[])
}

/// Extended attributes: `cap_dac_override=ep`, as the kernel stores it.
const CAPABLE: [(&str, &[u8]); 1] =
    [("SCHILY.xattr.security.capability", &[1, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];

fn image_with(attributes: &[(&str, &[u8])]) -> Builder {
    let check = "#!/bin/sh\nwget -q -O - http://127.0.0.1:8080/index.html\n";
    let mut image = busybox()
        .link("/bin/date", "busybox")
        .programs(&["/usr/bin/openssl", "/usr/bin/python3"])
        .link("/opt/ash", "/bin/busybox")
        .file("/entrypoint", b"#!/opt/ash\ntrap 'exit 0' TERM\nhttpd -f -p 8080 -h /www &\nwait\n", 0o755)
        .file("/www/index.html", b"index", 0o644)
        .file("/app/check", check.as_bytes(), 0o755)
        .file("/app/page.html", b"<p>page</p>", 0o644)
        .file("/app/lib/greeting.so", &compile_with("int answer(void) { return 42; }", &["-shared", "-fPIC"]), 0o644)
        .file("/app/load", &compile_with(LOAD, &["-ldl"]), 0o755)
        .file("/usr/share/zoneinfo/Test/Zone", &time_zone(), 0o644)
        .file("/app/versions/2/text", b"second", 0o644)
        .link("/app/current", "versions/2")
        .file("/app/tool", b"#!/bin/sh\necho tool\n", 0o755)
        .file("/app/of-root", b"for root", 0o600);
    image = owned_by_web(image, "/app/private", tar::EntryType::Regular, 0o600, b"private");
    image = owned_by_web(image, "/var/spool/app/", tar::EntryType::Directory, 0o755, b"");
    image.archive().append_pax_extensions(attributes.iter().copied()).unwrap();
    image = image.file("/app/capable", &compile(COPY), 0o755);
    image = certificates(python(image));
    for kind in KINDS.iter().filter(|kind| !kind.script.is_empty()) {
        let script = format!("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n{}\n", kind.script);
        image = image.file(&format!("/www{}", kind.request()), script.as_bytes(), 0o755);
    }
    image
        .change("USER web")
        .change("EXPOSE 8080")
        .change(r#"ENTRYPOINT ["/entrypoint"]"#)
        .change(r#"HEALTHCHECK --retries=1 CMD ["/app/check"]"#)
}

/// Says what a function of a library says.
const LOAD: &str = r#"
    #include <dlfcn.h>
    #include <stdio.h>
    int main(int count, char **words) {
        void *library = dlopen(words[1], RTLD_NOW);
        int (*answer)(void) = library ? (int (*)(void)) dlsym(library, "answer") : NULL;
        if (answer) printf("answer %d\n", answer());
        else puts("works without");
        return 0;
    }"#;

/// Says what is in a file.
const COPY: &str = r#"
    #include <stdio.h>
    int main(int count, char **words) {
        char text[100] = "nothing";
        FILE *file = fopen(words[1], "r");
        if (file) fgets(text, sizeof text, file);
        puts(text);
        return 0;
    }"#;

/// Five hours east of Greenwich all year.
fn time_zone() -> Vec<u8> {
    let [types, letters, offset] = [1_u32, 4, 5 * 3600].map(u32::to_be_bytes);
    [&b"TZif"[..], &[0; 16], &[0; 16], &types, &letters, &offset, &[0, 0], b"TST\0"].concat()
}

fn owned_by_web(image: Builder, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> Builder {
    let mut header = Builder::header(kind, mode);
    header.set_uid(1000);
    header.set_gid(1000);
    image.entry(path, header, content)
}

/// A module that was compiled, and what Python itself reads for a program of nothing but that.
fn python(mut image: Builder) -> Builder {
    let folder = tempfile::tempdir().unwrap();
    let python = |line: &str| {
        let mut command = Command::new("/usr/bin/python3");
        let output = command.args(["-S", "-E", "-c", line]).current_dir(folder.path()).output();
        let output = output.expect("python3-minimal is installed (`tests/run` does that)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let source = folder.path().join("greeting.py");
    std::fs::write(&source, "TEXT = 'hello'\n").unwrap();
    // The time that the archive says: the compiled module is used only where it has that of its source.
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::open(&source).unwrap().set_modified(time).unwrap();
    let compiled = python("import py_compile; print(py_compile.compile('greeting.py'))");
    let compiled = compiled.trim();
    let used = python("import sys; print(*(getattr(module, '__file__', '') for module in sys.modules.values()))");
    for file in used.split_whitespace().filter(|file| file.starts_with('/')) {
        image = image.file(file, &std::fs::read(file).unwrap(), 0o644);
    }
    image
        .file("/srv/python/main.py", b"import greeting\nprint(greeting.TEXT)\n", 0o644)
        .file("/srv/python/greeting.py", &std::fs::read(source).unwrap(), 0o644)
        .file(&format!("/srv/python/{compiled}"), &std::fs::read(folder.path().join(compiled)).unwrap(), 0o644)
}

/// A certificate, and a bundle that it is trusted by.
fn certificates(image: Builder) -> Builder {
    let folder = tempfile::tempdir().unwrap();
    let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=nobody.invalid -keyout key.pem -out certificate.pem";
    let made = Command::new("openssl").args(words.split(' ')).current_dir(folder.path()).output();
    let made = made.expect("openssl is installed (`tests/run` does that)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = std::fs::read(folder.path().join("certificate.pem")).unwrap();
    image.file("/app/certificate.pem", &certificate, 0o644).file("/etc/ssl/bundle.pem", &certificate, 0o644)
}
