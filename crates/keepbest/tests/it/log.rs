//! Logging to other tools. What TensorBoard and MLflow make of it, interop/loggers.py asks them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::Place;

#[test]
fn tables_and_event_files_are_in_the_run() {
    let place = Place::with_data();
    place.trained("run", "--log csv --log json --log tensorboard");
    let csv = std::fs::read_to_string(place.path("runs/run/metrics.csv")).unwrap();
    assert!(
        csv.starts_with("step,epoch,verdict,train/accuracy,"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 3);
    let json = std::fs::read_to_string(place.path("runs/run/metrics.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let shown = place.json("show run --json");
    let both = json["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .zip(shown["history"].as_array().unwrap());
    for (logged, journalled) in both {
        assert_eq!(logged["metrics"], journalled["metrics"]);
    }
    let events = std::fs::read_dir(place.path("runs/run/tensorboard")).unwrap();
    assert_eq!(events.count(), 1);
    place.ok("fsck run");
}

#[test]
fn a_logger_that_fails_stops_nothing_and_is_told_once() {
    let place = Place::with_data();
    // A server that answers nonsense, and a port where nobody listens.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        // To the end of the request: closing before would tear the connection down.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.0 500 No\r\n\r\nno").unwrap();
    });
    let said = place.ok(&format!(
        "train {} --name run --log mlflow=http://{address} --log csv",
        crate::support::SMALL
    ));
    answering.join().unwrap();
    let told = "mlflow gets nothing more of this run: the server answered 500: no";
    assert_eq!(said.err.matches(told).count(), 1, "{}", said.err);
    assert!(place.path("runs/run/metrics.csv").exists());

    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let said = place.ok(&format!(
        "train {} --name other --log mlflow=http://{free}",
        crate::support::SMALL
    ));
    assert_eq!(
        said.err.matches("mlflow gets nothing more").count(),
        1,
        "{}",
        said.err
    );
    place
        .run("train --data data --log wandb")
        .fails(2, &["tensorboard, csv, json or mlflow=URL"]);
}

/// A server that answers every request in one way, until the test is over.
fn server(answer: fn(&mut std::net::TcpStream)) -> std::net::SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let mut stream = stream;
            std::thread::spawn(move || answer(&mut stream));
        }
    });
    address
}

#[test]
fn a_logger_that_never_comes_to_an_end_is_not_waited_for() {
    let place = Place::with_data();
    // A byte a second, each in time for a limit on silence.
    let trickles = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    let silent = server(|stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let endless = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let blank = server(|stream| while stream.write_all(&[b' '; 4096]).is_ok() {});
    for (name, address, why) in [
        ("trickles", trickles, "no whole answer in 10 seconds"),
        ("silent", silent, "no whole answer in 10 seconds"),
        ("endless", endless, "the answer is longer than 16 MiB"),
        ("blank", blank, "does not speak HTTP"),
    ] {
        // The other logger gets everything all the same.
        let said = place.ok(&format!(
            "train {} --name {name} --log mlflow=http://{address} --log csv",
            crate::support::SMALL
        ));
        let told = "mlflow gets nothing more of this run: ";
        assert_eq!(said.err.matches(told).count(), 1, "{name}: {}", said.err);
        assert!(said.err.contains(why), "{name}: {}", said.err);
        assert_eq!(
            place.json(&format!("show {name} --json"))["status"],
            "completed"
        );
        let csv = std::fs::read_to_string(place.path(&format!("runs/{name}/metrics.csv")));
        assert_eq!(csv.unwrap().lines().count(), 3, "{name}");
    }
}
