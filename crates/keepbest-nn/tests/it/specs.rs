//! Specs: the zoo, round trips, and layers that do not fit.

use keepbest_nn::{ModelSpec, Network, zoo};
use serde_json::{Value, json};

fn spec(layers: Value) -> ModelSpec {
    ModelSpec::from_json(&json!({
        "version": 1, "name": "test", "classes": 10,
        "input": {"channels": 3, "height": 8, "width": 6}, "layers": layers,
    }))
    .unwrap()
}

#[test]
fn zoo_models_have_torchvisions_keys_and_shapes_in_order() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/training.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for curve in golden["curves"].as_array().unwrap() {
        let name = curve["model"].as_str().unwrap();
        let (channels, size) = if curve["padded"] == true {
            (3, 32)
        } else {
            (1, 28)
        };
        let spec = zoo::spec(name, &zoo::ZooOptions::new(channels, size, size, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let found: Vec<(String, Vec<usize>)> = network
            .layout()
            .tensors()
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone()))
            .collect();
        let expected: Vec<(String, Vec<usize>)> =
            serde_json::from_value::<serde_json::Map<String, Value>>(curve["state_dict"].clone())
                .unwrap()
                .into_iter()
                .map(|(name, shape)| (name, serde_json::from_value(shape).unwrap()))
                .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_zoo_model_survives_its_own_text() {
    for entry in zoo::list() {
        let spec = zoo::spec(entry.name, &zoo::ZooOptions::new(3, 32, 32, 7)).unwrap();
        assert_eq!(ModelSpec::from_json(&spec.to_json()).unwrap(), spec);
        assert_eq!(ModelSpec::from_toml(&spec.to_toml()).unwrap(), spec);
        let network = Network::new(&spec).unwrap();
        let counted: usize = network.summary().iter().map(|l| l.parameters).sum();
        assert_eq!(counted, network.parameter_count());
    }
    // torchvision.models.resnet18 has 11,689,512 parameters.
    let spec = zoo::spec(
        "resnet18-imagenet",
        &zoo::ZooOptions::new(3, 224, 224, 1000),
    )
    .unwrap();
    let network = Network::new(&spec).unwrap();
    assert_eq!(network.parameter_count(), 11_689_512);
    // 1.82 billion multiplications with additions, as torchvision's documentation says (1.81 GFLOPS).
    let flops: u64 = network.summary().iter().map(|l| l.flops).sum();
    assert!((3_600_000_000..3_660_000_000).contains(&flops), "{flops}");
}

#[test]
fn layers_that_do_not_fit_are_named_with_their_sizes() {
    let linear = json!({"op": "linear", "out": 10});
    let flatten = json!({"op": "flatten"});
    for (layers, parts) in [
        (
            json!([{"op": "conv2d", "name": "c", "out": 4, "kernel": 9}, flatten, linear]),
            ["`c`", "9"],
        ),
        (
            json!([{"op": "conv2d", "out": 4, "kernel": 3, "groups": 2}, flatten, linear]),
            ["`0`", "3"],
        ),
        (json!([linear]), ["flatten", "3 channels of 8 x 6"]),
        (
            json!([flatten, {"op": "linear", "out": 9}]),
            ["10 scores", "9"],
        ),
        (
            json!([flatten, linear, {"op": "max_pool2d", "kernel": 2}]),
            ["`2`", "vector of 10"],
        ),
        (
            json!([{"op": "dropout", "p": 1.5}, flatten, linear]),
            ["dropout", "1.5"],
        ),
        (json!([]), ["no layers", "test"]),
        (
            json!([{"op": "max_pool2d", "kernel": 2, "padding": 2}, flatten, linear]),
            ["padding", "2"],
        ),
        (
            json!([{"op": "conv2d", "out": 4, "kernel": 3, "stride": 0}, flatten, linear]),
            ["stride", "0"],
        ),
        (
            json!([{"op": "residual", "name": "r", "body": [{"op": "conv2d", "out": 4, "kernel": 1}]},
                flatten, linear]),
            ["`r`", "4 channels of 8 x 6"],
        ),
        (
            json!([{"op": "linear", "name": "a", "out": 3}, flatten, linear]),
            ["`a`", "flatten"],
        ),
        (
            json!([flatten, {"op": "linear", "name": "a", "out": 3}, {"op": "linear", "name": "a", "out": 10}]),
            ["already", "a.weight"],
        ),
    ] {
        is_refused(&layers, parts);
    }
}

#[test]
fn blocks_and_settings_that_do_not_fit_are_named() {
    let linear = json!({"op": "linear", "out": 10});
    let flatten = json!({"op": "flatten"});
    for (layers, parts) in [
        (
            json!([{"op": "residual", "name": "r", "body": []}, flatten, linear]),
            ["`r`", "the input itself"],
        ),
        (
            json!([{"op": "gate", "name": "g", "body": [{"op": "sigmoid"}]}, flatten, linear]),
            ["`g`", "3 channels of 1 x 1"],
        ),
        (
            json!([{"op": "branch", "name": "b", "branches": [[], [{"op": "max_pool2d", "kernel": 2}]]},
                flatten, linear]),
            ["`b`", "3 channels of 4 x 3"],
        ),
        (
            json!([{"op": "branch", "name": "b", "branches": [[], []]}, flatten, linear]),
            ["`b`", "the input itself"],
        ),
        (
            json!([{"op": "repeat", "name": "r", "times": 2, "layers": []}, flatten, linear]),
            ["{}", "`r`"],
        ),
        (
            json!([{"op": "repeat", "times": 70, "layers": [{"op": "repeat", "name": "x{}", "times": 70,
                "layers": [{"op": "relu"}]}]}, flatten, linear]),
            ["more than 4096 layers", "`"],
        ),
        (
            json!([{"op": "group_norm", "groups": 2}, flatten, linear]),
            ["channels (3)", "groups (2)"],
        ),
        (
            json!([{"op": "adaptive_avg_pool2d", "size": [0, 3]}, flatten, linear]),
            ["size", "0 x 3"],
        ),
        (
            json!([{"op": "conv2d", "out": 4, "kernel": 1, "init": {"normal": -1.0}}, flatten, linear]),
            ["init", "-1"],
        ),
        (
            json!([{"op": "clip", "min": 2.0, "max": 1.0}, flatten, linear]),
            ["min (2)", "max (1)"],
        ),
        (
            json!([{"op": "clip"}, flatten, linear]),
            ["`0`", "min, max"],
        ),
        (
            json!([{"op": "prelu", "name": "p", "channels": 4}, flatten, linear]),
            ["1 or 3", "found 4"],
        ),
        (
            json!([{"op": "scale2d", "name": "s", "weight": false, "bias": false}, flatten, linear]),
            ["weight", "both"],
        ),
        (
            json!([{"op": "blur_pool2d", "kernel": 13}, flatten, linear]),
            ["window 13 wide", "padding 6"],
        ),
        (
            json!([{"op": "channel_conv1d", "name": "c", "kernel": 7}, flatten, linear]),
            ["at most 5", "found 7"],
        ),
        (
            json!([{"op": "layer_norm", "name": "n"}, flatten, linear]),
            ["3 channels of 8 x 6", "layer_norm2d"],
        ),
        (
            json!([{"op": "local_response_norm", "size": 0}, flatten, linear]),
            ["size", "found 0"],
        ),
        (
            json!([{"op": "conv2d", "out": 4, "kernel": 1, "standardize": {"eps": -1.0}}, flatten, linear]),
            ["eps", "-1"],
        ),
        (
            json!([{"op": "layer_scale", "name": "g", "init": 1.0, "flat": true, "scalar": true}, flatten, linear]),
            ["flat", "scalar"],
        ),
        (
            json!([{"op": "celu", "alpha": 0.0}, flatten, linear]),
            ["alpha", "found 0"],
        ),
        (
            json!([{"op": "pow", "exponent": 1e300}, flatten, linear]),
            ["exponent", "finite"],
        ),
    ] {
        is_refused(&layers, parts);
    }
}

fn is_refused(layers: &Value, parts: [&str; 2]) {
    let error = Network::new(&spec(layers.clone()))
        .expect_err(&layers.to_string())
        .to_string();
    for part in parts {
        assert!(error.contains(part), "{layers}: {error}");
    }
}

#[test]
fn the_version_is_the_lowest_that_can_say_the_same() {
    let head = [json!({"op": "flatten"}), json!({"op": "linear", "out": 10})];
    let version = |layer: Value| spec([&[layer], &head[..]].concat().into()).version;
    assert_eq!(version(json!({"op": "gelu"})), 2);
    assert_eq!(version(json!({"op": "gelu", "approximate": "none"})), 2);
    assert_eq!(version(json!({"op": "gelu", "approximate": "tanh"})), 3);
    assert_eq!(version(json!({"op": "mish"})), 3);
    assert_eq!(version(json!({"op": "batch_norm2d"})), 2);
    assert_eq!(version(json!({"op": "batch_norm2d", "affine": false})), 3);
    let standardised = json!({"op": "conv2d", "out": 2, "kernel": 1, "standardize": {}});
    assert_eq!(version(standardised), 3);
    let inner = json!({"op": "sequential", "layers": [{"op": "mish"}]});
    let branches = json!([[], [inner]]);
    assert_eq!(version(json!({"op": "branch", "branches": branches})), 3);
}

#[test]
fn unknown_keys_versions_and_models_are_named() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))
            .unwrap()
            .to_json();
        change(&mut value);
        ModelSpec::from_json(&value).unwrap_err().to_string()
    };
    assert!(with(&|v| v["version"] = json!("one")).contains("`version`"));
    assert!(with(&|v| v["input"]["depth"] = json!(2)).contains("`depth` at input"));
    assert!(
        with(&|v| v["layers"][1] = json!({"name": "x"}))
            .contains("layers[1]: the layer has no `op`")
    );
    assert!(with(&|v| v["layers"][0]["out"] = json!(-2)).contains("layers[0] (conv2d)"));
    let mut deep = json!([{"op": "relu"}]);
    for _ in 0..40 {
        deep = json!([{"op": "sequential", "layers": deep}]);
    }
    assert!(with(&|v| v["layers"] = deep.clone()).contains("32 deep"));
    assert!(with(&|v| v["version"] = json!(4)).contains("version 4"));
    assert!(with(&|v| v["colour"] = json!(2)).contains("colour"));
    assert!(with(&|v| v["layers"][0]["kernal"] = json!(2)).contains("kernal"));
    assert!(with(&|v| v["layers"][0]["op"] = json!("conv9d")).contains("conv9d"));
    // What version 1 could say, version 2 says in the same words.
    let mut old = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))
        .unwrap()
        .to_json();
    old["version"] = json!(1);
    assert_eq!(ModelSpec::from_json(&old).unwrap().version, 2);
    let error = zoo::spec("resnet81", &zoo::ZooOptions::new(1, 28, 28, 10)).unwrap_err();
    assert!(error.to_string().contains("resnet81") && error.to_string().contains("resnet18"));
}
