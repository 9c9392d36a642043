//! The text forms of protocol 0.

use bytes::Bytes;

/// A Python string literal as protocol 0 writes it: quoted, with backslash escapes.
pub(super) fn unquote(literal: &[u8]) -> Option<Vec<u8>> {
    let (&quote, rest) = literal.split_first()?;
    let (&last, body) = rest.split_last()?;
    if !matches!(quote, b'\'' | b'"') || last != quote {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut left = body.iter().copied();
    while let Some(byte) = left.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match left.next()? {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'v' => bytes.push(11),
            b'x' => {
                let digits = [left.next()?, left.next()?];
                let text = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(text, 16).ok()?);
            }
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(next @ b'0'..=b'7') = left.clone().next() else {
                        break;
                    };
                    value = value * 8 + u32::from(next - b'0');
                    left.next();
                }
                bytes.push(value as u8);
            }
            other @ (b'\\' | b'\'' | b'"') => bytes.push(other),
            other => bytes.extend([b'\\', other]),
        }
    }
    Some(bytes)
}

/// The encoding `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`. A lone surrogate
/// becomes U+FFFD.
pub(super) fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        let digits = match line.get(at..at + 2) {
            Some(b"\\u") => 4,
            Some(b"\\U") => 8,
            _ => {
                units.push(line[at].into());
                at += 1;
                continue;
            }
        };
        let text = std::str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        let value = u32::from_str_radix(text, 16).ok()?;
        match (char::from_u32(value), u16::try_from(value)) {
            (Some(c), _) => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            (None, Ok(surrogate)) => units.push(surrogate),
            (None, Err(_)) => return None,
        }
        at += 2 + digits;
    }
    Some(String::from_utf16_lossy(&units))
}

/// A decimal integer, as i64 or as little-endian two's complement.
pub(super) enum Integer {
    Small(i64),
    Big(Bytes),
}

/// Parses a decimal integer with optional sign and `L`.
pub(super) fn integer(line: &[u8]) -> Option<Integer> {
    // Longer ones are no numbers of a model, and would take quadratic time.
    const LONGEST: usize = 10_000;
    let text = std::str::from_utf8(line).ok()?.trim();
    let text = text.strip_suffix('L').unwrap_or(text);
    if let Ok(value) = text.parse() {
        return Some(Integer::Small(value));
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || digits.len() > LONGEST || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    // A sign bit of its own, as short as pickle's binary form.
    if bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
        bytes.push(0);
    }
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            let (value, over) = (!*byte).overflowing_add(u8::from(carry));
            *byte = value;
            carry = over;
        }
    }
    Some(Integer::Big(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(unquote(br"'a\'b\n\x41\\'").unwrap(), b"a'b\nA\\");
        assert_eq!(unquote(b"\"\\101\\0\"").unwrap(), b"A\0");
        assert_eq!(unquote(b"''").unwrap(), b"");
        for bad in [&b"'"[..], b"", b"'a\"", b"'\\x4'", b"'\\"] {
            assert_eq!(unquote(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn unicode() {
        assert_eq!(raw_unicode(b"a\xe9\\u2600\\U0001f980").unwrap(), "aé☀🦀");
        assert_eq!(raw_unicode(br"\ud83e\udd80").unwrap(), "🦀");
        assert_eq!(raw_unicode(br"\ud83e").unwrap(), "\u{fffd}");
        assert_eq!(raw_unicode(br"\u12"), None);
        assert_eq!(raw_unicode(br"\Uffffffff"), None);
    }

    #[test]
    fn integers() {
        let small = |text: &[u8]| match integer(text) {
            Some(Integer::Small(value)) => Some(value),
            _ => None,
        };
        assert_eq!(small(b"-12L"), Some(-12));
        assert_eq!(small(b"9223372036854775807"), Some(i64::MAX));
        let big = |text: &[u8]| match integer(text) {
            Some(Integer::Big(bytes)) => Some(bytes.to_vec()),
            _ => None,
        };
        // 2^64 and its negative.
        assert_eq!(
            big(b"18446744073709551616L").unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(
            big(b"-18446744073709551616").unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 0, 255]
        );
        for bad in [&b""[..], b"-", b"1.5", b"0x1", b"1 2"] {
            assert!(integer(bad).is_none());
        }
    }
}
