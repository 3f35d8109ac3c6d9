//! How a pipeline samples: the class and keys of `scheduler/scheduler_config.json` (reference: diffusers' `schedulers/`).

use crate::diffusion::{Method, SamplerConfig, Spacing};
use crate::error::ModelError;
use crate::hf_config::HfConfig;

/// Reads the sampler of a scheduler's configuration.
///
/// # Errors
/// A class or a key that is not supported; training does not read them.
pub fn sampler(keys: &HfConfig) -> Result<SamplerConfig, ModelError> {
    let known = ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"];
    let to_one = |default: bool| keys.bool_or("set_alpha_to_one", default);
    let (method, usual) = match keys.one_of("_class_name", &known)? {
        "DDIMScheduler" => {
            keys.only("thresholding", false)?;
            let bound = keys.optional_positive_f64("clip_sample_range")?.unwrap_or(1.0);
            let clip = keys.bool_or("clip_sample", true)?.then_some(bound);
            (Method::Ddim { clip, to_one: to_one(true)? }, "leading")
        }
        "PNDMScheduler" => {
            if !keys.bool_or("skip_prk_steps", false)? {
                return Err(keys.wrong("skip_prk_steps", "true", "false"));
            }
            (Method::Pndm { to_one: to_one(false)? }, "leading")
        }
        "DPMSolverMultistepScheduler" => {
            for key in
                ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas"]
            {
                keys.only(key, false)?;
            }
            keys.only("thresholding", false)?;
            keys.only("algorithm_type", "dpmsolver++")?;
            keys.only("solver_type", "midpoint")?;
            keys.only("final_sigmas_type", "zero")?;
            keys.only("solver_order", 2)?;
            keys.only("lambda_min_clipped", "-Infinity")?;
            (Method::DpmSolver, "linspace")
        }
        _ => {
            for key in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] {
                keys.only(key, false)?;
            }
            keys.only("interpolation_type", "linear")?;
            keys.only("timestep_type", "discrete")?;
            keys.only("final_sigmas_type", "zero")?;
            (Method::Euler, "linspace")
        }
    };
    let spacing = match keys.says("timestep_spacing") {
        true => keys.one_of("timestep_spacing", &["linspace", "leading", "trailing"])?,
        false => usual,
    };
    let spacing = match spacing {
        "linspace" => Spacing::Linspace,
        "leading" => Spacing::Leading,
        _ => Spacing::Trailing,
    };
    let offset = keys.optional_usize("steps_offset")?.unwrap_or(0);
    Ok(SamplerConfig { method, spacing, offset })
}
