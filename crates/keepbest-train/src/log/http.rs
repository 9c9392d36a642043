//! Requests to a tracking server: one a connection, each with a deadline that its answer is part of.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Uri};
use ureq::{Agent, Error};

/// The time that a request may take, its answer included; large ones may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second that a large request must reach.
const SLOWEST: u64 = 1 << 20;
/// The longest answer that is read.
const LONGEST_ANSWER: u64 = 16 << 20;

/// `http://host:port/base`, or `https://`; without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url(String);

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "a URL such as http://localhost:5000".to_owned();
        let uri: Uri = text.parse().map_err(|_| expected())?;
        let place = uri.authority().ok_or_else(expected)?;
        let after_host = place.as_str().strip_prefix(place.host());
        let port = match after_host {
            Some("") => true,
            Some(_) => place.port_u16().is_some(),
            // A name and password would be recorded.
            None => false,
        };
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        if !scheme
            || !port
            || place.host().is_empty()
            || uri.query().is_some()
            || text.contains('#')
        {
            return Err(expected());
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

/// A server's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The JSON of a success; else what went wrong, in words.
    pub(super) fn json(self) -> Result<Value, String> {
        let text = String::from_utf8_lossy(&self.body);
        if self.status != 200 {
            let said: String = text.chars().take(200).collect();
            return Err(format!("the server answered {}: {said}", self.status));
        }
        serde_json::from_str(&text)
            .map_err(|error| format!("the server's answer is not JSON: {error}"))
    }
}

impl Url {
    /// Sends a request and reads the whole answer.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Answer, String> {
        // A server that sends a byte a second is as bad as one that is silent: the time is that of the whole exchange.
        let patience = PATIENCE + time_for(body.len() as u64);
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            // Another server's answer is none of this one's.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("keepbest/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let request = Request::builder()
            .method(method)
            .uri(format!("{self}{path}"))
            .header("Content-Type", kind)
            .body(body)
            .map_err(|error| format!("{self}: {error}"))?;
        let answer = agent.run(request).and_then(|mut answer| {
            let status = answer.status().as_u16();
            let body = answer.body_mut().with_config().limit(LONGEST_ANSWER);
            Ok(Answer {
                status,
                body: body.read_to_vec()?,
            })
        });
        answer.map_err(|error| match error {
            Error::Timeout(_) => {
                format!("{self}: no whole answer in {} seconds", patience.as_secs())
            }
            Error::BodyExceedsLimit(limit) => {
                format!("{self}: the answer is longer than {} MiB", limit >> 20)
            }
            Error::Protocol(error) => format!("{self} does not speak HTTP: {error}"),
            Error::Io(error) => format!("{self}: {error}"),
            error => format!("{self}: {error}"),
        })
    }
}

/// The time that so many bytes may take.
pub(super) fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls() {
        for (text, url) in [
            (
                "http://127.0.0.1:5000/mlflow/",
                "http://127.0.0.1:5000/mlflow",
            ),
            ("http://tracking", "http://tracking"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("https://x/", "https://x"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), url);
        }
        for wrong in [
            "ftp://x",
            "x:5000",
            "http://",
            "http://a:b",
            "http://:5000",
            "http://me:pw@x",
            "http://x/a b",
            "http://x?a=b",
            "http://x#a",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    /// The answer to a request at a server that says these bytes and closes.
    fn answer_of(said: &'static [u8]) -> Result<Answer, String> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}/base", server.local_addr().unwrap())
            .parse()
            .unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nab") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(said).unwrap();
            String::from_utf8(request).unwrap()
        });
        let answer = url.send("PUT", "/x?y=1", "text/plain", b"ab");
        let request = answering.join().unwrap();
        assert!(
            request.starts_with("PUT /base/x?y=1 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.to_lowercase().contains("content-length: 2\r\n"));
        answer
    }

    #[test]
    fn answers() {
        let answer = answer_of(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, &*answer.body), (404, &b"{}"[..]));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert!(answer_of(chunked).unwrap().json().is_ok());
        let moved =
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer_of(moved).unwrap().status, 301);
        let problem = answer_of(b"SSH-2.0\r\n\r\n").unwrap_err();
        assert!(problem.contains("does not speak HTTP"), "{problem}");
        assert!(answer_of(b"").is_err());
    }
}
