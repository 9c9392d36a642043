//! Graphs of layers: their text, what is wrong with them, and that a value read by several is computed once and as it is.

use crate::bits::train;
use crate::engine::config;
use keepbest_nn::{Isa, ModelSpec, Network};
use serde_json::{Value, json};

/// A small network with the layers that join values, and windows over uneven padding.
pub(crate) fn graph_layers() -> ModelSpec {
    let conv =
        |name: &str, out: usize| json!({"op": "conv2d", "name": name, "out": out, "kernel": 1});
    let node =
        |id: &str, from: Value, op: &str| json!({"id": id, "from": from, "layer": {"op": op}});
    spec(json!([
        {"op": "conv2d", "name": "first", "out": 12, "kernel": 3, "stride": 2, "padding": "same"},
        {"op": "graph", "name": "", "nodes": [
            {"layer": {"op": "conv2d", "name": "a", "out": 12, "kernel": 3, "padding": [0, 2, 1, 1]}},
            {"layer": {"op": "batch_norm2d", "name": "bn"}},
            node("r", json!(["bn"]), "relu"),
            node("sum", json!(["bn", "r", "input", "a"]), "add"),
            {"layer": {"op": "global_avg_pool2d"}},
            {"layer": conv("g", 12)},
            node("gate", json!([]), "sigmoid"),
            node("gated", json!(["gate", "sum"]), "mul"),
            {"layer": conv("s", 1)},
            node("attention", json!([]), "sigmoid"),
            node("attended", json!(["attention", "gated"]), "mul"),
            node("q", json!(["attended", "gate"]), "div"),
            node("high", json!(["q", "a"]), "maximum"),
            node("low", json!(["high", "sum"]), "minimum"),
            node("d", json!(["low", "r"]), "sub"),
            node("first", json!(["d", "attention"]), "concat"),
            node("second", json!(["d", "attention", "d"]), "concat"),
            node("square", json!(["second", "second"]), "mul"),
            node("both", json!(["first", "square"]), "concat"),
        ]},
        {"op": "max_pool2d", "kernel": 3, "stride": 2, "ceil_mode": true},
        {"op": "avg_pool2d", "kernel": 2, "stride": 1, "padding": [0, 1, 1, 0]},
        {"op": "flatten"},
        {"op": "graph", "name": "head", "nodes": [
            {"layer": {"op": "linear", "name": "x", "out": 5, "init": {"normal": 0.5}}},
            {"id": "y", "from": ["input"], "layer": {"op": "linear", "name": "y", "out": 5, "init": {"normal": 0.5}}},
            {"from": ["x", "y"], "layer": {"op": "add"}},
        ]},
    ]))
}

/// A small network with the layers that move rows, columns and channels about, and transposed convolutions.
pub(crate) fn rearranging_layers() -> ModelSpec {
    spec(json!([
        {"op": "conv2d", "name": "first", "out": 12, "kernel": 3, "stride": 2, "padding": 1},
        {"op": "silu"},
        {"op": "channel_shuffle", "groups": 3},
        {"op": "graph", "name": "", "nodes": [
            {"id": "left", "layer": {"op": "channel_slice", "end": 6}},
            {"id": "right", "from": ["input"], "layer": {"op": "channel_slice", "start": 6}},
            {"layer": {"op": "conv_transpose2d", "name": "up", "out": 8, "kernel": 3, "stride": 2, "padding": [1, 0, 1, 1],
                "output_padding": [0, 1], "groups": 2}},
            {"id": "crop", "layer": {"op": "crop", "top": 1, "right": 1}},
            {"id": "larger", "from": ["left"], "layer": {"op": "upsample", "size": [13, 11], "mode": "bilinear"}},
            {"id": "both", "from": ["crop", "larger"], "layer": {"op": "concat"}},
            {"layer": {"op": "pad2d", "left": 1, "top": 2, "mode": "reflect"}},
            {"layer": {"op": "pad2d", "right": 1, "value": 0.5}},
            {"layer": {"op": "avg_pool2d", "kernel": 2, "stride": 1, "dilation": [2, 1], "ceil_mode": true}},
            {"layer": {"op": "conv2d", "name": "down", "out": 5, "kernel": 3, "stride": 3}},
            {"id": "small", "layer": {"op": "upsample", "scale": [1, 2]}},
            {"layer": {"op": "flatten"}},
            {"layer": {"op": "linear", "name": "hidden", "out": 24}},
            {"layer": {"op": "unflatten", "size": [2, 3, 4]}},
            {"layer": {"op": "conv_transpose2d", "name": "last", "out": 3, "kernel": [2, 4], "bias": false}},
            {"id": "vector", "layer": {"op": "flatten"}},
            {"id": "means", "from": ["small"], "layer": {"op": "global_avg_pool2d"}},
            {"id": "flat", "layer": {"op": "flatten"}},
            {"from": ["vector", "flat"], "layer": {"op": "concat"}},
        ]},
        {"op": "linear", "name": "head", "out": 5, "init": {"normal": 0.5}},
    ]))
}

fn spec(layers: Value) -> ModelSpec {
    ModelSpec::from_json(&json!({
        "version": 3, "name": "graph-layers", "classes": 5,
        "input": {"channels": 3, "height": 13, "width": 12}, "layers": layers,
    }))
    .unwrap()
}

/// A graph before a head.
fn with_head(graph: Value) -> Value {
    json!([graph, {"op": "global_avg_pool2d"}, {"op": "flatten"}, {"op": "linear", "name": "fc", "out": 5}])
}

#[test]
fn a_graph_survives_its_own_text_as_version_3() {
    for spec in [rearranging_layers(), graph_layers()] {
        assert_eq!(spec.version, 3);
        assert_eq!(ModelSpec::from_json(&spec.to_json()).unwrap(), spec);
        assert_eq!(ModelSpec::from_toml(&spec.to_toml()).unwrap(), spec);
    }
    let spec = graph_layers();
    assert!(
        spec.to_toml()
            .contains("{ id = \"r\", from = [\"bn\"], layer = { op = \"relu\" } },\n")
    );
    let text = r#"
        version = 2
        name = "tables"
        input = { channels = 3, height = 8, width = 8 }
        classes = 5
        [[layers]]
        op = "graph"
        name = ""
        output = "z"
        [[layers.nodes]]
        layer = { op = "conv2d", name = "conv1", out = 8, kernel = 3, padding = "same" }
        [[layers.nodes]]
        id = "y"
        from = ["input"]
        layer = { op = "conv2d", name = "conv2", out = 8, kernel = 3, padding = [1, 1] }
        [[layers.nodes]]
        id = "z"
        from = ["conv1", "y"]
        layer = { op = "add" }
        [[layers]]
        op = "global_avg_pool2d"
        [[layers]]
        op = "flatten"
        [[layers]]
        op = "linear"
        name = "fc"
        out = 5
    "#;
    let spec = ModelSpec::from_toml(text).unwrap();
    assert_eq!(spec.version, 3);
    assert_eq!(ModelSpec::from_toml(&spec.to_toml()).unwrap(), spec);
    Network::new(&spec).unwrap();
}

#[test]
fn what_version_2_can_say_stays_version_2() {
    let version = |layer: Value| spec(json!([layer])).version;
    assert_eq!(
        version(json!({"op": "conv2d", "out": 8, "kernel": 3, "padding": [1, 1, 2, 2]})),
        2
    );
    assert_eq!(
        version(json!({"op": "max_pool2d", "kernel": 3, "ceil_mode": false, "dilation": 1})),
        2
    );
    assert_eq!(
        version(json!({"op": "conv2d", "out": 8, "kernel": 3, "padding": [1, 0, 1, 1]})),
        3
    );
    assert_eq!(
        version(json!({"op": "avg_pool2d", "kernel": 3, "ceil_mode": true})),
        3
    );
    assert_eq!(
        version(json!({"op": "avg_pool2d", "kernel": 3, "dilation": 2})),
        3
    );
    let inner = json!([{"op": "residual", "body": [{"op": "identity"}]}]);
    assert_eq!(
        version(json!({"op": "repeat", "times": 1, "layers": inner})),
        3
    );
}

/// Networks that say the same in blocks and as a graph compute the same, to the bit.
#[test]
fn blocks_as_graphs_give_the_bits_of_blocks() {
    let conv = |name: &str, out: usize| json!({"op": "conv2d", "name": name, "out": out, "kernel": 3, "padding": 1});
    let bn = |name: &str| json!({"op": "batch_norm2d", "name": name});
    let relu = json!({"op": "relu"});
    let (down, down_bn) = (
        json!({"op": "conv2d", "name": "down", "out": 8, "kernel": 1}),
        bn("down_bn"),
    );
    let node = |layer: &Value| json!({"layer": layer});
    let residual = json!({"op": "residual", "name": "", "body":
        [conv("conv1", 8), bn("bn1"), relu, conv("conv2", 8), bn("bn2")], "shortcut": [down, down_bn]});
    let graph = json!({"op": "graph", "name": "", "nodes": [
        node(&conv("conv1", 8)), node(&bn("bn1")), node(&relu), node(&conv("conv2", 8)), node(&bn("bn2")),
        {"from": ["input"], "layer": down}, node(&down_bn), {"from": ["down_bn", "bn2"], "layer": {"op": "add"}},
    ]});
    let after = |block: Value| {
        let pool = json!({"op": "global_avg_pool2d"});
        let fc = json!({"op": "linear", "name": "fc", "out": 5});
        spec(json!([conv("stem", 6), relu, block, relu, pool, {"op": "flatten"}, fc]))
    };
    let dense = json!({"op": "branch", "name": "", "branches": [
        [{"op": "branch", "name": "", "branches": [[], [conv("a", 4)]]}],
        [{"op": "branch", "name": "", "branches": [[], [conv("b", 4)]]}],
    ]});
    let dense_graph = json!({"op": "graph", "name": "", "nodes": [
        {"id": "a", "layer": conv("a", 4)},
        {"id": "x", "from": ["input", "a"], "layer": {"op": "concat"}},
        {"id": "b", "from": ["input"], "layer": conv("b", 4)},
        {"id": "y", "from": ["input", "b"], "layer": {"op": "concat"}},
        {"from": ["x", "y"], "layer": {"op": "concat"}},
    ]});
    let gate = |body: Value| json!([{"op": "global_avg_pool2d"}, conv("fc1", 6), body]);
    let gated = json!({"op": "gate", "name": "", "body": gate(json!({"op": "sigmoid"}))});
    let gated_graph = json!({"op": "graph", "name": "", "nodes": [
        {"layer": {"op": "sequential", "name": "", "layers": gate(json!({"op": "sigmoid"}))}},
        {"from": ["", "input"], "layer": {"op": "mul"}},
    ]});
    for (block, graph) in [
        (residual, graph),
        (dense, dense_graph),
        (gated, gated_graph),
    ] {
        let run = |block: &Value| train(&after(block.clone()), config(4, 2, Isa::fastest()), 3);
        assert_eq!(run(&block), run(&graph), "{graph}");
    }
}

/// A list of features that grows, as DenseNet's, costs what is new each time.
#[test]
fn concatenations_go_on_from_one_another() {
    let mut nodes = vec![];
    let mut from = vec!["input".to_owned()];
    for layer in 0..6 {
        if layer > 0 {
            nodes.push(
                json!({"id": format!("cat{layer}"), "from": from, "layer": {"op": "concat"}}),
            );
        }
        let conv = json!({"op": "conv2d", "name": format!("conv{layer}"), "out": 4, "kernel": 1});
        nodes.push(json!({"layer": conv}));
        from.push(format!("conv{layer}"));
    }
    let layers = with_head(json!({"op": "graph", "name": "", "nodes": nodes}));
    // The values that are concatenated are read by later ones too.
    let network = Network::new(&spec(layers)).unwrap();
    let summary = network.summary();
    let concatenations = summary.iter().filter(|layer| layer.op == "concat");
    assert_eq!(concatenations.count(), 5);
}

#[test]
fn graphs_that_make_no_sense_are_refused_by_name() {
    let graph = |nodes: Value| with_head(json!({"op": "graph", "name": "g", "nodes": nodes}));
    let add = |from: Value| json!({"id": "sum", "from": from, "layer": {"op": "add"}});
    let conv = |id: &str, out: usize, from: Value| json!({"id": id, "from": from, "layer": {"op": "conv2d", "name": id, "out": out, "kernel": 1}});
    let here = || json!(["input"]);
    for (layers, parts) in [
        (
            graph(json!([conv("a", 4, here()), add(json!(["a", "b"]))])),
            ["`g`", "`sum` reads `b`, which there is not"],
        ),
        (
            graph(json!([add(json!(["input", "b"])), conv("b", 4, here())])),
            ["graph", "`b`, which is not before it"],
        ),
        (
            graph(json!([
                conv("a", 4, here()),
                conv("a", 4, here()),
                add(json!(["a", "a"]))
            ])),
            ["`g`", "two values are called `a`"],
        ),
        (
            graph(json!([conv("a", 4, here()), conv("b", 4, here())])),
            ["`g`", "nothing reads the value `a`"],
        ),
        (
            graph(json!([conv("input", 4, json!([]))])),
            ["`g`", "two values are called `input`"],
        ),
        (
            graph(json!([conv("a", 4, here()), add(json!(["a", "input"]))])),
            ["`g.1` (add)", "4 channels of 13 x 12"],
        ),
        (
            graph(json!([conv("a", 4, json!(["input", "input"]))])),
            ["`g.a`", "takes one value, found 2"],
        ),
        (
            graph(json!([add(here())])),
            ["`g.0` (add)", "two or more values, found 1"],
        ),
        (
            graph(
                json!([conv("a", 3, here()), {"from": ["a", "input", "a"], "layer": {"op": "div"}}]),
            ),
            ["(div)", "takes two values, found 3"],
        ),
        (
            graph(json!([{"layer": {"op": "concat"}}])),
            ["(concat)", "found 1"],
        ),
        (
            graph(
                json!([{"layer": {"op": "flatten"}}, {"from": ["0", "input"], "layer": {"op": "add"}}]),
            ),
            ["vector of 468", "do not mix"],
        ),
        (
            json!([{"op": "add"}, {"op": "flatten"}]),
            ["`0` (add)", "node of a graph"],
        ),
        (
            with_head(json!({"op": "graph", "nodes": [conv("a", 4, here())], "output": "z"})),
            ["graph", "no node `z`"],
        ),
        (
            with_head(json!({"op": "max_pool2d", "kernel": 3, "padding": [0, 3, 0, 0]})),
            [
                "max_pool2d",
                "padding 3 is not less than the pooling window 3",
            ],
        ),
        (
            with_head(json!({"op": "avg_pool2d", "kernel": 3, "padding": 2})),
            ["avg_pool2d", "padding 2 is more than half"],
        ),
    ] {
        let error = Network::new(&spec(layers.clone()))
            .expect_err(&layers.to_string())
            .to_string();
        for part in parts {
            assert!(error.contains(part), "{layers}: {error}");
        }
    }
}

#[test]
fn settings_that_do_not_fit_are_named() {
    for (layer, part) in [
        (
            json!({"op": "channel_slice", "start": 2, "end": 2}),
            "start (2) must be below end (2)",
        ),
        (json!({"op": "channel_slice", "end": 4}), "at most 3"),
        (
            json!({"op": "channel_shuffle", "groups": 2}),
            "channels (3) must be a multiple of groups (2)",
        ),
        (
            json!({"op": "crop", "top": 7, "bottom": 6}),
            "leaves nothing of 3 channels of 13 x 12",
        ),
        (
            json!({"op": "crop", "left": usize::MAX, "right": 1}),
            "leaves nothing",
        ),
        (
            json!({"op": "pad2d", "mode": "reflect", "right": 12}),
            "right must be at most 11, found 12",
        ),
        (
            json!({"op": "pad2d", "mode": "edge", "value": 1.0}),
            "`value` is for the mode `constant`",
        ),
        (
            json!({"op": "pad2d", "top": usize::MAX}),
            "top must be at most",
        ),
        (
            json!({"op": "pad2d", "top": 1 << 20, "left": 1 << 20}),
            "its output is too large",
        ),
        (json!({"op": "upsample"}), "needs either `scale` or `size`"),
        (
            json!({"op": "upsample", "scale": 2, "size": 3}),
            "needs either `scale` or `size`",
        ),
        (
            json!({"op": "upsample", "scale": [1, -1]}),
            "scale must be positive",
        ),
        (json!({"op": "upsample", "scale": 1e300}), "sides of 1 to"),
        (json!({"op": "upsample", "scale": 0.01}), "found 0 x 0"),
        (
            json!({"op": "upsample", "scale": 2, "align_corners": true}),
            "`align_corners` is for",
        ),
        (
            json!({"op": "unflatten", "size": [3, 1, 1]}),
            "needs a vector, found 3 channels",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": 2, "stride": 2, "output_padding": 2}),
            "output_padding (2) must be less than stride (2)",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": 3, "padding": "same"}),
            "no padding \"same\"",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": 3, "groups": 2}),
            "cannot be split into 2 groups",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": 3, "padding": 8}),
            "leaves nothing of 15",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": usize::MAX}),
            "kernel, stride and dilation",
        ),
        (
            json!({"op": "conv_transpose2d", "out": 4, "kernel": 3, "groups": 0}),
            "groups",
        ),
    ] {
        let error = Network::new(&spec(with_head(layer.clone())))
            .expect_err(&layer.to_string())
            .to_string();
        assert!(error.contains(part), "{layer}: {error}");
    }
    let many = json!([
        {"op": "conv2d", "out": 1 << 21, "kernel": 1},
        {"op": "channel_shuffle", "groups": 2}, {"op": "channel_shuffle", "groups": 2},
    ]);
    let error = Network::new(&spec(many)).unwrap_err().to_string();
    assert!(error.contains("rearrange more than 4194304"), "{error}");
    let large = with_head(json!({"op": "max_pool2d", "kernel": 16, "padding": "same"}));
    let error = Network::new(&spec(large)).unwrap_err().to_string();
    assert!(error.contains("a pooling window of 256 cells"), "{error}");
}

#[test]
fn what_is_wrong_inside_a_graph_is_found_by_its_place() {
    let wrong = |node: Value| {
        let layers =
            json!([{"op": "graph", "name": "", "nodes": [{"layer": {"op": "relu"}}, node]}]);
        let spec = json!({"version": 3, "name": "test", "classes": 5,
            "input": {"channels": 3, "height": 8, "width": 8}, "layers": layers});
        ModelSpec::from_json(&spec).unwrap_err().to_string()
    };
    let at = "layers[0] (graph).nodes[1]";
    for (node, part) in [
        (
            json!({"layer": {"op": "rellu"}}),
            format!("unknown op `rellu` at {at}.layer"),
        ),
        (
            json!({"layer": {"op": "relu", "p": 1}}),
            format!("unknown key `p` at {at}.layer (relu)"),
        ),
        (
            json!({"of": ["0"], "layer": {"op": "relu"}}),
            format!("unknown key `of` at {at}; known are id, from, layer"),
        ),
        (
            json!({"id": "a"}),
            format!("at {at}: the node has no `layer`"),
        ),
        (json!([]), format!("at {at}: a node is a table")),
        (
            json!({"from": "a", "layer": {"op": "relu"}}),
            format!("at {at}: invalid type"),
        ),
        (
            json!({"layer": {"op": "conv2d", "name": "optimizer", "out": 1, "kernel": 1}}),
            "the name is reserved".to_owned(),
        ),
        (
            json!({"layer": {"op": "conv2d", "out": 1, "kernel": 3, "padding": "valid"}}),
            "padding is a number".to_owned(),
        ),
    ] {
        let error = wrong(node);
        assert!(error.contains(&part), "{error}");
    }
}
