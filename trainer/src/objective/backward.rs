//! The backward pass through a decoder, whole or block by block.
//!
//! Keeping every block's activations costs memory in proportion to depth. Block-wise recomputation (Chen et al. 2016,
//! arXiv:1604.06174) keeps only each block's input and runs the block again when its gradient is due: one more forward
//! pass for the memory of a single block. Both give the same gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Mode;
use firebrand_models::transformer::{Decoder, Inputs};

use super::gradients::Gradients;

/// What the backward pass recomputes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Nothing: all activations are kept.
    #[default]
    Off,
    /// Each block.
    Blocks,
}

/// Runs the decoder on `inputs`, reduces its normalised hidden states `[batch, time, hidden]` by `loss`, adds the
/// gradients of all trained parameters to `gradients`, and gives the loss.
pub fn backward(
    decoder: &Decoder,
    inputs: &Inputs,
    mode: Mode,
    recompute: Recompute,
    loss: impl Fn(Tensor<3>) -> Tensor<1>,
    gradients: &mut Gradients,
) -> f64 {
    match recompute {
        Recompute::Off => {
            let value = loss(decoder.forward(inputs, mode));
            let scalar = f64::from(value.clone().into_scalar::<f32>());
            let mut tape = value.backward();
            gradients.collect(decoder, "", &mut tape);
            scalar
        }
        Recompute::Blocks => by_blocks(decoder, inputs, mode, loss, gradients),
    }
}

fn by_blocks(
    decoder: &Decoder,
    inputs: &Inputs,
    mode: Mode,
    loss: impl Fn(Tensor<3>) -> Tensor<1>,
    gradients: &mut Gradients,
) -> f64 {
    let frozen = decoder.valid();
    let context = frozen.context(inputs, mode);
    let embedded = decoder.embed(inputs);
    // A frozen embedding needs no gradient, and neither does anything below the first trained block.
    let embedding_trained = embedded.is_tracked();
    let mut x = embedded.clone().inner();
    let mut block_inputs = Vec::with_capacity(frozen.layers().len());
    for block in frozen.layers() {
        block_inputs.push(x.clone());
        x = block.forward(x, &context, None);
    }
    let first_trained =
        if embedding_trained { 0 } else { decoder.layers().iter().position(is_trained).unwrap_or(usize::MAX) };

    let last = Tensor::from_inner(x).require_grad();
    let value = loss(decoder.final_norm(last.clone()));
    let scalar = f64::from(value.clone().into_scalar::<f32>());
    let mut tape = value.backward();
    // Everything outside the blocks: final norm, head, and a tied embedding's use as head.
    gradients.collect(decoder, "", &mut tape);
    let mut upstream = last.grad_remove(&mut tape);

    let context = decoder.context(inputs, mode);
    for (index, block) in decoder.layers().iter().enumerate().rev() {
        let input = block_inputs.pop();
        if index < first_trained {
            return scalar;
        }
        let (Some(input), Some(gradient)) = (input, upstream.take()) else { return scalar };
        let needs_input = index > first_trained || embedding_trained;
        let input = Tensor::from_inner(input);
        let input = if needs_input { input.require_grad() } else { input };
        let output = block.forward(input.clone(), &context, None);
        let mut tape = (output * Tensor::from_inner(gradient)).sum().backward();
        gradients.collect(block, &format!("layers.{index}"), &mut tape);
        upstream = input.grad_remove(&mut tape);
    }
    if let (true, Some(gradient)) = (embedding_trained, upstream) {
        let mut tape = (embedded * Tensor::from_inner(gradient)).sum().backward();
        gradients.collect(decoder, "", &mut tape);
    }
    scalar
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
