//! What a line of a log says about why a program failed: the messages of kernels, loaders, shells and languages.
//!
//! Each message is known by the words around what it names, or by words alone. Programs say all sorts of things in their
//! logs, also in such words, so nothing here is a verdict: who uses it asks the image whether what is named is missing.

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) what: What,
    /// The thing; empty where it isn't named.
    pub(super) name: &'a str,
}

/// What is said of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The kernel does not know the format of a program.
    ExecFormat,
    /// A program was not found, or what it needs to start was not.
    Program,
    /// A shared library was not found.
    Library,
    /// A file was not found.
    File,
    /// A module was not found.
    Module(Language),
    /// A character set could not be converted; the name is of the folder that holds the converters.
    Charset,
    /// A locale was not found.
    Locale,
    /// A time zone was not found.
    TimeZone,
    /// A certificate could not be verified.
    Certificate,
    /// A host, user or group could not be looked up.
    Identity,
}

/// Whose module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Java,
    Node,
    Perl,
    Python,
    Ruby,
}

/// A message that names a thing: the words before it, the words behind it (none: it goes to the end of the line).
const NAMING: [(&str, &str, What); 28] = [
    // glibc's loader, musl's, bash, runc's start of a container, and ours in its place
    ("error while loading shared libraries: ", ":", What::Library),
    ("Error loading shared library ", ":", What::Library),
    ("exec: \"", "\": stat ", What::Program),
    ("exec: \"", "\": executable file not found", What::Program),
    ("exec: \"", "\": no such file", What::Program),
    ("exec ", ": exec format error", What::ExecFormat),
    ("exec ", ": no such file or directory", What::Program),
    // env of coreutils in plain and in UTF-8 locales, of busybox
    ("env: '", "': No such file", What::Program),
    ("env: ‘", "’: No such file", What::Program),
    ("env: can't execute '", "': No such file", What::Program),
    // Python, with what a program could not be started or opened for
    ("Exec format error: '", "'", What::ExecFormat),
    ("No such file or directory: '", "'", What::File),
    ("No module named '", "'", What::Module(Language::Python)),
    ("No module named ", "", What::Module(Language::Python)),
    // Node
    ("spawn ", " ENOENT", What::Program),
    ("spawnSync ", " ENOENT", What::Program),
    ("ENOENT: no such file or directory, open '", "'", What::File),
    ("Cannot find module '", "'", What::Module(Language::Node)),
    ("Cannot find package '", "'", What::Module(Language::Node)),
    // Ruby
    ("cannot load such file -- ", " (LoadError)", What::Module(Language::Ruby)),
    ("cannot load such file -- ", "", What::Module(Language::Ruby)),
    ("No such file or directory - ", " (Errno::ENOENT)", What::File),
    ("No such file or directory @ rb_sysopen - ", " (Errno::ENOENT)", What::File),
    // Java, PHP, Perl
    ("ClassNotFoundException: ", "", What::Module(Language::Java)),
    ("NoClassDefFoundError: ", "", What::Module(Language::Java)),
    ("Unable to access jarfile ", "", What::File),
    ("Failed opening required '", "'", What::File),
    ("Can't locate ", " in @INC", What::Module(Language::Perl)),
];

/// A message that ends a line (or goes on in other words) behind the thing, which is the last word before it.
const BEHIND: [(&str, What); 6] = [
    (": cannot open shared object file", What::Library),
    (": bad interpreter: No such file or directory", What::Program),
    (": cannot execute: required file not found", What::Program),
    (": command not found", What::Program),
    (": not found", What::Program),
    (": No such file or directory", What::Program),
];

/// Messages that name nothing of use.
const PLAIN: [(&str, What, &str); 35] = [
    ("exec format error", What::ExecFormat, ""),
    ("Exec format error", What::ExecFormat, ""),
    ("unknown encoding: ", What::Charset, "encodings"),
    ("failed to start conversion processing", What::Charset, "gconv"),
    ("Wrong encoding, conversion from", What::Charset, "gconv"),
    ("code converter not found", What::Charset, "enc"),
    ("unsupported locale setting", What::Locale, ""),
    ("Setting locale failed", What::Locale, ""),
    ("cannot change locale", What::Locale, ""),
    ("locale::facet::_S_create_c_locale name not valid", What::Locale, ""),
    ("Cannot set LC_", What::Locale, ""),
    ("locale not supported by C library", What::Locale, ""),
    ("invalid value for parameter \"lc_", What::Locale, ""),
    ("No time zone found with key", What::TimeZone, ""),
    ("unknown time zone ", What::TimeZone, ""),
    ("Unknown or bad timezone", What::TimeZone, ""),
    ("Timezone ID '", What::TimeZone, ""),
    ("Unknown time-zone ID", What::TimeZone, ""),
    ("No source of timezone data could be found", What::TimeZone, ""),
    ("invalid value for parameter \"TimeZone\"", What::TimeZone, ""),
    ("certificate verify failed", What::Certificate, ""),
    ("unable to get local issuer certificate", What::Certificate, ""),
    ("certificate signed by unknown authority", What::Certificate, ""),
    ("failed to load system roots", What::Certificate, ""),
    ("PKIX path building failed", What::Certificate, ""),
    ("trustAnchors parameter must be non-empty", What::Certificate, ""),
    ("SSL certificate problem", What::Certificate, ""),
    ("error setting certificate verify locations", What::Certificate, ""),
    ("error adding trust anchors from file", What::Certificate, ""),
    ("Temporary failure in name resolution", What::Identity, ""),
    ("Name or service not known", What::Identity, ""),
    ("name not found: '", What::Identity, ""),
    ("uid not found: ", What::Identity, ""),
    ("getpwnam(\"", What::Identity, ""),
    ("unable to find user ", What::Identity, ""),
];

/// Reads a line.
pub(super) fn read(line: &str) -> Option<Said<'_>> {
    let naming = NAMING.iter().find_map(|&(before, behind, what)| {
        let rest = &line[line.find(before)? + before.len()..];
        let name = if behind.is_empty() { rest.split_whitespace().next()? } else { &rest[..rest.find(behind)?] };
        is_name(name).then_some(Said { what, name })
    });
    let behind = || {
        BEHIND.iter().find_map(|&(words, what)| {
            let before = &line[..line.find(words)?];
            let (_, name) = before.rsplit_once(": ").unwrap_or(("", before));
            is_name(name).then_some(Said { what, name })
        })
    };
    let plain = || PLAIN.iter().find_map(|&(words, what, name)| line.contains(words).then_some(Said { what, name }));
    naming.or_else(behind).or_else(plain)
}

/// Names can have spaces, but with them it's more often a sentence that happens to have these words.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known() {
        use Language::{Java, Node, Perl, Python, Ruby};
        use What::{Certificate, Charset, ExecFormat, File, Identity, Library, Locale, Module, Program, TimeZone};
        for (line, expected) in [
            // of the engine, and of the stub in its place
            (
                "unable to start container process: exec: \"/nope\": stat /nope: no such file or directory: unknown",
                (Program, "/nope"),
            ),
            ("unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown", (Program, "nope")),
            ("exec /app/run: no such file or directory", (Program, "/app/run")),
            ("exec /app/run: exec format error", (ExecFormat, "/app/run")),
            ("standard_init_linux.go:228: exec user process caused: exec format error", (ExecFormat, "")),
            // of loaders
            (
                "nginx: error while loading shared libraries: libpcre2-8.so.0: cannot open shared object file: No such file or directory",
                (Library, "libpcre2-8.so.0"),
            ),
            (
                "Error loading shared library libssl.so.3: No such file or directory (needed by /usr/bin/x)",
                (Library, "libssl.so.3"),
            ),
            ("OSError: libfoo.so.1: cannot open shared object file: No such file or directory", (Library, "libfoo.so.1")),
            // of shells and env
            ("sh: 1: foo: not found", (Program, "foo")),
            ("/app/run: line 3: foo: not found", (Program, "foo")),
            ("bash: line 1: foo: command not found", (Program, "foo")),
            ("bash: line 1: ./x: cannot execute: required file not found", (Program, "./x")),
            ("bash: ./x: /bin/zsh: bad interpreter: No such file or directory", (Program, "/bin/zsh")),
            ("bash: ./x: cannot execute binary file: Exec format error", (ExecFormat, "")),
            ("/bin/sh: 1: /opt/tool: No such file or directory", (Program, "/opt/tool")),
            ("env: 'foo': No such file or directory", (Program, "foo")),
            ("/usr/bin/env: ‘node’: No such file or directory", (Program, "node")),
            ("env: can't execute 'node': No such file or directory", (Program, "node")),
            // of languages
            ("ModuleNotFoundError: No module named 'foo.bar'", (Module(Python), "foo.bar")),
            ("/usr/bin/python3: No module named flask", (Module(Python), "flask")),
            ("OSError: [Errno 8] Exec format error: './y'", (ExecFormat, "./y")),
            ("FileNotFoundError: [Errno 2] No such file or directory: '/etc/app.conf'", (File, "/etc/app.conf")),
            ("LookupError: unknown encoding: latin-9", (Charset, "encodings")),
            ("Error: Cannot find module '/app/foo.js'", (Module(Node), "/app/foo.js")),
            ("Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'foo' imported from /app/[eval1]", (Module(Node), "foo")),
            ("Error: spawn /bin/zsh ENOENT", (Program, "/bin/zsh")),
            ("Error: spawnSync /bin/zsh ENOENT", (Program, "/bin/zsh")),
            ("Error: ENOENT: no such file or directory, open '/app/views/x.ejs'", (File, "/app/views/x.ejs")),
            ("kernel_require.rb>:85:in `require': cannot load such file -- foo/bar (LoadError)", (Module(Ruby), "foo/bar")),
            ("-e:1:in `exec': No such file or directory - /bin/zsh (Errno::ENOENT)", (File, "/bin/zsh")),
            ("-e:1:in `initialize': code converter not found (x to y) (Encoding::ConverterNotFoundError)", (Charset, "enc")),
            ("Caused by: java.lang.ClassNotFoundException: foo.Bar", (Module(Java), "foo.Bar")),
            ("Exception in thread \"main\" java.lang.NoClassDefFoundError: foo/Bar", (Module(Java), "foo/Bar")),
            ("Error: Unable to access jarfile /x.jar", (File, "/x.jar")),
            (
                "PHP Fatal error:  Uncaught Error: Failed opening required '/x.php' (include_path='.:/usr/share/php')",
                (File, "/x.php"),
            ),
            ("Can't locate Foo/Bar.pm in @INC (you may need to install the Foo::Bar module)", (Module(Perl), "Foo/Bar.pm")),
            // of what the C library looks up
            ("iconv: failed to start conversion processing", (Charset, "gconv")),
            ("PHP Warning:  iconv(): Wrong encoding, conversion from \"FOO\" to \"UTF-8\" is not allowed", (Charset, "gconv")),
            ("locale.Error: unsupported locale setting", (Locale, "")),
            ("bash: warning: setlocale: LC_ALL: cannot change locale (de_DE.UTF-8)", (Locale, "")),
            ("perl: warning: Setting locale failed.", (Locale, "")),
            ("zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Xyz'", (TimeZone, "")),
            ("panic: unknown time zone Europe/Berlin", (TimeZone, "")),
            ("PHP Notice:  date_default_timezone_set(): Timezone ID 'Europe/Xyz' is invalid", (TimeZone, "")),
            ("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", (Certificate, "")),
            ("tls: failed to verify certificate: x509: certificate signed by unknown authority", (Certificate, "")),
            ("sun.security.validator.ValidatorException: PKIX path building failed", (Certificate, "")),
            ("socket.gaierror: [Errno -3] Temporary failure in name resolution", (Identity, "")),
            ("KeyError: \"getpwnam(): name not found: 'www-data'\"", (Identity, "")),
            ("nginx: [emerg] getpwnam(\"nginx\") failed in /etc/nginx/nginx.conf:2", (Identity, "")),
        ] {
            let (what, name) = expected;
            assert_eq!(read(line), Some(Said { what, name }), "{line}");
        }
        for line in [
            "",
            "listening on port 80",
            "GET /x: the page you want: it was not found",
            ": not found",
            "No module named ",
            "exec: \"\": stat ",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
