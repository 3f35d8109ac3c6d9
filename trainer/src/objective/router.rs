//! The load-balancing loss of routers (Switch Transformer, Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6, as transformers
//! computes it in `models/mixtral/modeling_mixtral.py`).
//!
//! With `f_e` the visits to expert `e` and `P_e` the sum of its probabilities, each divided by the routed rows (tokens times
//! layers, padding left out), the loss is `experts * sum_e f_e P_e`: as many as the experts a token goes through when all are
//! equally used. The reference computes it for each forward pass. Here rows are those of the whole optimiser step, so that it
//! does not depend on the split into micro-batches; visits have no gradient, so a first pass over the step counts them, and the
//! loss is then a sum over tokens like any other.

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_models::Predictor;
use firebrand_models::parts::{Routed, Routing};

use super::views::inputs;

/// The load-balancing loss of one optimiser step.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterBalance {
    /// The loss without its coefficient.
    pub loss: f64,
    /// What a token's probability of each expert adds to the step's loss, coefficient included.
    factors: Vec<f32>,
}

impl RouterBalance {
    /// Over the micro-batches of a step, each with its mode. The network is on a device without autodiff. Absent: it has no router.
    pub fn measure<'a>(
        predictor: Predictor<'_>,
        batches: impl Iterator<Item = (&'a TokenBatch, Mode)>,
        coefficient: f64,
    ) -> Option<Self> {
        let (mut visits, mut probabilities): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
        let mut rows = 0.0;
        for (batch, mode) in batches {
            let inputs = inputs(batch);
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

    /// The share of some blocks of one micro-batch, `[1]`.
    pub(super) fn term(&self, routed: &[Routed], batch: &TokenBatch) -> Option<Tensor<1>> {
        let device = routed.first()?.probabilities.device();
        let tokens = batch.segments.len();
        let real: Vec<f32> = batch.segments.iter().map(|segment| f32::from(u8::from(*segment != 0))).collect();
        let real = Tensor::<2>::from_data(TensorData::new(real, [tokens, 1]), &device);
        let factors = TensorData::new(self.factors.clone(), [1, self.factors.len()]);
        let weights = real.matmul(Tensor::from_data(factors, &device));
        let terms = routed.iter().map(|routed| (routed.probabilities.clone() * weights.clone()).sum());
        terms.reduce(|sum, term| sum + term)
    }
}
