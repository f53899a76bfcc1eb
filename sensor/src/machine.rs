//! What a machine's settings forbid that slim needs, by name, and the way out.
//!
//! Whether something works is found out by trying; this only tells why not. A setting that isn't there forbids nothing.

/// What no setting explains.
const ANY: &str = "allow user namespaces (sysctls `user.max_user_namespaces`, `kernel.unprivileged_userns_clone`, \
                   `kernel.apparmor_restrict_unprivileged_userns`; in a container `--security-opt seccomp=unconfined`)";

/// A setting of this machine, without the space around it.
fn setting(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What to do where a user namespace is refused, or gives no rights.
pub(crate) fn user_namespaces() -> String {
    user_namespaces_by(setting)
}

fn user_namespaces_by(setting: impl Fn(&str) -> Option<String>) -> String {
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found == value);
    let status = setting("/proc/self/status").unwrap_or_default();
    let is_filtered = status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
    let advice = [
        (
            is("/proc/sys/user/max_user_namespaces", "0"),
            "`user.max_user_namespaces` is 0: `sysctl user.max_user_namespaces=10000`",
        ),
        (
            is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            "`kernel.unprivileged_userns_clone` is 0: `sysctl kernel.unprivileged_userns_clone=1`",
        ),
        (
            is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            "AppArmor gives user namespaces no rights: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or a profile for slim \
             with `userns`",
        ),
        (is_filtered, "a seccomp profile is around slim: in a container `--security-opt seccomp=unconfined`"),
    ];
    let found: Vec<&str> = advice.iter().filter(|(applies, _)| *applies).map(|(_, advice)| *advice).collect();
    let advice = if found.is_empty() { ANY.to_owned() } else { found.join("; ") };
    format!("{advice}, or run as root")
}

/// Why no process may read another's memory here, where that is so.
#[must_use]
pub fn memory() -> Option<String> {
    memory_by(setting)
}

fn memory_by(setting: impl Fn(&str) -> Option<String>) -> Option<String> {
    (setting("/proc/sys/kernel/yama/ptrace_scope")? == "3").then(|| {
        "`kernel.yama.ptrace_scope` is 3, so no program can be watched until the machine is started again: set it to 2 or less in \
         /etc/sysctl.d first"
            .to_owned()
    })
}

/// SELinux refuses what no policy allows, and doesn't only tell of it.
#[must_use]
pub fn enforces_selinux() -> bool {
    setting("/sys/fs/selinux/enforce").is_some_and(|enforce| enforce == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine<'a>(settings: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| settings.iter().find(|(name, _)| path.ends_with(name)).map(|&(_, value)| value.to_owned())
    }

    #[test]
    fn the_setting_that_forbids_is_named() {
        for (settings, named) in [
            (&[("max_user_namespaces", "0")][..], "`user.max_user_namespaces` is 0"),
            (&[("unprivileged_userns_clone", "0"), ("max_user_namespaces", "9")], "`kernel.unprivileged_userns_clone` is 0"),
            (&[("apparmor_restrict_unprivileged_userns", "1")], "AppArmor gives user namespaces no rights"),
            (&[("self/status", "Name:\tx\nSeccomp:\t2\n")], "a seccomp profile is around slim"),
            (&[("self/status", "Seccomp:\t0\nSeccomp_filters:\t2\n")], "allow user namespaces (sysctls"),
            (&[], "allow user namespaces (sysctls"),
        ] {
            let said = user_namespaces_by(machine(settings));
            assert!(said.starts_with(named) && said.ends_with(", or run as root"), "{said}");
        }
        let both = user_namespaces_by(machine(&[("max_user_namespaces", "0"), ("unprivileged_userns_clone", "0")]));
        assert!(both.contains("max_user_namespaces=10000`; `kernel.unprivileged"), "{both}");
    }

    #[test]
    fn yama_is_named() {
        let of = |scope: &str| memory_by(machine(&[("ptrace_scope", scope)]));
        assert!(of("3").unwrap().contains("`kernel.yama.ptrace_scope` is 3"));
        assert!(["0", "1", "2"].iter().all(|scope| of(scope).is_none()) && memory_by(machine(&[])).is_none());
    }
}
