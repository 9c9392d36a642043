//! Reading the command line, doing it, and telling how it went.

// First, for its macro.
#[macro_use]
mod output;

mod archive;
mod args;
mod attest;
mod average;
mod card;
mod class_names;
mod compare;
mod completions;
mod data;
mod draw;
mod evaluate;
mod explain;
mod export;
mod failure;
mod filter;
mod front;
mod fsck;
mod gauge;
mod import;
mod inspect;
mod list;
mod lr_find;
mod measured;
mod model;
mod models;
mod pace;
mod painter;
mod pin;
mod png;
mod predict;
mod profile;
mod prune;
mod report;
mod reproduce;
mod runs;
mod serve;
mod settings_args;
mod show;
mod signals;
mod table;
mod terminal;
mod thresholds;
mod train;
mod tui;
mod verify;
mod words;

use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser;
use clap::error::{ContextValue, ErrorKind};
use keepbest_core::text::visible;
use keepbest_train::{Event, Observer};

use args::{Cli, Verb};
use failure::{Exit, Failure};
use painter::Painter;
use terminal::Terminal;

/// Runs the program with these arguments, of which the first is its name, and gives its exit code: 0 done, 1 failed, 2 a
/// call that is not understood, 3 a check did not hold, 130 interrupted. Takes over the process's signals, its panic hook
/// and its streams, so it is for a process that does nothing else.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let terminal = Terminal::detect();
    signals::survive_file_size_limit();
    signals::fail_when_aborted();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A damaged image may stop a decoder: that is told as an error of ours.
        if !keepbest_data::is_decoding() {
            output::settle();
            hook(panic);
        }
    }));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let exit = run(&cli, &terminal).unwrap_or_else(|failure| {
        failure.print(&terminal);
        failure.exit
    });
    output::end();
    exit as u8
}

/// Tells on stderr what a run does, as `keepbest train` does, for a program that trains in its own process. All is written by when
/// it is dropped, if stderr takes it.
pub struct Teller(Painter);

impl Teller {
    /// For stderr as it is now.
    #[must_use]
    pub fn new() -> Self {
        // That it is told to stop, and what a second signal does, is that program's.
        Self(Painter::new(Terminal::detect(), false, Arc::default()))
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Teller {
    fn on(&mut self, event: Event<'_>) {
        self.0.on(event);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.clear();
        output::settle();
    }
}

/// Help and version go to stdout, complaints to stderr; clap has worded both.
fn usage(mut error: clap::Error) -> u8 {
    // Complaints repeat what was given, which may be names of files: it is written like all else.
    let shown = |text: &String| visible(text).into_owned();
    let given = error.context().map(|(kind, value)| match value {
        ContextValue::String(text) => (kind, ContextValue::String(shown(text))),
        ContextValue::Strings(all) => {
            let all = all.iter().map(shown).collect();
            (kind, ContextValue::Strings(all))
        }
        other => (kind, other.clone()),
    });
    for (kind, value) in given.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    // Nobody is left to tell when this fails.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done as u8,
        _ => Exit::Usage as u8,
    }
}

fn run(cli: &Cli, terminal: &Terminal) -> Result<Exit, Failure> {
    match &cli.verb {
        Verb::Train(args) => train::run(args, terminal),
        Verb::Evaluate(args) => evaluate::run(args, terminal),
        Verb::Predict(args) => predict::run(args, terminal),
        Verb::Serve(args) => serve::run(args, terminal),
        Verb::LrFind(args) => lr_find::run(args, terminal),
        Verb::Thresholds(args) => thresholds::run(args, terminal),
        Verb::Average(args) => average::run(args, terminal),
        Verb::Inspect(args) => inspect::run(args, terminal),
        Verb::Import(args) => import::run(args, terminal),
        Verb::Export(args) => export::run(args, terminal),
        Verb::List(args) => list::run(args, terminal),
        Verb::Show(args) => show::run(args, terminal),
        Verb::Compare(args) => compare::run(args, terminal),
        Verb::Report(args) => report::run(args, terminal),
        Verb::Models(args) => models::run(args),
        Verb::Data(args) => data::run(args, terminal),
        Verb::Verify(args) => verify::run(args, terminal),
        Verb::Attest(args) => attest::run(args),
        Verb::Card(args) => card::run(args),
        Verb::Reproduce(args) => reproduce::run(args, terminal),
        Verb::Explain(args) => explain::run(args),
        Verb::Prune(args) => prune::run(args, terminal),
        Verb::Pin(args) => pin::run(args, true),
        Verb::Unpin(args) => pin::run(args, false),
        Verb::Archive(args) => archive::run(args, terminal),
        Verb::Restore(args) => archive::restored(args),
        Verb::Fsck(args) => fsck::run(args),
        Verb::Completions(args) => completions::run(args),
    }
}
