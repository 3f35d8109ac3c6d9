//! Parameters of the base model that are trained beside adapters: [`select`] finds them, [`tensors`] and [`read`] take
//! their values to and from adapter folders.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use firebrand_adapters::peft::{TensorNames, base_tensor_name};
use firebrand_adapters::{AdapterError, TrainedBase, Tying};

use crate::error::ModelError;
use crate::model::Model;
use crate::parameters::{ModulePath, ParameterView, Role, join, visit};
use crate::weights::{Layout, WeightsFile};

/// Shape and values of tensors, by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A parameter of the base that is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseParameter {
    /// Our path.
    pub ours: String,
    /// Its name in PEFT.
    pub theirs: String,
    /// Its name in the adapter's file.
    pub name: String,
    /// How files lay it out.
    pub layout: Layout,
    /// Our shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl BaseParameter {
    /// Whether it is the token table or the matrix of the head, which may be tied.
    pub fn is_outer(&self) -> bool {
        matches!(self.role, Role::TokenTable | Role::Head)
    }
}

/// The parameters that `config` trains where adapters are on the modules at `adapted`.
///
/// # Errors
/// A name that no module has; a module that is quantized or that PEFT stores differently.
pub(crate) fn select(
    model: &Model,
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
    let quantized: Vec<String> = model
        .network()
        .linears()
        .into_iter()
        .filter(|(_, map)| map.quantized_weight().is_some())
        .map(|(path, _)| join(&path, "weight"))
        .collect();
    let mut chosen: Vec<BaseParameter> =
        all.iter().filter(|parameter| config.trains(&parameter.theirs, adapted)).cloned().collect();
    let refuse = |parameter: &BaseParameter, problem: &str| {
        let path = parameter.theirs.clone();
        Err(AdapterError::Initial { path, problem: problem.into() }.into())
    };
    let tied = model.ends().is_some_and(|ends| ends.tied) && config.tying == Tying::Kept;
    let outer = chosen.iter().any(BaseParameter::is_outer);
    if tied && outer {
        // Files hold a tied matrix under both names.
        let missing = all.iter().filter(|parameter| parameter.is_outer() && !chosen.contains(parameter));
        chosen.extend(missing.cloned().collect::<Vec<_>>());
    }
    for parameter in &chosen {
        if quantized.contains(&parameter.ours) {
            return refuse(parameter, "a quantized weight cannot be trained; leave it out of modules_to_save");
        }
        if parameter.role == Role::ExpertMap {
            return refuse(
                parameter,
                "PEFT keeps all experts of a layer in one parameter and would not read this; leave it out of modules_to_save",
            );
        }
    }
    Ok(chosen)
}

/// PEFT's names of all parameters of the base, with a tied head.
///
/// # Errors
/// The family's rules contradict themselves.
pub(crate) fn names(model: &Model) -> Result<Vec<String>, ModelError> {
    Ok(all(model)?.into_iter().map(|parameter| parameter.theirs).collect())
}

/// Every parameter of the base. A tied head is listed too.
fn all(model: &Model) -> Result<Vec<BaseParameter>, ModelError> {
    let known = model.base_parameters().iter();
    let mut found: Vec<(&str, &[usize], Role)> =
        known.map(|info| (info.path.as_str(), info.shape.as_slice(), info.role)).collect();
    if let Some(ends) = model.ends().filter(|ends| ends.tied)
        && let Some((_, shape, _)) = found.iter().find(|(path, ..)| *path == ends.embedding)
    {
        found.push((ends.head, shape, Role::Head));
    }
    let named = found.into_iter().map(|(ours, shape, role)| {
        let theirs = model.name_for_peft(ours)?;
        let layout = model.rules().layout(ours);
        Ok(BaseParameter { name: String::new(), theirs, layout, ours: ours.into(), shape: shape.to_vec(), role })
    });
    named.collect()
}

/// Makes the parameters trainable in f32, with `values` (as the model holds them) where given. A tied head first
/// becomes a matrix of its own, or both are trained as one, as `tying` says.
pub(crate) fn activate(
    model: &mut Model,
    chosen: &[BaseParameter],
    tying: Tying,
    mut values: BTreeMap<String, Vec<f32>>,
) {
    if tying == Tying::Broken && chosen.iter().any(BaseParameter::is_outer) {
        model.untie();
    }
    let tied = model.ends().filter(|ends| ends.tied);
    let path = |parameter: &BaseParameter| match tied {
        Some(ends) if parameter.ours == ends.head => ends.embedding.to_string(),
        _ => parameter.ours.clone(),
    };
    if let Some(ends) = tied
        && let Some(head) = values.remove(ends.head)
    {
        values.entry(ends.embedding.into()).or_insert(head);
    }
    let chosen = chosen.iter().map(path).collect();
    // Parameters that are not chosen are shared with the old network, not copied.
    let network = model.network().clone();
    model.replace_network(network.map(&mut Activate { path: ModulePath::default(), chosen, values }));
}

/// Their values by name, as the adapter's file holds them.
pub(crate) fn tensors(model: &Model, chosen: &[BaseParameter]) -> Tensors {
    let mut found = Tensors::new();
    let mut add = |path: &str, value: &dyn Fn() -> Vec<f32>| {
        for parameter in chosen.iter().filter(|parameter| parameter.ours == path) {
            let values = parameter.layout.convert(value(), &parameter.shape);
            found.insert(parameter.name.clone(), (parameter.layout.shape(&parameter.shape), values));
        }
    };
    let ends = model.ends().filter(|ends| ends.tied);
    visit(model.network(), &mut |ParameterView { path, value, .. }| {
        let values = || value().values();
        add(path, &values);
        if let Some(ends) = ends.filter(|ends| ends.embedding == path) {
            add(ends.head, &values);
        }
    });
    found
}

/// Their values from an adapter's file, by our path, as the model holds them.
///
/// # Errors
/// A tensor that is missing or has another shape; a tensor of the base that is neither trained nor equal to the base's
/// own.
pub(crate) fn read(
    model: &Model,
    file: &WeightsFile,
    names: &TensorNames,
    chosen: &[BaseParameter],
    tying: Tying,
) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
    let mismatch = |problem: String| ModelError::from(AdapterError::Mismatch { path: file.path().into(), problem });
    let one_matrix = model.ends().filter(|ends| ends.tied && tying == Tying::Kept);
    let mut found = BTreeMap::new();
    let mut copies = names.base.clone();
    for parameter in chosen {
        let Some(name) = copies.remove(&parameter.theirs) else {
            let other = |other: &BaseParameter| other.is_outer() && names.base.contains_key(&other.theirs);
            if one_matrix.is_some() && parameter.is_outer() && chosen.iter().any(other) {
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
    if let Some(ends) = one_matrix
        && let (Some(embedding), Some(head)) = (found.get(ends.embedding), found.get(ends.head))
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

/// Whether the tensor equals the base's tensor of that name; PEFT stores the matrix of an adapted embedding beside its
/// factors.
fn is_copy(model: &Model, file: &WeightsFile, theirs: &str, name: &str) -> bool {
    let Some(ends) = model.ends() else { return false };
    let is = |ours: &str| model.name_for_peft(ours).is_ok_and(|known| known == theirs);
    let ours = match (is(ends.embedding), is(ends.head)) {
        (true, _) => ends.embedding,
        (false, true) if ends.tied => ends.embedding,
        (false, true) => ends.head,
        (false, false) => return false,
    };
    let mut values = vec![];
    visit(model.network(), &mut |parameter| {
        if parameter.path == ours {
            values = (parameter.value)().values();
        }
    });
    file.get(name).and_then(|view| view.to_f32()).is_ok_and(|found| found == values)
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
