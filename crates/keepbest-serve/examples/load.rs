//! Asks a server as many clients at a time do, each on a connection of its own, and tells how fast it answered: `bench/serve.py` runs it.
//!
//! usage: load ADDRESS PATH BODY-FILE CLIENTS SECONDS [RATE] [HEADER: VALUE]...
//!
//! With RATE above 0, so many requests a second are begun in all, whether or not those before are answered in time; a latency counts from
//! when its request should have begun.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends where something fails"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Seconds to each answer, with when it came.
    latencies: Vec<(f64, f64)>,
    failed: u64,
    digests: BTreeMap<String, u64>,
}

struct Client {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    fn ask(&mut self, request: &[u8]) -> (bool, String) {
        self.stream.get_mut().write_all(request).unwrap();
        let next = |client: &mut BufReader<TcpStream>, line: &mut String| {
            line.clear();
            client.read_line(line).unwrap();
        };
        next(&mut self.stream, &mut self.line);
        let is_good = self.line.split(' ').nth(1) == Some("200");
        let (mut length, mut digest) = (0, String::new());
        loop {
            next(&mut self.stream, &mut self.line);
            let Some((name, value)) = self.line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "keepbest-digest" => digest = value.to_owned(),
                _ => {}
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).unwrap();
        (is_good, digest)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, body, clients, seconds, more @ ..] = &arguments[..] else {
        println!("usage: load ADDRESS PATH BODY-FILE CLIENTS SECONDS [RATE] [HEADER: VALUE]...");
        return;
    };
    let (clients, seconds): (usize, f64) = (clients.parse().unwrap(), seconds.parse().unwrap());
    let rate: f64 = more.first().map_or(0.0, |rate| rate.parse().unwrap());
    let body = std::fs::read(body).unwrap();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for header in more.iter().skip(1) {
        request += &format!("{header}\r\n");
    }
    let request = [format!("{request}\r\n").as_bytes(), &body].concat();
    let seen = Mutex::new(Seen::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..clients {
            let (request, seen) = (&request, &seen);
            scope.spawn(move || {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut client = Client {
                    stream: BufReader::new(stream),
                    line: String::new(),
                    body: Vec::new(),
                };
                let mut own = Seen::default();
                for turn in 0_u64.. {
                    let mut start = begun.elapsed().as_secs_f64();
                    if rate > 0.0 {
                        let due = (turn as f64 * clients as f64 + number as f64) / rate;
                        std::thread::sleep(Duration::from_secs_f64((due - start).max(0.0)));
                        start = due;
                    }
                    if start >= seconds {
                        break;
                    }
                    let (is_good, digest) = client.ask(request);
                    let end = begun.elapsed().as_secs_f64();
                    own.latencies.push((end, end - start));
                    own.failed += u64::from(!is_good);
                    *own.digests.entry(digest).or_default() += 1;
                }
                let mut seen = seen.lock().unwrap();
                seen.latencies.extend(own.latencies);
                seen.failed += own.failed;
                for (digest, count) in own.digests {
                    *seen.digests.entry(digest).or_default() += count;
                }
            });
        }
    });
    let Seen {
        latencies,
        failed,
        digests,
    } = seen.into_inner().unwrap();
    // The first tenth warms up.
    let mut counted: Vec<f64> = latencies
        .iter()
        .filter(|(end, _)| *end >= seconds * 0.1)
        .map(|(_, took)| *took)
        .collect();
    counted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        counted
            .get((counted.len() as f64 * share) as usize)
            .map(|took| took * 1e3)
    };
    println!(
        "{}",
        json!({
            "requests": latencies.len(),
            "a_second": counted.len() as f64 / (begun.elapsed().as_secs_f64() - seconds * 0.1),
            "failed": failed,
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "digests": digests,
        })
    );
}
