//! Reading a network that is never trained, from a folder of its own: [`read_frozen`].

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};

use crate::error::ModelError;
use crate::parameters::{Given, Listing, ParameterSource, Shapes, Wanted};
use crate::weights::{Checkpoint, Expected, Form, Load, RuleSet};

/// Builds a network from the weights in `folder`, in f32. `build` asks a source for each of its parameters.
///
/// # Errors
/// A damaged file, or tensors that do not match the parameters one to one.
pub(crate) fn read_frozen<N>(
    folder: &Path,
    rules: &RuleSet,
    device: &Device,
    build: impl Fn(&mut dyn ParameterSource) -> N,
) -> Result<N, ModelError> {
    let checkpoint = Checkpoint::open(folder)?;
    let mut shapes = Shapes;
    let mut listing = Listing::of(&mut shapes);
    build(&mut listing);
    let expected = listing.parameters.into_iter().map(|info| Expected { name: info.path, shape: info.shape });
    let plan = rules.account(&checkpoint, &expected.collect::<Vec<_>>(), None)?;
    let loads = plan.loads.into_iter().map(|load| (load.ours.clone(), load)).collect();
    let mut source = Frozen { checkpoint: &checkpoint, loads, device, problem: None };
    let network = build(&mut source);
    source.problem.map_or(Ok(network), Err)
}

/// The source of its parameters. The first problem is kept, and zeros stand for what could not be read.
struct Frozen<'a> {
    checkpoint: &'a Checkpoint,
    loads: HashMap<String, Load>,
    device: &'a Device,
    problem: Option<ModelError>,
}

impl Frozen<'_> {
    fn values(&self, wanted: Wanted<'_>) -> Result<TensorData, ModelError> {
        let missing = || ModelError::NoSuchTensor {
            path: self.checkpoint.path().to_owned(),
            tensor: wanted.path.to_owned(),
            nearest: None,
        };
        let load = self.loads.get(wanted.path).ok_or_else(missing)?;
        let view = self.checkpoint.get(&load.theirs)?;
        let Form::Dense(layout) = load.form else {
            return Err(ModelError::tensor(view.file, view.name, "a dense tensor", "a quantized one"));
        };
        view.check_finite()?;
        let values = layout.convert(view.to_f32()?, &layout.shape(wanted.shape));
        self.checkpoint.release(&view);
        Ok(TensorData::new(values, wanted.shape.to_vec()))
    }
}

impl ParameterSource for Frozen<'_> {
    fn give(&mut self, wanted: Wanted<'_>) -> Given {
        let values = self.values(wanted).unwrap_or_else(|problem| {
            self.problem.get_or_insert(problem);
            TensorData::zeros::<f32, _>(wanted.shape.to_vec())
        });
        Given::Values(values, self.device.clone())
    }
}
