//! Operations done in one pass over memory.

use super::{Network, Node, Op, Then, ValueId};

/// An operation, and its place (or that of its first part) among the network's.
pub(crate) type Placed = (usize, Node);

impl Network {
    /// The operations of a training step: a batch norm with a ReLU takes along the max pooling that follows, where nothing else
    /// reads its output. The normalised map, the largest of the three, is then never written. The bits stay the same.
    pub(crate) fn training_nodes(&self) -> Vec<Placed> {
        self.merged(|before, node| match (&mut before.op, &node.op) {
            (Op::BatchNorm(norm), Op::MaxPool(pool))
                if norm.relu
                    && norm.residual.is_none()
                    && norm.pool.is_none()
                    && pool.tiles_input() =>
            {
                norm.pool = Some(*pool);
                true
            }
            _ => false,
        })
    }

    /// The operations of inference: a convolution takes along the batch norm or ReLU that follows it, where nothing else reads
    /// its output. One pass over memory less each, and the norm's arithmetic becomes part of the weights.
    pub(crate) fn inference_nodes(&self) -> Vec<Placed> {
        self.merged(|before, node| match (&mut before.op, &node.op) {
            (Op::Conv { then, .. }, Op::BatchNorm(norm)) if then.is_none() => {
                *then = Some(Then::BatchNorm(norm.clone()));
                true
            }
            (Op::Conv { then, .. }, Op::Relu) if then.is_none() => {
                *then = Some(Then::Relu);
                true
            }
            _ => false,
        })
    }

    /// The operations, each merged with the one before that alone reads from it, if `merge` does so.
    fn merged(&self, merge: impl Fn(&mut Node, &Node) -> bool) -> Vec<Placed> {
        let mut merged: Vec<Placed> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let feeds =
                |before: &Node| before.output == node.input && self.readers(before.output) == 1;
            if let Some((_, before)) = merged.last_mut()
                && feeds(before)
                && merge(before, node)
            {
                before.output = node.output;
            } else {
                merged.push((index, node.clone()));
            }
        }
        merged
    }

    /// How often a value is read, the network's own output counting as once.
    fn readers(&self, value: ValueId) -> usize {
        let reads = |node: &Node| {
            usize::from(node.input == value) + usize::from(node.other() == Some(value))
        };
        self.nodes.iter().map(reads).sum::<usize>() + usize::from(self.output == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::BatchNorm;
    use crate::zoo::{ZooOptions, spec};

    #[test]
    fn residual_blocks_become_convolutions() {
        let spec = spec("resnet18", &ZooOptions::new(3, 32, 32, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let fused = network.inference_nodes();
        let with = |is: fn(&Op) -> bool| fused.iter().filter(|(_, node)| is(&node.op)).count();
        // 20 convolutions with their norms and the classifier; pooling is all that is left.
        assert_eq!(
            with(|op| matches!(
                op,
                Op::Conv {
                    then: Some(Then::BatchNorm(_)),
                    ..
                }
            )),
            20
        );
        assert_eq!(
            with(|op| matches!(
                op,
                Op::Conv {
                    then: None,
                    linear: true,
                    ..
                }
            )),
            1
        );
        assert_eq!(fused.len(), 22);
        let residuals = fused
            .iter()
            .filter(|(_, node)| node.other().is_some())
            .count();
        assert_eq!(residuals, 8);
    }

    #[test]
    fn what_is_read_is_written() {
        for name in crate::zoo::list().iter().map(|entry| entry.name) {
            let spec = spec(name, &ZooOptions::new(3, 64, 64, 10)).unwrap();
            let network = Network::new(&spec).unwrap();
            for nodes in [network.training_nodes(), network.inference_nodes()] {
                let mut written = vec![0];
                for (_, node) in &nodes {
                    let reads = [Some(node.input), node.other()];
                    assert!(
                        reads.into_iter().flatten().all(|v| written.contains(&v)),
                        "{name}"
                    );
                    written.push(node.output);
                }
                assert_eq!(written.last(), Some(&network.output), "{name}");
            }
        }
    }

    #[test]
    fn pooling_joins_its_norm_where_windows_tile() {
        let pooled = |name, size| {
            let spec = spec(name, &ZooOptions::new(3, size, size, 10)).unwrap();
            let nodes = Network::new(&spec).unwrap().training_nodes();
            let with = |(_, node): &&Placed| {
                matches!(node.op, Op::BatchNorm(BatchNorm { pool: Some(_), .. }))
            };
            nodes.iter().filter(with).count()
        };
        assert_eq!(pooled("simple-cnn", 28), 2);
        assert_eq!(pooled("vgg11_bn", 64), 5);
        // Windows of 3x3 that are 2 apart overlap.
        assert_eq!(pooled("resnet18-imagenet", 64), 0);
    }
}
