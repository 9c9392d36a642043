//! `POST /predict`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keepbest_model::{decide, probabilities};
use serde_json::json;

use crate::support::{Place, Served, picture, scores};

#[test]
fn an_image_is_answered_in_every_form() {
    let place = Place::new();
    let path = place.model("one.safetensors", 1);
    let served = Served::ready(place.options(&[&path]));
    let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    let expected = |seed: u8| {
        let row = scores(&path, &[seed]);
        (decide(&row, &classes, None).unwrap(), probabilities(&row))
    };
    let (decision, all) = expected(3);

    let plain = served.post("/predict", "image/x-portable-graymap", &picture(3));
    assert_eq!(plain.status, 200, "{plain:?}");
    let reply = plain.json();
    assert_eq!(reply["model"], "one");
    assert_eq!(reply["answers"][0]["label"], decision.label);
    assert_eq!(reply["answers"][0]["probability"], decision.probability);
    assert_eq!(reply["answers"][0].get("top"), None);
    assert_eq!(plain.header("keepbest-model"), "one");
    assert_eq!(
        plain.header("keepbest-digest"),
        reply["digest"].as_str().unwrap()
    );
    assert!(!plain.header("x-request-id").is_empty());

    let more = served.post(
        "/predict/one?top_k=3&probabilities=true",
        "image/png",
        &picture(3),
    );
    let answer = &more.json()["answers"][0];
    assert_eq!(answer["top"].as_array().unwrap().len(), 3);
    assert_eq!(answer["top"][0]["label"], decision.label);
    assert_eq!(answer["probabilities"], json!(all));

    let text = |seed| BASE64_STANDARD.encode(picture(seed));
    let body = json!({"images": [text(3), format!("data:image/x;base64,{}", text(5))], "top_k": 1});
    let several = served.json("/predict", &body).json();
    for (at, seed) in [3, 5].into_iter().enumerate() {
        let (decision, _) = expected(seed);
        assert_eq!(several["answers"][at]["class"], decision.class);
        assert_eq!(several["answers"][at]["probability"], decision.probability);
    }

    let mut form = Vec::new();
    for (name, seed) in [("a.pgm", 3), ("b.pgm", 5)] {
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n"
        );
        form.extend(head.as_bytes());
        form.extend(picture(seed));
        form.extend(b"\r\n");
    }
    form.extend(b"--x\r\nContent-Disposition: form-data; name=\"top_k\"\r\n\r\n2\r\n--x--\r\n");
    let reply = served
        .post("/predict", "multipart/form-data; boundary=x", &form)
        .json();
    assert_eq!(reply["answers"][1]["image"], "b.pgm");
    assert_eq!(reply["answers"][1]["class"], expected(5).0.class);
    assert_eq!(reply["answers"][1]["top"].as_array().unwrap().len(), 2);
}

#[test]
fn a_broken_image_fails_alone() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let torn = picture(1)[..500].to_vec();
    let body = json!({"images": [text(&picture(1)), text(b"not an image"), text(&torn), text(&picture(2))]});
    let reply = served.json("/predict", &body);
    assert_eq!(reply.status, 200);
    let answers = &reply.json()["answers"];
    assert!(answers[0]["label"].is_string() && answers[3]["label"].is_string());
    let error = answers[1]["error"].as_str().unwrap();
    assert!(
        error.contains("image 1") && error.contains("not a PNG"),
        "{error}"
    );
    assert!(answers[2]["error"].is_string());

    let alone = served.post("/predict", "image/png", b"not an image");
    assert_eq!(alone.status, 422);
    assert!(alone.json()["answers"][0]["error"].is_string());
}

#[test]
fn concurrent_requests_are_answered_as_each_alone() {
    let place = Place::new();
    let path = place.model("one.safetensors", 1);
    let served = Served::ready(place.options(&[&path]));
    let largest = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..16_u8 {
            let (served, path, largest) = (&served, &path, &largest);
            scope.spawn(move || {
                for round in 0..8_u8 {
                    let seed = client * 8 + round;
                    let reply = served
                        .post("/predict?probabilities=true", "image/x", &picture(seed))
                        .json();
                    let expected = probabilities(&scores(path, &[seed]));
                    assert_eq!(reply["answers"][0]["probabilities"], json!(expected));
                    let batch = reply["batch"].as_u64().unwrap();
                    largest.fetch_max(batch, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert!(largest.into_inner() > 1, "no batch was formed");
}

#[test]
fn what_is_not_asked_well_is_told() {
    let place = Place::new();
    let paths = [
        place.model("one.safetensors", 1),
        place.model("two.safetensors", 2),
    ];
    let served = Served::ready(place.options(&[&paths[0], &paths[1]]));
    let says = |reply: crate::support::Reply, status: u16, words: &str| {
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.error().contains(words), "{reply:?}");
    };
    says(
        served.post("/predict/none", "image/x", &picture(1)),
        404,
        "\"none\"; there are one, two",
    );
    says(served.post("/predict", "image/x", b""), 400, "no image");
    says(
        served.post("/predict?top_k=x", "image/x", &picture(1)),
        400,
        "top_k",
    );
    says(
        served.post("/predict?topk=1", "image/x", &picture(1)),
        400,
        "topk",
    );
    says(served.json("/predict", &json!({"imgs": []})), 400, "imgs");
    says(
        served.json("/predict", &json!({"image": "?"})),
        400,
        "image 0 is not base64",
    );
    says(
        served.post("/predict", "multipart/form-data", b""),
        400,
        "form",
    );
    says(
        served.post("/predict", "multipart/form-data; boundary=x", b"--x\r\n"),
        400,
        "form",
    );
    says(served.get("/predict"), 405, "/openapi.json");
    says(served.get("/none"), 404, "nothing is at /none");
    // The first that was named answers when none is.
    assert_eq!(
        served.post("/predict", "image/x", &picture(1)).json()["model"],
        "one"
    );
    assert_eq!(
        served
            .post("/predict?model=two", "image/x", &picture(1))
            .json()["model"],
        "two"
    );
}
