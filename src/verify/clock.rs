//! Readings of clocks in texts: a page that shows the minute differs from that of a minute ago, and then stays the same for
//! a while. So that it came to differ once and for all says nothing.

/// So much later at most is a reading that a run could have brought, in seconds.
const MAX_LATER: f64 = 3600.0;
/// After so many seconds a clock shows the same again: one of twelve hours.
const ROUND: f64 = 12.0 * 3600.0;
/// Seconds since 1970 that numbers are taken for: from 2001 to 2096, as long as they have ten digits.
const EPOCH_SECONDS: std::ops::Range<f64> = 1e9..4e9;

/// Whether `got` differs from `expected` only in that clocks show a later time.
pub(super) fn only_time_passed(expected: &str, got: &str) -> bool {
    let (left, right) = (words(expected), words(got));
    let mut differing = left.iter().zip(&right).filter(|(one, other)| one != other).peekable();
    left.len() == right.len()
        && differing.peek().is_some()
        && differing.all(|(one, other)| match (reading(one), reading(other)) {
            (Some(one), Some(other)) => (other - one).rem_euclid(ROUND) <= MAX_LATER,
            _ => false,
        })
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || "\"'`<>()[]{},;|=".contains(c)).filter(|word| !word.is_empty()).collect()
}

/// The seconds that a word shows, from whatever point: `9:05`, `21:38:20.5`, `2026-11-28T21:38:20Z`, `1795902000`.
fn reading(word: &str) -> Option<f64> {
    if !word.bytes().all(|byte| byte.is_ascii_digit() || b":.-+TZ".contains(&byte)) {
        return None;
    }
    if word.contains(':') { time_of_day(word) } else { since_epoch(word) }
}

/// Hours, minutes, and seconds where there are such, behind a date and before a zone.
fn time_of_day(word: &str) -> Option<f64> {
    let time = word.rsplit('T').next()?;
    let time = time.split(['Z', '+', '-']).next()?;
    let mut parts = time.split(':');
    let mut next = |limit: f64| parts.next()?.parse::<f64>().ok().filter(|number| (0.0..limit).contains(number));
    let (hours, minutes) = (next(25.0)?, next(60.0)?);
    let seconds = next(61.0);
    parts.next().is_none().then_some(hours * 3600.0 + minutes * 60.0 + seconds.unwrap_or(0.0))
}

/// Seconds, or thousandths, millionths, or billionths of them.
fn since_epoch(word: &str) -> Option<f64> {
    let number: f64 = word.parse().ok()?;
    let whole = word.split('.').next()?.len();
    let scale = match whole {
        10 => 1.0,
        13 => 1e3,
        16 => 1e6,
        19 => 1e9,
        _ => return None,
    };
    Some(number / scale).filter(|seconds| EPOCH_SECONDS.contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_clock_changed() {
        for (expected, got) in [
            ("Sat Nov 28 21:38:20 UTC 2026", "Sat Nov 28 21:38:21 UTC 2026"),
            ("it is 9:59", "it is 10:00"),
            ("12:59 PM", "1:00 PM"),
            ("23:59:59", "00:00:00"),
            ("<b>21:38</b>", "<b>21:39</b>"),
            ("\"at\": \"2026-11-28T21:38:20.123Z\",", "\"at\": \"2026-11-28T21:38:21.009Z\","),
            ("2026-11-28T21:38:20+02:00", "2026-11-28T21:38:59+02:00"),
            ("t=1795902000;", "t=1795902001;"),
            ("1795902000123 at 1795902000.5", "1795902000456 at 1795902001.5"),
        ] {
            assert!(only_time_passed(expected, got), "{expected} {got}");
        }
    }

    #[test]
    fn what_something_else_changed() {
        for (expected, got) in [
            ("21:38:20", "21:38:20"),
            ("21:38:21", "21:38:20"),
            ("21:38:20", "23:38:20"),
            ("21:38:20 fresh", "21:38:21 stale"),
            ("21:38:20", "21:38:21 more"),
            ("visits: 1", "visits: 2"),
            ("10.0.0.1:80", "10.0.0.1:81"),
            ("0123456789", "0123456790"),
            ("21:75", "21:76"),
            ("1:2:3:4", "1:2:3:5"),
            ("::1", "::2"),
            ("v1-2", "v1-3"),
            ("", ""),
        ] {
            assert!(!only_time_passed(expected, got), "{expected} {got}");
        }
    }
}
