//! Sizes in bytes, as people write them.

/// Units of sizes, the largest first of each kind.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The bytes of a size such as `2GiB`, `1.5 MB` or `4096`; `None` for other texts, and for 0.
///
/// ```
/// use keepbest_core::size::{format_size, parse_size};
/// assert_eq!(parse_size("1.5GiB"), Some(3 << 29));
/// assert_eq!(format_size(1 << 31), "2GiB");
/// ```
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| {
            text.strip_suffix(suffix)
                .map(|number| (number.trim_end(), *unit))
        })
        .unwrap_or((text, 1));
    // Decimal digits and at most one point; the fraction of the unit is cut down to whole bytes.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || fraction.len() > 12
        || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let fraction = if fraction.is_empty() {
        0
    } else {
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        u64::try_from(fraction.parse::<u128>().ok()? * u128::from(unit) / scale).ok()?
    };
    whole.checked_add(fraction).filter(|bytes| *bytes > 0)
}

/// A size in the largest unit that gives a whole number.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match unit {
        Some((suffix, unit)) if *unit > 1 => format!("{}{suffix}", bytes / unit),
        _ => format!("{bytes}"),
    }
}
