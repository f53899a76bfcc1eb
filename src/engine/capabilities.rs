//! Linux capabilities of containers: what a plain run would have, and what the observed one needs on top.
//!
//! The observed container must be able to do all that the sensor does (install a filter for any user, read the memory of
//! its neighbours, give up its identity), while the program in it must have exactly what it has in a plain run. So the
//! engine is asked for the union of both sets, and the stub drops to the plain one before it starts the program. For
//! that the plain set is computed here as Docker's daemon does it (`oci/caps.TweakCapabilities`):
//!
//! * `ALL` among the added: every capability but the dropped ones; `ALL` among the dropped has no effect then.
//! * else `ALL` among the dropped: only the added ones.
//! * else the default set, less the dropped, plus the added: a capability that is named in both is there.

/// Names of all capabilities of Linux (7.0) without their prefix; the index is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A name that no capability has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability `{0}`; the names are those of capabilities(7), such as `NET_ADMIN`, or `ALL`")]
pub struct UnknownCapability(String);

/// A set of capabilities, as the kernel writes it: bit N is capability number N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// What Docker gives a container when nothing is said.
    pub const DOCKER_DEFAULT: CapabilitySet = CapabilitySet::of(&[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ]);

    /// What the stub and the monitor need, also where the user drops everything.
    pub const SENSOR: CapabilitySet =
        CapabilitySet::of(&["SYS_ADMIN", "SYS_PTRACE", "SETUID", "SETGID", "SETPCAP", "CHOWN", "KILL"]);

    /// All that Linux knows.
    pub const ALL: CapabilitySet = CapabilitySet((1 << NAMES.len()) - 1);

    /// For constants: a name that isn't one fails the build.
    const fn of(names: &[&str]) -> CapabilitySet {
        let mut mask = 0;
        let mut i = 0;
        while i < names.len() {
            let mut number = 0;
            while !same(NAMES[number], names[i]) {
                number += 1;
            }
            mask |= 1 << number;
            i += 1;
        }
        CapabilitySet(mask)
    }

    /// The kernel's mask.
    #[must_use]
    pub fn mask(self) -> u64 {
        self.0
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn without(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    /// The names, `CAP_` and all, by number.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let has = |number: &usize| self.0 & (1 << number) != 0;
        (0..NAMES.len()).filter(has).map(|number| format!("CAP_{}", NAMES[number])).collect()
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Capabilities as one option names them: some by name, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Named {
    set: CapabilitySet,
    all: bool,
}

impl Named {
    fn add(&mut self, word: &str) -> Result<(), UnknownCapability> {
        let upper = word.to_ascii_uppercase();
        if upper == "ALL" {
            self.all = true;
            return Ok(());
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name).ok_or_else(|| UnknownCapability(word.to_owned()))?;
        self.set = self.set.union(CapabilitySet(1 << number));
        Ok(())
    }

    fn names(self) -> Vec<String> {
        self.all.then(|| "ALL".to_owned()).into_iter().chain(self.set.names()).collect()
    }
}

/// `--cap-add` and `--cap-drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilityOptions {
    added: Named,
    dropped: Named,
}

impl CapabilityOptions {
    /// One `--cap-add`: a name in any case, with or without `CAP_`, or `ALL`.
    ///
    /// # Errors
    /// A name that no capability has.
    pub fn add(&mut self, word: &str) -> Result<(), UnknownCapability> {
        self.added.add(word)
    }

    /// One `--cap-drop`, written likewise.
    ///
    /// # Errors
    /// A name that no capability has.
    pub fn drop(&mut self, word: &str) -> Result<(), UnknownCapability> {
        self.dropped.add(word)
    }

    /// What a plain run with these options has. An engine that has not all capabilities itself gives less for `ALL`:
    /// who drops to this set has to take what is there of it.
    #[must_use]
    pub fn plain(self) -> CapabilitySet {
        if self.added.all {
            CapabilitySet::ALL.without(self.dropped.set)
        } else if self.dropped.all {
            self.added.set
        } else {
            CapabilitySet::DOCKER_DEFAULT.without(self.dropped.set).union(self.added.set)
        }
    }

    /// `CapAdd` and `CapDrop` of a plain run.
    #[must_use]
    pub fn asked(self) -> (Vec<String>, Vec<String>) {
        (self.added.names(), self.dropped.names())
    }

    /// `CapAdd` and `CapDrop` for a container that has the plain set and the sensor's.
    ///
    /// What the engine gives by default is not named: another engine, or another configuration of it, gives less than
    /// Docker. `ALL` stays `ALL`: an engine refuses by name what its kernel hasn't got.
    #[must_use]
    pub fn observed(self) -> (Vec<String>, Vec<String>) {
        let sensor = CapabilitySet::SENSOR;
        let dropped = self.dropped.set.without(sensor);
        if self.added.all {
            (vec!["ALL".into()], dropped.names())
        } else if self.dropped.all {
            (self.added.set.union(sensor).names(), vec!["ALL".into()])
        } else {
            // A name in both is added; Podman refuses it.
            (self.added.set.union(sensor).names(), dropped.without(self.added.set).names())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn options(add: &str, drop: &str) -> CapabilityOptions {
        let mut options = CapabilityOptions::default();
        words(add).iter().for_each(|word| options.add(word).unwrap());
        words(drop).iter().for_each(|word| options.drop(word).unwrap());
        options
    }

    #[test]
    fn the_default_set_is_what_docker_shows_in_proc_status() {
        assert_eq!(format!("{:016x}", CapabilitySet::DOCKER_DEFAULT.mask()), "00000000a80425fb");
        assert_eq!(format!("{:016x}", CapabilitySet::ALL.mask()), "000001ffffffffff");
        assert_eq!(CapabilitySet::DOCKER_DEFAULT.names().len(), 14);
    }

    #[test]
    fn the_plain_set_is_computed_as_docker_does() {
        let default = CapabilitySet::DOCKER_DEFAULT.mask();
        let bit = |number: u32| 1u64 << number;
        let all = CapabilitySet::ALL.mask();
        for (add, drop, plain) in [
            ("", "", default),
            ("net_admin", "", default | bit(12)),
            ("CAP_NET_ADMIN cap_sys_time", "", default | bit(12) | bit(25)),
            ("CHOWN", "", default),
            ("", "Chown", default & !bit(0)),
            ("", "SYS_ADMIN", default),
            ("CHOWN", "CHOWN", default),
            ("", "all", 0),
            ("SETUID", "ALL", bit(7)),
            ("SETUID", "ALL SETUID", bit(7)),
            ("ALL", "", all),
            ("ALL", "NET_RAW SYS_ADMIN", all & !bit(13) & !bit(21)),
            ("ALL NET_RAW", "NET_RAW", all & !bit(13)),
            ("ALL", "ALL", all),
            ("ALL", "ALL CHOWN", all & !bit(0)),
        ] {
            assert_eq!(options(add, drop).plain().mask(), plain, "--cap-add {add} --cap-drop {drop}");
        }
    }

    #[test]
    fn the_observed_container_has_both_sets() {
        // Docker's own computation, applied to what is asked for, must give the union.
        for (add, drop) in [("", ""), ("", "ALL"), ("NET_ADMIN", "KILL CHOWN"), ("ALL", "SYS_ADMIN NET_RAW"), ("ALL", "ALL")] {
            let wanted = options(add, drop).plain().union(CapabilitySet::SENSOR);
            let (cap_add, cap_drop) = options(add, drop).observed();
            let got = options(&cap_add.join(" "), &cap_drop.join(" ")).plain();
            assert_eq!(got, wanted, "--cap-add {add} --cap-drop {drop}: {cap_add:?} {cap_drop:?}");
        }
        assert_eq!(options("ALL", "NET_RAW KILL").observed(), (words("ALL"), words("CAP_NET_RAW")));
        assert_eq!(
            options("", "ALL").observed(),
            (words("CAP_CHOWN CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_SYS_PTRACE CAP_SYS_ADMIN"), words("ALL"))
        );
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in ["", "CAP_", "NETADMIN", "CAP_CAP_CHOWN", "CAP_ALL", "NET_ADMIN ", "ſETUID", "0"] {
            let mut options = CapabilityOptions::default();
            for error in [options.add(bad).unwrap_err(), options.drop(bad).unwrap_err()] {
                assert_eq!(
                    error.to_string(),
                    format!(
                        "there is no capability `{bad}`; the names are those of capabilities(7), such as `NET_ADMIN`, or `ALL`"
                    )
                );
            }
        }
    }
}
