//! A model with some of another's blocks: [`Student`] is what [`ModelFiles::student`] plans and [`Student::write`] writes.
//!
//! No weight is computed. Tensors are copied as they lie in the files, quantized ones with all their parts, and only the
//! block's number in a name changes. So a student starts with its teacher's embedding, head and those blocks, as in
//! DistilBERT (Sanh et al. 2019, arXiv:1910.01108, section 3). Files of PyTorch become safetensors. Not here: fewer heads or
//! narrower MLPs, and the files beside weights and configuration.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::ModelFiles;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::network::Network;
use crate::parameters::{Listing, ParameterInfo, Shapes};
use crate::quantization_config::with_skipped;
use crate::weights::{
    CheckpointPlan, Head, HeadTie, PlanOptions, Reading, TensorSpec, TensorView, WeightsFile, Written,
    quantized_part_of,
};

/// The plan of a model folder with some of the blocks of another.
#[derive(Debug)]
pub struct Student<'a> {
    files: &'a ModelFiles,
    kept: Vec<usize>,
    layers: usize,
    config: HfConfig,
    /// Names of tensors in the files that are copied, by their names in the student.
    sources: HashMap<String, String>,
    specs: Vec<TensorSpec>,
    parameters: [usize; 2],
}

impl ModelFiles {
    /// Plans a model with the blocks `kept` of this one, counted from zero, in this order.
    ///
    /// # Errors
    /// A network that is no single stack of blocks; no block, one that is not there, or one twice; a key of `config.json`
    /// that cannot follow.
    pub fn student(&self, kept: &[usize]) -> Result<Student<'_>, ModelError> {
        let refused = |problem: String| Err(ModelError::Layers { path: self.folder().to_owned(), problem });
        let layers = match self.network().stacks().as_slice() {
            [stack] => stack.layers,
            _ => return refused(format!("a {} has more than one stack of layers", self.network().kind())),
        };
        let mut seen = BTreeSet::new();
        for layer in kept {
            if *layer >= layers {
                return refused(format!("there is no layer {layer}: the model has layers 0 to {}", layers - 1));
            }
            if !seen.insert(layer) {
                return refused(format!("layer {layer} is named twice"));
            }
        }
        if kept.is_empty() {
            return refused("none is named".into());
        }
        let number = |old: usize| kept.iter().position(|layer| *layer == old);
        let rules = self.rules();
        let config = self.family().config_of_blocks(self.config(), kept)?;
        let config = with_skipped(config, |module| rules.renumbered(module, number))?;
        let copied = |view: &TensorView<'_>| !self.is_needless_copy(view);
        let mut tensors: Vec<(TensorSpec, String)> = vec![];
        for view in self.checkpoint().tensors().filter(copied) {
            if let Some(name) = rules.renumbered(view.name, number) {
                let spec = TensorSpec { name, dtype: view.dtype, shape: view.shape.to_vec() };
                tensors.push((spec, view.name.to_owned()));
            }
        }
        let network = self.family().config(&config)?.with_tied(self.is_tied());
        let mut shapes = Shapes;
        let mut listing = Listing::of(&mut shapes);
        Network::new(&network, &mut listing);
        Ok(Student {
            files: self,
            kept: kept.to_vec(),
            layers,
            config,
            parameters: [count(self.parameters()), count(&listing.parameters)],
            specs: tensors.iter().map(|(spec, _)| spec.clone()).collect(),
            sources: tensors.into_iter().map(|(spec, source)| (spec.name, source)).collect(),
        })
    }

    /// Whether a tensor of PyTorch's files is the head that is tied and stored beside the embedding: tied tensors are
    /// written once. Safetensors stay as they are.
    fn is_needless_copy(&self, view: &TensorView<'_>) -> bool {
        let pickled = self.checkpoint().files().iter().any(|file| matches!(file, WeightsFile::Pickle(_)));
        match self.head_tie() {
            Some(HeadTie { head, outcome: Head::TiedStoredTwice, .. }) if pickled => {
                let name = quantized_part_of(view.name).unwrap_or(view.name);
                matches!(self.rules().to_ours(name), Some(Reading::Tensor(ours)) if ours == *head)
            }
            Some(_) | None => false,
        }
    }
}

impl Student<'_> {
    /// The blocks it has, by their numbers in the whole model, in their order.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// The blocks that are left out.
    pub fn left_out(&self) -> Vec<usize> {
        (0..self.layers).filter(|layer| !self.kept.contains(layer)).collect()
    }

    /// Number of blocks of the whole model.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Numbers of parameters of the whole model and of the student. A tied head is the embedding.
    pub fn parameters(&self) -> [usize; 2] {
        self.parameters
    }

    /// Writes weights and `config.json` into `folder`, and opens them again. The layout of files in safetensors is kept
    /// where names, dtypes and shapes stay the same.
    ///
    /// # Errors
    /// Those of reading and writing, with the path; a written folder that is not read as a model.
    pub fn write(&self, folder: &Path) -> Result<Written, ModelError> {
        let checkpoint = self.files.checkpoint();
        let plan = CheckpointPlan::like(checkpoint, self.specs.clone(), &PlanOptions::default())?;
        let last: Cell<Option<TensorView<'_>>> = Cell::new(None);
        let written = plan.write(folder, |spec| {
            let view = checkpoint.get(self.sources.get(&spec.name).unwrap_or(&spec.name))?;
            if let Some(done) = last.replace(Some(view)) {
                checkpoint.release(&done);
            }
            Ok(view.bytes())
        })?;
        let path = folder.join("config.json");
        std::fs::write(&path, self.config.to_json()).map_err(ModelError::io("write", &path))?;
        ModelFiles::open(folder)?;
        Ok(written)
    }
}

fn count(parameters: &[ParameterInfo]) -> usize {
    parameters.iter().map(|info| info.shape.iter().product::<usize>()).sum()
}
