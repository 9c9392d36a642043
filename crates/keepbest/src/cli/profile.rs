//! `train --profile`: where the time of a session went.

use keepbest_train::{Event, Observer, Profiled, Wish};

use crate::cli::table::Table;

/// Passes on what a run tells, and takes the profile when it is wanted.
pub(super) struct Profiling<'a> {
    observer: &'a mut dyn Observer,
    wanted: bool,
    profiled: &'a mut Option<Profiled>,
}

impl<'a> Profiling<'a> {
    pub(super) fn new(
        observer: &'a mut dyn Observer,
        wanted: bool,
        profiled: &'a mut Option<Profiled>,
    ) -> Self {
        Self {
            observer,
            wanted,
            profiled,
        }
    }
}

impl Observer for Profiling<'_> {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Profiled(profiled) = &event {
            *self.profiled = Some((*profiled).clone());
        }
        self.observer.on(event);
    }

    fn wish(&mut self) -> Option<Wish> {
        self.observer.wish()
    }

    fn wants_profile(&self) -> bool {
        self.wanted
    }
}

/// The engine's table by layer and phase, and what the session spent outside of it.
pub(super) fn table(profiled: &Profiled) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(profiled.engine.to_string().lines().map(str::to_owned));
    lines.push(String::new());
    let spent = &profiled.session;
    let parts = [
        ("training steps", spent.steps),
        ("waiting for images", spent.loading),
        ("evaluation", spent.evaluating),
        ("offering models, report", spent.keeping),
        ("the end: last save, best measured again", spent.ending),
    ];
    let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let mut table = Table::new(["the session", ">seconds", ">share"]);
    for (what, seconds) in parts.into_iter().chain([("all", all)]) {
        let share = 100.0 * seconds / all;
        table.row([what.into(), format!("{seconds:.3}"), format!("{share:.1}%")]);
    }
    lines.extend(table.lines());
    lines
}
