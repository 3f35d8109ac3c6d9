//! A mixture of experts: in [`Experts`] a router sends each token through a few of several gated MLPs (Shazeer et al.
//! 2017, arXiv:1701.06538; Mixtral: Jiang et al. 2024, arXiv:2401.04088; reference: transformers
//! `models/mixtral/modeling_mixtral.py`).
//!
//! Each expert computes only the tokens sent to it, so the cost grows with the number of tokens. The choice itself has
//! no gradient. The weights of the chosen experts (a softmax over all experts, divided by the sum over the chosen)
//! carry the gradient to the router.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Place};
use firebrand_kernels::{gather_rows, mix_rows};

use super::gated::GatedMlp;
use super::maps::maps;
use super::position::Context;
use super::routing::Routed;
use crate::parameters::{ParameterSource, Role, linear, under};

/// The experts of a block and their router.
#[derive(Module, Debug)]
pub struct Experts {
    router: Linear,
    experts: Vec<GatedMlp>,
    #[module(skip)]
    chosen: usize,
}

impl Experts {
    /// Path of the router.
    pub const ROUTER: &str = "router";

    /// Reads the router, and each expert by calling `expert`, for a residual stream of `width`.
    pub(super) fn new(
        count: usize,
        chosen: usize,
        width: usize,
        expert: impl Fn(&mut dyn ParameterSource) -> GatedMlp,
        source: &mut dyn ParameterSource,
    ) -> Self {
        // Never quantized: a small error in a score can change which experts are chosen.
        let router = linear(source, Self::ROUTER, [count, width], false, Role::Router);
        let source = &mut under(source, "experts");
        let experts = (0..count).map(|index| expert(&mut under(source, index.to_string()))).collect();
        Self { router, experts, chosen }
    }

    /// `[batch, time, width]` to the same shape.
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

        // Slot `token * chosen + rank` is one visit of a token to an expert; `order` lists the slots grouped by expert.
        let visited: Vec<usize> = (0..self.experts.len()).filter(|index| chosen.contains(index)).collect();
        let slots_of = |index: &usize| (0..chosen.len()).filter(|&slot| chosen[slot] == *index).collect::<Vec<_>>();
        let slots: Vec<Vec<usize>> = visited.iter().map(slots_of).collect();
        let tokens_of = |slots: &Vec<usize>| slots.iter().map(|slot| slot / self.chosen).collect();
        let visitors: Vec<Vec<usize>> = slots.iter().map(tokens_of).collect();
        let inputs = gather_rows(x.reshape([tokens, width]), visitors.clone());
        let outputs = visited.iter().zip(inputs).zip(&visitors).map(|((&index, input), visitors)| {
            let place = |&token: &usize| Place { row: token / time, time: token % time };
            let places: Vec<Place> = visitors.iter().map(place).collect();
            let input = input.reshape([1, visitors.len(), width]);
            self.experts[index].forward_at(input, context.mode, &places).reshape([visitors.len(), width])
        });
        let outputs: Vec<Tensor<2>> = outputs.collect();
        let order = slots.concat();
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(position, &slot)| places[slot] = position);
        mix_rows(Tensor::cat(outputs, 0), weights, places).reshape([batch, time, width])
    }

    /// The most probable experts of each token, `[tokens, chosen]`; of equal ones the first.
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
}

maps!(Experts { router, experts });

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use firebrand_adapters::Mode;
    use firebrand_kernels::Activation;

    use super::super::{BlockInitials, Mlp, MlpConfig, Position, PositionConfig};
    use super::*;
    use crate::parameters::{Random, under, visit};
    use crate::parts::Inputs;

    const WIDTH: usize = 10;

    fn experts(count: usize, chosen: usize, device: &Device) -> Experts {
        let mut source = Random { seed: 7, deviation: 0.5, device: device.clone() };
        let config = MlpConfig::Experts { intermediate_size: 6, activation: Activation::Silu, experts: count, chosen };
        let Mlp::Experts(experts) = Mlp::new(config, WIDTH, BlockInitials::NORMAL, &mut under(&mut source, "mlp"))
        else {
            panic!("experts")
        };
        experts
    }

    fn context(device: &Device) -> Context {
        let inputs = Inputs::new(1, 0, vec![], vec![], None);
        let position = Position::new(&PositionConfig::Learned { offset: 0 }, &inputs, device);
        Context { position, segments: None, mode: Mode::Inference, routing: None }
    }

    /// Every expert computes every token; the results that a token did not choose are multiplied by zero.
    fn dense(experts: &Experts, x: Tensor<3>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let tokens = batch * time;
        let probabilities = softmax(experts.router.forward(x.clone(), Mode::Inference), 2);
        let probabilities = probabilities.reshape([tokens, experts.experts.len()]);
        let chosen = experts.choose(&probabilities);
        let mut mask = vec![0.0_f32; tokens * experts.experts.len()];
        for (slot, expert) in chosen.iter().enumerate() {
            mask[slot / experts.chosen * experts.experts.len() + expert] = 1.0;
        }
        let mask = TensorData::new(mask, [tokens, experts.experts.len()]);
        let kept = probabilities * Tensor::from_data(mask, &x.device());
        let weights = kept.clone() / kept.sum_dim(1);
        let places: Vec<Place> = (0..tokens).map(|token| Place { row: token / time, time: token % time }).collect();
        let all = x.reshape([1, tokens, width]);
        let mut sum = Tensor::zeros([tokens, width], &all.device());
        for (index, expert) in experts.experts.iter().enumerate() {
            let output = expert.forward_at(all.clone(), Mode::Inference, &places).reshape([tokens, width]);
            sum = sum + output * weights.clone().slice_dim(1, index..index + 1);
        }
        sum.reshape([batch, time, width])
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn routed_experts_equal_all_experts_masked() {
        let device = Device::flex().autodiff();
        for (count, chosen) in [(4, 2), (5, 1), (3, 3), (8, 2)] {
            let experts = experts(count, chosen, &device);
            let run = |form: &dyn Fn(Tensor<3>) -> Tensor<3>| {
                let numbers: Vec<f32> = (0..3 * 7 * WIDTH).map(|index| (index as f32 * 0.37).sin()).collect();
                let x = Tensor::<3>::from_data(TensorData::new(numbers, [3, 7, WIDTH]), &device).require_grad();
                let y = form(x.clone());
                let upstream: Vec<f32> = (0..3 * 7 * WIDTH).map(|index| (index as f32 * 0.91).cos()).collect();
                let upstream = Tensor::from_data(TensorData::new(upstream, [3, 7, WIDTH]), &device);
                let tape = (y.clone() * upstream).sum().backward();
                let mut gradients = vec![];
                visit(&experts, &mut |parameter| {
                    if let Some(gradient) = (parameter.value)().gradient(&tape) {
                        gradients.push((parameter.path.to_string(), gradient));
                    }
                });
                gradients.push(("x".into(), values(x.grad(&tape).unwrap())));
                (values(y), gradients)
            };
            let (sparse, sparse_gradients) = run(&|x| experts.forward(x, &context(&device)));
            let (all, all_gradients) = run(&|x| dense(&experts, x));
            let near = |left: &[f32], right: &[f32], what: &str| {
                assert_eq!(left.len(), right.len(), "{what}");
                let apart = left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-5, "{count} experts, {chosen} chosen: {what} {apart}");
            };
            near(&sparse, &all, "outputs");
            let router = sparse_gradients.iter().find(|(name, _)| name == "router.weight").unwrap();
            assert!(chosen == 1 || router.1.iter().any(|value| value.abs() > 1e-4), "the router learns");
            for (name, gradient) in &sparse_gradients {
                let (_, other) = all_gradients.iter().find(|(other, _)| other == name).unwrap();
                near(gradient, other, name);
            }
        }
    }
}
