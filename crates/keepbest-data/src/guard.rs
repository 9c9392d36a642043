//! Other people's decoders: damaged files make some of them panic. For us that is an error like any other.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a decoder whose panic becomes an error: a program's panic hook need not print it.
///
/// ```
/// let hook = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if !keepbest_data::is_decoding() {
///         hook(panic);
///     }
/// }));
/// ```
#[must_use]
pub fn is_decoding() -> bool {
    DECODING.get()
}

/// Runs a decoder.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    let outer = DECODING.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(outer);
    decoded.unwrap_or_else(|_| Err("its decoder stopped: the file is damaged".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_gives_an_error() {
        let stopped = guarded::<()>(|| {
            assert!(is_decoding());
            panic!("index out of bounds")
        });
        assert!(stopped.unwrap_err().to_string().contains("is damaged"));
        assert!(!is_decoding());
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
    }
}
