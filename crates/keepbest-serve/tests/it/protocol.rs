//! KServe's protocol over REST, and what is beside it.

use serde_json::{Value, json};

use crate::support::{Place, Reply, Served, picture, pixels, scores};

fn infer(served: &Served, json: &Value, binary: &[u8]) -> Reply {
    let json = serde_json::to_vec(json).unwrap();
    let length = json.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    served.ask(
        "POST",
        "/v2/models/one/infer",
        &headers,
        &[&json[..], binary].concat(),
    )
}

#[test]
fn tensors_of_every_type_are_scored_as_the_engine_does() {
    let place = Place::new();
    let path = place.model("one.safetensors", 1);
    let served = Served::ready(place.options(&[&path]));
    let expected = scores(&path, &[3, 5]);
    let floats = |seed| {
        pixels(seed)
            .into_iter()
            .map(|pixel| f32::from(pixel) / 255.0)
    };
    let floats: Vec<f32> = floats(3).chain(floats(5)).collect();
    let logits = json!([{"name": "logits"}]);

    let tensor =
        json!({"name": "input", "datatype": "FP32", "shape": [2, 1, 28, 28], "data": floats});
    let request = json!({"id": "7", "inputs": [tensor], "outputs": logits});
    let reply = served.json("/v2/models/one/infer", &request);
    assert_eq!(reply.status, 200, "{reply:?}");
    let json = reply.json();
    assert_eq!(json["id"], "7");
    assert_eq!(json["outputs"][0]["shape"], json!([2, 10]));
    let found = json["outputs"][0]["data"].as_array().unwrap().iter();
    let found: Vec<f32> = found.map(|value| value.as_f64().unwrap() as f32).collect();
    assert_eq!(found, expected);
    let digest = json["parameters"]["digest"].as_str().unwrap();
    assert!(digest.starts_with(json["model_version"].as_str().unwrap()));
    assert_eq!(reply.header("keepbest-digest"), digest);

    let files: Vec<u8> = [3, 5]
        .iter()
        .flat_map(|seed| {
            let file = picture(*seed);
            [&(file.len() as u32).to_le_bytes()[..], &file].concat()
        })
        .collect();
    let all = [pixels(3), pixels(5)].concat();
    let raw: Vec<u8> = floats
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    for (datatype, shape, bytes) in [
        ("FP32", json!([2, 1, 28, 28]), &raw),
        ("UINT8", json!([2, 28, 28, 1]), &all),
        ("BYTES", json!([2]), &files),
    ] {
        let input = json!({"name": "input", "datatype": datatype, "shape": shape,
            "parameters": {"binary_data_size": bytes.len()}});
        let request = json!({"inputs": [input], "parameters": {"binary_data_output": true},
            "outputs": [{"name": "logits"}, {"name": "label", "parameters": {"binary_data": false}}]});
        let reply = infer(&served, &request, bytes);
        assert_eq!(reply.status, 200, "{datatype}: {reply:?}");
        let length: usize = reply
            .header("inference-header-content-length")
            .parse()
            .unwrap();
        let (head, tail) = reply.body.split_at(length);
        let head: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 80);
        let found: Vec<f32> = tail
            .as_chunks::<4>()
            .0
            .iter()
            .map(|it| f32::from_le_bytes(*it))
            .collect();
        assert_eq!(found, expected, "{datatype}");
        assert_eq!(head["outputs"][1]["data"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn wrong_tensors_are_told_what_was_expected() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let says = |input: Value, words: &str| {
        let reply = served.json("/v2/models/one/infer", &json!({"inputs": [input]}));
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.error().contains(words), "{reply:?}");
    };
    let zeros = |count: usize| vec![0; count];
    says(
        json!({"name": "x", "datatype": "UINT8", "shape": [1], "data": [0]}),
        "the model takes \"input\"",
    );
    says(
        json!({"name": "input", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": zeros(784)}),
        "takes [images, 1, 28, 28]: normalised, channels first",
    );
    says(
        json!({"name": "input", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": zeros(784)}),
        "pixels, [images, height, width, 1 or 3]",
    );
    says(
        json!({"name": "input", "datatype": "INT32", "shape": [1], "data": [0]}),
        "images are FP32, UINT8 or BYTES",
    );
    says(
        json!({"name": "input", "datatype": "FP32", "shape": [0, 1, 28, 28], "data": []}),
        "holds no image",
    );
    says(
        json!({"name": "input", "datatype": "FP32", "shape": [], "data": [1]}),
        "holds no image",
    );
    let two = json!({"inputs": [
        {"name": "input", "datatype": "UINT8", "shape": [1], "data": [0]},
        {"name": "input", "datatype": "UINT8", "shape": [1], "data": [0]}]});
    assert!(
        served
            .json("/v2/models/one/infer", &two)
            .error()
            .contains("there are 2 inputs")
    );
    let image =
        json!({"name": "input", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": zeros(784)});
    let other = json!({"inputs": [image], "outputs": [{"name": "scores"}]});
    let reply = served.json("/v2/models/one/infer", &other);
    assert!(
        reply
            .error()
            .contains("logits, probabilities, class, label"),
        "{reply:?}"
    );
    let classified = json!({"inputs": [image], "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]});
    let found = served.json("/v2/models/one/infer", &classified).json();
    assert_eq!(found["outputs"][0]["shape"], json!([1, 3]));
    assert!(
        found["outputs"][0]["data"][0]
            .as_str()
            .unwrap()
            .contains(":class ")
    );
    // A score that is no number is no answer.
    let nan = json!({"name": "input", "datatype": "FP32", "shape": [1, 1, 28, 28], "parameters": {"binary_data_size": 3136}});
    let reply = infer(
        &served,
        &json!({"inputs": [nan]}),
        &f32::NAN.to_le_bytes().repeat(784),
    );
    assert_eq!(reply.status, 422, "{reply:?}");
    assert!(reply.error().contains("which is no answer"), "{reply:?}");
}

#[test]
fn health_metadata_and_repository() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.allow_load = true;
    let served = Served::ready(options);
    assert_eq!(served.get("/v2/health/live").json()["live"], true);
    assert_eq!(served.get("/v2").json()["name"], "keepbest");
    assert_eq!(served.get("/v2/models").json()["models"], json!(["one"]));
    let metadata = served.get("/v2/models/one").json();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 28, 28]));
    let version = metadata["versions"][0].as_str().unwrap();
    assert_eq!(
        served
            .get(&format!("/v2/models/one/versions/{version}"))
            .status,
        200
    );
    assert_eq!(served.get("/v2/models/one/versions/00000000").status, 404);
    assert_eq!(served.get("/v2/models/one/ready").status, 200);
    assert_eq!(served.get("/v2/models/none/ready").status, 404);
    assert_eq!(
        served.get("/v2/models/one/config").json()["max_batch_size"],
        1024
    );
    assert_eq!(
        served.get("/v2/models/one/stats").json()["model_stats"][0]["name"],
        "one"
    );

    let post = |path: &str| served.post(path, "application/json", b"");
    assert_eq!(post("/v2/repository/index").json()[0]["state"], "READY");
    assert_eq!(post("/v2/repository/models/one/unload").status, 200);
    assert_eq!(served.get("/v2/models/one/ready").status, 503);
    let reply = served.post("/predict", "image/x", &picture(1));
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(post("/v2/repository/models/one/load").status, 200);
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 200);

    let metrics = String::from_utf8(served.get("/metrics").body).unwrap();
    assert!(
        metrics.contains("keepbest_images_total{model=\"one\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("keepbest_responses_total{status=\"503\"}"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn what_is_past_its_deadline_is_not_computed() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let input =
        json!({"name": "input", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": pixels(1)});
    let request = json!({"inputs": [input], "parameters": {"timeout": 1}});
    let reply = served.json("/v2/models/one/infer", &request);
    assert_eq!(reply.status, 504, "{reply:?}");
    let metrics = String::from_utf8(served.get("/metrics").body).unwrap();
    assert!(
        metrics.contains("keepbest_images_total{model=\"one\"} 0"),
        "{metrics}"
    );
}

#[test]
fn clients_load_nothing_unless_they_may() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let reply = served.post("/v2/repository/models/one/unload", "application/json", b"");
    assert_eq!(reply.status, 403);
    assert!(reply.error().contains("--allow-load"));
}

#[test]
fn the_document_names_what_there_is() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let document = served.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{model}", "one")
            .replace("{version}", "x")
            .replace("{run}", "none");
        for method in operations.as_object().unwrap().keys() {
            let reply = served.ask(&method.to_uppercase(), &path, &[], b"");
            let unknown = reply.status == 405
                || (reply.status == 404 && reply.error().starts_with("nothing is at"));
            assert!(!unknown, "{method} {path}: {reply:?}");
        }
    }
}
