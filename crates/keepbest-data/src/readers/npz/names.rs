//! Which arrays of an archive are images, which labels, and of which part of the data set.

use super::super::split_names::{Part, parts, words};

/// What an array is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Images,
    Labels,
}

/// Words for images, and what the labels to them are called.
const ROLES: [(&str, &str); 9] = [
    ("x", "y"),
    ("images", "labels"),
    ("image", "label"),
    ("imgs", "labels"),
    ("img", "label"),
    ("data", "target"),
    ("inputs", "targets"),
    ("features", "labels"),
    ("pixels", "labels"),
];

/// The arrays of a data set, by their names in the archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Images and labels; no labels where there are none to those images.
    pub train: Option<(String, Option<String>)>,
    pub val: Option<(String, Option<String>)>,
    pub test: Option<(String, Option<String>)>,
    /// The arrays that are none of these.
    pub unused: Vec<String>,
}

/// The arrays of one part.
struct Group {
    /// The words of the part, joined; empty where the names say no part.
    part: String,
    images: Vec<String>,
    labels: Vec<String>,
}

/// Sorts the arrays of an archive by their names: `x_train`, `X_val`, `test_images`, `images`, in any case.
pub(super) fn sort(names: &[String]) -> Found {
    let mut groups: Vec<Group> = Vec::new();
    let mut found = Found::default();
    for name in names {
        let Some((role, part)) = role(name) else {
            found.unused.push(name.clone());
            continue;
        };
        let at = groups.iter().position(|group| group.part == part);
        let at = at.unwrap_or_else(|| {
            groups.push(Group {
                part,
                images: Vec::new(),
                labels: Vec::new(),
            });
            groups.len() - 1
        });
        match role {
            Role::Images => groups[at].images.push(name.clone()),
            Role::Labels => groups[at].labels.push(name.clone()),
        }
    }
    let parts = parts(groups.iter().map(|group| group.part.as_str()));
    // Of several the usual name; and names without a part only where no others are those of training.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&at| match groups[at].part.as_str() {
        "train" | "val" | "test" => 0,
        "" => 2,
        _ => 1,
    });
    for at in order {
        let group = &mut groups[at];
        let part = match parts[at] {
            None if group.part.is_empty() => Some(Part::Train),
            part => part,
        };
        let set = match part {
            Some(Part::Train) => Some(&mut found.train),
            Some(Part::Val) => Some(&mut found.val),
            Some(Part::Test) => Some(&mut found.test),
            None => None,
        };
        if let Some(set) = set.filter(|set| set.is_none())
            && let Some(pair) = group.pair()
        {
            *set = Some(pair);
        }
        found.unused.append(&mut group.images);
        found.unused.append(&mut group.labels);
    }
    found.unused.sort();
    found
}

impl Group {
    /// Takes out the images and the labels to them.
    fn pair(&mut self) -> Option<(String, Option<String>)> {
        let rank = |name: &String| ROLES.iter().position(|(word, _)| has_word(name, word));
        let best = (0..self.images.len()).min_by_key(|&at| rank(&self.images[at]))?;
        let images = self.images.remove(best);
        let partner = rank(&images).map(|rank| ROLES[rank].1);
        let at = self
            .labels
            .iter()
            .position(|name| partner.is_some_and(|partner| has_word(name, partner)));
        let at = at.or((!self.labels.is_empty()).then_some(0));
        Some((images, at.map(|at| self.labels.remove(at))))
    }
}

/// What the labels to an array of images are called usually.
pub(super) fn labels_to(images: &str) -> String {
    let lower = images.to_lowercase();
    let found = ROLES.iter().find_map(|(word, partner)| {
        let at = lower.find(word).filter(|_| has_word(images, word))?;
        Some(format!(
            "{}{partner}{}",
            &lower[..at],
            &lower[at + word.len()..]
        ))
    });
    found.unwrap_or_else(|| "labels".to_owned())
}

/// The words of an array's name; `xtrain` is two.
fn name_words(name: &str) -> Vec<String> {
    let mut words = words(name);
    if let Some(first) = words.first_mut()
        && let Some(rest) = first.strip_prefix(['x', 'y'])
        && parts(std::iter::once(rest))[0].is_some()
    {
        let rest = rest.to_owned();
        first.truncate(1);
        words.insert(1, rest);
    }
    words
}

fn has_word(name: &str, word: &str) -> bool {
    name_words(name).iter().any(|found| found == word)
}

fn role(name: &str) -> Option<(Role, String)> {
    let words = name_words(name);
    let role_of = |word: &str| match word {
        "labels" | "label" | "target" | "targets" | "y" => Some(Role::Labels),
        word => {
            let known = ROLES.iter().any(|(images, _)| *images == word);
            known.then_some(Role::Images)
        }
    };
    let letter = words.iter().position(|word| word == "x" || word == "y");
    let at = letter.or_else(|| words.iter().rposition(|word| role_of(word).is_some()))?;
    let mut others = words.clone();
    others.remove(at);
    Some((role_of(&words[at])?, others.join("_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &str) -> Found {
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        sort(&names)
    }

    fn pair(images: &str, labels: &str) -> Option<(String, Option<String>)> {
        Some((images.to_owned(), Some(labels.to_owned())))
    }

    #[test]
    fn parts_by_any_usual_name() {
        let found = sorted("x_train y_train x_valid y_valid x_holdout y_holdout");
        assert_eq!(found.train, pair("x_train", "y_train"));
        assert_eq!(found.val, pair("x_valid", "y_valid"));
        assert_eq!(found.test, pair("x_holdout", "y_holdout"));
        assert!(found.unused.is_empty());

        let found = sorted("X_train y_train Xdev ydev testImages testLabels");
        assert_eq!(found.train, pair("X_train", "y_train"));
        assert_eq!(found.val, pair("Xdev", "ydev"));
        assert_eq!(found.test, pair("testImages", "testLabels"));

        for (images, labels) in [
            ("X", "y"),
            ("data", "target"),
            ("images", "labels"),
            ("X", "Y"),
        ] {
            let found = sorted(&format!("{images} {labels}"));
            assert_eq!(found.train, pair(images, labels));
        }
    }

    #[test]
    fn what_is_not_used_is_kept_apart() {
        let found = sorted("x_train y_train x_extra y_extra images labels mean");
        assert_eq!(found.train, pair("x_train", "y_train"));
        assert_eq!(
            found.unused,
            ["images", "labels", "mean", "x_extra", "y_extra"]
        );
        let found = sorted("x_train");
        assert_eq!(found.train, Some(("x_train".to_owned(), None)));
        assert_eq!(labels_to("x_train"), "y_train");
        assert_eq!(labels_to("val_images"), "val_labels");
        assert_eq!(sorted("arr_0 arr_1").unused, ["arr_0", "arr_1"]);
    }
}
