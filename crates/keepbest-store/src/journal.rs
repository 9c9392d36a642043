//! The journal: one checksummed event a line, append-only.
//!
//! ```text
//! {"seq":7,"time_ms":1764000000000,"event":"promoted",...,"check":"0123456789abcdef"}
//! ```
//!
//! `seq` counts from 1 without a gap. `check` is the first 16 hex digits of the BLAKE3 of the line up to, not including, the
//! `,"check"` that ends it. Each line is synced before the next is written, so a crash can damage at most the last one: a
//! last line that is incomplete or has a wrong checksum is cut when a writer opens the journal and ignored by readers; any
//! other bad line is an error that names it.

mod event;
mod line;
mod reader;
mod writer;

pub use event::{
    BestLostEvent, Event, FinishedEvent, InterruptedEvent, OtherEvent, PinnedEvent, PromotedEvent,
    PrunedEvent, RejectedEvent, RepairedEvent, ResumedEvent, SaveFailedEvent, SavedEvent,
    ShortenedEvent, StartedEvent, SupersededEvent,
};
pub use reader::{Entry, Journal, TornTail};
pub(crate) use reader::{parse, parse_salvaging};
pub(crate) use writer::{JournalWriter, rebuild};
