//! Which runs to list, and in which order: `--where 'lr >= 0.1'`, `--sort val/loss`.

use std::cmp::Ordering;
use std::str::FromStr;

use keepbest_core::suggest::nearest;
use keepbest_core::{Direction, Metrics};
use keepbest_keeper::RunView;
use keepbest_train::Settings;

use crate::cli::failure::{Exit, Failure};
use crate::cli::runs::Facts;

/// What every run has; a setting, a metric of its best or one of its test is a key, too.
const OF_EVERY_RUN: [&str; 7] = ["name", "status", "epoch", "size", "best", "begun", "when"];

/// A condition on a run: a key, a comparison, a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
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
            Some((at, sign, comparison))
                if ![&text[..at], &text[at + sign.len()..]]
                    .iter()
                    .any(|side| side.trim().is_empty()) =>
            {
                Ok(Self {
                    key: text[..at].trim().into(),
                    comparison,
                    value: text[at + sign.len()..].trim().into(),
                })
            }
            _ => Err("it must be KEY, one of = != >= <= > <, and VALUE".into()),
        }
    }
}

impl Condition {
    /// Checks that the key is one, and that what is compared as more or less is alike.
    ///
    /// # Errors
    /// [`Exit::Usage`], naming what there is.
    pub(super) fn check(&self, runs: &[(&RunView, Facts)]) -> Result<(), Failure> {
        check_key(&self.key, runs)?;
        let equality = matches!(self.comparison, Comparison::Equal | Comparison::NotEqual);
        let number = |text: &str| text.parse::<f64>().is_ok();
        let mut found = runs
            .iter()
            .filter_map(|(view, facts)| look_up(&self.key, view, facts));
        match found.find(|found| !equality && number(found) && !number(&self.value)) {
            None => Ok(()),
            Some(found) => {
                let (key, value) = (&self.key, &self.value);
                let message = format!("{key} is a number, such as {found}; {value:?} is none");
                Err(Failure::new(Exit::Usage, message))
            }
        }
    }

    /// Whether it holds of a run. What a run does not have is equal to nothing and not less or more than anything.
    pub(super) fn holds(&self, view: &RunView, facts: &Facts) -> bool {
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
pub(super) fn look_up(key: &str, view: &RunView, facts: &Facts) -> Option<String> {
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

/// Checks that a key is one that a run can have: a metric counts where a run has it, or where its name is known.
///
/// # Errors
/// [`Exit::Usage`], naming what there is.
pub(super) fn check_key(key: &str, runs: &[(&RunView, Facts)]) -> Result<(), Failure> {
    let settings = Settings::KEYS.iter().map(|key| key.name);
    let fixed: Vec<&str> = OF_EVERY_RUN.into_iter().chain(settings).collect();
    let mut metrics = Metrics::new();
    for (view, facts) in runs {
        let best = view.best();
        let of_best = best.iter().flat_map(|best| best.metrics.names());
        let test = facts.test.as_ref().and_then(|test| test.as_object());
        let of_test = test.into_iter().flat_map(|test| test.keys());
        for name in of_best.chain(of_test.map(String::as_str)) {
            metrics.insert(name, 0.0);
        }
    }
    let known = |name: &str| Direction::of_metric(name).is_some() && name.contains('/');
    if fixed.contains(&key) || metrics.contains(key) || (runs.is_empty() && known(key)) {
        return Ok(());
    }
    let near = || nearest(key, fixed.iter().copied());
    let meant = match key.contains('/') {
        true => metrics.nearest_name(key).or_else(near),
        false => near().or_else(|| metrics.nearest_name(key)),
    };
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`keepbest show RUN --json` has the settings and metrics of a run".to_owned(),
    };
    let message = format!(
        "no run has {key:?}: there are {}, the settings of `train`, and metrics such as val/loss",
        OF_EVERY_RUN.join(", ")
    );
    Err(Failure::new(Exit::Usage, message).with_hint(hint))
}

/// As numbers if both are, else as text.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
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
        for text in ["lr", "= 3", "lr >", "lr >= ", ">", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("0.05", "5e-2"), Ordering::Equal);
        assert_eq!(compare("adam", "sgd"), Ordering::Less);
    }
}
