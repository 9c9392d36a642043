//! `keepbest serve`, the verb. What the server does is tested in its crate.

use crate::support::Place;

#[cfg(not(feature = "serve"))]
#[test]
fn a_build_without_the_server_says_where_it_is() {
    let said = Place::new().run("serve --port 0");
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("this build of keepbest has no server"),
        "{said:?}"
    );
    assert!(said.err.contains("--features serve"), "{said:?}");
}

#[test]
fn what_is_no_time_or_size_is_told() {
    let place = Place::new();
    for (args, words) in [
        ("--max-delay 5", "2ms"),
        ("--timeout=-1s", "--timeout"),
        ("--timeout 2000m", "up to a day"),
        ("--memory 0", "2GiB"),
        ("--port 70000", "70000"),
        ("--host nowhere", "nowhere"),
        ("--tls-cert a.pem", "--tls-key"),
        ("--queue 0", "--queue"),
    ] {
        let said = place.run(&format!("serve {args}"));
        assert_eq!(said.code, 2, "{args}: {said:?}");
        assert!(said.err.contains(words), "{args}: {said:?}");
    }
}

#[cfg(feature = "serve")]
mod with_server {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, ChildStderr, Stdio};
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::support::Place;

    /// A server in a process of its own, and what it says.
    fn start(place: &Place, args: &str) -> (Child, BufReader<ChildStderr>, String) {
        let mut command = place.command(args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().rsplit("://").next().unwrap().to_owned();
        assert!(line.starts_with("serving "), "{line}");
        (child, said, address)
    }

    fn ask(address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let end = "host: localhost\r\nconnection: close\r\n\r\n";
        stream
            .write_all(format!("{request} HTTP/1.1\r\n{end}").as_bytes())
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn end(mut child: Child, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn a_run_is_served_logged_and_stopped_in_order() {
        let place = Place::with_data();
        let trained = place.run("train --data data --model lenet5 --epochs 1 --name one --quiet");
        assert_eq!(trained.code, 0, "{trained:?}");
        let (child, mut said, address) = start(&place, "serve one --port 0 --access-log log");
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("one: loaded"), "{line}");
        let reply = ask(&address, "GET /v2/models/one");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        let page = ask(&address, "GET /");
        assert!(page.contains("<title>keepbest</title>"), "{page}");
        assert_eq!(end(child, Signal::TERM), Some(0));
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("stopping: 0 requests under way"), "{rest}");
        let log = std::fs::read_to_string(place.path("log")).unwrap();
        let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["path"], &last["status"]),
            (&"/".into(), &200.into()),
            "{log}"
        );
    }

    #[test]
    fn what_cannot_be_served_is_told() {
        let place = Place::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        std::fs::create_dir(place.path("runs")).unwrap();
        std::fs::write(place.path("short"), "key\n").unwrap();
        std::fs::write(place.path("pem"), "none\n").unwrap();
        for (args, code, words) in [
            (
                format!("serve --port {port}"),
                1,
                "another program listens there",
            ),
            ("serve none --port 0".into(), 1, "no model or run \"none\""),
            (
                "serve --port 0 --keys short".into(),
                1,
                "line 1 of short is no key",
            ),
            (
                "serve --port 0 --keys missing".into(),
                1,
                "cannot read missing",
            ),
            (
                "serve --port 0 --allow-actions".into(),
                2,
                "actions take keys",
            ),
            ("serve --port 0 --cors example".into(), 2, "is no origin"),
            (
                "serve --port 0 --tls-cert pem --tls-key pem".into(),
                1,
                "it holds no certificate",
            ),
            (
                "serve --port 0 --access-log runs".into(),
                1,
                "cannot write runs",
            ),
        ] {
            let said = place.run(&args);
            assert_eq!(said.code, code, "{args}: {said:?}");
            assert!(said.err.contains(words), "{args}: {said:?}");
        }
    }
}
