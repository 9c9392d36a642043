//! Operations that inference does in one pass.

use super::{Network, Node, Op, Then, ValueId};

impl Network {
    /// The operations of inference: a convolution takes along the batch norm or ReLU that follows it, where nothing else reads
    /// its output. One pass over memory less each, and the norm's arithmetic becomes part of the weights.
    pub(crate) fn fused(&self) -> Vec<Node> {
        let mut fused: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let then = match &node.op {
                Op::BatchNorm(norm) => Some(Then::BatchNorm(norm.clone())),
                Op::Relu => Some(Then::Relu),
                _ => None,
            };
            let before = fused
                .last_mut()
                .filter(|before| before.output == node.input && self.readers(before.output) == 1);
            match (then, before) {
                (
                    Some(followed),
                    Some(Node {
                        op:
                            Op::Conv {
                                then: then @ None, ..
                            },
                        output,
                        ..
                    }),
                ) => {
                    *then = Some(followed);
                    *output = node.output;
                }
                _ => fused.push(node.clone()),
            }
        }
        fused
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
    use crate::zoo::{ZooOptions, spec};

    #[test]
    fn residual_blocks_become_convolutions() {
        let spec = spec("resnet18", &ZooOptions::new(3, 32, 32, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let fused = network.fused();
        let with = |is: fn(&Op) -> bool| fused.iter().filter(|node| is(&node.op)).count();
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
        let residuals = fused.iter().filter(|node| node.other().is_some()).count();
        assert_eq!(residuals, 8);
    }

    #[test]
    fn a_value_that_others_read_stays() {
        // The norm of a densely connected layer comes before its convolution, and its input goes on.
        let spec = spec("densenet121", &ZooOptions::new(3, 32, 32, 10)).unwrap();
        let network = Network::new(&spec).unwrap();
        let fused = network.fused();
        for node in &fused {
            if let Op::Conv { then: Some(_), .. } = &node.op {
                assert_eq!(network.readers(node.input).min(1), 1);
            }
        }
        let reads = |value| fused.iter().any(|n| n.output == value);
        assert!(fused.iter().all(|n| n.input == 0 || reads(n.input)));
        assert!(fused.iter().filter_map(Node::other).all(reads));
    }
}
