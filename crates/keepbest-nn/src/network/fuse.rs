//! Operations done in one pass over memory.

use super::Network;
use crate::ops::lowering::Node;
use crate::ops::operation::{Operation, ValueId};
use std::ops::Range;

/// An operation, and the places among the network's of those it is made of.
pub(crate) type Placed = (Range<usize>, Node);

impl Network {
    /// The operations of a training step. The bits are those of the operations one by one.
    pub(crate) fn training_nodes(&self) -> Vec<Placed> {
        self.merged(|before, node| before.join_in_training(node))
    }

    /// The operations of inference.
    pub(crate) fn inference_nodes(&self) -> Vec<Placed> {
        self.merged(|before, node| before.join_in_inference(node))
    }

    /// The operations, each merged with the one before that alone reads from it, if `merge` does so.
    fn merged(&self, merge: impl Fn(&mut dyn Operation, &dyn Operation) -> bool) -> Vec<Placed> {
        let mut merged: Vec<Placed> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let feeds =
                |before: &Node| before.output == node.input && self.readers(before.output) == 1;
            if let Some((places, before)) = merged.last_mut()
                && feeds(before)
                && merge(&mut *before.op, &*node.op)
            {
                before.output = node.output;
                places.end = index + 1;
            } else {
                merged.push((index..index + 1, node.clone()));
            }
        }
        merged
    }

    /// The number of times that a value is read, the network's own output counting as once.
    pub(crate) fn readers(&self, value: ValueId) -> usize {
        let reads = self.nodes.iter().flat_map(Node::reads);
        reads.filter(|read| *read == value).count() + usize::from(self.output == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::batch_norm::BatchNormOp;
    use crate::ops::conv::{ConvOp, Then};
    use crate::ops::operation::as_a;
    use crate::zoo::{ZooOptions, spec};

    #[test]
    fn residual_blocks_become_convolutions() {
        let spec = spec("resnet18", &ZooOptions::new(3, 32, 32, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let fused = network.inference_nodes();
        let with = |is: fn(&ConvOp) -> bool| {
            let convolutions = fused.iter().filter_map(|(_, node)| as_a(&*node.op));
            convolutions.filter(|conv| is(conv)).count()
        };
        // 20 convolutions with their norms and the classifier; pooling is all that is left.
        assert_eq!(with(|conv| matches!(conv.then, Then::BatchNorm(_))), 20);
        assert_eq!(
            with(|conv| matches!(conv.then, Then::Nothing) && conv.linear),
            1
        );
        assert_eq!(fused.len(), 22);
        let residuals = fused
            .iter()
            .filter(|(_, node)| node.op.other().is_some())
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
                    assert!(node.reads().all(|v| written.contains(&v)), "{name}");
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
            let norms = nodes
                .iter()
                .filter_map(|(_, node)| as_a::<BatchNormOp>(&*node.op));
            norms.filter(|norm| norm.pool.is_some()).count()
        };
        assert_eq!(pooled("simple-cnn", 28), 2);
        assert_eq!(pooled("vgg11_bn", 64), 5);
        // Windows of 3x3 that are 2 apart overlap.
        assert_eq!(pooled("resnet18-imagenet", 64), 0);
    }
}
