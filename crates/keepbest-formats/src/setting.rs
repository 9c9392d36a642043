//! Settings that are numbers, and the check of their ranges.

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{setting} must be {expected}, found {found}")]
#[non_exhaustive]
pub struct SettingError {
    /// Which setting.
    pub setting: &'static str,
    /// The range, in words.
    pub expected: &'static str,
    /// The value that it is.
    pub found: f64,
}

/// Checks that a setting `holds`, as a comparison with its range says; NaN satisfies none.
///
/// # Errors
/// [`SettingError`] when it does not.
pub fn check_setting(
    setting: &'static str,
    found: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), SettingError> {
    if holds {
        Ok(())
    } else {
        Err(SettingError {
            setting,
            expected,
            found,
        })
    }
}
