//! Several readers of parts of one tensor, whose gradients come together at once.
//!
//! An operation of Burn has one output. Where several are taken from one tensor, each has a backward pass that makes a gradient of the
//! shape of the whole, and these are added. Here the readers leave their gradients in one place, and an operation before them, whose
//! own value nobody reads, makes one gradient of all.

use crate::flex::{dense, tensor};
use burn::backend::{
    Autodiff, Flex,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use burn_flex::FlexTensor;
use std::{
    fmt::Debug,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

/// How parts were taken from a tensor.
pub(crate) trait Parts: Clone + Debug + Send + Sync + 'static {
    /// The parts of a dense tensor.
    fn take(&self, x: &FlexTensor) -> Vec<FlexTensor>;
    /// The gradient of the tensor from the dense ones of its parts; a part that nobody read has none.
    fn join(&self, parts: Vec<Option<FlexTensor>>) -> FlexTensor;
}

/// The gradients of the parts, once their backward passes have run.
type Collected = Arc<Mutex<Vec<Option<FlexTensor>>>>;

/// Joins what the parts have collected; runs after all of them.
#[derive(Debug)]
struct SourceBackward<P>(PhantomData<P>);

impl<P: Parts> Backward<Flex, 1> for SourceBackward<P> {
    type State = (Collected, P);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let (collected, parts) = ops.state;
        grads.consume::<Flex>(&ops.node); // The signs of the parts: empty.
        let collected = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(node) = node {
            let collected = collected.into_iter().map(|part| part.map(dense)).collect();
            grads.register::<Flex>(node.id, parts.join(collected));
        }
    }
}

/// Leaves the gradient of one part for [`SourceBackward`].
#[derive(Debug)]
struct PartBackward;

impl Backward<Flex, 1> for PartBackward {
    type State = (Collected, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [source] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        let (collected, part) = ops.state;
        collected.lock().unwrap_or_else(PoisonError::into_inner)[part] = Some(grad);
        if let Some(source) = source {
            // A sign, for the source has no gradient else.
            grads.register::<Flex>(source.id, tensor(vec![], [0]));
        }
    }
}

/// The parts of `x`, whose gradients become one.
pub(crate) fn tracked<C: CheckpointStrategy, P: Parts>(
    x: FloatTensor<Autodiff<Flex, C>>,
    parts: P,
) -> Vec<FloatTensor<Autodiff<Flex, C>>> {
    let (x, node) = x.into_parts();
    let taken = parts.take(&dense(x));
    match SourceBackward(PhantomData::<P>).prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::UnTracked(_) => taken.into_iter().map(FloatTensor::<Autodiff<Flex, C>>::new).collect(),
        OpsKind::Tracked(prep) => {
            let collected: Collected = Arc::new(Mutex::new(vec![None; taken.len()]));
            let source = prep.finish((collected.clone(), parts), tensor(vec![], [0]));
            let tracked = |(index, part)| match PartBackward.prepare::<C>([source.node()]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((collected.clone(), index), part),
                OpsKind::UnTracked(prep) => prep.finish(part),
            };
            taken.into_iter().enumerate().map(tracked).collect()
        }
    }
}
