//! Checks that packing, accumulation and recomputation do not change what is learned.
//!
//! Every run here trains all weights on all rows in every step, so two layouts see the same step. The optimiser is
//! plain gradient descent: an adaptive one would amplify the rounding of gradients that are zero.

use super::Measured;
use super::fixture::{Fixture, Trained, Trains};
use crate::error::Error;

/// Largest difference of losses, and largest relative difference of gradient norms.
const LIMIT: f64 = 1e-5;
const ALL_ROWS_IN_A_STEP: [&str; 5] = [
    "train.steps=3",
    "train.batch_size=16",
    "optimizer.kind=\"sgd\"",
    "optimizer.learning_rate=0.2",
    "schedule.warmup_steps=0",
];

/// Compares several rows in one window with one row in each window.
pub(super) fn packing(fixture: &Fixture) -> Result<Measured, Error> {
    let packed = run(fixture, "packed", &["data.packing=true", "train.micro_batch_size=16"])?;
    let unpacked = run(fixture, "unpacked", &["data.packing=false", "train.micro_batch_size=16"])?;
    let packs = |trained: &Trained| trained.data.train.epoch(0, 0).packs.len();
    let what = format!("{} rows in {} packs or alone", packs(&unpacked), packs(&packed));
    Ok(compare(what, &packed, &[unpacked]))
}

/// Compares micro-batches of one row, and of four rows (the last has one), with one batch of all rows.
pub(super) fn accumulation(fixture: &Fixture) -> Result<Measured, Error> {
    let run = |size: usize| {
        let micro_batch = format!("train.micro_batch_size={size}");
        run(fixture, &format!("micro-batch-{size}"), &["data.packing=false", &micro_batch])
    };
    let (whole, fours, ones) = (run(16)?, run(4)?, run(1)?);
    Ok(compare("micro-batches of 1, 4 and all rows".into(), &whole, &[fours, ones]))
}

/// Compares recomputed activations with kept ones.
pub(super) fn recomputation(fixture: &Fixture) -> Result<Measured, Error> {
    let run = |recompute: &str| {
        let recompute_key = format!("train.recompute=\"{recompute}\"");
        run(fixture, &format!("recompute-{recompute}"), &["train.micro_batch_size=4", &recompute_key])
    };
    Ok(compare("activations kept or recomputed".into(), &run("off")?, &[run("blocks")?]))
}

fn run(fixture: &Fixture, name: &str, changes: &[&str]) -> Result<Trained, Error> {
    fixture.train(name, Trains::Everything, &[&ALL_ROWS_IN_A_STEP, changes].concat(), None)
}

fn compare(what: String, left: &Trained, others: &[Trained]) -> Measured {
    let mut largest = 0.0_f64;
    for right in others {
        if left.steps.len() != right.steps.len() {
            largest = f64::INFINITY;
        }
        for (left, right) in left.steps.iter().zip(&right.steps) {
            let loss = (left.loss - right.loss).abs();
            let norm = (left.grad_norm - right.grad_norm).abs() / left.grad_norm;
            // `max` would drop NaN.
            for difference in [loss, norm] {
                if difference.is_nan() || difference > largest {
                    largest = difference;
                }
            }
        }
    }
    Measured { what: format!("{what}, largest difference of loss and gradient norm"), value: largest, limit: LIMIT }
}
