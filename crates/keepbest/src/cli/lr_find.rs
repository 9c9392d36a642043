//! `keepbest lr-find`: the learning rate range test.

use keepbest_model::words::{count, value};
use keepbest_model::write;
use keepbest_train::{RateRange, lr_find};
use serde_json::json;

use crate::cli::args::LrFindArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::painter::Painter;
use crate::cli::signals::{end_at_next_signal, stop_on_signals};
use crate::cli::terminal::Terminal;

pub(super) fn run(args: &LrFindArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let range = RateRange {
        from: args.min,
        to: args.max,
        steps: args.steps,
    };
    if !(args.min > 0.0 && args.max > args.min && args.max.is_finite()) {
        let message = format!(
            "--min {} and --max {} are no range of rates",
            args.min, args.max
        );
        let hint = "0 < min < max".to_owned();
        return Err(Failure::new(Exit::Usage, message).with_hint(hint));
    }
    if let Some(file) = &args.to {
        write::refuse_existing(file, args.force)?;
    }
    let settings = args.settings.settings()?;
    let stop = stop_on_signals()?;
    let mut painter = Painter::new(*terminal, false, stop.clone());
    let found = lr_find(&settings, range, &stop, &mut painter);
    painter.clear();
    end_at_next_signal();
    let Some(found) = found? else {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    };
    if let Some(file) = &args.to {
        write::write_bytes(file, args.force, found.svg().as_bytes())?;
    }
    if args.json {
        output::json(&json!({
            "suggestion": found.suggestion,
            "diverged": found.diverged,
            "points": found.points,
            "plot": args.to,
        }))?;
        return Ok(Exit::Done);
    }
    let steps = count(found.points.len() as u64, "step");
    if let (true, Some(last)) = (found.diverged, found.points.last()) {
        say!(
            "the loss ran away at {:.2e}, after {steps}",
            last.learning_rate
        );
    }
    match found.suggestion {
        Some(rate) => {
            let least = found.points.iter().map(|point| point.smoothed);
            let least = least.fold(f64::INFINITY, f64::min);
            output::line(format!("--lr {rate:.2e}"))?;
            say!(
                "there the loss was lowest, {}; higher rates no longer helped",
                value(least)
            );
            say!("it is the size of a rate: compare a run with it and one with the default");
        }
        None => {
            let message = format!("the loss never fell in {steps}");
            let hint = "try other rates, --min and --max, or more --steps".to_owned();
            return Err(Failure::new(Exit::Failed, message).with_hint(hint));
        }
    }
    Ok(Exit::Done)
}
