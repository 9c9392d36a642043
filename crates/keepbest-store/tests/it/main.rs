//! The store on real directories.

mod commit;
mod faults;
mod fsck;
mod journal;
mod lock;
mod runs;
mod support;
