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
mod painter;
mod pin;
mod png;
mod predict;
mod profile;
mod prune;
mod report;
mod reproduce;
mod runs;
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

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextValue, ErrorKind};
use keepbest_core::text::visible;

use args::{Cli, Verb};
use failure::{Exit, Failure};
use terminal::Terminal;

/// Runs the program.
pub fn main() -> ExitCode {
    let terminal = Terminal::detect();
    signals::survive_file_size_limit();
    signals::fail_when_aborted();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A damaged image may stop a decoder: that is told as an error of ours.
        if !keepbest::data::is_decoding() {
            hook(panic);
        }
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    match run(&cli, &terminal) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            failure.print(&terminal);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version go to stdout, complaints to stderr; clap has worded both.
fn usage(mut error: clap::Error) -> ExitCode {
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
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::from(Exit::Done as u8),
        _ => ExitCode::from(Exit::Usage as u8),
    }
}

fn run(cli: &Cli, terminal: &Terminal) -> Result<Exit, Failure> {
    match &cli.verb {
        Verb::Train(args) => train::run(args, terminal),
        Verb::Evaluate(args) => evaluate::run(args, terminal),
        Verb::Predict(args) => predict::run(args, terminal),
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
