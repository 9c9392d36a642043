//! SIMD compute kernels with run-time dispatch, and the thread pool they run on.
