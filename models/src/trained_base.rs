//! Parameters of the base that are trained beside adapters: which they are, and their values in and from adapter folders.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use firebrand_adapters::peft::{TensorNames, base_tensor_name};
use firebrand_adapters::{AdapterError, TrainedBase, Tying};

use crate::adapter_folder::Tensors;
use crate::causal_lm::{CausalLm, host_values};
use crate::error::ModelError;
use crate::parameters::{AnyTensor, ModulePath, ParameterView, visit};
use crate::transformer::{EMBEDDING, HEAD};
use crate::weights::{Layout, SafetensorsFile};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseParameter {
    /// Our path.
    pub ours: String,
    /// Name of the parameter for PEFT.
    pub theirs: String,
    /// Name in the adapter's file.
    pub name: String,
    /// How files hold it.
    pub layout: Layout,
    /// Our shape.
    pub shape: Vec<usize>,
}

impl BaseParameter {
    /// Whether it is the token table or the matrix of the head, which may be one.
    pub fn is_outer(&self) -> bool {
        self.ours == EMBEDDING || self.ours == HEAD
    }
}

/// Those that `config` trains where adapters are on the modules at `adapted`.
///
/// # Errors
/// A name that no module has; modules that are packed or that PEFT keeps otherwise.
pub(crate) fn select(
    model: &mut CausalLm,
    config: &TrainedBase,
    adapted: &[String],
) -> Result<Vec<BaseParameter>, ModelError> {
    if config.is_empty() {
        return Ok(vec![]);
    }
    let all = all(model)?;
    let all: Vec<BaseParameter> =
        all.into_iter().map(|it| BaseParameter { name: base_tensor_name(&it.theirs, adapted), ..it }).collect();
    let names: Vec<&str> = all.iter().map(|parameter| parameter.theirs.as_str()).collect();
    if let Some(unused) = config.unused(&names) {
        let mut ends: Vec<&str> = names.iter().filter_map(|name| name.rsplit_once('.')?.0.rsplit('.').next()).collect();
        ends.sort_unstable();
        ends.dedup();
        return Err(AdapterError::UnusedModule { module: unused.into(), available: ends.join(", ") }.into());
    }
    let packed: Vec<String> = model.packed_shapes().into_iter().map(|(path, _)| path).collect();
    let mut chosen: Vec<BaseParameter> =
        all.iter().filter(|parameter| config.trains(&parameter.theirs, adapted)).cloned().collect();
    let refuse = |parameter: &BaseParameter, problem: &str| {
        let path = parameter.theirs.clone();
        Err(AdapterError::Initial { path, problem: problem.into() }.into())
    };
    let tied = model.decoder().config().head.tied && config.tying == Tying::Kept;
    let outer = chosen.iter().any(BaseParameter::is_outer);
    if tied && outer {
        // Files have the one matrix under both names.
        let missing = all.iter().filter(|parameter| parameter.is_outer() && !chosen.contains(parameter));
        chosen.extend(missing.cloned().collect::<Vec<_>>());
    }
    for parameter in &chosen {
        if packed.contains(&parameter.ours) {
            return refuse(parameter, "a packed weight cannot be trained; leave it out of modules_to_save");
        }
        if parameter.ours.contains(".mlp.experts.") {
            return refuse(
                parameter,
                "PEFT keeps all experts of a layer in one parameter and would not read this; leave it out of modules_to_save",
            );
        }
    }
    Ok(chosen)
}

/// Every parameter of the base. A head that is the token table is there too.
fn all(model: &mut CausalLm) -> Result<Vec<BaseParameter>, ModelError> {
    let mut found = vec![];
    visit(model.decoder(), &mut |ParameterView { path, shape, .. }| {
        if !path.contains(".adapter.") {
            found.push((path.to_string(), shape.to_vec()));
        }
    });
    found.extend(model.packed_shapes().into_iter().map(|(path, shape)| (path, shape.to_vec())));
    if model.decoder().config().head.tied {
        found.push((HEAD.to_string(), model.decoder().head_weight().dims().to_vec()));
    }
    let named = found.into_iter().map(|(ours, shape)| {
        let theirs = model.name_for_peft(&ours)?;
        let layout = model.rules().layout(&ours);
        Ok(BaseParameter { name: String::new(), theirs, layout, ours, shape })
    });
    named.collect()
}

/// Makes the parameters trainable in f32, with `values` (as the model holds them) where there are any. A head that is the token table
/// becomes a matrix of its own first, or both are trained as one, as `tying` says.
pub(crate) fn activate(
    model: &mut CausalLm,
    chosen: &[BaseParameter],
    tying: Tying,
    mut values: BTreeMap<String, Vec<f32>>,
) {
    if tying == Tying::Broken && chosen.iter().any(BaseParameter::is_outer) {
        model.untie();
    }
    let tied = model.decoder().config().head.tied;
    let path = |parameter: &BaseParameter| match parameter.ours.as_str() {
        HEAD if tied => EMBEDDING.to_string(),
        ours => ours.to_string(),
    };
    if tied && let Some(head) = values.remove(HEAD) {
        values.entry(EMBEDDING.into()).or_insert(head);
    }
    let chosen = chosen.iter().map(path).collect();
    model.update(|decoder| decoder.map(&mut Activate { path: ModulePath::default(), chosen, values }));
}

/// Their values as the adapter's file has them, by name.
pub(crate) fn tensors(model: &CausalLm, chosen: &[BaseParameter]) -> Tensors {
    let mut found = Tensors::new();
    let mut add = |path: &str, value: &dyn Fn() -> Vec<f32>| {
        for parameter in chosen.iter().filter(|parameter| parameter.ours == path) {
            let values = parameter.layout.convert(value(), &parameter.shape);
            found.insert(parameter.name.clone(), (parameter.layout.shape(&parameter.shape), values));
        }
    };
    visit(model.decoder(), &mut |ParameterView { path, value, .. }| add(path, &|| host_values(&value())));
    if model.decoder().config().head.tied {
        add(HEAD, &|| host_values(&AnyTensor::Matrix(model.decoder().head_weight())));
    }
    found
}

/// Their values in an adapter's file, by our path, as the model holds them.
///
/// # Errors
/// A tensor that is missing or has another shape, and one of the base that is neither trained nor the base's own.
pub(crate) fn read(
    model: &CausalLm,
    file: &SafetensorsFile,
    names: &TensorNames,
    chosen: &[BaseParameter],
    tying: Tying,
) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
    let mismatch = |problem: String| ModelError::from(AdapterError::Mismatch { path: file.path().into(), problem });
    let one_matrix = model.decoder().config().head.tied && tying == Tying::Kept;
    let mut found = BTreeMap::new();
    let mut copies = names.base.clone();
    for parameter in chosen {
        let Some(name) = copies.remove(&parameter.theirs) else {
            let other = |other: &BaseParameter| other.is_outer() && names.base.contains_key(&other.theirs);
            if one_matrix && parameter.is_outer() && chosen.iter().any(other) {
                continue;
            }
            return Err(mismatch(format!("it has no `{}`, which its modules_to_save or bias names", parameter.name)));
        };
        let view = file.get(&name)?;
        let shape = parameter.layout.shape(&parameter.shape);
        if view.shape != shape {
            return Err(mismatch(format!("`{name}` is {:?}, expected {shape:?}", view.shape)));
        }
        view.check_finite()?;
        found.insert(parameter.ours.clone(), parameter.layout.convert(view.to_f32()?, &shape));
    }
    if let (true, Some(embedding), Some(head)) = (one_matrix, found.get(EMBEDDING), found.get(HEAD))
        && embedding != head
    {
        return Err(mismatch("its embedding and its head differ, though ensure_weight_tying makes them one".into()));
    }
    match copies.into_iter().find(|(theirs, name)| !is_copy(model, file, theirs, name)) {
        None => Ok(found),
        Some((_, name)) => Err(mismatch(format!(
            "`{name}` is not used: its configuration does not train it, and the base has no such tensor or another"
        ))),
    }
}

/// Whether the tensor is what the base has under that name; PEFT writes the matrix of an adapted embedding beside its factors.
fn is_copy(model: &CausalLm, file: &SafetensorsFile, theirs: &str, name: &str) -> bool {
    let values = |ours: &str| (model.name_for_peft(ours).is_ok_and(|known| known == theirs)).then_some(());
    let ours = match (values(EMBEDDING), values(HEAD)) {
        (Some(()), _) => AnyTensor::Matrix(model.decoder().embedding()),
        (None, Some(())) => AnyTensor::Matrix(model.decoder().head_weight()),
        (None, None) => return false,
    };
    file.get(name).and_then(|view| view.to_f32()).is_ok_and(|values| values == host_values(&ours))
}

struct Activate {
    path: ModulePath,
    chosen: Vec<String>,
    values: BTreeMap<String, Vec<f32>>,
}

impl ModuleMapper for Activate {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join();
        if !self.chosen.contains(&path) {
            return param;
        }
        let param = param.map(|tensor| match self.values.remove(&path) {
            Some(values) => Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device()),
            None => tensor.cast(DType::F32),
        });
        param.set_require_grad(true)
    }
}
