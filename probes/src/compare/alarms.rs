//! Words of failure. Noise may hide any other word behind the one that was expected, but not these: where the expected
//! side never said them, what says them is no noise.

use std::collections::BTreeSet;

/// In lower case. Words that are as common in good answers (`null`, `missing`) are not among them.
pub(super) const ALARMS: &[&str] = &[
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "denied",
    "error",
    "exception",
    "failed",
    "failure",
    "fatal",
    "forbidden",
    "no such file",
    "not found",
    "panic",
    "segmentation fault",
    "traceback",
    "unable to",
    "unavailable",
    "undefined",
];

/// The alarms in a text.
pub(super) fn alarms(text: &str) -> BTreeSet<&'static str> {
    let text = text.to_ascii_lowercase();
    ALARMS.iter().copied().filter(|alarm| text.contains(alarm)).collect()
}

/// Whether a text has an alarm that isn't `known`.
pub(super) fn is_alarming(text: &str, known: &BTreeSet<&'static str>) -> bool {
    !alarms(text).is_subset(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_found_in_any_case() {
        assert_eq!(alarms("Fatal ERROR: x Not Found"), BTreeSet::from(["error", "fatal", "not found"]));
        assert!(is_alarming("an error", &BTreeSet::new()));
        assert!(!is_alarming("an error", &BTreeSet::from(["error"])));
        assert!(!is_alarming("fine", &BTreeSet::new()));
    }
}
