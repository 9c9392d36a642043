//! Which runs to list, and in which order: `--where 'lr >= 0.1'`, `--sort val/loss`.

use std::cmp::Ordering;
use std::str::FromStr;

use keepbest_keeper::RunView;
use keepbest_train::Settings;

use crate::cli::runs::Facts;

/// A condition on a run: a key, a comparison, a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    key: String,
    comparison: Comparison,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
    More,
    Less,
}

/// The longer ones first, as `>=` begins like `>`.
const COMPARISONS: [(&str, Comparison); 6] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("!=", Comparison::NotEqual),
    (">", Comparison::More),
    ("<", Comparison::Less),
    ("=", Comparison::Equal),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The first sign counts, and of those that begin there the longest.
        let signs = COMPARISONS.iter();
        let found =
            signs.filter_map(|(sign, comparison)| Some((text.find(sign)?, *sign, *comparison)));
        let first = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
        match first {
            Some((at, sign, comparison)) if !text[..at].trim().is_empty() => Ok(Self {
                key: text[..at].trim().into(),
                comparison,
                value: text[at + sign.len()..].trim().into(),
            }),
            _ => Err("it must be KEY, one of = != >= <= > <, and VALUE".into()),
        }
    }
}

impl Condition {
    /// Whether it holds of a run. What a run does not have is equal to nothing and not less or more than anything.
    pub fn holds(&self, view: &RunView, facts: &Facts) -> bool {
        let Some(found) = look_up(&self.key, view, facts) else {
            return self.comparison == Comparison::NotEqual;
        };
        let order = compare(&found, &self.value);
        match self.comparison {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::AtMost => order.is_le(),
            Comparison::More => order.is_gt(),
            Comparison::Less => order.is_lt(),
        }
    }
}

/// What a run has under a key: one of `list --json`'s, a metric of its best, a metric of its test, or a setting.
pub fn look_up(key: &str, view: &RunView, facts: &Facts) -> Option<String> {
    let time = |ms: Option<u64>| ms.map(|ms| ms.to_string());
    match key {
        "name" => Some(facts.name.clone()),
        "status" => Some(facts.status.clone()),
        "epoch" => Some(facts.epochs.0.to_string()),
        "size" => Some(facts.bytes.to_string()),
        "best" => facts.best.map(|(value, ..)| value.to_string()),
        "begun" => time(facts.times.0),
        "when" => time(facts.times.1),
        _ => view
            .best()
            .and_then(|best| best.metrics.get(key))
            .or_else(|| facts.test.as_ref()?[key].as_f64())
            .map(|value| value.to_string())
            .or_else(|| {
                let settings = Settings::from_toml(&view.config().ok()?).ok()?;
                settings.text_of(key)
            }),
    }
}

/// As numbers if both are, else as text.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let read = |text: &str| {
            text.parse::<Condition>()
                .map(|c| (c.key, c.comparison, c.value))
        };
        let expected = ("val/loss".into(), Comparison::AtMost, "0.5".into());
        assert_eq!(read("val/loss <= 0.5"), Ok(expected));
        let expected = ("model".into(), Comparison::Equal, "a>b".into());
        assert_eq!(read("model=a>b"), Ok(expected));
        assert!(read("lr").is_err() && read("= 3").is_err());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("0.05", "5e-2"), Ordering::Equal);
        assert_eq!(compare("adam", "sgd"), Ordering::Less);
    }
}
