//! Checks what is made of a trained adapter: a merged model, and generated text.

use burn::tensor::Tensor;
use firebrand_adapters::Mode;
use firebrand_models::parts::Inputs;
use firebrand_models::weights::Dtype;
use firebrand_models::{Predictor, WriteAs};

use super::Measured;
use super::fixture::{Fixture, Trains};
use crate::error::Error;
use crate::export::{Comparison, Distributions, Probe, merge_into};
use crate::inference::generate::{Sampling, Session};
use crate::inference::predictor;

/// Largest difference of a single logit. Logits here are a few units large.
const LIMIT: f64 = 1e-4;
const NEW_TOKENS: usize = 24;

/// Checks a merge in f32 by its receipt.
pub(super) fn merging(fixture: &Fixture) -> Result<Measured, Error> {
    let trained = fixture.train("to-merge", Trains::Adapter, &[], None)?;
    let probe = Probe::from_dataset(&trained.data.train, &trained.model)?;
    let out = fixture.path("merged");
    let (base, write_as) = (fixture.model(), Some(WriteAs::Dense(Dtype::F32)));
    let receipt = merge_into(&trained.model, &base, &out, write_as, &probe, &fixture.text()?, false)?;
    let found = match receipt.comparison {
        Comparison::Distributions(found) => found,
        // The self-test trains a decoder.
        Comparison::Scores(_) | Comparison::Distances(_) | Comparison::Pictures(_) => {
            Distributions { largest_logit_difference: f64::INFINITY, ..Default::default() }
        }
    };
    let agreed = found.top1_agreement * 100.0;
    Ok(Measured {
        what: format!("KL {:.1e} nats, same first choice {agreed:.0} %, largest logit difference", found.kl),
        value: found.largest_logit_difference,
        limit: LIMIT,
    })
}

/// Checks generation with a KV cache against reading the whole sequence at once: the same tokens and the same logits.
pub(super) fn caching(fixture: &Fixture) -> Result<Measured, Error> {
    let trained = fixture.train("to-generate", Trains::Adapter, &[], None)?;
    let model = trained.model.for_inference();
    let first = trained.data.train.example(0)?;
    let prompt = &first.tokens()?.input_ids;
    let (written, _) =
        Session::new(predictor(&model)?).generate(prompt, &[], NEW_TOKENS, &mut Sampling::Greedy.start(), |_| {});
    let sequence = [prompt.as_slice(), &written].concat();

    let predictor = predictor(&model)?;
    let whole = logits(predictor, predictor.hidden(&Inputs::row(&sequence, 0), Mode::Inference));
    let mut cache = predictor.cache();
    let mut pieces = logits(predictor, predictor.hidden_cached(&Inputs::row(prompt, 0), &mut cache));
    for (index, token) in written.iter().enumerate() {
        let inputs = Inputs::row(&[*token], prompt.len() + index);
        pieces.extend(logits(predictor, predictor.hidden_cached(&inputs, &mut cache)));
    }
    let differences = whole.iter().flatten().zip(pieces.iter().flatten()).map(|(left, right)| (left - right).abs());
    let largest =
        differences.fold(0.0_f32, |largest, difference| if difference <= largest { largest } else { difference });
    let mut sampler = Sampling::Greedy.start();
    let same = written.iter().zip(&whole[prompt.len() - 1..]).all(|(token, logits)| *token == sampler.next(logits));
    let complete = same && whole.len() == pieces.len() && written.len() == NEW_TOKENS;
    Ok(Measured {
        what: format!("{} tokens, largest logit difference", written.len()),
        value: if complete { f64::from(largest) } else { f64::INFINITY },
        limit: LIMIT,
    })
}

/// The logits at every position, for hidden states `[1, time, hidden_size]`.
fn logits(predictor: Predictor<'_>, hidden: Tensor<3>) -> Vec<Vec<f32>> {
    let logits = predictor.head().logits(hidden);
    let vocabulary = logits.dims()[2];
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks(vocabulary).map(<[f32]>::to_vec).collect()
}
