//! A mixture of experts: a router sends each token through a few of several gated parts (Shazeer et al. 2017,
//! arXiv:1701.06538; Mixtral: Jiang et al. 2024, arXiv:2401.04088; reference: transformers
//! `models/mixtral/modeling_mixtral.py`).
//!
//! Each expert computes the tokens sent to it and no others, so the cost follows the tokens. The choice itself has no gradient;
//! the weights of the chosen experts, a softmax over all of them and then divided by their sum, carry one to the router.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Linear;
use firebrand_kernels::gather_rows;

use super::Context;
use super::mlp::GatedMlp;
use crate::parameters::{ParameterSource, linear};

/// The experts of a block and their router.
#[derive(Module, Debug)]
pub struct Experts {
    router: Linear,
    experts: Vec<GatedMlp>,
    #[module(skip)]
    chosen: usize,
}

/// What the routers of one forward pass computed, in the order of the blocks.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    layers: Arc<Mutex<Vec<Routed>>>,
}

/// What the router of one block computed.
#[derive(Debug, Clone)]
pub struct Routed {
    /// Probabilities `[batch * time, experts]`, on the tape of the forward pass.
    pub probabilities: Tensor<2>,
    /// The experts of each token, `[batch * time, chosen]`.
    pub chosen: Vec<usize>,
}

impl Routing {
    fn push(&self, routed: Routed) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(routed);
    }

    /// What was written since the last call.
    pub fn take(&self) -> Vec<Routed> {
        std::mem::take(&mut self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Experts {
    /// Reads the router and, by `expert`, each expert under `path` for a residual stream of `width`.
    pub(super) fn new(
        count: usize,
        chosen: usize,
        width: usize,
        expert: impl Fn(&str, &mut dyn ParameterSource) -> GatedMlp,
        path: &str,
        source: &mut dyn ParameterSource,
    ) -> Self {
        Self {
            router: linear(source, &format!("{path}.router"), [count, width], false),
            experts: (0..count).map(|index| expert(&format!("{path}.experts.{index}"), source)).collect(),
            chosen,
        }
    }

    /// `[batch, time, width]` to the same.
    pub fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let tokens = batch * time;
        let device = x.device();
        let probabilities =
            softmax(self.router.forward(x.clone(), context.mode), 2).reshape([tokens, self.experts.len()]);
        let chosen = self.choose(&probabilities);
        if let Some(routing) = &context.routing {
            routing.push(Routed { probabilities: probabilities.clone(), chosen: chosen.clone() });
        }
        let indices = TensorData::new(chosen.iter().map(|&expert| expert as i32).collect(), [tokens, self.chosen]);
        let weights = probabilities.gather(1, Tensor::<2, Int>::from_data(indices, &device));
        let weights = weights.clone() / weights.sum_dim(1);

        // Slot `token * chosen + rank` is one visit of a token to an expert; `order` lists the slots expert by expert.
        let visited: Vec<usize> = (0..self.experts.len()).filter(|index| chosen.contains(index)).collect();
        let slots_of = |index: &usize| (0..chosen.len()).filter(|&slot| chosen[slot] == *index).collect::<Vec<_>>();
        let slots: Vec<Vec<usize>> = visited.iter().map(slots_of).collect();
        let visitors = slots.iter().map(|slots| slots.iter().map(|slot| slot / self.chosen).collect()).collect();
        let inputs = gather_rows(x.reshape([tokens, width]), visitors);
        let outputs = visited.iter().zip(inputs).map(|(&index, input)| {
            let count = input.dims()[0];
            let output = self.experts[index].forward(input.reshape([1, count, width]), context.mode);
            output.reshape([count, width])
        });
        let outputs: Vec<Tensor<2>> = outputs.collect();
        let order = slots.concat();
        let mut place = vec![0_i32; order.len()];
        order.iter().enumerate().for_each(|(position, &slot)| place[slot] = position as i32);
        let place = Tensor::<1, Int>::from_data(TensorData::new(place, [order.len()]), &device);
        let by_slot = Tensor::cat(outputs, 0).select(0, place).reshape([tokens, self.chosen, width]);
        (by_slot * weights.reshape([tokens, self.chosen, 1])).sum_dim(1).reshape([batch, time, width])
    }

    /// The most probable experts of each token, `[tokens, chosen]`; the first of equals.
    fn choose(&self, probabilities: &Tensor<2>) -> Vec<usize> {
        let values: Vec<f32> = probabilities.to_data().iter::<f32>().collect();
        let experts = self.experts.len();
        let best = |row: &[f32]| {
            let mut ranked: Vec<usize> = (0..experts).collect();
            ranked.sort_by(|&left, &right| row[right].total_cmp(&row[left]));
            ranked.truncate(self.chosen);
            ranked
        };
        values.chunks(experts).flat_map(best).collect()
    }

    /// The linear maps of the router and the experts with their names.
    pub(super) fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let experts = self.experts.iter_mut().enumerate().flat_map(|(index, expert)| {
            expert.linears_mut().into_iter().map(move |(name, map)| (format!("experts.{index}.{name}"), map))
        });
        std::iter::once(("router".to_string(), &mut self.router)).chain(experts).collect()
    }
}
