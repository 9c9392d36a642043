//! Runs and models of training loops other than ours: the keeper kept them, and only that program has the network and the images.

use std::fmt;
use std::path::Path;

use keepbest_core::text::shell_word;
use keepbest_keeper::RunView;

use crate::place::run_around;

/// What a `run.toml` that is not of our trainer says its loop with.
const KEY: &str = "loop";

/// A training loop that is not ours, and had the keeper keep its best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLoop {
    name: String,
}

impl OtherLoop {
    /// The loop that a `run.toml` names; `None` for one of our trainer.
    #[must_use]
    pub fn of_config(text: &str) -> Option<Self> {
        let table: toml::Table = text.parse().ok()?;
        let name = table.get(KEY)?.as_str()?.to_owned();
        Some(Self { name })
    }

    /// The loop of a run; `None` where it is our trainer.
    #[must_use]
    pub fn of_run(view: &RunView) -> Option<Self> {
        Self::of_config(&view.config().ok()?)
    }

    /// The loop of the run that a model's file lies in; `None` where it is our trainer, and for a file in no run.
    #[must_use]
    pub fn around(path: &Path) -> Option<Self> {
        Self::of_run(&RunView::open(run_around(path)?).ok()?)
    }

    /// The name in `run.toml`: `python`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How to go on with a run of it.
    #[must_use]
    pub fn resume_hint(&self, run: &Path) -> String {
        match &*self.name {
            "python" => format!(
                "in that program, keepbest.Keeper.resume({:?}) goes on with it",
                run.display().to_string()
            ),
            _ => "that program goes on with it".into(),
        }
    }

    /// How to use a model of it.
    pub(crate) fn model_hint(&self, path: &Path, network: Option<&str>) -> String {
        let there = match &*self.name {
            "python" => "`keepbest.load` there gives its weights; ",
            _ => "",
        };
        let (file, made) = (shell_word(path), "makes a full model of it");
        match network {
            Some(network) => format!(
                "{there}its tensors are those of {network}: `keepbest import {file} --model {network} --to FILE.safetensors` {made}"
            ),
            None => format!(
                "{there}if it is a network that `keepbest models` lists, `keepbest import {file} --model NAME --to FILE.safetensors` {made}"
            ),
        }
    }
}

impl fmt::Display for OtherLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.name {
            "python" => f.write_str("a loop in Python"),
            name => write!(f, "a loop called {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_known_by_its_run_toml() {
        let of = |text: &str| OtherLoop::of_config(text).map(|it| it.to_string());
        let python = "loop = \"python\"\n[keeper]\nmonitor = \"val/accuracy\"";
        assert_eq!(of(python).as_deref(), Some("a loop in Python"));
        assert_eq!(
            of("loop = \"candle\"").as_deref(),
            Some("a loop called candle")
        );
        for ours in ["epochs = 3", "loop = 3", "not TOML"] {
            assert_eq!(of(ours), None);
        }
    }
}
