//! Names of runs: each is one folder in the folder of runs.

use keepbest_core::text::is_visible;
use keepbest_keeper::Selector;

/// What a name must be, in words.
pub(crate) const RULE: &str = "the name of one folder: no path, not beginning with -, not ending as @best does, which picks a model of a run, and with nothing in it that is not seen";

/// Whether a run of this name would be found by it again, and nothing else would be taken for it: `run@best` means one thing.
pub(crate) fn is_name(text: &str) -> bool {
    let reserved = ["", ".", ".."].contains(&text) || text.starts_with('-');
    let picks = text
        .rsplit_once('@')
        .is_some_and(|(_, which)| which.is_empty() || which.parse::<Selector>().is_ok());
    !reserved && !picks && !text.contains(std::path::is_separator) && is_visible(text)
}

/// The name of the run `number` of a network, whose own name may be anything in a model file.
pub(crate) fn of_network(network: &str, number: u32) -> String {
    let kept = |c: char| !std::path::is_separator(c) && is_visible(c.encode_utf8(&mut [0; 4]));
    let name: String = network
        .chars()
        .map(|c| if kept(c) { c } else { '_' })
        .collect();
    match name.trim_start_matches('-') {
        "" => format!("run-{number}"),
        name => format!("{name}-{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder() {
        for name in ["run", "run 1", "größe", "a@b", "it's", "..x", ".hidden"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/abs",
            "x/",
            "-x",
            "a\nb",
            "\u{1b}[31m",
            "\u{202e}x",
            "a@best",
            "a@best:val/loss",
            "a@step:3",
            "a@",
        ] {
            assert!(!is_name(name), "{name:?}");
        }
        for (network, name) in [
            ("simple-cnn", "simple-cnn-3"),
            ("../../x", ".._.._x-3"),
            ("\u{1b}net", "_net-3"),
            ("-", "run-3"),
            ("a@best", "a@best-3"),
        ] {
            assert_eq!(of_network(network, 3), name);
            assert!(is_name(name));
        }
    }
}
