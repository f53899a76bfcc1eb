//! Numbers as tar archives write them: octal text in fields, decimal text in records.

/// A field of a header: octal digits between blanks, nothing at all for zero, or binary (base 256, two's complement)
/// where the first bit is set. `None` for anything else, and for what does not fit.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // The second bit is the sign.
            let sign = if first & 0x40 != 0 { -1 } else { 0 };
            let start = if sign < 0 { i128::from(*first) - 0x100 } else { i128::from(first & 0x7f) };
            let shift = |value: i128, byte: &u8| value.checked_mul(256)?.checked_add(i128::from(*byte));
            let value = rest.iter().try_fold(start, shift)?;
            i64::try_from(value).ok()
        }
        _ => {
            let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
            let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
            let digits = &bytes[start..];
            let end = digits.iter().position(is_blank).unwrap_or(digits.len());
            if !digits[end..].iter().all(is_blank) {
                return None;
            }
            digits[..end].iter().try_fold(0_i64, |value, byte| match byte {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
                _ => None,
            })
        }
    }
}

/// Decimal digits, nothing else.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// A time: seconds since 1970, negative before, with any fraction; the nanoseconds count upwards. Digits after the
/// ninth are dropped, as Go does it.
pub(super) fn time(bytes: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |byte| u32::from(byte - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    match (is_negative, nanoseconds) {
        (false, nanoseconds) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, nanoseconds) => Some(((-seconds).checked_sub(1)?, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (bytes, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000648\0", None),
            (b"64 4\0\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
        ] {
            assert_eq!(field(bytes), value, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times() {
        for (text, value) in [
            ("1600000000", Some((1_600_000_000, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.123456789123", Some((1, 123_456_789))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("1.", Some((1, 0))),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.-5", None),
            ("1e9", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
    }
}
