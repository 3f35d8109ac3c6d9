//! Gradients of models that read rows of tensors, against `grad.<name>` of a reference's file.

use firebrand::objective::{Gradients, Objective};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, NamedArrays};
use firebrand_models::Model;
use firebrand_models::weights::SafetensorsFile;
use firebrand_tests::golden::host;
use firebrand_tests::tensors::distance;

/// By the norm of a gradient tensor, as for decoders.
const RELATIVE: f64 = 2e-5;
/// The gradient of a key bias is zero: every query's softmax ignores what is added to all of its keys. What is left is the rounding
/// of the rest, by the norm of the whole gradient.
const NOTHING: f64 = 1e-6;

/// Loss and gradients of a step split into micro-batches of `size` rows, by our paths.
pub fn step(
    model: &Model,
    objective: &Objective,
    rows: &[NamedArrays],
    size: usize,
    batch: impl Fn(&[NamedArrays]) -> Batch,
) -> (f64, Vec<(String, Vec<f32>)>) {
    let mut first_row = 0;
    let batches: Vec<(Batch, Mode)> = rows
        .chunks(size)
        .map(|rows| {
            let mode = Mode::Training { key: 0, first_row };
            first_row += rows.len();
            (batch(rows), mode)
        })
        .collect();
    let mut gradients = Gradients::default();
    let loss = objective.accumulate(model.network(), &batches, &mut gradients).unwrap().loss.wait();
    (loss, gradients.iter().map(|(path, gradient)| (path.to_string(), host(gradient.clone()))).collect())
}

/// Every gradient of the file is one of ours, whose path `name` translates, but for those that are zero there: nothing reads
/// their parameters.
pub fn assert_gradients(
    case: &str,
    name: impl Fn(&str) -> String,
    ours: Vec<(String, Vec<f32>)>,
    file: &SafetensorsFile,
) {
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let gradient_of = |name: &str| file.get(&format!("grad.{name}")).unwrap().to_f32().unwrap();
    let theirs = file.names().filter_map(|name| name.strip_prefix("grad."));
    let mut theirs: Vec<String> = theirs.map(String::from).collect();
    let whole = norm(&theirs.iter().flat_map(|name| gradient_of(name)).collect::<Vec<_>>());
    for (path, gradient) in ours {
        let name = name(&path);
        let place = theirs.iter().position(|other| *other == name);
        theirs.remove(place.unwrap_or_else(|| panic!("{case}: the reference has no gradient of {name}")));
        let expected = gradient_of(&name);
        if norm(&expected) < NOTHING * whole {
            assert!(norm(&gradient) < NOTHING * whole, "{case}: {name} has a gradient of {:e}", norm(&gradient));
        } else {
            let apart = distance(&gradient, &expected);
            assert!(apart < RELATIVE, "{case}: the gradient of {name} is {apart:e} away");
        }
    }
    theirs.retain(|name| norm(&gradient_of(name)) > 0.0);
    assert!(theirs.is_empty(), "{case}: no gradient of {theirs:?}");
}
