//! Train a CNN, keep the best model of every run, and put it to use.
