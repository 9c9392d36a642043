use std::{
    collections::BTreeSet,
    num::{NonZeroU64, NonZeroUsize},
};

use proptest::prelude::*;

use super::*;
use crate::{
    metrics::{Direction, Metrics},
    objective::Objective,
};

fn objective() -> Objective {
    Objective::new("val/accuracy").unwrap()
}

/// Step, epoch, value, bytes; the name is the step. The metrics of one that has a score are the value and its size, which is
/// of no use where it is 13.
fn checkpoint(step: u64, epoch: u64, value: Option<f64>, bytes: u64) -> Checkpoint {
    let score = value.map(|value| Score { value, tie: None });
    let size = if bytes == 13 { f64::NAN } else { bytes as f64 };
    let metrics =
        value.map(|value| Metrics::from_iter([("val/accuracy", value), ("model_bytes", size)]));
    Checkpoint {
        name: format!("s{step}"),
        step,
        epoch,
        score,
        metrics: metrics.unwrap_or_default(),
        bytes,
    }
}

fn run() -> Vec<Checkpoint> {
    vec![
        checkpoint(47, 1, Some(0.50), 10),
        checkpoint(94, 2, Some(0.80), 10),
        checkpoint(141, 3, Some(0.70), 10),
        checkpoint(188, 4, None, 10),
        checkpoint(235, 5, Some(0.80), 10),
        checkpoint(282, 6, Some(0.60), 10),
    ]
}

fn kept(policies: &[&str]) -> Vec<String> {
    let policies: Vec<Policy> = policies.iter().map(|text| text.parse().unwrap()).collect();
    plan(&run(), &policies, &Protections::default(), &objective())
        .kept
        .into_iter()
        .map(|kept| kept.name)
        .collect()
}

#[test]
fn policies_keep_what_they_say() {
    assert!(kept(&[]).is_empty());
    assert_eq!(kept(&["last:2"]), ["s235", "s282"]);
    assert_eq!(kept(&["last:100"]).len(), 6);
    // Of two equal scores, the earlier.
    assert_eq!(kept(&["best:1"]), ["s94"]);
    assert_eq!(kept(&["best:3"]), ["s94", "s141", "s235"]);
    // A checkpoint without a score is never among the best.
    assert_eq!(kept(&["best:100"]), ["s47", "s94", "s141", "s235", "s282"]);
    // The first at or after 100 and 200.
    assert_eq!(kept(&["every:100"]), ["s141", "s235"]);
    assert_eq!(kept(&["every:1"]).len(), 6);
    assert!(kept(&["every:1000"]).is_empty());
    assert_eq!(kept(&["epochs:2"]), ["s94", "s188", "s282"]);
    assert_eq!(kept(&["epochs:4"]), ["s188"]);
    // The best first, then the one without a score.
    assert_eq!(kept(&["bytes:25"]), ["s94", "s235"]);
    assert_eq!(kept(&["bytes:50"]), ["s47", "s94", "s141", "s235", "s282"]);
    assert_eq!(kept(&["bytes:60"]).len(), 6);
    assert!(kept(&["bytes:9"]).is_empty());
    // What others keep counts.
    assert_eq!(kept(&["bytes:30", "last:1"]), ["s94", "s235", "s282"]);
    assert_eq!(
        kept(&["best:1", "last:1", "epochs:3"]),
        ["s94", "s141", "s282"]
    );
}

#[test]
fn the_direction_decides_what_is_best() {
    let loss = Objective::with_direction("m", Direction::Minimise).unwrap();
    let best = plan(
        &run(),
        &["best:1".parse().unwrap()],
        &Protections::default(),
        &loss,
    );
    assert_eq!(best.kept[0].name, "s47");
}

#[test]
fn a_score_that_is_no_number_is_no_score() {
    let mut checkpoints = run();
    checkpoints[0].score = Some(Score {
        value: f64::NAN,
        tie: None,
    });
    checkpoints[1].score = Some(Score {
        value: f64::INFINITY,
        tie: None,
    });
    let plan = plan(
        &checkpoints,
        &["best:100".parse().unwrap()],
        &Protections::default(),
        &objective(),
    );
    assert!(!plan.keeps("s47") && !plan.keeps("s94"));
}

#[test]
fn protections_override_every_policy() {
    let protections = Protections {
        refs: [("best", "s94"), ("best:val/loss", "s141"), ("last", "s282")]
            .map(|(name, target)| (name.into(), target.into()))
            .into(),
        pinned: ["s47".to_owned(), "gone".to_owned()].into(),
        resumed_from: ["s141".to_owned()].into(),
        in_use: ["s94".to_owned()].into(),
    };
    let plan = plan(
        &run(),
        &["best:1".parse().unwrap()],
        &protections,
        &objective(),
    );
    let reasons = |name: &str| {
        let reasons = plan.reasons_to_keep(name).unwrap_or_default();
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reasons("s47"), ["it is pinned"]);
    assert_eq!(
        reasons("s94"),
        [
            "it is the best",
            "it is open in a reader",
            "number 1 of the best 1"
        ]
    );
    assert_eq!(
        reasons("s141"),
        ["it is the best by val/loss", "a run was resumed from it"]
    );
    assert_eq!(reasons("s282"), ["it is the last, the resume point"]);
    assert_eq!(plan.kept.len(), 4);
    assert_eq!(
        plan.dropped
            .iter()
            .map(|dropped| (dropped.name.as_str(), dropped.reasons[0].to_string()))
            .collect::<Vec<_>>(),
        [
            ("s188", "it has no score, the best 1 are kept".to_owned()),
            ("s235", "number 2 by score, the best 1 are kept".to_owned()),
        ]
    );
}

#[test]
fn the_front_stays() {
    let checkpoints = [
        checkpoint(10, 1, Some(0.5), 3),
        checkpoint(20, 2, Some(0.7), 5),
        checkpoint(30, 3, Some(0.6), 5),
        checkpoint(40, 4, Some(0.7), 5),
        checkpoint(50, 5, Some(0.9), 13),
        checkpoint(60, 6, None, 1),
    ];
    let policies = [PARETO.parse().unwrap()];
    let plan = plan(
        &checkpoints,
        &policies,
        &Protections::default(),
        &objective(),
    );
    let kept = plan.kept.iter().map(|kept| kept.reasons[0].to_string());
    let reason = "on the Pareto front of val/accuracy,model_bytes";
    assert_eq!(kept.collect::<Vec<_>>(), [reason; 2]);
    assert!(plan.keeps("s10") && plan.keeps("s20"));
    let dropped = plan.dropped.iter();
    let told = dropped.map(|dropped| (dropped.name.as_str(), dropped.reasons[0].to_string()));
    let by_20 = "step 20 is as good or better by each of val/accuracy,model_bytes".to_owned();
    let no_point = "it was rejected or has no finite value, the Pareto front of val/accuracy,model_bytes is kept";
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("s30", by_20.clone()),
            // Of equals the earlier stays.
            ("s40", by_20),
            ("s50", no_point.to_owned()),
            ("s60", no_point.to_owned()),
        ]
    );
}

#[test]
fn every_drop_has_a_reason_from_every_policy() {
    let policies: Vec<Policy> = ["last:1", "best:1", "every:100", "epochs:2", "bytes:10"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let plan = plan(&run(), &policies, &Protections::default(), &objective());
    assert_eq!(plan.dropped.len(), 1);
    assert_eq!(
        plan.dropped[0]
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [
            "number 6 from the end, the last 1 are kept",
            "number 5 by score, the best 1 are kept",
            "another is kept for its 100 steps",
            "another is kept for its 2 epochs",
            "it does not fit into the budget of 10",
        ]
    );
    let none = super::plan(&run()[..1], &[], &Protections::default(), &objective());
    assert_eq!(none.dropped[0].reasons, [DropReason::NoPolicy]);
}

#[test]
fn several_checkpoints_in_an_epoch_leave_the_latest() {
    let checkpoints: Vec<Checkpoint> = (1..=12)
        .map(|i| checkpoint(i * 10, i.div_ceil(3), None, 1))
        .collect();
    let plan = plan(
        &checkpoints,
        &["epochs:2".parse().unwrap()],
        &Protections::default(),
        &objective(),
    );
    assert_eq!(
        plan.kept
            .iter()
            .map(|kept| kept.name.as_str())
            .collect::<Vec<_>>(),
        ["s60", "s120"]
    );
}

#[test]
fn sizes_that_overflow_do_not() {
    let checkpoints = [
        checkpoint(1, 1, Some(0.1), u64::MAX),
        checkpoint(2, 2, Some(0.2), u64::MAX),
    ];
    let plan = plan(
        &checkpoints,
        &[Policy::Bytes(u64::MAX)],
        &Protections::default(),
        &objective(),
    );
    // The sum saturates at the budget: still no panic, and the better is kept.
    assert!(plan.keeps("s2"));
}

#[test]
fn policy_text() {
    for (text, shown) in [
        ("best:3", "best:3"),
        (" last : 2 ", "last:2"),
        ("every:1000", "every:1000"),
        ("epochs:5", "epochs:5"),
        ("bytes:2GiB", "bytes:2GiB"),
        ("bytes:1.5 GB", "bytes:1500MB"),
        ("bytes:1024", "bytes:1KiB"),
        ("bytes:1000B", "bytes:1kB"),
        ("bytes:1025", "bytes:1025"),
        ("bytes:0.5KiB", "bytes:512"),
        ("pareto: val/f1_macro, min:x", "pareto:val/f1_macro,min:x"),
    ] {
        let policy: Policy = text.parse().unwrap();
        assert_eq!(policy.to_string(), shown, "{text}");
        assert_eq!(shown.parse::<Policy>().as_ref(), Ok(&policy));
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    }
    for text in [
        "",
        "best",
        "best:",
        "best:0",
        "best:-1",
        "last:x",
        "worst:3",
        "every:0",
        "epochs:0",
        "bytes:0",
        "bytes:GiB",
        "bytes:.5GiB",
        "bytes:1.2.3GiB",
        "bytes:-1",
        "bytes:99999999TiB",
        "bytes:1e3",
        "bytes:0.1B",
        "pareto:val/loss",
        "pareto:val/loss,x",
    ] {
        assert_eq!(
            text.parse::<Policy>(),
            Err(ParsePolicyError {
                text: text.to_owned()
            }),
            "{text}"
        );
    }
}

const PARETO: &str = "pareto:val/accuracy,model_bytes";

fn any_checkpoints() -> impl Strategy<Value = Vec<Checkpoint>> {
    let one = (0..400u64, 0..12u64, prop::option::of(-3..4i8), 0..50u64);
    prop::collection::vec(one, 0..25).prop_map(|all| {
        all.into_iter()
            .map(|(step, epoch, value, bytes)| checkpoint(step, epoch, value.map(f64::from), bytes))
            .collect()
    })
}

fn any_policies() -> impl Strategy<Value = Vec<Policy>> {
    let count = || (1..6usize).prop_map(|n| NonZeroUsize::new(n).unwrap());
    let every = |most: u64| (1..most).prop_map(|n| NonZeroU64::new(n).unwrap());
    let policy = prop_oneof![
        count().prop_map(Policy::Best),
        Just(PARETO.parse().unwrap()),
        count().prop_map(Policy::Last),
        every(150).prop_map(Policy::EverySteps),
        every(5).prop_map(Policy::EveryEpochs),
        (0..300u64).prop_map(Policy::Bytes),
    ];
    prop::collection::vec(policy, 0..4)
}

fn any_protections() -> impl Strategy<Value = Protections> {
    let name = || (0..400u64).prop_map(|step| format!("s{step}"));
    let names = || prop::collection::btree_set(name(), 0..3);
    (
        prop::collection::btree_map("best|last|best:x", name(), 0..3),
        names(),
        names(),
        names(),
    )
        .prop_map(|(refs, pinned, resumed_from, in_use)| Protections {
            refs,
            pinned,
            resumed_from,
            in_use,
        })
}

/// What a policy keeps by its words alone, the slow way; what is kept otherwise is given for the budget.
fn keeps_by_definition(
    policy: &Policy,
    all: &[Checkpoint],
    one: &Checkpoint,
    otherwise: &BTreeSet<&str>,
) -> bool {
    let value = |checkpoint: &Checkpoint| checkpoint.score.map(|score| score.value);
    let better = |a: &Checkpoint, b: &Checkpoint| match (value(a), value(b)) {
        (Some(x), Some(y)) => x > y || x == y && a.step < b.step,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => a.step > b.step,
    };
    match *policy {
        Policy::Pareto(_) => {
            let point = |checkpoint: &Checkpoint| {
                let small = checkpoint
                    .metrics
                    .get("model_bytes")
                    .filter(|size| !size.is_nan());
                Some((checkpoint.metrics.get("val/accuracy")?, -small?))
            };
            let Some((own, own_small)) = point(one) else {
                return false;
            };
            !all.iter().any(|other| {
                point(other).is_some_and(|(value, small)| {
                    let equal = value == own && small == own_small;
                    value >= own && small >= own_small && (!equal || other.step < one.step)
                })
            })
        }
        Policy::Best(k) => {
            value(one).is_some() && all.iter().filter(|other| better(other, one)).count() < k.get()
        }
        Policy::Last(n) => all.iter().filter(|other| other.step > one.step).count() < n.get(),
        Policy::EverySteps(n) => {
            let stretch = one.step / n;
            stretch > 0
                && !all
                    .iter()
                    .any(|other| other.step / n == stretch && other.step < one.step)
        }
        Policy::EveryEpochs(n) => {
            let stretch = one.epoch / n;
            let before = |other: &Checkpoint| {
                other.epoch < one.epoch || other.epoch == one.epoch && other.step > one.step
            };
            stretch > 0
                && !all
                    .iter()
                    .any(|other| other.epoch / n == stretch && before(other))
        }
        Policy::Bytes(budget) => {
            let fixed: u64 = all
                .iter()
                .filter(|c| otherwise.contains(c.name.as_str()))
                .map(|c| c.bytes)
                .sum();
            let filled = all.iter().filter(|c| !otherwise.contains(c.name.as_str()));
            let up_to: u64 = filled.filter(|c| !better(one, c)).map(|c| c.bytes).sum();
            fixed + up_to <= budget
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn kept_exactly_when_a_policy_or_a_protection_says_so(
        checkpoints in any_checkpoints(),
        policies in any_policies(),
        protections in any_protections(),
    ) {
        let plan = plan(&checkpoints, &policies, &protections, &objective());

        // A name counts once.
        let mut seen = BTreeSet::new();
        let mut all = checkpoints.clone();
        all.sort_by_key(|checkpoint| checkpoint.step);
        all.retain(|checkpoint| seen.insert(checkpoint.name.clone()));

        // Each is in exactly one list, with reasons.
        let listed = plan.kept.iter().map(|k| &k.name).chain(plan.dropped.iter().map(|d| &d.name));
        let listed: BTreeSet<_> = listed.cloned().collect();
        prop_assert_eq!(&listed, &seen);
        prop_assert_eq!(plan.kept.len() + plan.dropped.len(), all.len());
        prop_assert!(plan.kept.iter().all(|kept| !kept.reasons.is_empty()));
        prop_assert!(plan.dropped.iter().all(|dropped| dropped.reasons.len() == policies.len().max(1)));

        let protected = |name: &String| {
            protections.refs.values().any(|target| target == name)
                || protections.pinned.contains(name)
                || protections.resumed_from.contains(name)
                || protections.in_use.contains(name)
        };
        let none = BTreeSet::new();
        let (budgets, others): (Vec<Policy>, Vec<Policy>) =
            policies.iter().cloned().partition(|policy| matches!(policy, Policy::Bytes(_)));
        let otherwise: BTreeSet<&str> = all
            .iter()
            .filter(|one| {
                protected(&one.name) || others.iter().any(|policy| keeps_by_definition(policy, &all, one, &none))
            })
            .map(|one| one.name.as_str())
            .collect();
        for one in &all {
            let says_so = otherwise.contains(one.name.as_str())
                || budgets.iter().any(|policy| keeps_by_definition(policy, &all, one, &otherwise));
            prop_assert_eq!(plan.keeps(&one.name), says_so, "{}", one.name);
        }
    }

    #[test]
    fn planning_again_drops_nothing(
        checkpoints in any_checkpoints(),
        policies in any_policies(),
        protections in any_protections(),
    ) {
        let first = plan(&checkpoints, &policies, &protections, &objective());
        let mut seen = BTreeSet::new();
        let mut rest = checkpoints.clone();
        rest.sort_by_key(|checkpoint| checkpoint.step);
        rest.retain(|checkpoint| seen.insert(checkpoint.name.clone()) && first.keeps(&checkpoint.name));
        let second = plan(&rest, &policies, &protections, &objective());
        prop_assert_eq!(second.dropped, vec![]);
    }

    /// Pruning after every save, as a run does, ends with the same set as pruning once at the end, whenever scores decide
    /// nothing that only the future could know: the best K, the last N and the stretches are all of that kind.
    #[test]
    fn pruning_often_equals_pruning_once(
        checkpoints in any_checkpoints(),
        policies in any_policies(),
    ) {
        let policies: Vec<Policy> =
            policies.into_iter().filter(|policy| !matches!(policy, Policy::Bytes(_))).collect();
        let protections = Protections::default();
        let mut seen = BTreeSet::new();
        let mut all = checkpoints;
        all.sort_by_key(|checkpoint| checkpoint.step);
        all.retain(|checkpoint| seen.insert(checkpoint.name.clone()));
        // Epochs do not run backwards.
        let mut epoch = 0;
        for checkpoint in &mut all {
            epoch = epoch.max(checkpoint.epoch);
            checkpoint.epoch = epoch;
        }
        let once = plan(&all, &policies, &protections, &objective());
        let mut there: Vec<Checkpoint> = Vec::new();
        for checkpoint in &all {
            there.push(checkpoint.clone());
            let now = plan(&there, &policies, &protections, &objective());
            there.retain(|checkpoint| now.keeps(&checkpoint.name));
        }
        let names = there.iter().map(|checkpoint| checkpoint.name.as_str()).collect::<Vec<_>>();
        prop_assert_eq!(names, once.kept.iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_given_does_not_matter(
        checkpoints in any_checkpoints(),
        policies in any_policies(),
        seed: u64,
    ) {
        let mut seen = BTreeSet::new();
        let mut all = checkpoints;
        all.retain(|checkpoint| seen.insert(checkpoint.name.clone()));
        let straight = plan(&all, &policies, &Protections::default(), &objective());
        all.sort_by_key(|checkpoint| (checkpoint.step ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        prop_assert_eq!(plan(&all, &policies, &Protections::default(), &objective()), straight);
    }
}
