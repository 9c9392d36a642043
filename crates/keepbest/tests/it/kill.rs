//! kill -9 of the real program at random moments of a training that saves after every step: what it had promised is there, whole,
//! and the run goes on to the very model of a run that nobody disturbed.
//!
//! `KEEPBEST_KILLS` sets how often (500 by default), `KEEPBEST_KILL_SEED` the moments. Both are printed.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use keepbest::formats::model_file::ModelFile;
use keepbest::keeper::{RunView, fsck};
use keepbest::kernels::random::bits;
use serde_json::Value;

use crate::support::Place;

/// Saves at every step: 15 saves in a whole run, many of them a new best.
const RUN: &str = "--data data --model lenet5 --epochs 2 --batch-size 16 --lr 0.02 --eval-every 1";

/// Series at the same time, so that a kill also meets a machine that is busy.
const SERIES: u64 = 2;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Numbers from a seed.
struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        bits(self.seed, self.drawn - 1) % bound
    }
}

#[derive(Debug, Default)]
struct Count {
    kills: u64,
    /// Kills that met a run which had a best already.
    with_best: u64,
    /// Kills that left something to mend.
    mended: u64,
    /// Runs that came to their end.
    finished: u64,
    lost: Vec<String>,
}

#[test]
fn killed_at_any_moment_nothing_is_lost() {
    let kills = number("KEEPBEST_KILLS", 500);
    let seed = number("KEEPBEST_KILL_SEED", u64::from(std::process::id()));
    println!("KEEPBEST_KILLS={kills} KEEPBEST_KILL_SEED={seed}");
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let series: Vec<_> = (0..SERIES)
            .map(|n| {
                let share = kills / SERIES + u64::from(n < kills % SERIES);
                scope.spawn(move || {
                    let seed = seed ^ (n << 32);
                    one_series(share, Random { seed, drawn: 0 })
                })
            })
            .collect();
        series.into_iter().map(|s| s.join().unwrap()).collect()
    });
    let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
    let lost: Vec<&String> = counts.iter().flat_map(|count| &count.lost).collect();
    println!(
        "{} kills ({} with a best, {} left something to mend), {} runs finished the same, {} lost",
        sum(|c| c.kills),
        sum(|c| c.with_best),
        sum(|c| c.mended),
        sum(|c| c.finished),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(sum(|c| c.kills), kills);
    // The moments must be in the training, not before or after it.
    assert!(sum(|c| c.with_best) >= kills / 4);
    assert!(sum(|c| c.finished) >= 1);
}

/// Kills runs, each several times in sequence, until there were as many kills as asked.
fn one_series(kills: u64, mut random: Random) -> Count {
    let place = Place::with_data();
    let began = std::time::Instant::now();
    let whole = place.json(&format!("train {RUN} --name whole --quiet --json"));
    // As long as a whole run takes, at least: so that the last step is reached, too.
    let longest = (began.elapsed().as_micros() as u64).max(20_000);
    let mut count = Count::default();
    let mut run = 0;
    while count.kills < kills {
        run += 1;
        let name = format!("run{run}");
        let mut promised = None;
        loop {
            let begun = place.path(&format!("runs/{name}/run.toml")).exists();
            let args = match begun {
                true => format!("train --resume {name}"),
                false => format!("train {RUN} --name {name}"),
            };
            // After the last kill the run is let to its end.
            let wait = match count.kills < kills {
                true => Some(random.below(longest)),
                false => None,
            };
            let (code, said) = run_for(&place, &args, wait);
            match code {
                // It came to its end before the kill.
                Some(0) => {
                    let shown = place.json(&format!("show {name} --json"));
                    if let Err(problem) = same_end(&shown, &whole) {
                        count.lost.push(format!("{name}: {problem}"));
                    }
                    count.finished += 1;
                    break;
                }
                Some(code) => {
                    count.lost.push(format!("{name}: exit code {code}\n{said}"));
                    break;
                }
                None => count.kills += 1,
            }
            match check(&place, &name, &said, &mut promised, &mut count) {
                Ok(true) => {}
                // Killed before the run had begun: there is nothing to resume, the name may be in the way.
                Ok(false) => {
                    let _ = std::fs::remove_dir_all(place.path(&format!("runs/{name}")));
                }
                Err(problem) => {
                    count
                        .lost
                        .push(format!("{name}, kill {}: {problem}\n{said}", count.kills));
                    break;
                }
            }
        }
        std::fs::remove_dir_all(place.path(&format!("runs/{name}"))).unwrap();
    }
    count
}

/// Runs the program and kills it after a time. Its exit code, `None` when it was killed, and what it said.
fn run_for(place: &Place, args: &str, microseconds: Option<u64>) -> (Option<i32>, String) {
    let mut child = place
        .command(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        pipe.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    if let Some(microseconds) = microseconds {
        std::thread::sleep(Duration::from_micros(microseconds));
        // SIGKILL; of a process that has ended there is nothing to kill.
        let _ = child.kill();
    }
    let code = child.wait().unwrap().code();
    (code, reader.join().unwrap())
}

/// The run as the kill left it, then mended. Whether it had begun.
fn check(
    place: &Place,
    name: &str,
    said: &str,
    promised: &mut Option<f64>,
    count: &mut Count,
) -> Result<bool, String> {
    let run = place.path(&format!("runs/{name}"));
    // What the user was told is saved, by the value in `best: saved ... (val/accuracy 0.8912, was ...)`.
    for line in said.lines().filter(|line| line.contains("best: saved")) {
        let value = line.split_once("(val/accuracy ").map(|(_, rest)| {
            rest.split([',', ')', ' '])
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        });
        *promised = Some(value.ok_or(format!("no value in {line:?}"))?);
    }
    if !run.join("run.toml").exists() {
        return match promised {
            None => Ok(false),
            Some(_) => Err("the run is gone".into()),
        };
    }
    // As a reader finds it.
    let before = best(&run)?;
    match (before, *promised) {
        (None, Some(value)) => return Err(format!("no best, {value} had been promised")),
        // The value is printed with four digits.
        (Some(found), Some(value)) if found < value - 5e-5 => {
            return Err(format!("best is {found}, {value} had been promised"));
        }
        _ => {}
    }
    count.with_best += u64::from(before.is_some());
    let report = match fsck(&run, true) {
        Ok(report) => report,
        // Killed between the directory and the first line of the journal.
        Err(_) if before.is_none() => return Ok(false),
        Err(error) => return Err(format!("fsck: {error:?}")),
    };
    if !report.is_mended() {
        return Err(format!("not mended: {:?}", report.findings));
    }
    count.mended += u64::from(!report.is_clean());
    let again = fsck(&run, false).map_err(|error| format!("fsck again: {error:?}"))?;
    if !again.is_clean() {
        return Err(format!("found after mending: {:?}", again.findings));
    }
    let after = best(&run)?;
    if after < before {
        return Err(format!("mending went from {before:?} to {after:?}"));
    }
    let view = RunView::open(&run).map_err(|error| format!("journal: {error:?}"))?;
    let journalled = view.best().map(|best| best.score.value);
    if journalled != after {
        return Err(format!(
            "the journal's best is {journalled:?}, the file's {after:?}"
        ));
    }
    Ok(true)
}

/// The accuracy recorded in the best, verified.
fn best(run: &std::path::Path) -> Result<Option<f64>, String> {
    let path = run.join("best.safetensors");
    if !path.exists() {
        return Ok(None);
    }
    let file = ModelFile::open(&path).map_err(|error| format!("best: {error:?}"))?;
    let evaluation = file
        .metadata
        .and_then(|metadata| metadata.attachments.evaluation)
        .ok_or("best has no evaluation")?;
    let value = evaluation["metrics"]["val/accuracy"].as_f64();
    Ok(Some(value.ok_or(format!("no accuracy in {evaluation}"))?))
}

/// The run ended as if nothing had happened.
fn same_end(shown: &Value, whole: &Value) -> Result<(), String> {
    for key in ["digest", "metrics", "step"] {
        if shown["best"][key] != whole["best"][key] {
            return Err(format!("{key}: {} and {}", shown["best"], whole["best"]));
        }
    }
    if shown["test"] != whole["test"] {
        return Err(format!("test: {} and {}", shown["test"], whole["test"]));
    }
    Ok(())
}
