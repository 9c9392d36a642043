//! As much of HTTP as a tracking server on one's own network needs: plain requests, one a connection.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The time that a request may take, its answer included; large ones may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second that a large request must reach.
const SLOWEST: u64 = 1 << 20;
/// Bytes read or written in one call.
const PIECE: usize = 64 << 10;
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 16 << 20;

/// `http://host:port/base`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    host: String,
    port: u16,
    base: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "a URL such as http://localhost:5000 (without TLS)".to_owned();
        let rest = text.strip_prefix("http://").ok_or_else(expected)?;
        let (place, base) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| expected())?),
            None => (place, 80),
        };
        // What goes into a request line and a header must not end them; a name and password would be recorded.
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && c != '@');
        if host.is_empty() || !plain(host) || !plain(base) {
            return Err(expected());
        }
        Ok(Self {
            host: host.into(),
            port,
            base: base.trim_end_matches('/').into(),
        })
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
        let deadline = Deadline::after(PATIENCE + time_for(body.len() as u64));
        let place = format!("{}:{}", self.host, self.port);
        let fail = |error: io::Error| format!("{place}: {error}");
        // All its addresses are tried, as `localhost` may be two.
        let addresses = place.to_socket_addrs().map_err(fail)?;
        let mut tried = Err(format!("{place} has no address"));
        for address in addresses {
            tried = deadline
                .left()
                .and_then(|left| TcpStream::connect_timeout(&address, left))
                .map_err(fail);
            if tried.is_ok() {
                break;
            }
        }
        let mut stream = tried?;
        let base = if self.base.is_empty() {
            String::new()
        } else {
            format!("/{}", self.base)
        };
        // HTTP/1.0: the answer ends with the connection, and never comes in chunks.
        let head = format!(
            "{method} {base}{path} HTTP/1.0\r\nHost: {place}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        deadline
            .write(&mut stream, head.as_bytes())
            .and_then(|()| deadline.write(&mut stream, body))
            .map_err(fail)?;
        let answer = deadline.read(&mut stream).map_err(fail)?;
        parse(answer).ok_or_else(|| format!("{place} does not speak HTTP"))
    }
}

/// The time when a request is given up, with its answer: a server that sends a byte a second is as bad as one that is silent.
struct Deadline {
    end: Instant,
    whole: Duration,
}

impl Deadline {
    fn after(whole: Duration) -> Self {
        Self {
            end: Instant::now() + whole,
            whole,
        }
    }

    /// The time left, more than nothing.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = self.whole.as_secs();
            let message = format!("no whole answer in {seconds} seconds");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(left)
    }

    /// Nothing where a call ran into its own time limit: the deadline's words say what that means.
    fn or_late<T>(&self, done: io::Result<T>) -> io::Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn write(&self, stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            stream.set_write_timeout(Some(self.left()?))?;
            let piece = &bytes[..bytes.len().min(PIECE)];
            match self.or_late(stream.write(piece))? {
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written.unwrap_or(0)..],
            }
        }
        Ok(())
    }

    fn read(&self, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let (mut answer, mut piece) = (Vec::new(), vec![0; PIECE]);
        loop {
            stream.set_read_timeout(Some(self.left()?))?;
            match self.or_late(stream.read(&mut piece))? {
                Some(0) => return Ok(answer),
                read => answer.extend_from_slice(&piece[..read.unwrap_or(0)]),
            }
            if answer.len() > LONGEST_ANSWER {
                let message = format!("the answer is longer than {} MiB", LONGEST_ANSWER >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
}

/// The time that so many bytes may take.
pub(super) fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

fn parse(mut answer: Vec<u8>) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let body = answer.split_off(end + 4);
    Some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url: Url = "http://127.0.0.1:5000/mlflow/".parse().unwrap();
        assert_eq!(
            (&*url.host, url.port, &*url.base),
            ("127.0.0.1", 5000, "mlflow")
        );
        assert_eq!("http://tracking".parse::<Url>().unwrap().port, 80);
        for wrong in [
            "https://x",
            "x:5000",
            "http://",
            "http://a:b",
            "http://me:pw@x",
            "http://x/a b",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n{}".to_vec()).unwrap();
        assert_eq!((answer.status, &*answer.body), (404, &b"{}"[..]));
        assert!(parse(b"SSH-2.0\r\n\r\n".to_vec()).is_none());
        assert!(parse(Vec::new()).is_none());
    }
}
