//! Sizes (`64m`) and resource limits (`nofile=1024:2048`), written as the docker command line takes them.

use bollard::models::ResourcesUlimits;

/// What is wrong with a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number and a unit.
    #[error("a size is a number and a unit (`b`, `k`, `m`, `g`, `t`, `p`), such as `64m`")]
    Malformed,
    /// More than an engine can be told.
    #[error("the size is too large")]
    TooLarge,
}

/// The bytes of a size: a whole or decimal number, then optionally a unit of powers of 1024 (`k`, `kb`, `KiB`).
///
/// # Errors
/// [`SizeError`].
pub fn parse_size(text: &str) -> Result<i64, SizeError> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return Err(SizeError::Malformed);
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(SizeError::Malformed),
    };
    let factor = 1i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or(SizeError::TooLarge);
    }
    if !number.contains('.') {
        return Err(SizeError::TooLarge);
    }
    let bytes = number.parse::<f64>().map_err(|_| SizeError::Malformed)? * factor as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(SizeError::TooLarge) }
}

/// What is wrong with a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// Not `NAME=SOFT[:HARD]`.
    #[error("a limit is written `NAME=SOFT[:HARD]`, such as `nofile=1024:2048`; -1 is unlimited")]
    Malformed,
    /// No such limit.
    #[error("there is no limit `{0}`; the names are {names}", names = ULIMITS.join(", "))]
    Name(String),
    /// The soft limit is above the hard one.
    #[error("the soft limit {soft} is above the hard limit {hard}")]
    Order {
        /// As given.
        soft: i64,
        /// As given.
        hard: i64,
    },
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; a limit without a hard one has the soft one as both.
///
/// # Errors
/// [`UlimitError`].
pub fn parse_ulimit(text: &str) -> Result<ResourcesUlimits, UlimitError> {
    let (name, limits) = text.split_once('=').ok_or(UlimitError::Malformed)?;
    if !ULIMITS.contains(&name) {
        return Err(UlimitError::Name(name.to_owned()));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().ok().filter(|&limit| limit >= -1).ok_or(UlimitError::Malformed);
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(UlimitError::Order { soft, hard });
    }
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(soft), hard: Some(hard) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64b", 64),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 m", 64 << 20),
            ("1.5k", 1536),
            ("2g", 2 << 30),
            ("3t", 3 << 40),
            ("4p", 4 << 50),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "+1", "64x", "64kk", "64ib", "6 4", "64  m", ".5m", "5.m", "1.2.3", "1e3", "٣m", "64m "] {
            assert_eq!(parse_size(text), Err(SizeError::Malformed), "{text}");
        }
        for text in ["9223372036854775808", "8192p", "9000.5p"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge), "{text}");
        }
    }

    #[test]
    fn ulimits() {
        for (text, name, soft, hard) in [
            ("nofile=1024:2048", "nofile", 1024, 2048),
            ("nofile=1024", "nofile", 1024, 1024),
            ("core=-1", "core", -1, -1),
            ("core=0:-1", "core", 0, -1),
        ] {
            let ulimit = parse_ulimit(text).unwrap();
            assert_eq!((ulimit.name.as_deref(), ulimit.soft, ulimit.hard), (Some(name), Some(soft), Some(hard)), "{text}");
        }
        let malformed = "a limit is written `NAME=SOFT[:HARD]`, such as `nofile=1024:2048`; -1 is unlimited";
        for (text, message) in [
            ("nofile", malformed),
            ("nofile=", malformed),
            ("nofile=1:", malformed),
            ("nofile=1:2:3", malformed),
            ("nofile=-2", malformed),
            ("nofile=99999999999999999999", malformed),
            ("nofile=2:1", "the soft limit 2 is above the hard limit 1"),
            ("nofile=-1:1", "the soft limit -1 is above the hard limit 1"),
            (
                "files=1",
                "there is no limit `files`; the names are core, cpu, data, fsize, locks, memlock, msgqueue, nice, \
                 nofile, nproc, rss, rtprio, rttime, sigpending, stack",
            ),
        ] {
            assert_eq!(parse_ulimit(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
