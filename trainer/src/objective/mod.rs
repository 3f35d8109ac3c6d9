//! Computes the loss that a run minimises and its gradient: [`Objective`].
//!
//! ```text
//! sft.rs          cross-entropy of labelled tokens; router.rs is the load-balancing loss of routers beside it
//! distill.rs      that, and the divergence from a teacher's distributions
//! score.rs        scores of whole texts and of images: classes, values, preferences; metrics.rs counts what is right
//! labelled_images.rs  labelled images from rows of tensors
//! preference/     losses of judged answers: DPO, ORPO, SimPO, KTO
//! contrastive.rs  cross-entropy over all pairs of a step; pairs.rs makes pairs from rows of tensors
//! denoise.rs      squared errors of told noise; noisy.rs makes noisy pictures from rows of tensors, which noisy_check.rs
//!                 checks, with what conditions.rs makes of pixels and token ids
//! backward.rs     the backward pass through blocks, shared by all
//! gradients.rs    gradients by parameter, summed over micro-batches
//! hidden.rs       matching the outputs of a teacher's blocks
//! noise.rs        how much the gradients of micro-batches differ
//! retrieval.rs    how many of the pairs of an evaluation find each other
//! projections.rs  learned maps between hidden states of different widths
//! on_policy.rs    answers that the student of a distillation writes
//! companion.rs    what a trained network is compared with
//! parts.rs        the named numbers of a step and of an evaluation
//! views.rs        the views through which objectives read a network
//! ```
//! An objective is given all micro-batches of a step. It first measures what they share, then adds up gradients that
//! are already divided by it, so no split of a step into micro-batches changes the result. Objectives know views of a
//! network ([`firebrand_models::Predictor`] and others), not kinds; [`ObjectiveRecipe::fits`] is the one place where
//! the two meet.

mod backward;
mod companion;
mod conditions;
mod contrastive;
mod denoise;
mod distill;
mod gradients;
mod hidden;
mod labelled_images;
mod metrics;
mod noise;
mod noisy;
mod noisy_check;
mod on_policy;
mod pairs;
mod parts;
mod pending;
mod preference;
mod projections;
mod retrieval;
mod router;
mod score;
mod sft;
mod views;

pub use backward::Recompute;
pub use companion::Companion;
use companion::no_companion;
pub use contrastive::{Contrastive, Embeddings};
pub use denoise::{Denoise, denoising_error, told};
pub use distill::Distill;
pub use gradients::Gradients;
pub use labelled_images::{LabelledImages, check_image, label_of, positions_of};
use metrics::ScoreSums;
pub use noise::{NoiseAverage, NoiseSample};
pub use noisy::{Draw, NoisyRow};
pub use noisy_check::check_noisy_row;
pub use pairs::{Images, Pairs, check_row};
pub use parts::{EvalMetrics, Evaluated, Parts, StepLoss};
pub use pending::PendingLoss;
pub use preference::{
    AnswerLoss, Dpo, Formula, Kto, Orpo, PairFormula, PairLoss, Preference, Reference, Scored, Simpo, keep_pairs,
    missing_pairs,
};
pub use projections::Projections;
pub use retrieval::Recall;
pub use router::RouterBalance;
pub use score::{Learned, Score};
pub use sft::{LabelledTokens, Sft, StepScale, TokenSums};
pub use views::inputs;
use views::{predictor, token_batch, towers};

use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, RowKind, TokenBatch};
use firebrand_kernels::Regularisation;
use firebrand_models::towers::Towers;
use firebrand_models::{Kind, Model, Network};

use crate::error::Error;
use crate::recipe::{ClassifyRecipe, DenoiseRecipe, DpoRecipe, KtoRecipe, Method, ObjectiveRecipe, Recipe};

/// What a run minimises.
#[derive(Debug, Clone)]
pub enum Objective {
    /// Supervised fine-tuning.
    Sft(Sft),
    /// Distillation.
    Distill(Distill),
    /// Classification of whole texts or of images, or rewards from preferences.
    Score(Score),
    /// Learning from judged answers.
    Preference(Preference),
    /// Contrastive learning of two towers.
    Contrastive(Contrastive),
    /// Telling the noise of pictures.
    Denoise(Denoise),
}

impl Recipe {
    /// The objective for a model of a kind: the recipe's, or the default of the kind.
    pub fn objective_of(&self, kind: Kind) -> ObjectiveRecipe {
        self.objective.clone().unwrap_or_else(|| ObjectiveRecipe::of_kind(kind, &self.method))
    }
}

impl ObjectiveRecipe {
    /// The default objective of a kind of model.
    pub fn of_kind(kind: Kind, method: &Method) -> Self {
        match kind {
            Kind::Decoder => Self::sft(),
            Kind::Classifier => Self::Classify(ClassifyRecipe::default()),
            Kind::Towers => Self::contrastive(method),
            Kind::Image => Self::Classify(ClassifyRecipe { rows: rows_of(kind), ..ClassifyRecipe::default() }),
            Kind::Diffusion => Self::Denoise(DenoiseRecipe::default()),
        }
    }

    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sft(_) => "sft",
            Self::Distill(_) => "distill",
            Self::Classify(_) => "classify",
            Self::Reward(_) => "reward",
            Self::Dpo(_) => "dpo",
            Self::Orpo(_) => "orpo",
            Self::Simpo(_) => "simpo",
            Self::Kto(_) => "kto",
            Self::Contrastive(_) => "contrastive",
            Self::Denoise(_) => "denoise",
        }
    }

    /// Whether it can train a kind of model. This is the one place where objectives and kinds meet.
    pub fn fits(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Sft(_) | Self::Distill(_), Kind::Decoder) | (Self::Contrastive(_), Kind::Towers) => true,
            (Self::Denoise(_), Kind::Diffusion) => true,
            (Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_), Kind::Decoder) => true,
            (Self::Classify(_) | Self::Reward(_), Kind::Decoder | Kind::Classifier) => true,
            (Self::Classify(_), Kind::Image) => true,
            (Self::Sft(_) | Self::Distill(_), Kind::Classifier | Kind::Towers | Kind::Image | Kind::Diffusion) => false,
            (
                Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_),
                Kind::Classifier | Kind::Towers | Kind::Image | Kind::Diffusion,
            ) => false,
            (Self::Classify(_), Kind::Towers | Kind::Diffusion) => false,
            (Self::Reward(_), Kind::Towers | Kind::Image | Kind::Diffusion) => false,
            (Self::Contrastive(_), Kind::Decoder | Kind::Classifier | Kind::Image | Kind::Diffusion) => false,
            (Self::Denoise(_), Kind::Decoder | Kind::Classifier | Kind::Towers | Kind::Image) => false,
        }
    }

    /// Whether its gradient is a sum over rows of which each micro-batch has a share, so that a noise scale can be measured.
    pub fn is_sum_over_rows(&self) -> bool {
        match self {
            Self::Sft(_) | Self::Classify(_) | Self::Reward(_) | Self::Denoise(_) => true,
            // Answers that the student writes count in one of two means, which have different shares then.
            Self::Distill(distill) => distill.on_policy == 0.0,
            // Their terms are means over different things: tokens and pairs, or a divergence of the whole step.
            Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) | Self::Contrastive(_) => false,
        }
    }

    /// The kind of rows it trains on.
    pub fn rows(&self) -> RowKind {
        match self {
            Self::Classify(classify) => classify.rows,
            Self::Sft(_) | Self::Distill(_) | Self::Reward(_) => RowKind::Tokens,
            Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) => RowKind::Tokens,
            Self::Contrastive(_) | Self::Denoise(_) => RowKind::Tensors,
        }
    }

    /// Whether what it trains can answer prompts.
    pub fn writes_text(&self) -> bool {
        match self {
            Self::Sft(_) | Self::Distill(_) => true,
            Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) => true,
            Self::Classify(_) | Self::Reward(_) | Self::Contrastive(_) | Self::Denoise(_) => false,
        }
    }

    /// Makes trainable everything that full fine-tuning trains, except the parameters at the paths `frozen`.
    pub fn train_all_but(&self, model: Model, frozen: &[&str]) -> Model {
        match self {
            Self::Sft(_) | Self::Distill(_) | Self::Classify(_) | Self::Reward(_) => model.train_all_but(frozen),
            Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) => model.train_all_but(frozen),
            Self::Denoise(_) => model.train_all_but(frozen),
            Self::Contrastive(contrastive) if contrastive.learn_temperature => model.train_all_but(frozen),
            Self::Contrastive(_) => model.train_all_but(&[frozen, &[Towers::TEMPERATURE]].concat()),
        }
    }
}

impl Objective {
    /// The objective of a recipe, with what it compares the model with. It must [fit](ObjectiveRecipe::fits) the model.
    ///
    /// # Errors
    /// A companion that is needed and not there.
    pub fn new(recipe: &ObjectiveRecipe, recompute: Recompute, companion: Option<Companion>) -> Result<Self, Error> {
        Ok(match recipe {
            ObjectiveRecipe::Sft(sft) => Self::Sft(Sft {
                recompute,
                router_aux_loss: sft.router_aux_loss,
                terms: Regularisation { label_smoothing: sft.label_smoothing, z_loss: sft.z_loss },
                neftune_alpha: sft.neftune_alpha,
            }),
            ObjectiveRecipe::Distill(distill) => Self::Distill(Distill {
                recompute,
                settings: distill.settings(),
                on_policy: distill.on_policy,
                hidden: distill.hidden.clone(),
                projections: None,
                teacher: companion.ok_or_else(|| no_companion("distill", "teacher"))?,
            }),
            ObjectiveRecipe::Classify(classify) => {
                let from = Learned::Labels(classify.classes());
                Self::Score(Score { recompute, from, rows: classify.rows })
            }
            ObjectiveRecipe::Reward(reward) => {
                let from = Learned::Preferences { center: reward.center };
                Self::Score(Score { recompute, from, rows: RowKind::Tokens })
            }
            ObjectiveRecipe::Dpo(dpo) => {
                let reference = reference("dpo", companion)?;
                let DpoRecipe { beta, variant, label_smoothing, .. } = *dpo;
                let formula = Formula::Pairs(PairFormula::Dpo(Dpo { beta, variant, label_smoothing }));
                Self::Preference(Preference { recompute, formula, reference: Some(reference), longest: usize::MAX })
            }
            ObjectiveRecipe::Orpo(orpo) => {
                let formula = Formula::Pairs(PairFormula::Orpo(Orpo { lambda: orpo.lambda }));
                Self::Preference(Preference { recompute, formula, reference: None, longest: usize::MAX })
            }
            ObjectiveRecipe::Simpo(simpo) => {
                let formula = Formula::Pairs(PairFormula::Simpo(Simpo { beta: simpo.beta, gamma: simpo.gamma }));
                Self::Preference(Preference { recompute, formula, reference: None, longest: usize::MAX })
            }
            ObjectiveRecipe::Kto(kto) => {
                let reference = reference("kto", companion)?;
                let KtoRecipe { beta, desirable_weight, undesirable_weight } = *kto;
                let formula = Formula::Kto(Kto { beta, desirable_weight, undesirable_weight });
                Self::Preference(Preference { recompute, formula, reference: Some(reference), longest: usize::MAX })
            }
            ObjectiveRecipe::Contrastive(contrastive) => {
                Self::Contrastive(Contrastive { recompute, learn_temperature: contrastive.learn_temperature })
            }
            ObjectiveRecipe::Denoise(DenoiseRecipe { min_snr, noise_offset, caption_dropout }) => {
                Self::Denoise(Denoise {
                    min_snr: *min_snr,
                    noise_offset: *noise_offset,
                    caption_dropout: *caption_dropout,
                })
            }
        })
    }

    /// Gives the objective the parameters of its own that it needs for a network, at their start.
    pub fn begin(&mut self, network: &Network) {
        match self {
            Self::Distill(distill) => distill.begin(network),
            Self::Sft(_) | Self::Score(_) | Self::Preference(_) | Self::Contrastive(_) | Self::Denoise(_) => {}
        }
    }

    /// Its own trained parameters, where it has any.
    pub fn projections(&mut self) -> Option<&mut Projections> {
        match self {
            Self::Distill(distill) => distill.projections.as_mut(),
            Self::Sft(_) | Self::Score(_) | Self::Preference(_) | Self::Contrastive(_) | Self::Denoise(_) => None,
        }
    }

    /// The kind of rows that it learns from.
    pub fn rows(&self) -> RowKind {
        match self {
            Self::Score(score) => score.rows,
            Self::Sft(_) | Self::Distill(_) | Self::Preference(_) => RowKind::Tokens,
            Self::Contrastive(_) | Self::Denoise(_) => RowKind::Tensors,
        }
    }

    /// The objective by which models of a kind are evaluated.
    pub fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Decoder => Self::Sft(Sft::default()),
            Kind::Classifier | Kind::Image => Self::Score(Score {
                recompute: Recompute::Off,
                from: Learned::Labels(ClassifyRecipe::default().classes()),
                rows: rows_of(kind),
            }),
            Kind::Towers => Self::Contrastive(Contrastive { recompute: Recompute::Off, learn_temperature: false }),
            Kind::Diffusion => Self::Denoise(Denoise::default()),
        }
    }

    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    ///
    /// # Errors
    /// Rows that the objective or the network cannot read.
    pub fn accumulate(
        &self,
        network: &Network,
        batches: &[(Batch, Mode)],
        gradients: &mut Gradients,
    ) -> Result<StepLoss, Error> {
        match self {
            Self::Sft(sft) => Ok(sft.accumulate_step(network, &tokens(batches)?, gradients)),
            Self::Distill(distill) => distill.accumulate_step(network, batches, gradients),
            Self::Score(score) => score.accumulate_step(network, batches, gradients),
            Self::Preference(preference) => preference.accumulate_step(network, batches, gradients),
            Self::Contrastive(contrastive) => {
                let towers = towers(network);
                let pairs = batches.iter().map(|(batch, mode)| Ok((Pairs::of(batch, towers.config())?, *mode)));
                Ok(contrastive.accumulate_step(network, &pairs.collect::<Result<Vec<_>, Error>>()?, gradients))
            }
            Self::Denoise(denoise) => denoise.accumulate_step(network, batches, gradients),
        }
    }

    /// The same for rows of at most `max_length` tokens: what an objective makes of them is not longer.
    pub fn within(self, max_length: usize) -> Self {
        match self {
            Self::Preference(preference) => Self::Preference(Preference { longest: max_length, ..preference }),
            other @ (Self::Sft(_) | Self::Distill(_) | Self::Score(_) | Self::Contrastive(_) | Self::Denoise(_)) => {
                other
            }
        }
    }

    /// Whether a step of these batches has too few rows for the objective, unless it is the last of an epoch.
    pub fn lacks_company(&self, batches: &[(Batch, Mode)]) -> bool {
        match self {
            Self::Preference(Preference { formula: Formula::Kto(_), .. }) => {
                batches.iter().flat_map(|(batch, _)| &batch.parts).flatten().count() == 1
            }
            Self::Preference(Preference { formula: Formula::Pairs(_), .. })
            | Self::Sft(_)
            | Self::Distill(_)
            | Self::Score(_)
            | Self::Contrastive(_)
            | Self::Denoise(_) => false,
        }
    }

    /// The network after an optimiser step, with the parameters that the objective bounds clamped to their bounds.
    pub fn after_step(&self, network: Network) -> Network {
        match self {
            Self::Sft(_) | Self::Distill(_) | Self::Score(_) | Self::Preference(_) | Self::Denoise(_) => network,
            Self::Contrastive(contrastive) => match network {
                Network::Towers(towers) => Network::Towers(contrastive.after_step(towers)),
                other @ (Network::Decoder(_) | Network::Image(_) | Network::Diffusion(_)) => other,
            },
        }
    }

    /// The loss and the other measurements over `batches`, without gradients. The network must be on a device without
    /// autodiff.
    ///
    /// # Errors
    /// Those of the batches, and those of [`Self::accumulate`].
    pub fn evaluate(
        &self,
        network: &Network,
        batches: &mut dyn Iterator<Item = Result<Batch, Error>>,
    ) -> Result<Evaluated, Error> {
        match self {
            // Distillation is evaluated by what a student is for, so that it can be compared with training on labels.
            Self::Sft(_) | Self::Distill(_) => {
                let mut sums = TokenSums::default();
                for batch in batches {
                    sums += Sft::evaluate(predictor(network), token_batch(&batch?)?);
                }
                Ok(sums.evaluated())
            }
            Self::Score(score) => {
                let mut sums = ScoreSums::default();
                for batch in batches {
                    score.evaluate(network, &batch?, &mut sums)?;
                }
                Ok(score.evaluated(&sums))
            }
            Self::Preference(preference) => preference.evaluate(network, batches),
            Self::Contrastive(_) => {
                let towers = towers(network);
                let mut all = Embeddings::default();
                for batch in batches {
                    all.extend(Embeddings::of(towers, &Pairs::of(&batch?, towers.config())?, Mode::Inference));
                }
                Ok(Contrastive::evaluated(towers, all))
            }
            Self::Denoise(denoise) => denoise.evaluate(network, batches),
        }
    }
}

/// The rows that a kind of model reads.
pub fn rows_of(kind: Kind) -> RowKind {
    match kind {
        Kind::Decoder | Kind::Classifier => RowKind::Tokens,
        Kind::Towers | Kind::Image | Kind::Diffusion => RowKind::Tensors,
    }
}

/// The tokens of every batch.
fn tokens(batches: &[(Batch, Mode)]) -> Result<Vec<(&TokenBatch, Mode)>, Error> {
    batches.iter().map(|(batch, mode)| Ok((token_batch(batch)?, *mode))).collect()
}

/// What a preference objective measures from.
fn reference(objective: &str, companion: Option<Companion>) -> Result<Reference, Error> {
    companion.and_then(Reference::of).ok_or_else(|| no_companion(objective, "reference"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_objective_that_fits_it() {
        for kind in Kind::ALL {
            assert!(ObjectiveRecipe::of_kind(*kind, &Method::Full).fits(*kind), "{kind}");
        }
    }
}
