//! The load-balancing loss of routers, [`RouterBalance`] (Switch Transformer, Fedus et al. 2021, arXiv:2101.03961,
//! equations 4 to 6, as transformers computes it in `models/mixtral/modeling_mixtral.py`).
//!
//! Let `f_e` be the number of visits to expert `e` and `P_e` the sum of its probabilities, both divided by the number
//! of routed positions (tokens times layers, without padding). The loss is `experts * sum_e f_e P_e`. When all experts
//! are used equally, it is the number of experts that a token goes through. The reference computes it for each forward
//! pass. Here it is computed over the whole optimiser step, so that it does not depend on the split into micro-batches.
//! Visits have no gradient: a first pass over the step counts them, and the loss is then a sum over tokens.

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_kernels::{Precision, multiply, sum};
use firebrand_models::Predictor;
use firebrand_models::parts::{Routed, Routing};

use super::views::noisy_inputs;

/// The load-balancing loss of one optimiser step.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterBalance {
    /// The loss without its coefficient.
    pub loss: f64,
    /// For each expert: the factor of a token's probability in the step's loss, coefficient included.
    factors: Vec<f32>,
}

impl RouterBalance {
    /// Measures the micro-batches of a step, given with their modes and with what is trained on ([`super::Sft`]'s noise). The network must be on a device without autodiff.
    /// `None` if it has no router.
    pub fn measure<'a>(
        predictor: Predictor<'_>,
        batches: impl Iterator<Item = (&'a TokenBatch, Mode)>,
        coefficient: f64,
        neftune_alpha: Option<f64>,
    ) -> Option<Self> {
        let (mut visits, mut probabilities): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
        let mut rows = 0.0;
        for (batch, mode) in batches {
            let inputs = noisy_inputs(batch, neftune_alpha, mode);
            let mut context = predictor.context(&inputs, mode);
            let routing = Routing::default();
            context.routing = Some(routing.clone());
            predictor.hidden_with(&inputs, &context);
            for routed in routing.take() {
                let experts = routed.probabilities.dims()[1];
                visits.resize(experts, 0.0);
                probabilities.resize(experts, 0.0);
                let chosen = routed.chosen.len() / batch.segments.len();
                let values: Vec<f32> = routed.probabilities.into_data().iter::<f32>().collect();
                for (token, _) in batch.segments.iter().enumerate().filter(|(_, segment)| **segment != 0) {
                    rows += 1.0;
                    routed.chosen[token * chosen..(token + 1) * chosen]
                        .iter()
                        .for_each(|&expert| visits[expert] += 1.0);
                    let row = &values[token * experts..(token + 1) * experts];
                    probabilities.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
                }
            }
        }
        let experts = visits.len() as f64;
        let shares = visits.iter().map(|visits| visits / rows);
        let loss = experts * shares.clone().zip(&probabilities).map(|(share, sum)| share * sum / rows).sum::<f64>();
        let factors = shares.map(|share| (coefficient * experts * share / rows) as f32).collect();
        (rows > 0.0).then_some(Self { loss, factors })
    }

    /// The part `[1]` of the step's loss that comes from these blocks of one micro-batch.
    pub(super) fn term(&self, routed: &[Routed], batch: &TokenBatch) -> Option<Tensor<1>> {
        let device = routed.first()?.probabilities.device();
        let tokens = batch.segments.len();
        let real: Vec<f32> = batch.segments.iter().map(|segment| f32::from(u8::from(*segment != 0))).collect();
        let real = Tensor::<2>::from_data(TensorData::new(real, [tokens, 1]), &device);
        let factors = TensorData::new(self.factors.clone(), [1, self.factors.len()]);
        let weights = multiply(real, Tensor::from_data(factors, &device), Precision::F32);
        let terms = routed.iter().map(|routed| sum(routed.probabilities.clone() * weights.clone()));
        terms.reduce(|sum, term| sum + term)
    }
}
