//! The backward pass through a decoder, whole or block by block.
//!
//! Keeping every block's activations costs memory in proportion to depth. Block-wise recomputation (Chen et al. 2016,
//! arXiv:1604.06174) keeps only each block's input and runs the block again when its gradient is due: one more forward
//! pass for the memory of a single block. Both give the same gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Mode;
use firebrand_models::transformer::{Context, Decoder, Inputs, Routed, Routing};

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

/// What a batch is charged for.
pub struct Charges<'a> {
    /// The loss of the hidden states that the head reads, `[batch, time, width]`.
    pub hidden: &'a dyn Fn(Tensor<3>) -> Tensor<1>,
    /// That of the routers, if it is charged.
    pub routing: Option<&'a RoutingCharge<'a>>,
}

/// The loss of what the routers of some blocks chose; absent where there is no router.
pub type RoutingCharge<'a> = dyn Fn(&[Routed]) -> Option<Tensor<1>> + 'a;

/// Runs the decoder on `inputs`, adds the gradients of all trained parameters to `gradients`, and gives the loss.
pub fn backward(
    decoder: &Decoder,
    inputs: &Inputs,
    mode: Mode,
    recompute: Recompute,
    charges: &Charges<'_>,
    gradients: &mut Gradients,
) -> f64 {
    match recompute {
        Recompute::Off => {
            let (context, routing) = charges.context(decoder, inputs, mode);
            let value = (charges.hidden)(decoder.forward_with(inputs, &context));
            let value = match charges.routed(&routing) {
                Some(term) => value + term,
                None => value,
            };
            let scalar = f64::from(value.clone().into_scalar::<f32>());
            let mut tape = value.backward();
            gradients.collect(decoder, "", &mut tape);
            scalar
        }
        Recompute::Blocks => by_blocks(decoder, inputs, mode, charges, gradients),
    }
}

fn by_blocks(decoder: &Decoder, inputs: &Inputs, mode: Mode, charges: &Charges<'_>, gradients: &mut Gradients) -> f64 {
    let frozen = decoder.valid();
    let (context, routing) = charges.context(&frozen, inputs, mode);
    let embedded = decoder.embed(inputs, mode);
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
    let value = (charges.hidden)(decoder.finish(last.clone(), mode));
    let mut scalar = f64::from(value.clone().into_scalar::<f32>());
    if let Some(term) = charges.routed(&routing) {
        scalar += f64::from(term.into_scalar::<f32>());
    }
    let mut tape = value.backward();
    // Everything outside the blocks: final norm, head, and a tied embedding's use as head.
    gradients.collect(decoder, "", &mut tape);
    let mut upstream = last.grad_remove(&mut tape);

    let (context, routing) = charges.context(decoder, inputs, mode);
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
        let value = (output * Tensor::from_inner(gradient)).sum();
        let value = match charges.routed(&routing) {
            Some(term) => value + term,
            None => value,
        };
        let mut tape = value.backward();
        gradients.collect(block, &format!("layers.{index}"), &mut tape);
        upstream = input.grad_remove(&mut tape);
    }
    if let (true, Some(gradient)) = (embedding_trained, upstream) {
        let mut tape = (embedded * Tensor::from_inner(gradient)).sum().backward();
        gradients.collect(decoder, "", &mut tape);
    }
    scalar
}

impl Charges<'_> {
    /// A context in which routers write down what they chose, if that is charged.
    fn context(&self, decoder: &Decoder, inputs: &Inputs, mode: Mode) -> (Context, Option<Routing>) {
        let mut context = decoder.context(inputs, mode);
        context.routing = self.routing.map(|_| Routing::default());
        let routing = context.routing.clone();
        (context, routing)
    }

    /// The loss of what was written down since the last call.
    fn routed(&self, routing: &Option<Routing>) -> Option<Tensor<1>> {
        let (charge, routing) = (self.routing?, routing.as_ref()?);
        charge(&routing.take())
    }
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
