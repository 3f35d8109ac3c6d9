//! Compares the losses of two runs with known ones.
//!
//! The numbers were computed in f32 on a CPU. Both runs were repeated on the same rows in transformers and PEFT with
//! torch's AdamW, and agreed within 1e-6 at every step. Rounding differs between machines, and six steps amplify the
//! difference: hence the limit of 1e-4.

use super::Measured;
use super::fixture::{Fixture, Trained, Trains};
use crate::error::Error;

const LIMIT: f64 = 1e-4;
/// A bf16 number has 8 bits: 1 % of these losses.
const BF16_LIMIT: f64 = 5e-2;

/// Loss of each step when an adapter is trained.
const ADAPTER: [f64; 6] = [4.900_968, 4.902_557, 4.694_543, 4.738_254, 3.982_306, 4.268_556];
/// Loss of each step of full fine-tuning.
const FULL: [f64; 6] = [4.900_968, 4.902_557, 4.476_044, 4.371_474, 3.541_471, 3.817_802];

/// Compares the losses of training an adapter.
pub(super) fn adapter(fixture: &Fixture) -> Result<Measured, Error> {
    let trained = fixture.train("golden-adapter", Trains::Adapter, &[], None)?;
    Ok(compare(&trained, &ADAPTER))
}

/// Compares the losses of full fine-tuning.
pub(super) fn full(fixture: &Fixture) -> Result<Measured, Error> {
    let trained = fixture.train("golden-full", Trains::Everything, &[], None)?;
    Ok(compare(&trained, &FULL))
}

/// The same for both in bf16: how far computing so is from f32 on this machine.
pub(super) fn bf16(fixture: &Fixture) -> Result<Measured, Error> {
    let adapter = fixture.train("bf16-adapter", Trains::Adapter, &["dtype=bf16"], None)?;
    let full = fixture.train("bf16-full", Trains::Everything, &["dtype=bf16"], None)?;
    let (adapter, full) = (compare(&adapter, &ADAPTER), compare(&full, &FULL));
    let further = if full.value > adapter.value { full } else { adapter };
    Ok(Measured { limit: BF16_LIMIT, ..further })
}

fn compare(trained: &Trained, golden: &[f64]) -> Measured {
    let losses: Vec<f64> = trained.steps.iter().map(|step| step.loss).collect();
    let largest = losses.iter().zip(golden).map(|(loss, golden)| (loss - golden).abs()).fold(0.0, f64::max);
    let complete = losses.len() == golden.len() && losses.iter().all(|loss| loss.is_finite());
    let (first, last) = (losses.first().unwrap_or(&f64::NAN), losses.last().unwrap_or(&f64::NAN));
    Measured {
        what: format!("{} steps, loss {first:.4} to {last:.4}, largest difference", losses.len()),
        value: if complete { largest } else { f64::INFINITY },
        limit: LIMIT,
    }
}
