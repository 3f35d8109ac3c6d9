//! Merges an adapter into its base and compares the result with the adapted model: [`merge_into`].
//!
//! A merge is right when the written folder computes what the adapted model computes. So the folder is read back and
//! both models are compared on probe rows; the comparison is returned as a receipt.

use std::path::Path;

use firebrand_kernels::QuantizationScheme;
use firebrand_models::weights::Checkpoint;
use firebrand_models::{Hold, Model, WriteAs};

use super::companions;
use super::folder::write_folder;
use super::probe::Probe;
use super::receipt::{Comparison, Receipt};
use crate::error::Error;
use crate::plan::Text;

/// Merges the adapters of `adapted` into its weights, writes a model folder to `out`, reads it back and compares. If
/// `asked` is `None`, each tensor is written with the dtype it has in the base, and a quantized base is dequantized to
/// the precision it was quantized from.
///
/// # Errors
/// Those of reading and writing; a result whose cost is above the limit. Then `out` is as it was.
pub fn merge_into(
    adapted: &Model,
    base: &Path,
    out: &Path,
    asked: Option<WriteAs>,
    probe: &Probe,
    text: &Text,
    rendered: bool,
) -> Result<Receipt, Error> {
    let adapted = adapted.for_inference();
    let write_as = decide(asked, &adapted);
    adapted.check_writable(write_as)?;
    let (quantization_cost, dtype) = match write_as {
        WriteAs::Quantized(scheme) => (Some(cost_of_quantization(&adapted, scheme, probe)?), Some(scheme.to_string())),
        WriteAs::Dense(dtype) => (None, Some(dtype.name().to_owned())),
        WriteAs::Stored => (None, None),
    };
    let mut receipt = None;
    write_folder(out, |folder| {
        let mut merged = adapted.clone();
        merged.merge();
        let layout = Checkpoint::open(base)?;
        companions::write_model(base, folder, &merged, (write_as, Some(&layout)), text, rendered)?;
        drop(layout);
        drop(merged);
        let written = Model::load(folder, Hold::F32, &adapted.device())?;
        let found = Receipt::new(Comparison::of(&adapted, &written, probe), probe.len(), dtype, quantization_cost);
        if !found.holds() {
            return Err(Error::Merge { problem: found.to_string() });
        }
        receipt = Some(found);
        Ok(())
    })?;
    receipt.ok_or_else(|| Error::Merge { problem: "nothing was compared".into() })
}

/// How to write. If 4-bit codes of the kind the base is quantized with are asked for, they get the base's own scheme.
fn decide(asked: Option<WriteAs>, adapted: &Model) -> WriteAs {
    let held = adapted.quantized_weights().first().map(|weight| weight.scheme());
    match (asked, held, adapted.stored_scheme()) {
        (
            Some(WriteAs::Quantized(QuantizationScheme::FourBit { code, .. })),
            Some(held @ QuantizationScheme::FourBit { code: found, .. }),
            _,
        ) if code == found => WriteAs::Quantized(held),
        (Some(asked), ..) => asked,
        (None, _, Some((_, precision))) => WriteAs::Dense(precision),
        (None, _, None) => WriteAs::Stored,
    }
}

/// The cost of quantizing the base alone by `scheme`. A base that is quantized already is quantized along its columns
/// this time, which changes it about as much as its own quantization did.
fn cost_of_quantization(adapted: &Model, scheme: QuantizationScheme, probe: &Probe) -> Result<f64, Error> {
    let base = adapted.clone().with_network(|mut network| {
        network.linears_mut().into_iter().for_each(|(_, map)| drop(map.detach()));
        network
    });
    let device = base.device();
    let mut problem = None;
    let quantized = base.clone().with_network(|mut network| {
        for (path, map) in network.linears_mut() {
            if let Err(error) = map.quantize_anew(scheme, &device) {
                problem.get_or_insert(format!("{path}: {error}"));
            }
        }
        network
    });
    match problem {
        Some(problem) => Err(Error::Merge { problem }),
        None => Ok(Comparison::of(&base, &quantized, probe).cost()),
    }
}
