//! The contrastive objective for two towers, [`Contrastive`] (Radford et al. 2021, arXiv:2103.00020; reference:
//! `clip_loss` in transformers' `models/clip/modeling_clip.py`).
//!
//! With `I` and `T` the normalised embeddings of the `n` pairs of a step and `t` the temperature, the logits are
//! `exp(t) T I^T`. The loss is the mean of two cross-entropies: of the right image for each text, and of the right
//! text for each image. Every pair of the step is compared with every other, whatever the micro-batches (GradCache,
//! Gao et al. 2021, arXiv:2101.06983): all embeddings are computed without a tape, then the gradients of the loss by
//! the embeddings, and then each micro-batch runs again and goes backward by itself. A step of one micro-batch takes one
//! pass.
//!
//! After each step a trained temperature is clamped to `[0, ln 100]`, as OpenCLIP does. The first loss uses the value
//! in the file.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_kernels::{Precision, multiply, sum};
use firebrand_models::parts::Context;
use firebrand_models::towers::{TextInputs, Towers};
use firebrand_models::{Network, Stack};

use super::backward::{Passage, Recompute, backward};
use super::gradients::Gradients;
use super::pairs::{Images, Pairs};
use super::parts::{EvalMetrics, Evaluated, StepLoss};
use super::pending::PendingLoss;
use super::retrieval::Recall;
use super::views::towers;

/// The largest temperature: the logarithm of a factor of 100.
const LARGEST: f64 = 4.605_170_185_988_092;
/// Rows of the logit matrix that are computed at once.
const CHUNK: usize = 1024;

/// The contrastive objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contrastive {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// Whether the temperature is trained.
    pub learn_temperature: bool,
}

/// Embeddings of pairs, not normalised.
#[derive(Debug, Clone, Default)]
pub struct Embeddings {
    /// `[pairs, embedding]` each.
    images: Vec<Tensor<2>>,
    texts: Vec<Tensor<2>>,
}

impl Embeddings {
    /// Computes the embeddings of `pairs`, in order. There is no tape if the towers are on a device without autodiff.
    pub fn of(towers: &Towers, pairs: &Pairs, mode: Mode) -> Self {
        let pixels = pixels(&pairs.images, &towers.device());
        let images = towers.vision().forward(pixels, mode);
        let texts = towers.text().forward(&pairs.texts, mode);
        Self { images: vec![images], texts: vec![texts] }
    }

    /// Appends the embeddings of more pairs.
    pub fn extend(&mut self, more: Self) {
        self.images.extend(more.images);
        self.texts.extend(more.texts);
    }

    /// The embeddings of all images and of all texts, `[pairs, embedding]` each.
    fn together(self) -> [Tensor<2>; 2] {
        [Tensor::cat(self.images, 0), Tensor::cat(self.texts, 0)]
    }

    /// The embeddings of images and of texts, each scaled to length one; one vector for each pair.
    pub fn normalised(self) -> [Vec<Vec<f32>>; 2] {
        self.together().map(|embeddings| {
            let width = embeddings.dims()[1];
            let values: Vec<f32> = normalised(embeddings).into_data().iter::<f32>().collect();
            values.chunks(width.max(1)).map(<[f32]>::to_vec).collect()
        })
    }
}

impl Contrastive {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(Pairs, Mode)],
        gradients: &mut Gradients,
    ) -> StepLoss {
        if let ([(pairs, mode)], Recompute::Off) = (batches, self.recompute) {
            return in_one_pass(network, pairs, *mode, gradients);
        }
        let frozen = network.valid();
        let mut all = Embeddings::default();
        for (pairs, mode) in batches {
            all.extend(Embeddings::of(towers(&frozen), pairs, *mode));
        }
        let leaf = |values: Tensor<2>| Tensor::from_inner(values).require_grad();
        let [images, texts] = all.together().map(leaf);
        let temperature = towers(network).temperature();
        let loss = loss(images.clone(), texts.clone(), temperature);
        let value = PendingLoss::of(&loss);
        let mut tape = loss.backward();
        // The temperature is the only parameter that the loss depends on directly.
        gradients.collect(network, "", &mut tape);
        let upstream = [images.grad_remove(&mut tape), texts.grad_remove(&mut tape)];
        if let [Some(images), Some(texts)] = upstream {
            self.go_backward(network, batches, [images, texts], gradients);
        }
        StepLoss { loss: value, ..StepLoss::default() }
    }

    /// Runs each micro-batch again and goes backward with its part of the gradients of the embeddings.
    fn go_backward(
        &self,
        network: &Network,
        batches: &[(Pairs, Mode)],
        [images, texts]: [Tensor<2>; 2],
        gradients: &mut Gradients,
    ) {
        let mut first = 0;
        for (pairs, mode) in batches {
            let part = first..first + pairs.len();
            let upstream = images.clone().slice_dim(0, part.clone());
            let passage = ImagePassage { images: &pairs.images, upstream, mode: *mode };
            backward(&passage, network, self.recompute, gradients);
            let upstream = texts.clone().slice_dim(0, part);
            let passage = TextPassage { inputs: &pairs.texts, upstream, mode: *mode };
            backward(&passage, network, self.recompute, gradients);
            first += pairs.len();
        }
    }

    /// Clamps a trained temperature to its bounds.
    pub(super) fn after_step(&self, towers: Towers) -> Towers {
        match self.learn_temperature {
            true => towers.with_temperature(|temperature| temperature.clamp(0.0, LARGEST)),
            false => towers,
        }
    }

    /// The loss over all pairs of an evaluation, and how many of them find each other.
    pub(super) fn evaluated(towers: &Towers, all: Embeddings) -> Evaluated {
        let [images, texts] = all.together();
        let pairs = images.dims()[0] as u64;
        let loss = loss(images.clone(), texts.clone(), towers.temperature()).into_scalar::<f32>();
        let recall = Recall::of(&normalised(images), &normalised(texts));
        Evaluated { loss: f64::from(loss), metrics: EvalMetrics::Pairs { pairs, recall } }
    }
}

/// Adds the gradient of a step of one micro-batch, whose embeddings need not be computed twice.
fn in_one_pass(network: &Network, pairs: &Pairs, mode: Mode, gradients: &mut Gradients) -> StepLoss {
    let towers = towers(network);
    let [images, texts] = Embeddings::of(towers, pairs, mode).together();
    let loss = loss(images, texts, towers.temperature());
    let value = PendingLoss::of(&loss);
    gradients.collect(network, "", &mut loss.backward());
    StepLoss { loss: value, ..StepLoss::default() }
}

/// The loss `[1]` of embeddings `[pairs, embedding]` at a temperature `[1]`.
fn loss(images: Tensor<2>, texts: Tensor<2>, temperature: Tensor<1>) -> Tensor<1> {
    let (images, texts) = (normalised(images), normalised(texts));
    let factor = temperature.exp().unsqueeze();
    (own(texts.clone() * factor.clone(), &images) + own(images * factor, &texts)) / 2.0
}

/// The mean cross-entropy `[1]` of finding each row's own partner among all partners, both `[pairs, embedding]`.
fn own(rows: Tensor<2>, partners: &Tensor<2>) -> Tensor<1> {
    let pairs = rows.dims()[0];
    let chunk = |start: usize| {
        let end = (start + CHUNK).min(pairs);
        let some = rows.clone().slice_dim(0, start..end);
        let logits = multiply(some, partners.clone().transpose(), Precision::F32);
        let own = Tensor::<1, Int>::arange(start as i64..end as i64, &logits.device()).unsqueeze_dim(1);
        sum(log_softmax(logits, 1).gather(1, own))
    };
    let sums = (0..pairs).step_by(CHUNK).map(chunk).collect();
    sum(Tensor::<1>::cat(sums, 0)) / -(pairs as f64)
}

/// Each row scaled to length one.
fn normalised(embeddings: Tensor<2>) -> Tensor<2> {
    let length = (embeddings.clone() * embeddings.clone()).sum_dim(1).sqrt();
    embeddings / length
}

fn pixels(images: &Images, device: &Device) -> Tensor<4> {
    let [channels, height, width] = images.shape;
    let shape = [images.count, channels, height, width];
    Tensor::from_data(TensorData::new(images.pixels.clone(), shape), device)
}

/// Images through the blocks to the inner product of their embeddings with a given gradient. The gradient of that
/// product by a parameter is that of the loss.
struct ImagePassage<'a> {
    images: &'a Images,
    upstream: Tensor<2>,
    mode: Mode,
}

impl Passage for ImagePassage<'_> {
    fn context(&self, network: &Network) -> Context {
        towers(network).vision().context(self.mode)
    }

    fn embed(&self, network: &Network) -> Tensor<3> {
        towers(network).vision().embed(pixels(self.images, &network.device()))
    }

    fn stack<'n>(&self, network: &'n Network) -> Stack<'n> {
        towers(network).vision_stack()
    }

    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1> {
        sum(towers(network).vision().finish(x, self.mode) * Tensor::from_inner(self.upstream.clone()))
    }
}

/// The same for texts.
struct TextPassage<'a> {
    inputs: &'a TextInputs,
    upstream: Tensor<2>,
    mode: Mode,
}

impl Passage for TextPassage<'_> {
    fn context(&self, network: &Network) -> Context {
        towers(network).text().context(self.inputs, self.mode)
    }

    fn embed(&self, network: &Network) -> Tensor<3> {
        towers(network).text().embed(self.inputs, self.mode)
    }

    fn stack<'n>(&self, network: &'n Network) -> Stack<'n> {
        towers(network).text_stack()
    }

    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1> {
        sum(towers(network).text().finish(x, self.inputs, self.mode) * Tensor::from_inner(self.upstream.clone()))
    }
}
