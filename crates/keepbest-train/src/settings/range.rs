//! Which numbers make sense for a setting, and which names for a run.

use crate::run_name;

/// What a setting's number must be, in words, and the test of it.
type Range = (&'static str, &'static str, fn(f64) -> bool);

const RANGES: &[Range] = &[
    ("epochs", "a whole number from 1 to 1,000,000,000", |n| {
        (1.0..=1e9).contains(&n)
    }),
    ("batch-size", "a whole number from 1 to 1,000,000", |n| {
        (1.0..=1e6).contains(&n)
    }),
    ("lr", "a finite number above 0", |x| x > 0.0),
    ("momentum", "a number from 0 to below 1", |x| {
        (0.0..1.0).contains(&x)
    }),
    ("weight-decay", "a number of 0 or more", |x| x >= 0.0),
    ("warmup", "a number of epochs, 0 or more", |x| x >= 0.0),
    ("lr-step", "a number of epochs above 0", |x| x > 0.0),
    ("lr-gamma", "a number above 0, up to 1", |x| {
        x > 0.0 && x <= 1.0
    }),
    ("lr-patience", "a whole number", |n| n >= 0.0),
    ("label-smoothing", "a number from 0 to below 1", |x| {
        (0.0..1.0).contains(&x)
    }),
    ("clip-grad-norm", "a number above 0, or none", |x| x > 0.0),
    ("ema", "a number from 0 to below 1, or none", |x| {
        (0.0..1.0).contains(&x)
    }),
    ("swa", "a number from 0 to below 1, or none", |x| {
        (0.0..1.0).contains(&x)
    }),
    ("val-fraction", "a number between 0 and 1", |x| {
        x > 0.0 && x < 1.0
    }),
    ("test-fraction", "a number from 0 to below 1", |x| {
        (0.0..1.0).contains(&x)
    }),
    ("threads", "a whole number from 1 to 1,024, or none", |n| {
        (1.0..=1024.0).contains(&n)
    }),
    ("patience", "a whole number of 1 or more, or none", |n| {
        n >= 1.0
    }),
    ("max-minutes", "a number above 0, or none", |x| x > 0.0),
    (
        "significant",
        "a number from 0.0001 to below 1, or none",
        |x| (0.0001..1.0).contains(&x),
    ),
];

/// What the setting must be, when it is more than a number or a text.
pub(super) fn expected(name: &str) -> Option<&'static str> {
    if name == "name" {
        return Some(run_name::RULE);
    }
    RANGES
        .iter()
        .find(|(key, ..)| *key == name)
        .map(|(_, expected, _)| *expected)
}

/// Whether the text, if it is a number, lies in the setting's range, or is a run's name.
pub(super) fn holds(name: &str, text: &str) -> bool {
    if name == "name" {
        return run_name::is_name(text.trim());
    }
    match (
        RANGES.iter().find(|(key, ..)| *key == name),
        text.replace('_', "").parse::<f64>(),
    ) {
        (Some((_, _, test)), Ok(number)) => number.is_finite() && test(number),
        _ => true,
    }
}
