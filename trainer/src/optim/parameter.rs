//! What an optimiser is told about a parameter, and the learning rate that is the parameter's.
//!
//! LoRA+ (Hayou et al. 2024, arXiv:2402.12354) as `peft.optimizers.create_loraplus_optimizer` groups parameters: `B` and
//! vectors learn faster than `A`, and factors on an embedding have a rate of their own. Weight decay is the optimiser's for all of them.

/// A parameter without its value.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Its path in the model: `layers.0.attention.qkv.q.weight`.
    pub path: &'a str,
    /// Its shape; the optimiser is given the values flat.
    pub shape: &'a [usize],
}

impl Parameter<'_> {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is a matrix of a transformer block, adapters included: what Muon is for.
    pub(super) fn is_matrix_of_a_layer(&self) -> bool {
        self.shape.len() == 2 && self.path.starts_with("layers.")
    }
}

/// The learning rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Of the optimiser, after the schedule.
    pub base: f64,
    /// Absent: all parameters learn alike.
    pub loraplus: Option<LoraPlus>,
}

/// What LoRA+ says of parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraPlus {
    /// What `B` of an adapter, and every vector, multiplies the rate by.
    pub ratio: f64,
    /// Rate of both factors on an embedding, after the schedule.
    pub embedding: f64,
}

impl LearningRates {
    /// The rate of one parameter.
    pub fn of(&self, parameter: Parameter<'_>) -> f64 {
        let Some(loraplus) = self.loraplus else { return self.base };
        let of_adapter = parameter.path.contains(".adapter.");
        let faster = of_adapter && parameter.path.ends_with(".b") || parameter.shape.len() == 1;
        match parameter.path.starts_with("embed.adapter.") {
            true => loraplus.embedding,
            false if faster => self.base * loraplus.ratio,
            false => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Parameter<'_> = Parameter { path: "layers.0.attention.qkv.q.adapter.a", shape: &[2, 8] };
    const B: Parameter<'_> = Parameter { path: "layers.0.attention.qkv.q.adapter.b", shape: &[8, 2] };

    #[test]
    fn loraplus_is_for_b_and_vectors() {
        let rates = LearningRates { base: 0.5, loraplus: Some(LoraPlus { ratio: 16.0, embedding: 0.25 }) };
        assert_eq!([A, B].map(|parameter| rates.of(parameter)), [0.5, 8.0]);
        assert_eq!(rates.of(Parameter { path: "layers.0.mlp.down.bias", shape: &[8] }), 8.0);
        assert_eq!(rates.of(Parameter { path: "embed.adapter.b", shape: &[8, 2] }), 0.25);
        assert_eq!(LearningRates { loraplus: None, ..rates }.of(B), 0.5);
    }

    #[test]
    fn only_matrices_of_layers_are_muons() {
        assert!(A.is_matrix_of_a_layer() && B.is_matrix_of_a_layer());
        for (path, shape) in
            [("embed.tokens", &[9, 8][..]), ("head.weight", &[9, 8]), ("layers.0.norms.attention.weight", &[8])]
        {
            assert!(!Parameter { path, shape }.is_matrix_of_a_layer(), "{path}");
        }
    }
}
