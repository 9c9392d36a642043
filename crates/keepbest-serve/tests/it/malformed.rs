//! Whatever is sent, the server stays up, and no reply says that it failed.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;

use crate::support::{Place, Served, picture, pixels};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    /// The bytes with some changed, cut, doubled.
    fn bend(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bent = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bent.len().max(1));
            match self.below(4) {
                0 => bent.truncate(at),
                1 => {
                    let tail = bent[at.min(bent.len())..].to_vec();
                    bent.extend(tail);
                }
                _ => {
                    if let Some(byte) = bent.get_mut(at) {
                        *byte = self.0 as u8;
                    }
                }
            }
        }
        bent
    }
}

#[test]
fn bent_requests_get_no_5xx() {
    let place = Place::new();
    let served = Served::ready(place.options(&[&place.model("one.safetensors", 1)]));
    let input = json!({"name": "input", "datatype": "UINT8", "shape": [1, 28, 28, 1], "parameters": {"binary_data_size": 784}});
    let head = serde_json::to_vec(&json!({"inputs": [input]})).unwrap();
    let binary = [&head[..], &pixels(1)].concat();
    let length = head.len().to_string();
    let json = serde_json::to_vec(&json!({"inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": vec![0.5; 784]}]}))
    .unwrap();
    let plain = serde_json::to_vec(
        &json!({"images": ["UDUgMSAxIDI1NQow"], "top_k": 2, "probabilities": true}),
    )
    .unwrap();
    let form = [
        b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n",
        &picture(1)[..],
        b"\r\n--x--\r\n",
    ]
    .concat();
    let infer = "/v2/models/one/infer";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);
    let cases: [Case<'_>; 5] = [
        (
            infer,
            &[("inference-header-content-length", &length)],
            &binary,
        ),
        (infer, &[("content-type", "application/json")], &json),
        ("/predict", &[("content-type", "application/json")], &plain),
        (
            "/predict",
            &[("content-type", "multipart/form-data; boundary=x")],
            &form,
        ),
        ("/predict", &[("content-type", "image/png")], &picture(1)),
    ];
    let mut random = Random(7);
    for round in 0..100 {
        for (path, headers, body) in cases {
            let bent = random.bend(body);
            let reply = served.ask("POST", path, headers, &bent);
            assert!(
                reply.status < 500,
                "round {round}: {path} {headers:?}: {reply:?}"
            );
            // A refusal is JSON, and says something.
            if reply.status != 200 && reply.status != 422 {
                assert!(!reply.error().is_empty(), "{reply:?}");
            }
        }
    }
    for length in ["-1", "x", "99999999999999999999", "4000000000", ""] {
        let headers = [("inference-header-content-length", length)];
        let reply = served.ask("POST", infer, &headers, &binary);
        assert_eq!(reply.status, 400, "{length}: {reply:?}");
    }
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 200);
}

#[test]
fn what_is_no_http_is_let_go() {
    let place = Place::new();
    let mut options = place.options(&[&place.model("one.safetensors", 1)]);
    options.limits.header_time = Duration::from_millis(500);
    let served = Served::ready(options);
    let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut random = Random(3);
    let noise: Vec<u8> = (0..5000).map(|_| random.next() as u8).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let wrong: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        huge.as_bytes(),
        &noise,
        preface,
    ];
    for bytes in wrong {
        let mut stream = served.connect();
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let text = String::from_utf8_lossy(&reply);
        assert!(!text.starts_with("HTTP/1.1 5"), "{text}");
    }
    assert_eq!(served.post("/predict", "image/x", &picture(1)).status, 200);
}
