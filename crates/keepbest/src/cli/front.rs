//! Pareto fronts as tables: of a run's checkpoints, and of the bests of runs.

use std::path::Path;

use keepbest_core::pareto::Point;
use keepbest_core::{Expression, Metrics, Pareto};
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{BestRecord, Front, RunView, fronts};
use keepbest_model::fixed_costs;
use keepbest_model::words::{count, value};
use keepbest_nn::{ModelSpec, Network};
use keepbest_store::CheckpointState;
use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure};
use crate::cli::table::Table;
use crate::cli::words::{shorten, tail};

const WIDTH: usize = 80;

/// The best of a run by one of its objectives, among those of other runs.
struct Contender {
    run: String,
    best: BestRecord,
    /// Or the words for why it has none.
    point: Result<Point, String>,
    on_front: bool,
}

/// The bests of several runs, and which of them no other dominates.
pub(super) struct Standings {
    pareto: Pareto,
    contenders: Vec<Contender>,
}

impl Standings {
    pub(super) fn of<'a>(
        pareto: &Pareto,
        views: impl Iterator<Item = &'a RunView>,
    ) -> Result<Self, Failure> {
        let mut contenders = Vec::new();
        let mut missing = None;
        for view in views {
            for best in view.best().into_iter().chain(view.others()) {
                let point = match pareto.point(&known(&best)) {
                    Ok(Some(point)) => Ok(point),
                    Ok(None) => Err("a value is not finite".into()),
                    Err(error) => {
                        let words = format!("{} was not measured", error.name);
                        missing.get_or_insert(error);
                        Err(words)
                    }
                };
                contenders.push(Contender {
                    run: view.name(),
                    best,
                    point,
                    on_front: false,
                });
            }
        }
        let points: Vec<Option<Point>> = contenders
            .iter()
            .map(|one| one.point.as_ref().ok().cloned())
            .collect();
        // What no run has is mistyped.
        if let (Some(error), true) = (missing, points.iter().all(Option::is_none)) {
            return Err(Failure::of(Exit::Usage, &error).with_hint(error.hint()));
        }
        for (one, on_front) in contenders.iter_mut().zip(pareto.front(&points)) {
            one.on_front = on_front;
        }
        Ok(Self {
            pareto: pareto.clone(),
            contenders,
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut heads = vec!["run".to_owned(), "is".into()];
        heads.extend(goal_heads(&self.pareto));
        heads.push("on the front?".into());
        let mut table = Table::of(heads, usize::MAX);
        for one in &self.contenders {
            let mut cells = vec![
                tail(&one.run, 20),
                shorten(&one.best.reference.to_string(), 18),
            ];
            match &one.point {
                Ok(point) => cells.extend(point.values().iter().copied().map(value)),
                Err(_) => cells.extend(self.pareto.goals().iter().map(|_| String::new())),
            }
            cells.push(self.words(one));
            table.cells(cells);
        }
        table.lines_within(WIDTH)
    }

    fn words(&self, one: &Contender) -> String {
        let point = match &one.point {
            _ if one.on_front => return "yes".into(),
            Ok(point) => point,
            Err(words) => return words.clone(),
        };
        let dominates = |other: &&Contender| {
            let order = other
                .point
                .as_ref()
                .map(|it| self.pareto.compare(it, point));
            other.on_front && order.is_ok_and(|order| order.is_some_and(std::cmp::Ordering::is_gt))
        };
        let by = self.contenders.iter().find(dominates);
        by.map_or_else(String::new, |by| format!("{} is better", by.run))
    }

    /// What there is to say of the bests of one run.
    pub(super) fn json(&self, run: &str) -> Value {
        let own = self.contenders.iter().filter(|one| one.run == run);
        let told = own.map(|one| {
            let point = one.point.as_ref().ok();
            json!({
                "ref": one.best.reference,
                "on_front": one.on_front,
                "values": point.map(|point| values(&self.pareto, point)),
            })
        });
        told.collect()
    }
}

/// What is wrong with goals of which one names something that no run has, whatever direction it would have.
pub(super) fn unmeasured<'a>(
    text: &str,
    views: impl Iterator<Item = &'a RunView>,
) -> Option<Failure> {
    let bests = views.flat_map(|view| view.best().into_iter().chain(view.others()));
    let known: Vec<Metrics> = bests.map(|best| known(&best)).collect();
    let goals = text.split(',').map(|goal| {
        let direction = goal.strip_prefix("max:").or(goal.strip_prefix("min:"));
        direction.unwrap_or(goal).parse::<Expression>()
    });
    for goal in goals.flatten() {
        let missing: Option<Vec<_>> = known
            .iter()
            .map(|metrics| goal.evaluate(metrics).err())
            .collect();
        if let Some(error) = missing.and_then(|missing| missing.into_iter().next()) {
            return Some(Failure::of(Exit::Usage, &error).with_hint(error.hint()));
        }
    }
    None
}

/// What was measured on a best, and what its file tells.
fn known(best: &BestRecord) -> Metrics {
    let mut metrics = costs(&best.path).unwrap_or_default();
    metrics.extend(best.metrics.iter());
    metrics
}

/// The costs of a file that has its network with it.
fn costs(path: &Path) -> Option<Metrics> {
    // Of the bytes only the header is read.
    let file = ModelFile::open_unverified(path).ok()?;
    let spec = ModelSpec::from_json(file.metadata?.model.as_ref()?).ok()?;
    Some(fixed_costs(&Network::new(&spec).ok()?, &file.weights))
}

/// The fronts of a run, each under a line that names it.
pub(super) fn lines(view: &RunView) -> Vec<String> {
    let mut lines = Vec::new();
    for Front {
        pareto, members, ..
    } in fronts(view)
    {
        lines.push(String::new());
        let kept = count(members.len() as u64, "checkpoint");
        lines.push(format!("Pareto front of {pareto}: {kept}"));
        let mut heads = vec!["epoch".to_owned(), "step".into()];
        heads.extend(goal_heads(&pareto));
        let mut table = Table::of(heads, 0);
        for member in members {
            let saved = &member.saved;
            let mut cells = vec![saved.epoch.to_string(), saved.step.to_string()];
            let point = point_of(&pareto, member);
            cells.extend(point.iter().flat_map(Point::values).copied().map(value));
            let names = view.state().referenced_by(&saved.checkpoint);
            let mut is: Vec<String> = names.iter().map(ToString::to_string).collect();
            if member.pruned.is_some() {
                is.push("archived".into());
            }
            cells.push(is.join(", "));
            table.cells(cells);
        }
        lines.extend(table.lines());
    }
    lines
}

/// The fronts of a run.
pub(super) fn json(view: &RunView) -> Value {
    let front = |front: &Front<'_>| {
        let members = front.members.iter().map(|member| {
            let saved = &member.saved;
            let point = point_of(&front.pareto, member);
            json!({
                "path": saved.checkpoint.path(view.path()),
                "step": saved.step,
                "epoch": saved.epoch,
                "archived": member.pruned.is_some(),
                "values": point.map(|point| values(&front.pareto, &point)),
            })
        });
        json!({"of": front.pareto.to_string(), "checkpoints": members.collect::<Vec<_>>()})
    };
    fronts(view).iter().map(front).collect()
}

/// The point of a checkpoint of a front.
fn point_of(pareto: &Pareto, member: &CheckpointState) -> Option<Point> {
    let record = member.evaluation.as_ref()?;
    pareto.point(&record.metrics).ok().flatten()
}

fn goal_heads(pareto: &Pareto) -> impl Iterator<Item = String> {
    let goals = pareto.goals().iter();
    goals.map(|goal| shorten(&goal.monitor.to_string(), 18))
}

/// The values by what they are of.
fn values(pareto: &Pareto, point: &Point) -> Value {
    let names = pareto.goals().iter().map(|goal| goal.monitor.to_string());
    let values = point.values().iter().map(|value| json!(value));
    Value::Object(names.zip(values).collect())
}
