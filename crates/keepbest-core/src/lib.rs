//! Metrics, objective, verdict, early stopping, retention and history: pure, no I/O, no clock, no threads.
