//! Whether the mirror image of an image shows the same class, as far as a data set tells.

use std::sync::Arc;

use crate::{DataBundle, Dataset, Image, Mirrored, embedded};

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

const SIDES: [&str; 36] = [
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
    "lhs",
    "rhs",
    "starboard",
    "larboard",
    "clockwise",
    "anticlockwise",
    "counterclockwise",
    "sinistral",
    "dextral",
    "levo",
    "dextro",
    "east",
    "west",
    "backslash",
    "gauche",
    "droite",
    "links",
    "rechts",
    "izquierda",
    "derecha",
    "esquerda",
    "direita",
    "sinistra",
    "destra",
    "vänster",
    "höger",
];

/// Words that are sides beside their opposite; alone they may be anything.
const OPPOSITES: [(&str, &str); 10] = [
    ("l", "r"),
    ("lh", "rh"),
    ("lt", "rt"),
    ("lft", "rgt"),
    ("port", "starboard"),
    ("cw", "ccw"),
    ("cw", "acw"),
    ("sx", "dx"),
    ("os", "od"),
    ("e", "w"),
];

/// Whether a name says left or right, or is `hand_l` beside `hand_r`.
fn has_side(name: &str, names: &[&str]) -> bool {
    let of_name = words(name);
    if of_name.iter().any(|word| SIDES.contains(&word.as_str())) {
        return true;
    }
    OPPOSITES.iter().any(|(left, right)| {
        let swapped: Vec<&str> = of_name
            .iter()
            .map(|word| match word.as_str() {
                word if word == *left => right,
                word if word == *right => left,
                word => word,
            })
            .collect();
        // One letter alone is a letter.
        let of_letters = left.len() == 1 && of_name.len() < 2;
        swapped != of_name && !of_letters && names.iter().any(|other| words(other) == swapped)
    })
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

/// The number of images that are looked at.
const SAMPLE: usize = 64;

/// Whether the images are grey and show strokes of a pen: mostly background, and the rest as far from it as can be or in
/// thin lines.
fn is_writing(images: &Arc<dyn Dataset>) -> bool {
    let (mut dark, mut light, mut all) = (0usize, 0usize, 0usize);
    let mut strokes = Strokes::default();
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
        strokes.see(&image);
    }
    let (background, ink) = (dark.max(light), dark.min(light));
    let between = all - dark - light;
    10 * background >= 6 * all && 50 * ink >= all && 8 * between <= all || strokes.are_writing()
}

/// What is drawn on images, summed over them.
#[derive(Default)]
struct Strokes {
    images: f64,
    /// The parts of the images that are background, and that are drawn on.
    background: f64,
    ink: f64,
    /// The part of the ink with ink all around it, as far as an eighth of the shorter side.
    broad: f64,
    /// The distance of ink from the background, in levels.
    contrast: f64,
}

impl Strokes {
    fn see(&mut self, image: &Image) {
        let shape = image.shape();
        let (height, width) = (shape.height, shape.width);
        let levels: Vec<u8> = image
            .pixels()
            .chunks_exact(shape.channels)
            .map(|pixel| pixel[0])
            .collect();
        let mut edge: Vec<u8> = levels
            .iter()
            .enumerate()
            .filter(|(at, _)| {
                let (y, x) = (at / width, at % width);
                y == 0 || x == 0 || y + 1 == height || x + 1 == width
            })
            .map(|(_, level)| *level)
            .collect();
        edge.sort_unstable();
        let paper = edge[edge.len() / 2];
        let away: Vec<u8> = levels.iter().map(|level| level.abs_diff(paper)).collect();
        let most = away.iter().copied().max().unwrap_or(0);
        let ink: Vec<bool> = away.iter().map(|away| *away > most / 2).collect();
        let reach = ((height.min(width) + 4) / 8).max(1);
        let count = |of: &[bool]| of.iter().filter(|is| **is).count() as f64;
        let (all, drawn) = (levels.len() as f64, count(&ink));
        self.images += 1.0;
        self.background += away.iter().filter(|away| **away < most / 4).count() as f64 / all;
        self.ink += drawn / all;
        self.broad += count(&eroded(&ink, height, width, reach)) / drawn.max(1.0);
        self.contrast += f64::from(most);
    }

    /// The bounds are between scanned digits (at most 0.03 of the ink is broad) and clothes (0.045).
    fn are_writing(&self) -> bool {
        let mean = |sum: f64| sum / self.images.max(1.0);
        mean(self.background) >= 0.5
            && (0.02..=0.4).contains(&mean(self.ink))
            && mean(self.broad) <= 0.035
            && mean(self.contrast) >= 96.0
    }
}

/// Where all within `reach`, as far as the image goes, is set.
fn eroded(set: &[bool], height: usize, width: usize, reach: usize) -> Vec<bool> {
    // Along lines of `length` pixels, `next` apart: how many are not set up to each, and so in any stretch.
    let along = |set: &[bool], starts: Vec<usize>, length: usize, next: usize| {
        let mut out = vec![false; set.len()];
        for start in starts {
            let mut unset = vec![0; length + 1];
            for at in 0..length {
                unset[at + 1] = unset[at] + usize::from(!set[start + at * next]);
            }
            for at in 0..length {
                let (from, to) = (at.saturating_sub(reach), (at + reach + 1).min(length));
                out[start + at * next] = unset[to] == unset[from];
            }
        }
        out
    };
    let rows = along(set, (0..height).map(|y| y * width).collect(), width, 1);
    along(&rows, (0..width).collect(), height, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageShape, MemoryDataset};

    #[test]
    fn names_that_tell() {
        let sets: [&[&str]; 24] = [
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
            &["lhs", "rhs"],
            &["hand-LHS", "none"],
            &["port", "starboard"],
            &["cw", "ccw"],
            &["eye_os", "eye_od"],
            &["lt", "rt"],
        ];
        for names in sets {
            assert!(by_names(names).is_some(), "{names:?}");
        }
    }

    #[test]
    fn names_that_do_not() {
        let sets: [&[&str]; 8] = [
            &["cat", "dog"],
            &["cat", "car"],
            &["n01440764", "n02102040"],
            &["bright", "copyright", "cleft"],
            &["one person", "two people", "crowd"],
            &["3d print", "2d print", "photo"],
            &["port", "beach"],
            &["os", "app"],
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
        // A stroke that fades out, as in an image that was made smaller.
        let soft = |y: usize, x: usize| {
            let away = (y as i32 - 10).abs().max(2 * (x as i32 - 10).abs());
            (250 - 28 * away).max(0) as u8
        };
        assert!(is_writing(&drawn(soft)));
        let broad = |y: usize, x: usize| {
            let away = (y as i32 - 10).abs().max((x as i32 - 10).abs());
            (250 - 20 * away).max(0) as u8
        };
        assert!(!is_writing(&drawn(broad)));
        assert!(!is_writing(&drawn(|y, x| (12 * y + x) as u8)));
        assert!(!is_writing(&drawn(|_, _| 0)));
        let clothes = crate::embedded::fashion_mnist().unwrap();
        assert!(!is_writing(&clothes.train));
    }
}
