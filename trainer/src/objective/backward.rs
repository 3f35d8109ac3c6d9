//! The backward pass through the blocks of a network, whole or block by block: [`backward`].
//!
//! Keeping every block's activations costs memory in proportion to depth. Block-wise recomputation (Chen et al. 2016,
//! arXiv:1604.06174) keeps only each block's input and runs the block again when its gradient is needed: this costs one
//! more forward pass, and only one block's activations are in memory at a time. Both give the same gradients.

use burn::module::Module;
use burn::tensor::{Gradients as Tape, Tensor};
use firebrand_kernels::sum;
use firebrand_models::parts::{Context, Routed, Routing};
use firebrand_models::{Network, Stack};
use serde::{Deserialize, Serialize};

use super::gradients::Gradients;
use super::pending::PendingLoss;
use crate::profile::phase;

/// What the backward pass recomputes instead of keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing: all activations are kept.
    #[default]
    Off,
    /// Each block.
    Blocks,
}

/// The forward pass of a micro-batch through one stack of blocks, from an objective's inputs to its loss. Each method
/// is given the network to run: the trained one, or the same without autodiff.
pub trait Passage {
    /// What all blocks share.
    fn context(&self, network: &Network) -> Context;
    /// The input of the first block, `[batch, time, width]`.
    fn embed(&self, network: &Network) -> Tensor<3>;
    /// The blocks.
    fn stack<'n>(&self, network: &'n Network) -> Stack<'n>;
    /// The loss `[1]`, given the output of the last block, `[batch, time, width]`.
    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1>;
    /// A term of the loss `[1]` that is read off the output of a block, `[batch, time, width]`, by its index.
    fn tap(&self, _block: usize, _x: &Tensor<3>) -> Option<Tensor<1>> {
        None
    }
    /// Adds the gradients in `tape` of parameters of the objective itself.
    fn collect(&self, _tape: &mut Tape, _gradients: &mut Gradients) {}
    /// Whether the objective has parameters of its own that the outputs of blocks lead to.
    fn learns(&self) -> bool {
        false
    }
    /// Whether the routers' load-balancing loss is added.
    fn charges_routers(&self) -> bool {
        false
    }
    /// The load-balancing loss for what the routers of some blocks chose; `None` where there is no router.
    fn routed(&self, _routed: &[Routed]) -> Option<Tensor<1>> {
        None
    }
}

/// Runs `passage` through `network`, adds the gradients of all trained parameters to `gradients`, and returns the loss, which the device
/// may still be computing.
pub fn backward(
    passage: &impl Passage,
    network: &Network,
    recompute: Recompute,
    gradients: &mut Gradients,
) -> PendingLoss {
    match recompute {
        Recompute::Off => {
            let value = forward(passage, network);
            let loss = PendingLoss::of(&value);
            // Nothing in a tower may be trained.
            if value.is_tracked() {
                phase!("backward");
                let mut tape = value.backward();
                gradients.collect(network, "", &mut tape);
                passage.collect(&mut tape, gradients);
            }
            loss
        }
        Recompute::Blocks => by_blocks(passage, network, gradients),
    }
}

/// The loss of a passage, on the tape.
fn forward(passage: &impl Passage, network: &Network) -> Tensor<1> {
    phase!("forward");
    let (context, routing) = begin(passage, network);
    let (mut x, mut terms) = (passage.embed(network), vec![]);
    for (index, block) in passage.stack(network).blocks.iter().enumerate() {
        x = block.forward(x, &context, None);
        terms.extend(passage.tap(index, &x));
    }
    terms.extend(routed(passage, &routing));
    terms.into_iter().fold(passage.loss(network, x), |value, term| value + term)
}

fn by_blocks(passage: &impl Passage, network: &Network, gradients: &mut Gradients) -> PendingLoss {
    phase!("recomputed passes");
    let frozen = network.valid();
    let (context, routing) = begin(passage, &frozen);
    let embedded = passage.embed(network);
    // A frozen embedding needs no gradient; nor does anything before the first trained block.
    let embedding_trained = embedded.is_tracked();
    let mut x = embedded.clone().inner();
    let mut block_inputs = vec![];
    let mut terms = vec![];
    for (index, block) in passage.stack(&frozen).blocks.iter().enumerate() {
        block_inputs.push(x.clone());
        x = block.forward(x, &context, None);
        terms.extend(passage.tap(index, &x));
    }
    terms.extend(routed(passage, &routing));
    let stack = passage.stack(network);
    let first_trained = if embedding_trained || passage.learns() {
        0
    } else {
        stack.blocks.iter().position(is_trained).unwrap_or(usize::MAX)
    };

    let last = Tensor::from_inner(x).require_grad();
    let value = passage.loss(network, last.clone());
    let loss = PendingLoss::of_terms(std::iter::once(&value).chain(&terms));
    let mut tape = value.backward();
    // The parameters outside the blocks: final norm, head, and an embedding that is tied to the head.
    gradients.collect(network, "", &mut tape);
    let mut upstream = last.grad_remove(&mut tape);

    let (context, routing) = begin(passage, network);
    for (index, block) in stack.blocks.iter().enumerate().rev() {
        let input = block_inputs.pop();
        if index < first_trained {
            return loss;
        }
        let (Some(input), Some(gradient)) = (input, upstream.take()) else { return loss };
        let needs_input = index > first_trained || embedding_trained;
        let input = Tensor::from_inner(input);
        let input = if needs_input { input.require_grad() } else { input };
        let output = block.forward(input.clone(), &context, None);
        let terms = [passage.tap(index, &output), routed(passage, &routing)].into_iter().flatten();
        let value = terms.fold(sum(output * Tensor::from_inner(gradient)), |value, term| value + term);
        let mut tape = value.backward();
        gradients.collect(block, &stack.path_of(index), &mut tape);
        passage.collect(&mut tape, gradients);
        upstream = input.grad_remove(&mut tape);
    }
    if let (true, Some(gradient)) = (embedding_trained, upstream) {
        let mut tape = sum(embedded * Tensor::from_inner(gradient)).backward();
        gradients.collect(network, "", &mut tape);
    }
    loss
}

/// The context of a pass. It records the choices of routers if their loss is added.
fn begin(passage: &impl Passage, network: &Network) -> (Context, Option<Routing>) {
    let mut context = passage.context(network);
    context.routing = passage.charges_routers().then(Routing::default);
    let routing = context.routing.clone();
    (context, routing)
}

/// The load-balancing loss of the choices recorded since the last call.
fn routed(passage: &impl Passage, routing: &Option<Routing>) -> Option<Tensor<1>> {
    passage.routed(&routing.as_ref()?.take())
}

fn is_trained<M: Module>(module: &M) -> bool {
    struct Search(bool);
    impl burn::module::ModuleVisitor for Search {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0 |= param.val().is_require_grad();
        }
    }
    let mut search = Search(false);
    module.visit(&mut search);
    search.0
}
