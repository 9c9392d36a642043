//! Renaming by rules such as `old.(.*)=new.$1`.

use std::collections::HashMap;

use regex_lite::Regex;

use crate::StateDict;

/// Rules that give tensors other names.
///
/// A rule is `PATTERN=NAME`, split at the first `=`. The pattern is a regular expression that must match a
/// whole name; `NAME` is what it becomes, `$1` or `${1}` (when a letter, digit or `_` follows) being what the first group
/// matched, `${name}` a named one, `$$` a dollar. The first rule that matches is used; a name that none
/// matches stays.
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    pattern: Regex,
    name: String,
}

/// What a [`NameMap`] made of a state dict.
#[derive(Debug, Clone, PartialEq)]
pub struct Renamed {
    /// The tensors under their new names, in the order they had.
    pub weights: StateDict,
    /// Old and new name of each tensor that got another.
    pub renamed: Vec<(String, String)>,
    /// Rules that no tensor was the first match of: mistyped, mostly.
    pub unused: Vec<String>,
}

/// Why a rule is none, or names collide.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameMapError {
    /// A rule without `=`.
    #[error("`{rule}` is no rule: it should be PATTERN=NAME")]
    NoRule {
        /// The rule.
        rule: String,
    },
    /// The pattern is no regular expression.
    #[error("the pattern of `{rule}` is no regular expression")]
    Pattern {
        /// The rule.
        rule: String,
        /// Why.
        source: regex_lite::Error,
    },
    /// The new name refers to a group that the pattern does not have.
    #[error("`{rule}` refers to the group `{group}`, which its pattern does not have")]
    NoGroup {
        /// The rule.
        rule: String,
        /// The group.
        group: String,
    },
    /// Two tensors would have one name.
    #[error("`{one}` and `{other}` would both be called `{name}`")]
    Collision {
        /// One tensor.
        one: String,
        /// The other.
        other: String,
        /// The name.
        name: String,
    },
    /// A tensor would have no name.
    #[error("`{tensor}` would have an empty name")]
    Empty {
        /// The tensor.
        tensor: String,
    },
}

impl NameMap {
    /// Reads rules, which are tried in this order.
    ///
    /// # Errors
    /// When one has no `=`, its pattern is no regular expression, or its name refers to a group that is not
    /// there.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, NameMapError> {
        let rules = rules.into_iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The state dict under new names. Tensors share their bytes.
    ///
    /// # Errors
    /// When two tensors would have one name, or one would have none.
    pub fn apply(&self, weights: &StateDict) -> Result<Renamed, NameMapError> {
        let mut used = vec![false; self.rules.len()];
        let mut renamed = Vec::new();
        let mut taken: HashMap<String, &str> = HashMap::with_capacity(weights.len());
        let mut out = StateDict::new();
        for (old, tensor) in weights.iter() {
            let found = self.rules.iter().zip(&mut used).find_map(|(rule, used)| {
                let name = rule.rename(old)?;
                *used = true;
                Some(name)
            });
            let new = found.unwrap_or_else(|| old.to_owned());
            if new.is_empty() && !old.is_empty() {
                return Err(NameMapError::Empty { tensor: old.into() });
            }
            if out.insert(new.as_str(), tensor.clone()).is_err() {
                return Err(NameMapError::Collision {
                    one: taken.remove(&new).unwrap_or_default().into(),
                    other: old.into(),
                    name: new,
                });
            }
            if new != old {
                renamed.push((old.to_owned(), new.clone()));
            }
            taken.insert(new, old);
        }
        let unused = self.rules.iter().zip(used).filter(|(_, used)| !used);
        Ok(Renamed {
            weights: out,
            renamed,
            unused: unused.map(|(rule, _)| rule.text.clone()).collect(),
        })
    }
}

/// Patterns for tensors to leave out: regular expressions that must match a whole name.
#[derive(Debug, Clone, Default)]
pub struct NameFilter {
    patterns: Vec<(String, Regex)>,
}

impl NameFilter {
    /// Reads patterns.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, NameMapError> {
        let patterns = patterns.into_iter().map(|text| {
            let pattern = whole(text).map_err(|source| NameMapError::Pattern {
                rule: text.into(),
                source,
            })?;
            Ok((text.to_owned(), pattern))
        });
        let patterns = patterns.collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// The first pattern that matches a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> Option<&str> {
        let mut patterns = self.patterns.iter();
        let (text, _) = patterns.find(|(_, pattern)| pattern.is_match(name))?;
        Some(text)
    }
}

/// A pattern for whole names.
fn whole(pattern: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

impl Rule {
    fn new(text: &str) -> Result<Self, NameMapError> {
        let rule = || text.to_owned();
        let (pattern, name) = text
            .split_once('=')
            .filter(|(pattern, name)| !pattern.is_empty() && !name.is_empty())
            .ok_or_else(|| NameMapError::NoRule { rule: rule() })?;
        let pattern = whole(pattern).map_err(|source| NameMapError::Pattern {
            rule: rule(),
            source,
        })?;
        for group in groups(name) {
            let known = match group.parse::<usize>() {
                Ok(number) => number < pattern.captures_len(),
                Err(_) => pattern
                    .capture_names()
                    .flatten()
                    .any(|known| known == group),
            };
            if !known {
                return Err(NameMapError::NoGroup {
                    rule: rule(),
                    group: group.into(),
                });
            }
        }
        Ok(Self {
            text: rule(),
            pattern,
            name: name.into(),
        })
    }

    fn rename(&self, old: &str) -> Option<String> {
        let captures = self.pattern.captures(old)?;
        let mut new = String::new();
        captures.expand(&self.name, &mut new);
        Some(new)
    }
}

/// The groups that a new name refers to, by the rules of [`regex_lite::Captures::expand`].
fn groups(name: &str) -> Vec<&str> {
    let mut groups = Vec::new();
    let mut rest = name;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((group, after)) = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            groups.push(group);
            rest = after;
        } else {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            // A dollar before anything else stands for itself.
            if end > 0 {
                groups.push(&rest[..end]);
            }
            rest = &rest[end..];
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn weights(names: &[&str]) -> StateDict {
        let mut weights = StateDict::new();
        for (at, name) in names.iter().enumerate() {
            let tensor = Tensor::from_f32(&[], &[at as f32]).unwrap();
            weights.insert(*name, tensor).unwrap();
        }
        weights
    }

    fn renamed(rules: &[&str], names: &[&str]) -> Result<Vec<String>, String> {
        let map = NameMap::new(rules.iter().copied()).map_err(|error| error.to_string())?;
        let renamed = map
            .apply(&weights(names))
            .map_err(|error| error.to_string())?;
        Ok(renamed.weights.names().map(str::to_owned).collect())
    }

    #[test]
    fn whole_names_by_the_first_rule_that_matches() {
        let rules = [
            "old.(.*)=new.$1",
            "(?<a>.+)\\.(gamma)=${a}.weight",
            "old.x=never",
        ];
        let names = ["old.x", "bn.gamma", "old.y.gamma", "very.old.z"];
        let expected = ["new.x", "bn.weight", "new.y.gamma", "very.old.z"];
        assert_eq!(renamed(&rules, &names).unwrap(), expected);
        let map = NameMap::new(rules).unwrap();
        let result = map.apply(&weights(&names)).unwrap();
        assert_eq!(result.unused, ["old.x=never"]);
        assert_eq!(result.renamed[1], ("bn.gamma".into(), "bn.weight".into()));
        assert_eq!(result.weights.get("new.x"), weights(&names).get("old.x"));
    }

    #[test]
    fn names_of_others_can_be_swapped() {
        assert_eq!(renamed(&["a=b", "b=a"], &["a", "b"]).unwrap(), ["b", "a"]);
        assert_eq!(renamed(&["(.)(.)=${2}x$1"], &["ab"]).unwrap(), ["bxa"]);
        assert_eq!(renamed(&["a=$$.$"], &["a"]).unwrap(), ["$.$"]);
        assert_eq!(renamed(&["a|b=c"], &["ab", "a"]).unwrap(), ["ab", "c"]);
    }

    #[test]
    fn what_is_refused() {
        let error = |rules: &[&str], names: &[&str]| renamed(rules, names).unwrap_err();
        assert_eq!(
            error(&["ab"], &[]),
            "`ab` is no rule: it should be PATTERN=NAME"
        );
        assert_eq!(
            error(&["a("], &[]),
            "`a(` is no rule: it should be PATTERN=NAME"
        );
        assert_eq!(
            error(&["(a=b"], &[]),
            "the pattern of `(a=b` is no regular expression"
        );
        assert_eq!(
            error(&["(a)=$1_x"], &[]),
            "`(a)=$1_x` refers to the group `1_x`, which its pattern does not have"
        );
        assert_eq!(
            error(&["a.*=c"], &["a1", "b", "a2"]),
            "`a1` and `a2` would both be called `c`"
        );
        assert_eq!(error(&["a(.*)=$1"], &["a"]), "`a` would have an empty name");
    }
}
