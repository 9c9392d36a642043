//! Tensors that are left out of an import.

use std::collections::BTreeSet;

use keepbest_formats::StateDict;
use keepbest_formats::names::NameFilter;

use crate::words::few;

/// Tensors that `--drop` leaves out.
pub(super) struct Dropped {
    patterns: NameFilter,
    /// The tensors that were left out.
    pub names: Vec<String>,
    used: BTreeSet<String>,
}

impl Dropped {
    pub(super) fn new(patterns: NameFilter) -> Self {
        Self {
            patterns,
            names: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// The tensors that no pattern matches.
    pub(super) fn leave_out(&mut self, weights: StateDict) -> StateDict {
        let mut left = StateDict::new();
        for (name, tensor) in weights.iter() {
            match self.patterns.matches(name) {
                Some(pattern) => {
                    self.names.push(name.into());
                    self.used.insert(pattern.into());
                }
                None => left
                    .insert(name, tensor.clone())
                    .expect("names of a state dict are unique"),
            }
        }
        left
    }

    pub(super) fn notes(&self, given: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.names.is_empty() {
            notes.push(format!("left out by --drop: {}", few(&self.names)));
        }
        let unused = given.iter().filter(|pattern| !self.used.contains(*pattern));
        notes.extend(
            unused.map(|pattern| format!("no tensor has a name that --drop {pattern:?} is for")),
        );
        notes
    }
}
