//! Engines that train one network together.

use std::fmt;

/// Ranks that train one network together, each on its shards of every batch: what an engine needs to know of the others.
///
/// A batch is cut by place into as many shards as a setting says, and a rank takes neighbouring ones. What the shards come to is
/// summed by one fixed binary tree over all of them, of which a rank's shards are a subtree: (0 + 1) + (2 + 3). So the bits depend on
/// the number of shards, and not on who computed them.
pub trait Collective: fmt::Debug + Send + Sync {
    /// The place of this rank, from 0.
    fn rank(&self) -> usize;

    /// Ranks there are, at least 1.
    fn ranks(&self) -> usize;

    /// Replaces each value by its sum over all ranks, added pairwise in the order of the tree. Every rank calls it at the same point,
    /// with as many values, and every rank gets the same bits.
    ///
    /// # Errors
    /// [`CollectiveError`] when a rank is lost: none of them can go on.
    fn sum(&self, values: &mut [f32]) -> Result<(), CollectiveError>;

    /// [`sum`](Self::sum) of a few values that count: losses, images.
    ///
    /// # Errors
    /// As there.
    fn sum_f64(&self, values: &mut [f64]) -> Result<(), CollectiveError>;

    /// Says something to all others, who [hear](Self::hear) it. The first rank's to call. By default there is nobody.
    ///
    /// # Errors
    /// As of [`sum`](Self::sum).
    fn tell(&self, _message: &[u8]) -> Result<(), CollectiveError> {
        Ok(())
    }

    /// What the first rank says next. The others' to call.
    ///
    /// # Errors
    /// As of [`sum`](Self::sum); by default there is nobody to hear.
    fn hear(&self) -> Result<Vec<u8>, CollectiveError> {
        Err(CollectiveError::new(self.rank(), "nobody speaks".into()))
    }

    /// The values of every rank, in order, at the first one; nothing at the others. Each brings as many as it has. By default there is
    /// one rank.
    ///
    /// # Errors
    /// As of [`sum`](Self::sum).
    fn gather(&self, values: &[f32]) -> Result<Vec<Vec<f32>>, CollectiveError> {
        Ok(vec![values.to_vec()])
    }
}

/// Another rank cannot be reached any more.
#[derive(Debug, thiserror::Error)]
#[error("rank {rank} has lost the others")]
#[non_exhaustive]
pub struct CollectiveError {
    /// The rank that found out.
    pub rank: usize,
    /// What its network says.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl CollectiveError {
    /// What `rank` found out, by what its network says.
    pub fn new(rank: usize, source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        CollectiveError { rank, source }
    }
}

/// One rank, with nobody to wait for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn sum_f64(&self, _: &mut [f64]) -> Result<(), CollectiveError> {
        Ok(())
    }
}
