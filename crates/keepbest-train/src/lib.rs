//! Trainer and evaluator: data to the best model, step by step.
