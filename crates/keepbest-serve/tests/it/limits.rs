//! What a client may not take, and how the server stops.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keepbest_serve::Keys;
use serde_json::json;

use crate::support::{Place, Reply, Served, picture};

#[test]
fn bodies_and_pixels_have_a_limit() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.limits.body = 2000;
    options.limits.pixels = 1000;
    options.limits.images = 2;
    let served = Served::ready(options);
    let reply = served.post("/predict", "image/x", &[0; 2001]);
    assert_eq!(reply.status, 413, "{reply:?}");
    // Without a length that is known before.
    let mut stream = served.connect();
    stream.write_all(b"POST /predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..3 {
        let _ = stream.write_all(format!("3e8\r\n{}\r\n", "x".repeat(1000)).as_bytes());
    }
    let reply = Reply::read(&mut stream);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.error().contains("more than 2000 bytes"), "{reply:?}");
    // What the header says, before there is memory for it.
    let reply = served.post("/predict", "image/x", b"P5 5000 5000 255\n");
    let error = reply.json()["answers"][0]["error"].to_string();
    assert!(
        error.contains("5000x5000 are more than 1000 pixels"),
        "{error}"
    );
    let reply = served.json("/predict", &json!({"images": ["", "", ""]}));
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 200);
}

#[test]
fn who_is_slow_is_let_go() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.limits.header_time = Duration::from_millis(400);
    options.limits.body_time = Duration::from_millis(400);
    let served = Served::ready(options);
    let begun = Instant::now();
    // Nothing at all; the beginning of a request; a body that comes by the byte.
    let mut silent = served.connect();
    let mut begins = served.connect();
    begins.write_all(b"POST /pre").unwrap();
    let mut slow = served.connect();
    slow.write_all(b"POST /predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n").unwrap();
    let mut writer = slow.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let reply = Reply::read(&mut slow);
    assert_eq!(reply.status, 408, "{reply:?}");
    drop(slow);
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    begins.read_to_end(&mut rest).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    writing.join().unwrap();
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 200);
}

#[test]
fn more_than_is_taken_is_refused_at_once() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.batching.queue = 1;
    let served = Served::ready(options);
    // One that is under way, and stays so.
    let mut first = served.connect();
    first
        .write_all(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nx")
        .unwrap();
    let until = Instant::now() + crate::support::PATIENCE;
    loop {
        let reply = served.post("/predict", "image/x", &picture(1));
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), "1");
            break;
        }
        assert!(Instant::now() < until);
    }
    // Its client leaves, and with it what it held.
    drop(first);
    while served.post("/predict", "image/x", &picture(1)).status != 200 {
        assert!(Instant::now() < until);
    }
}

#[test]
fn who_has_left_is_not_computed_for() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.batching.batch_size = 1;
    let served = Served::ready(options);
    let input = json!({"name": "input", "datatype": "UINT8", "shape": [1000, 28, 28, 1],
        "parameters": {"binary_data_size": 784_000}});
    let head = serde_json::to_vec(&json!({"inputs": [input], "outputs": [{"name": "class"}]}));
    let head = head.unwrap();
    let length = head.len().to_string();
    let many = [&head[..], &vec![7; 784_000]].concat();
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) {
                    let headers = [("inference-header-content-length", length.as_str())];
                    let reply = served.ask("POST", "/v2/models/one/infer", &headers, &many);
                    assert_eq!(reply.status, 200, "{reply:?}");
                }
            });
        }
        let until = Instant::now() + crate::support::PATIENCE;
        let abandoned = || {
            let metrics = String::from_utf8(served.get("/metrics").body).unwrap();
            !metrics.contains("keepbest_images_abandoned_total{model=\"one\"} 0\n")
        };
        while !abandoned() {
            assert!(Instant::now() < until, "what was left was computed");
            let image = picture(1);
            let mut stream = served.connect();
            let head = format!(
                "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
                image.len()
            );
            stream
                .write_all(&[head.as_bytes(), &image].concat())
                .unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        has_ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn keys_are_asked_for_where_there_are_some() {
    let place = Place::new();
    let file = place.path("keys");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.keys = Some(Keys::read(&file).unwrap());
    let served = Served::ready(options);
    for path in ["/predict", "/v2/models/one/infer", "/metrics", "/v2/models"] {
        let reply = served.post(path, "image/x", &picture(1));
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
    assert_eq!(served.get("/v2/health/live").status, 200);
    for header in [
        ("authorization", "Bearer 0123456789abcdef"),
        ("x-api-key", "0123456789abcdef"),
    ] {
        assert_eq!(
            served
                .ask("POST", "/predict", &[header], &picture(1))
                .status,
            200
        );
    }
    let wrong = [("authorization", "Bearer 0123456789abcdeF")];
    assert_eq!(
        served.ask("POST", "/predict", &wrong, &picture(1)).status,
        401
    );
}

#[test]
fn pages_from_elsewhere_may_not_ask() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.cors = vec!["https://good.example".into()];
    let served = Served::ready(options);
    let asked = |headers: &[(&str, &str)]| served.ask("POST", "/predict", headers, &picture(1));
    assert_eq!(asked(&[("host", "rebound.example")]).status, 403);
    assert_eq!(asked(&[("host", "127.0.0.1")]).status, 200);
    let other = asked(&[("origin", "https://bad.example")]);
    assert_eq!(other.header("access-control-allow-origin"), "");
    assert_eq!(other.status, 403);
    assert_eq!(asked(&[("origin", "null")]).status, 403);
    assert_eq!(asked(&[("origin", "http://localhost:3000")]).status, 200);
    let allowed = asked(&[("origin", "https://good.example")]);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        "https://good.example"
    );
    let preflight = served.ask(
        "OPTIONS",
        "/predict",
        &[("origin", "https://good.example")],
        b"",
    );
    assert_eq!(preflight.status, 204);
}

#[test]
fn what_is_under_way_is_answered_before_the_server_stops() {
    let place = Place::new();
    let mut served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let image = picture(1);
    let mut stream = served.connect();
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        image.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[..100]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    served.tell_to_stop();
    served.wait_for("Draining");
    assert!(
        std::net::TcpStream::connect(served.address).is_err(),
        "it takes connections"
    );
    stream.write_all(&image[100..]).unwrap();
    let reply = Reply::read(&mut stream);
    assert_eq!(reply.status, 200, "{reply:?}");
    served.stop();
    let line = served.wait_for("\"status\":200,\"model\":\"one\"");
    assert!(line.contains("\"path\":\"/predict\""), "{line}");
}

#[test]
fn who_does_not_leave_is_cut_off_when_time_is_up() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.limits.drain_time = Duration::from_millis(200);
    let mut served = Served::ready(options);
    let mut stream = served.connect();
    stream
        .write_all(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nx")
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    served.stop();
    assert!(begun.elapsed() < Duration::from_secs(20));
    served.wait_for("Abandoned");
}
