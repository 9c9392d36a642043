//! What every request passes: who it is, whether it may, how long it has, and what is noted of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tonic::Status;

use super::{DIGEST_HEADER, MODEL_HEADER};
use crate::body::{Hold, Limited, too_large};
use crate::error::Refusal;
use crate::observer::{Access, ServeEvent};
use crate::state::State;

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";

/// The client's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// What is known of a request that was let in.
#[derive(Clone)]
pub(crate) struct Context {
    /// When there must be an answer.
    pub deadline: Instant,
    /// The memory that it holds.
    pub hold: Arc<Hold>,
}

/// What a load balancer, and a browser before it has a key, may ask.
fn is_open(path: &str) -> bool {
    matches!(
        path,
        "/v2/health/live" | "/v2/health/ready" | "/" | "/openapi.json"
    ) || path.starts_with("/assets/")
}

pub(super) async fn gate(
    axum::extract::State(state): axum::extract::State<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let headers = request.headers();
    let id = request_id(headers);
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let origin = allowed_origin(&state, headers);
    let noted = state.observer.hears_of_requests().then(|| {
        let peer = request.extensions().get::<Peer>();
        Noted {
            client: peer.map_or_else(String::new, |peer| peer.0.ip().to_string()),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
        }
    });
    let preflight = request.method() == Method::OPTIONS && origin.is_some();
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match let_in(&state, &request) {
            Err(refusal) if is_grpc => Status::from(refusal).into_http(),
            Err(refusal) => refusal.into_response(),
            Ok(()) => {
                let context = Context {
                    deadline: begun + time_for(&state, request.headers()),
                    hold: Hold::new(Arc::clone(&state.held)),
                };
                let (hold, limits) = (Arc::clone(&context.hold), state.options.limits);
                request.extensions_mut().insert(context.clone());
                let request = request.map(|body| Body::new(Limited::new(body, hold, limits)));
                // Held until the reply is there, whoever reads the body.
                let response = next.run(request).await;
                drop(context);
                response
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::try_from(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if preflight {
            let allowed = HeaderValue::from_static("authorization, content-type, x-api-key");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            let methods = HeaderValue::from_static("GET, POST");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
    }
    let status = response.status().as_u16();
    state.metrics.answered(status);
    if let Some(noted) = noted {
        noted.tell(&state, id, status, response.headers(), begun.elapsed());
    }
    response
}

/// What is noted of a request before it is answered.
struct Noted {
    client: String,
    method: String,
    path: String,
}

impl Noted {
    fn tell(
        self,
        state: &State,
        request: String,
        status: u16,
        headers: &HeaderMap,
        took: Duration,
    ) {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let access = Access {
            time_ms: now.map_or(0, |now| now.as_millis() as u64),
            request,
            client: self.client,
            method: self.method,
            path: self.path,
            status,
            model: text(MODEL_HEADER),
            digest: text(DIGEST_HEADER),
            took_ms: took.as_secs_f64() * 1e3,
        };
        state.observer.on(ServeEvent::Answered(&access));
    }
}

/// The client's name for the request, if it can stand in a header and a log, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    given.map_or_else(
        || {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("{:x}-{number:x}", std::process::id())
        },
        str::to_owned,
    )
}

/// The origin of the page that asks, where its pages may.
fn allowed_origin(state: &State, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let allowed = &state.options.cors;
    let found = allowed
        .iter()
        .any(|allowed| origin.as_bytes() == allowed.as_bytes());
    found.then(|| origin.clone())
}

fn let_in(state: &State, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    match &state.options.keys {
        Some(keys) if is_open(request.uri().path()) || keys.let_in(headers) => {}
        Some(_) => {
            let message = "a key is needed: Authorization: Bearer KEY";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, message));
        }
        // Without keys, whoever is on this machine may ask; a page from elsewhere whose name leads here may not.
        None if state.options.address.ip().is_loopback() => {
            let host = request.uri().host().map(str::as_bytes);
            let host = host.or_else(|| headers.get(HOST).map(|host| host.as_bytes()));
            let origin = headers.get(ORIGIN).map(|origin| origin.as_bytes());
            let origin = origin.filter(|_| allowed_origin(state, headers).is_none());
            let page = origin.map(
                |origin| match origin.splitn(2, |byte| *byte == b'/').nth(1) {
                    Some([b'/', host @ ..]) => host,
                    _ => origin,
                },
            );
            let forbidden = |message: &str| Err(Refusal::new(StatusCode::FORBIDDEN, message));
            if host.is_some_and(|host| !is_loopback(host)) {
                return forbidden(
                    "the server is asked by another name than localhost; --host lets others ask",
                );
            }
            if page.is_some_and(|host| !is_loopback(host)) {
                return forbidden("pages of other origins may not ask; --cors lets one");
            }
        }
        None => {}
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    let most = state.options.limits.body;
    match length {
        Some(length) if length > most => Err(too_large(most)),
        _ => Ok(()),
    }
}

/// Whether a host, with or without its port, is this machine.
fn is_loopback(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => match host.rsplit_once(':') {
            Some((name, port))
                if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                name
            }
            _ => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The time that a request has: the server's, or less where gRPC's header says so.
fn time_for(state: &State, headers: &HeaderMap) -> Duration {
    let most = state.options.limits.request_time;
    let asked = headers.get("grpc-timeout").and_then(|it| it.to_str().ok());
    asked
        .and_then(grpc_timeout)
        .map_or(most, |asked| asked.min(most))
}

/// Up to eight digits and a unit: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "::1",
            "a.localhost",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host}");
        }
        for host in [
            "example.org",
            "127.0.0.1.example.org",
            "localhost.example.org:80",
            "10.0.0.1",
            "",
            "[::2]:80",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn timeouts_of_grpc() {
        assert_eq!(grpc_timeout("20m"), Some(Duration::from_millis(20)));
        assert_eq!(
            grpc_timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for wrong in ["", "m", "1", "999999999S", "-1S", "1x", "é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }
}
