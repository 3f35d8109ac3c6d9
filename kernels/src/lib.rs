//! The operations in which a transformer spends its time, each as one operation on [`burn::tensor::Tensor`].
//!
//! Every operation has two forms. The *composed* form, in plain Burn operations, says what it means, runs on every device and is
//! what the tests compare with ([`composed`]). On the CPU (`flex`) a *fused* form takes its place: a Burn backend extension
//! with its own backward pass, which keeps less and touches memory fewer times.
//! CubeCL's devices have bodies of some of them too (`cube/`).
//!
//! Results do not depend on the number of threads: work is split over disjoint outputs, and every sum has one fixed order.
//! Not here: anything that knows a parameter, a model or an adapter.

mod activation;
mod attention;
mod cpu;
mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod divergence;
mod factorise;
mod flex;
mod frozen_matmul;
mod functions;
mod gather_rows;
mod householder;
mod layer_norm;
mod leading;
mod linear;
mod low_rank_linear;
mod matmul;
mod mix_rows;
mod parts;
mod portable;
mod precision;
mod quantized;
mod rms_norm;
mod rope;
mod scratch;
mod split_columns;
mod sums;
#[cfg(test)]
mod testing;
mod work;

pub use activation::{Activation, activate, gated};
pub use attention::{Alibi, AttentionOptions, Sight, attention};
pub use cpu::{InstructionSet, InstructionSetError, give_back_free_blocks, keep_large_blocks, peak_multiplications};
pub use cross_entropy::{
    HeadWeight, Regularisation, RegularisedLoss, linear_cross_entropy, linear_log_probabilities,
    regularised_cross_entropy, token_statistics,
};
pub use divergence::{Distillation, Distilled, Divergence, Labels, Predicted, TeacherTokens, linear_distillation};
pub use factorise::{Svd, svd};
pub use flex::has_fused;
pub use frozen_matmul::{frozen_matmul, frozen_matmul_with_bias};
pub use gather_rows::gather_rows;
pub use householder::qr;
pub use layer_norm::layer_norm;
pub use leading::{distance_to_product, leading_svd, low_rank_svd};
pub use linear::{linear, linear_with_bias};
pub use low_rank_linear::{FrozenWeight, low_rank_linear, low_rank_linear_with_bias};
pub use mix_rows::mix_rows;
pub use portable::{count_launches, memory_of, multiply, sum};
pub use precision::Precision;
pub use quantized::{DoubleScales, FourBit, QuantizationError, QuantizationScheme, QuantizedWeight, Scales};
pub use rms_norm::rms_norm;
pub use rope::{RopeStyle, rope};
pub use split_columns::split_columns;
pub use work::{OPERATION, multiplications};

/// The same operations in plain Burn operations: slower, on every device, with the same meaning.
pub mod composed {
    pub use crate::activation::{composed as activate, composed_gated as gated};
    pub use crate::attention::composed as attention;
    pub use crate::cross_entropy::{
        composed as linear_cross_entropy, composed_log_probabilities as linear_log_probabilities,
        composed_regularised as regularised_cross_entropy, composed_statistics as token_statistics,
    };
    pub use crate::divergence::composed as linear_distillation;
    pub use crate::frozen_matmul::composed as frozen_matmul;
    pub use crate::gather_rows::composed as gather_rows;
    pub use crate::layer_norm::composed as layer_norm;
    pub use crate::linear::composed as linear;
    pub use crate::low_rank_linear::composed as low_rank_linear;
    pub use crate::mix_rows::composed as mix_rows;
    pub use crate::rms_norm::composed as rms_norm;
    pub use crate::rope::composed as rope;
    pub use crate::split_columns::composed as split_columns;
}
