//! Whether the mirror image of an image shows the same class, as far as a data set tells.

use std::sync::Arc;

use crate::{DataBundle, Dataset, Mirrored, embedded};

impl DataBundle {
    /// Whether a mirror image shows the same class. It is told by the layout where that holds one set alone, else by the names
    /// of the classes (digits, letters, sides) and by what the training images look like (writing, of which up to 64 are
    /// decoded).
    pub fn mirrored(&self) -> Mirrored {
        if self.layout_mirrored != Mirrored::Unknown {
            return self.layout_mirrored.clone();
        }
        if self.classes() == embedded::CLASSES {
            return Mirrored::Same;
        }
        let names: Vec<&str> = self.classes().iter().map(String::as_str).collect();
        match by_names(&names) {
            Some(why) => Mirrored::Other { why },
            None if is_writing(&self.train) => Mirrored::Other {
                why: "the images look like writing".to_owned(),
            },
            None => Mirrored::Unknown,
        }
    }
}

/// The names of classes that are others in a mirror.
fn by_names(names: &[&str]) -> Option<String> {
    if let Some(name) = names.iter().find(|name| has_side(name, names)) {
        return Some(format!("`{name}` is a side"));
    }
    if names.len() > 1 && are_numbered(names) {
        return Some(format!("`{}` may be a digit", names[0]));
    }
    let characters: Vec<&&str> = names.iter().filter(|name| is_character(name)).collect();
    (!characters.is_empty() && 2 * characters.len() >= names.len())
        .then(|| format!("`{}` is a letter or digit", characters[0]))
}

/// The words of a name, in lower case: parted by marks, and before capital letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || letter.is_uppercase() && was_lower {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

const SIDES: [&str; 24] = [
    "left",
    "right",
    "leftward",
    "rightward",
    "leftwards",
    "rightwards",
    "lefthand",
    "righthand",
    "lefthanded",
    "righthanded",
    "clockwise",
    "anticlockwise",
    "counterclockwise",
    "east",
    "west",
    "backslash",
    "gauche",
    "droite",
    "links",
    "rechts",
    "izquierda",
    "derecha",
    "sinistra",
    "destra",
];

/// Whether a name says left or right, or is `hand_l` beside `hand_r`.
fn has_side(name: &str, names: &[&str]) -> bool {
    let of_name = words(name);
    if of_name.iter().any(|word| SIDES.contains(&word.as_str())) {
        return true;
    }
    let swapped: Vec<String> = of_name
        .iter()
        .map(|word| match word.as_str() {
            "l" => "r".to_owned(),
            "r" => "l".to_owned(),
            _ => word.clone(),
        })
        .collect();
    // `l` and `r` alone are letters.
    swapped != of_name && of_name.len() > 1 && names.iter().any(|other| words(other) == swapped)
}

/// Whether all names are numbers, or one word with numbers; but WordNet's (`n01440764`), which are things.
fn are_numbered(names: &[&str]) -> bool {
    let stem = |name: &str| {
        name.trim_end_matches(|digit: char| digit.is_ascii_digit())
            .to_lowercase()
    };
    let first = stem(names[0]);
    let numbered =
        |name: &&str| stem(name) == first && name.ends_with(|c: char| c.is_ascii_digit());
    let wordnet = first == "n" && names.iter().all(|name| name.len() == 9);
    // NIST's folders of characters: `4a`, `4b`.
    let code = |name: &&str| {
        let mut letters = name.chars();
        name.len() == 2
            && letters.next().is_some_and(|letter| letter.is_ascii_digit())
            && letters.all(|letter| letter.is_ascii_hexdigit())
    };
    !wordnet && names.iter().all(numbered) || names.iter().all(code)
}

const CHARACTERS: [&str; 34] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "alpha",
    "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
];

/// Whether a name is, or ends with, one character or the word for one.
fn is_character(name: &str) -> bool {
    let words = words(name);
    // A mark alone, such as `+`, is no word.
    words
        .last()
        .map_or(name.trim().chars().count() == 1, |word| {
            word.chars().count() == 1 || CHARACTERS.contains(&word.as_str())
        })
}

/// How many images are looked at.
const SAMPLE: usize = 64;

/// Whether the images are grey, mostly background, and the rest is as far from it as can be: strokes of a pen.
fn is_writing(images: &Arc<dyn Dataset>) -> bool {
    let (mut dark, mut light, mut all) = (0usize, 0usize, 0usize);
    let step = images.len().div_ceil(SAMPLE).max(1);
    for index in (0..images.len()).step_by(step) {
        // Whoever trains on it reports it.
        let Ok(image) = images.image(index) else {
            return false;
        };
        let channels = image.shape().channels;
        for pixel in image.pixels().chunks_exact(channels) {
            if pixel.iter().any(|value| *value != pixel[0]) {
                return false;
            }
            dark += usize::from(pixel[0] < 64);
            light += usize::from(pixel[0] >= 192);
            all += 1;
        }
    }
    let (background, ink) = (dark.max(light), dark.min(light));
    let between = all - dark - light;
    10 * background >= 6 * all && 50 * ink >= all && 8 * between <= all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageShape, MemoryDataset};

    #[test]
    fn names_that_tell() {
        let sets: [&[&str]; 18] = [
            &["0", "1", "9"],
            &["00000", "00042"],
            &["digit_0", "digit_1"],
            &["Sample001", "Sample062"],
            &["4a", "4b", "30"],
            &["a", "b", "c"],
            &["A", "B", "nothing"],
            &["letter A", "letter B"],
            &["class-a", "class-b"],
            &["zero", "one", "two"],
            &["Alpha", "Beta"],
            &["あ", "い"],
            &["+", "-"],
            &["turn left", "turn right", "stop"],
            &["LeftHand", "RightHand"],
            &["hand_l", "hand_r"],
            &["rechts", "links"],
            &["straight", "arrow-left"],
        ];
        for names in sets {
            assert!(by_names(names).is_some(), "{names:?}");
        }
    }

    #[test]
    fn names_that_do_not() {
        let sets: [&[&str]; 6] = [
            &["cat", "dog"],
            &["cat", "car"],
            &["n01440764", "n02102040"],
            &["bright", "copyright", "cleft"],
            &["one person", "two people", "crowd"],
            &["3d print", "2d print", "photo"],
        ];
        for names in sets {
            assert_eq!(by_names(names), None, "{names:?}");
        }
    }

    fn drawn(value: impl Fn(usize, usize) -> u8) -> Arc<dyn Dataset> {
        let shape = ImageShape::new(20, 20, 1);
        let pixels: Vec<u8> = (0..400).map(|at| value(at / 20, at % 20)).collect();
        let names = vec!["x".to_owned()];
        Arc::new(MemoryDataset::new("drawn", shape, pixels, vec![0], names).unwrap())
    }

    #[test]
    fn strokes_are_writing_and_clothes_are_not() {
        let stroke = |y: usize, x: usize| (6..15).contains(&y) && (9..12).contains(&x);
        assert!(is_writing(&drawn(|y, x| if stroke(y, x) {
            250
        } else {
            3
        })));
        assert!(is_writing(&drawn(|y, x| if stroke(y, x) {
            20
        } else {
            255
        })));
        assert!(!is_writing(&drawn(|y, x| (12 * y + x) as u8)));
        assert!(!is_writing(&drawn(|_, _| 0)));
        let clothes = crate::embedded::fashion_mnist().unwrap();
        assert!(!is_writing(&clothes.train));
    }
}
