//! What a run computes in, where the recipe leaves it to the machine: [`decide_precision`]; and what commands without a recipe do:
//! [`named_precision`].

use std::path::Path;

use burn::tensor::Device;
use firebrand_kernels::Precision;
use firebrand_models::{Hold, ModelFiles, weights::Dtype};

use crate::device::{Numbers, decided, described, has, instructions, is_cpu};
use crate::error::Error;
use crate::recipe::{ComputeDtype, DeviceName, Init, Loaded, Recipe, StoredDtype};

/// Decides `dtype`, and `base_dtype` where computing in bf16 makes it free of loss to hold frozen weights so.
///
/// # Errors
/// A device that does not compute in bf16, shown in the recipe; an instruction set that this CPU does not have; weights that
/// cannot be opened.
pub fn decide_precision(loaded: &mut Loaded, folder: &Path) -> Result<(), Error> {
    let device = loaded.recipe.device.clone();
    let Some(dtype) = computed_on(loaded.recipe.dtype, &device)? else {
        return Err(loaded.complain("dtype", not_in_bf16(&device), "write dtype = \"auto\", or leave it out").into());
    };
    let recipe = &mut loaded.recipe;
    recipe.dtype = dtype;
    let freezes = recipe.method.adapter().is_some() && recipe.quantization.is_none();
    if freezes && recipe.base_dtype.is_none() {
        let in_bf16 =
            recipe.dtype == ComputeDtype::Bf16 && recipe.init == Init::Pretrained && stored(folder)? == Hold::Bf16;
        recipe.base_dtype = Some(if in_bf16 { StoredDtype::Bf16 } else { StoredDtype::F32 });
    }
    Ok(())
}

/// Refuses what the device has no numbers for, before anything is loaded.
///
/// # Errors
/// `base_dtype` names numbers that the device cannot hold, shown in the recipe.
pub fn check_numbers(loaded: &Loaded, device: &Device) -> Result<(), Error> {
    let numbers = match loaded.recipe.base_dtype {
        Some(StoredDtype::Bf16) => Numbers::Bf16,
        Some(StoredDtype::F16) => Numbers::F16,
        Some(StoredDtype::F32) | None => return Ok(()),
    };
    if has(device, numbers) {
        return Ok(());
    }
    let problem = format!("device {} has no {}", described(&loaded.recipe.device), numbers.name());
    let others = [Numbers::F16, Numbers::Bf16].into_iter().filter(|other| has(device, *other)).map(Numbers::name);
    let or = others.map(|other| format!("write base_dtype = \"{other}\", ")).collect::<String>();
    let help =
        format!("{or}leave base_dtype out, and the base is held in f32, or quantize it: [quantization] kind = \"nf4\"");
    Err(loaded.complain("base_dtype", problem, help).into())
}

/// What `--dtype` means on a device.
///
/// # Errors
/// A device that does not compute in bf16; an instruction set that this CPU does not have.
pub fn named_precision(dtype: ComputeDtype, device: &DeviceName) -> Result<Precision, Error> {
    let found = computed_on(dtype, device)?.map(ComputeDtype::precision);
    found.ok_or_else(|| Error::Request {
        problem: not_in_bf16(device),
        help: "write --dtype auto, or leave it out".into(),
    })
}

/// What a device computes in; `None` where it is asked for bf16 and has it not.
fn computed_on(dtype: ComputeDtype, device: &DeviceName) -> Result<Option<ComputeDtype>, Error> {
    let (on_cpu, instructions) = (is_cpu(device), instructions()?);
    Ok(match dtype {
        ComputeDtype::Auto if on_cpu && instructions.multiplies_bf16() => Some(ComputeDtype::Bf16),
        ComputeDtype::Auto => Some(ComputeDtype::F32),
        ComputeDtype::Bf16 if !on_cpu => None,
        named @ (ComputeDtype::F32 | ComputeDtype::Bf16) => Some(named),
    })
}

fn not_in_bf16(device: &DeviceName) -> String {
    format!("device {} computes in f32, and bf16 is for the CPU", decided(device))
}

impl Recipe {
    /// In which numbers products read their operands, once the plan of the run has decided.
    pub fn precision(&self) -> Precision {
        match self.dtype.precision() {
            Precision::F32 if self.allow_tf32 => Precision::Tf32,
            decided @ (Precision::F32 | Precision::Bf16 | Precision::Tf32) => decided,
        }
    }
}

impl ComputeDtype {
    /// In which numbers products read their operands, once the plan of the run has decided.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 | Self::Auto => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

/// The precision in which a folder stores all of its weights, which loses nothing; f32 where it stores several.
///
/// # Errors
/// Weights that cannot be opened.
pub fn stored(folder: &Path) -> Result<Hold, Error> {
    let files = ModelFiles::open(folder)?;
    let all = |dtype: Dtype| files.checkpoint().tensors().all(|tensor| tensor.dtype == dtype);
    Ok(match (all(Dtype::BF16), all(Dtype::F16)) {
        (true, _) => Hold::Bf16,
        (_, true) => Hold::F16,
        _ => Hold::F32,
    })
}
