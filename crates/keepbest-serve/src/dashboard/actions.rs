//! What the page may do, where the server was told that it may: keep a checkpoint, and end a training in order.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use http::StatusCode;
use keepbest_keeper::{MaintainError, Selector};
use keepbest_store::{LockError, OpenError, active_writer};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runs::{find, reading};
use crate::error::Refusal;
use crate::state::State;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    step: u64,
}

fn check_may(state: &State) -> Result<(), Refusal> {
    match state.options.allow_actions {
        true => Ok(()),
        false => {
            let message = "the server only shows (--allow-actions with --keys lets it act)";
            Err(Refusal::new(StatusCode::FORBIDDEN, message))
        }
    }
}

pub(super) async fn pin(
    shared: Shared<Arc<State>>,
    run: Path<String>,
    which: Json<Which>,
) -> Result<Json<Value>, Refusal> {
    set_pin(shared, run, which, true).await
}

pub(super) async fn unpin(
    shared: Shared<Arc<State>>,
    run: Path<String>,
    which: Json<Which>,
) -> Result<Json<Value>, Refusal> {
    set_pin(shared, run, which, false).await
}

async fn set_pin(
    Shared(state): Shared<Arc<State>>,
    Path(run): Path<String>,
    Json(Which { step }): Json<Which>,
    pin: bool,
) -> Result<Json<Value>, Refusal> {
    check_may(&state)?;
    let done = reading(&state, move |state| {
        let path = find(state, &run)?;
        let set = match pin {
            true => keepbest_keeper::pin,
            false => keepbest_keeper::unpin,
        };
        set(&path, &Selector::Step(step)).map_err(|error| match error {
            MaintainError::Select(_) => {
                Refusal::missing(format!("there is no checkpoint of step {step}"))
            }
            MaintainError::Open(OpenError::Lock(LockError::Held { .. })) => {
                let message = "the run is being written to; it can be pinned when that is over";
                Refusal::new(StatusCode::CONFLICT, message)
            }
            _ => Refusal::unavailable("the run cannot be written to"),
        })
    });
    let (checkpoint, changed) = done.await??;
    Ok(Json(
        json!({"checkpoint": checkpoint, "pinned": pin, "changed": changed}),
    ))
}

/// Ends a training as Ctrl-C does: it saves where it is, and can be resumed.
pub(super) async fn stop(
    Shared(state): Shared<Arc<State>>,
    Path(run): Path<String>,
) -> Result<Json<Value>, Refusal> {
    check_may(&state)?;
    let told = reading(&state, move |state| {
        let path = find(state, &run)?;
        let conflict = |message: &str| Refusal::new(StatusCode::CONFLICT, message);
        let owner = active_writer(&path)
            .map_err(|_| Refusal::unavailable("the run's lock cannot be read"))?;
        let owner = owner.ok_or_else(|| conflict("nobody trains the run now"))?;
        let here = rustix::system::uname();
        if here.nodename().to_bytes() != owner.host.as_bytes() {
            return Err(conflict("the run is trained on another machine"));
        }
        // The lock is held: its process is alive, and no other has its number.
        let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
        let pid = pid.filter(|pid| pid.as_raw_nonzero().get() != std::process::id() as i32);
        let pid = pid.ok_or_else(|| conflict("it is not known which process trains the run"))?;
        kill_process(pid, Signal::TERM)
            .map_err(|_| conflict("the process that trains the run cannot be told"))
    });
    told.await??;
    Ok(Json(json!({"stopping": true})))
}
