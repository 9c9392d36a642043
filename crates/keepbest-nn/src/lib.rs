//! Model specs, zoo, shape inference, plan, forward and backward, optimizers, snapshots.
