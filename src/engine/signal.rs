//! Names of signals.

/// The number of a signal as an image's configuration names it: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time =
        |base: i32, offset: &str| if offset.is_empty() { Some(base) } else { Some(base + offset.parse::<i32>().ok()?) };
    // Docker counts real-time signals as glibc does: the first two belong to the threads.
    let number = match (name.parse(), name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Ok(number), ..) => Some(number),
        (_, Some(offset), _) => real_time(34, offset),
        (_, _, Some(offset)) => real_time(64, offset),
        _ => format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32),
    };
    number.filter(|number| (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("15", Some(15)),
            ("SIGWINCH", Some(28)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-14", Some(50)),
            ("SIGNONE", None),
            ("0", None),
            ("65", None),
            ("SIGRTMIN+99", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
