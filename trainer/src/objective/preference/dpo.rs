//! Direct preference optimisation, [`Dpo`].
//!
//! With `r` the log-ratio of an answer, `log p(answer | prompt) - log p_ref(answer | prompt)`, and `d = r(chosen) - r(rejected)`:
//! - `sigmoid` (Rafailov et al. 2023, arXiv:2305.18290, equation 7): `-log sigmoid(beta d)`. With label smoothing `e` (Mitchell 2023,
//!   "A note on DPO with noisy preferences", conservative DPO): `-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d)`.
//! - `hinge` (SLiC-HF, Zhao et al. 2023, arXiv:2305.10425): `max(0, 1 - beta d)`. Its slope at the corner is 0.
//! - `ipo` (Azar et al. 2023, arXiv:2310.12036, equation 17): `(d' - 1 / (2 beta))^2`, where each log-ratio in `d'` is divided by the
//!   number of its answer's tokens, as the authors do.
//!
//! The reward of an answer is `beta r`.

use super::answers::Scored;
use super::math::{log_sigmoid, sigmoid};
use super::pair_loss::PairLoss;
use crate::recipe::DpoVariant;

/// The loss of direct preference optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// Factor of the log-ratios.
    pub beta: f64,
    /// Which loss.
    pub variant: DpoVariant,
    /// Share of pairs that are taken to be judged the wrong way round.
    pub label_smoothing: f64,
}

impl Dpo {
    /// The loss of a pair.
    pub fn pair(&self, chosen: Scored, rejected: Scored) -> PairLoss {
        let Self { beta, variant, label_smoothing: noise } = *self;
        let (of_chosen, of_rejected) = (chosen.log_ratio(), rejected.log_ratio());
        let margin = beta * (of_chosen - of_rejected);
        let (loss, slopes) = match variant {
            DpoVariant::Sigmoid => {
                let loss = -(1.0 - noise) * log_sigmoid(margin) - noise * log_sigmoid(-margin);
                let slope = beta * (noise * sigmoid(margin) - (1.0 - noise) * sigmoid(-margin));
                (loss, [slope, -slope])
            }
            DpoVariant::Hinge => {
                // What is no number stays so.
                let (loss, slope) = if margin >= 1.0 { (0.0, 0.0) } else { (1.0 - margin, -beta) };
                (loss, [slope, -slope])
            }
            DpoVariant::Ipo => {
                let apart = of_chosen / chosen.tokens - of_rejected / rejected.tokens - 1.0 / (2.0 * beta);
                (apart * apart, [2.0 * apart / chosen.tokens, -2.0 * apart / rejected.tokens])
            }
        };
        PairLoss { loss, slopes, rewards: [beta * of_chosen, beta * of_rejected], shown: [chosen.sum, rejected.sum] }
    }
}
