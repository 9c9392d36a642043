//! PyTorch files that keepbest writes come back whole. `tests/golden/check_pth_written.py` opens them in PyTorch.

use bytes::Bytes;
use keepbest_formats::pth::{
    Checkpoint, CheckpointError, Limits, OptimizerError, OptimizerState, PthError, PthFile, Tree,
    Trust, encode,
};
use keepbest_formats::{Dtype, OptimizerConfig, OptimizerKind, StateDict, Tensor};
use serde_json::json;

use crate::support::{chain, dict, f32s, golden};

fn written(tree: &Tree) -> PthFile {
    let image = encode(tree).unwrap();
    let mut bytes = Vec::new();
    image.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, image.total_len());
    PthFile::from_bytes(bytes.into(), Limits::default()).unwrap()
}

fn parameters() -> Vec<String> {
    ["conv.weight", "fc.bias"].map(str::to_owned).to_vec()
}

fn sgd(momentum: f64) -> OptimizerConfig {
    OptimizerConfig::Sgd {
        momentum,
        dampening: 0.1,
        nesterov: false,
        weight_decay: 1e-4,
    }
}

fn adamw() -> OptimizerConfig {
    OptimizerConfig::AdamW {
        beta1: 0.8,
        beta2: 0.99,
        eps: 1e-7,
        weight_decay: 0.01,
    }
}

fn tensors(slots: &[&str]) -> StateDict {
    let mut tensors = StateDict::new();
    for (at, slot) in slots.iter().enumerate() {
        for (name, shape) in [("conv.weight", &[2, 1, 2, 2][..]), ("fc.bias", &[3])] {
            let tensor = f32s(shape, at as f32);
            tensors.insert(format!("{slot}.{name}"), tensor).unwrap();
        }
    }
    tensors
}

fn checkpoint(settings: OptimizerConfig, tensors: StateDict) -> Checkpoint {
    Checkpoint {
        weights: dict([
            ("conv.weight", f32s(&[2, 1, 2, 2], -1.0)),
            (
                "bn.num_batches_tracked",
                Tensor::from_i64(&[], &[40]).unwrap(),
            ),
            ("fc.bias", f32s(&[3], 7.0)),
        ]),
        optimizer: Some(OptimizerState {
            settings,
            learning_rate: 0.05,
            steps: Some(40),
            parameters: parameters(),
            tensors,
        }),
        epoch: Some(2),
        step: Some(40),
        metrics: [("val/accuracy", 0.875), ("val/loss", f64::INFINITY)]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        classes: vec!["cat".into(), "été ☀".into()],
        preprocessing: Some(json!({"mean": [0.5], "std": [0.25]})),
        keepbest: Some(json!({"seed": u64::MAX, "rate": 0.1})),
    }
}

fn read(file: &PthFile, parameters: &[String]) -> Result<Checkpoint, CheckpointError> {
    file.checkpoint(file.weights(None)?, parameters)
}

fn read_back(checkpoint: &Checkpoint) -> Checkpoint {
    let mut bytes = Vec::new();
    let image = checkpoint.encode().unwrap();
    image.write_to(&mut bytes).unwrap();
    let file = PthFile::from_bytes(bytes.into(), Limits::default()).unwrap();
    assert!(file.globals().all(|(_, trust)| trust == Trust::Data));
    read(&file, &[]).unwrap()
}

#[test]
fn checkpoints_come_back_whole() {
    for (settings, slots) in [
        (sgd(0.0), &[][..]),
        (sgd(0.9), &["momentum_buffer"]),
        (adamw(), &["exp_avg", "exp_avg_sq"]),
        // Before the first step there is no state.
        (sgd(0.9), &[]),
        (adamw(), &[]),
    ] {
        let checkpoint = checkpoint(settings, tensors(slots));
        assert_eq!(read_back(&checkpoint), checkpoint);
    }
    for kind in OptimizerKind::ALL {
        let usual = kind.defaults();
        let settings = kind.config(usual.momentum, usual.weight_decay);
        assert_eq!(settings.kind(), *kind);
        let checkpoint = checkpoint(settings.clone(), tensors(settings.slots()));
        assert_eq!(read_back(&checkpoint), checkpoint);
    }
    let mut params_only = checkpoint(adamw(), StateDict::new());
    params_only.optimizer = None;
    assert_eq!(read_back(&params_only), params_only);
    let bare = Checkpoint {
        weights: params_only.weights.clone(),
        ..Checkpoint::default()
    };
    assert_eq!(read_back(&bare), bare);
}

#[test]
fn settings_are_the_json_of_the_engine() {
    assert_eq!(
        serde_json::to_value(adamw()).unwrap(),
        json!({"type": "adamw", "beta1": 0.8, "beta2": 0.99, "eps": 1e-7, "weight_decay": 0.01})
    );
    assert_eq!(
        serde_json::to_value(sgd(0.9)).unwrap(),
        json!({"type": "sgd", "momentum": 0.9, "dampening": 0.1, "nesterov": false, "weight_decay": 1e-4})
    );
}

#[test]
fn every_dtype_comes_back_as_a_view_of_the_file() {
    let mut weights = StateDict::new();
    for dtype in Dtype::ALL {
        let bytes: Vec<u8> = (0..6 * dtype.size()).map(|at| at as u8 % 2).collect();
        let tensor = Tensor::new(dtype, [2, 3], bytes).unwrap();
        weights.insert(dtype.name(), tensor).unwrap();
    }
    let empty = Tensor::new(Dtype::F32, [0, 4], Bytes::new()).unwrap();
    weights.insert("empty", empty).unwrap();
    let found = written(&Tree::from(&weights)).weights(None).unwrap();
    assert_eq!(found.weights, weights);
    assert_eq!(found.key, None);
}

#[test]
fn optimizers_of_pytorch_take_their_names_from_the_model() {
    let file = PthFile::open(golden("pth/checkpoint.pth")).unwrap();
    let found = file.weights(None).unwrap();
    let names: Vec<String> = found.weights.names().map(str::to_owned).collect();
    let error = file.optimizer(&names[..1]).unwrap_err();
    let OptimizerError::Count { expected: 1, found } = error else {
        panic!("{error}");
    };
    let state = file.optimizer(&names[..found]).unwrap().unwrap();
    assert_eq!(state.parameters, names[..found]);
    for name in state.tensors.names() {
        let (_, parameter) = name.split_once('.').unwrap();
        assert!(names.iter().any(|known| known == parameter), "{name}");
    }
}

#[test]
fn state_that_is_not_of_the_parameters_is_refused() {
    let refused = |tensors: StateDict| {
        let error = checkpoint(sgd(0.9), tensors).encode().unwrap_err();
        chain(&error)
    };
    let mut one = tensors(&["momentum_buffer"]);
    one.insert("momentum_buffer.other", f32s(&[], 0.0)).unwrap();
    assert!(
        refused(one)
            .ends_with("has `momentum_buffer.other`, which the optimizer or model does not")
    );
    let lacking = dict([("momentum_buffer.conv.weight", f32s(&[2], 0.0))]);
    assert!(refused(lacking).ends_with("lacks `momentum_buffer.fc.bias`"));
}

/// A file with one parameter and these settings.
fn with_group(group: &[(&'static str, Tree)], state: Vec<(&'static str, Tree)>) -> PthFile {
    let mut group = group.to_vec();
    group.push(("params", Tree::List(vec![Tree::Int(7)])));
    let state = if state.is_empty() {
        vec![]
    } else {
        vec![(7.into(), Tree::dict(state))]
    };
    written(&Tree::dict([(
        "optimizer_state_dict",
        Tree::dict([
            ("state", Tree::Dict(state)),
            ("param_groups", Tree::List(vec![Tree::dict(group)])),
        ]),
    )]))
}

#[test]
fn optimizers_that_are_not_ours_are_named() {
    let adam = |decay: f64| {
        vec![
            ("lr", Tree::Float(0.1)),
            (
                "betas",
                Tree::Tuple(vec![Tree::Float(0.9), Tree::Float(0.99)]),
            ),
            ("eps", Tree::Float(1e-8)),
            ("weight_decay", Tree::Float(decay)),
            ("amsgrad", Tree::Bool(false)),
        ]
    };
    let names = ["w".to_owned()];
    let error = |file: PthFile| file.optimizer(&names).unwrap_err().to_string();
    let step = |step: Tree| {
        let moment = || Tree::Tensor(f32s(&[2], 0.0));
        vec![
            ("step", step),
            ("exp_avg", moment()),
            ("exp_avg_sq", moment()),
        ]
    };
    // Until PyTorch 1.10 a number, and Adam said nothing of decoupling.
    let old = with_group(&adam(0.0), step(Tree::Int(3)));
    let state = old.optimizer(&names).unwrap().unwrap();
    assert_eq!(state.steps, Some(3));
    assert_eq!(
        state.tensors.names().collect::<Vec<_>>(),
        ["exp_avg.w", "exp_avg_sq.w"]
    );
    assert!(matches!(state.settings, OptimizerConfig::Adam { .. }));
    assert_eq!(
        error(with_group(&adam(0.01), vec![])),
        "the optimizer is Adam or AdamW and the file does not say which; they differ as weight decay is 0.01"
    );
    let mut amsgrad = adam(0.0);
    amsgrad[4].1 = Tree::Bool(true);
    assert_eq!(
        error(with_group(&amsgrad, vec![])),
        "the optimizer has amsgrad = True, which is not supported"
    );
    let rmsprop = [("lr", Tree::Float(0.1)), ("alpha", Tree::Float(0.9))];
    assert_eq!(
        error(with_group(&rmsprop, vec![])),
        "the optimizer is none of SGD, Adam and AdamW: its settings are lr, alpha"
    );
    assert_eq!(
        error(with_group(&adam(0.0), step(Tree::Float(2.5)))),
        "the optimizer's step is not what PyTorch writes"
    );
    let mut unknown = step(Tree::Int(3));
    unknown.push(("max_exp_avg_sq", Tree::Tensor(f32s(&[2], 0.0))));
    assert_eq!(
        error(with_group(&adam(0.0), unknown)),
        "the optimizer state has `max_exp_avg_sq.w`, which the optimizer or model does not"
    );
}

#[test]
fn another_form_is_named_with_its_key() {
    let weights = dict([("w", f32s(&[2], 0.0))]);
    let with = |key: &'static str, value: Tree| {
        let file = written(&Tree::dict([
            ("state_dict", Tree::from(&weights)),
            (key, value),
        ]));
        read(&file, &[]).unwrap_err().to_string()
    };
    assert_eq!(
        with("epoch", Tree::text("two")),
        r#"the checkpoint's `epoch` should be a count, is str ("two")"#
    );
    assert_eq!(
        with("classes", Tree::List(vec![Tree::Int(1)])),
        "the checkpoint's `classes` should be a list of names, is int (1)"
    );
    let twice = Tree::Dict(vec![("a".into(), Tree::None), ("a".into(), Tree::None)]);
    let error = encode(&twice).unwrap_err().to_string();
    assert_eq!(error, "the dict has the key `a` twice");
}

#[test]
fn dangerous_files_give_no_optimizer() {
    let file = PthFile::open(golden("pth/evil-system.pth")).unwrap();
    let error = file.optimizer(&[]).unwrap_err();
    assert!(matches!(
        error,
        OptimizerError::File(PthError::Dangerous { .. })
    ));
}
