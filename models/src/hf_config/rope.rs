//! Rotary position embeddings: [`Rope`] holds the parameters of a config, in either spelling, and computes the
//! frequencies.
//!
//! Older files have `rope_theta` beside `rope_scaling` (with `type` or `rope_type`), newer ones have everything in
//! `rope_parameters`. Where a file sets a value twice, differently, versions of transformers disagree on which counts,
//! so that is an error here. So are unknown kinds and unknown keys, because each would change the meaning of every
//! position. The frequencies follow transformers 5.23 `modeling_rope_utils.py`, in its precision: f32 for tensors, f64
//! for constants.
//!
//! Papers: RoPE <https://arxiv.org/abs/2104.09864>, YaRN <https://arxiv.org/abs/2309.00071>, LongRoPE
//! <https://arxiv.org/abs/2402.13753>. Not here: `mrope`, and the rotation itself.

use std::f64::consts::PI;

use serde_json::Value;

use super::HfConfig;
use crate::error::ModelError;
use crate::wording::clip;

/// The values that a family takes where its config has no key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeDefaults {
    pub theta: f64,
    pub partial_rotary_factor: f64,
}

impl Default for RopeDefaults {
    /// theta 10000 and the whole head, as in the paper and in transformers.
    fn default() -> Self {
        RopeDefaults { theta: 10_000.0, partial_rotary_factor: 1.0 }
    }
}

/// Rotary position parameters of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Number of dimensions of a head that are rotated: `int(head_dim * partial_rotary_factor)`, even.
    pub dims: usize,
    pub partial_rotary_factor: f64,
    pub scaling: RopeScaling,
}

/// How the frequencies are changed for a longer context.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Default,
    /// All frequencies are divided by `factor`.
    Linear {
        factor: f64,
    },
    /// The base grows with the sequence length beyond `max_position_embeddings` (NTK).
    Dynamic {
        factor: f64,
        max_position_embeddings: usize,
    },
    /// Low frequencies are divided, high ones kept, with a smooth transition between (LLaMA 3.1).
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
    /// As `Llama3`, but by dimension instead of wavelength, and with a factor on cosine and sine.
    Yarn {
        factor: f64,
        original_max_position_embeddings: usize,
        /// Multiplies cosine and sine. Set in the config, or computed from `factor`, `mscale` and `mscale_all_dim`.
        attention_factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// Whether the borders of the transition are rounded to whole dimensions.
        truncate: bool,
    },
    /// Each frequency is divided by a number of its own: one set of divisors up to the original context, another
    /// beyond.
    Long {
        /// One divisor per frequency, for sequences within the original context.
        short_factor: Vec<f64>,
        /// The same for longer sequences.
        long_factor: Vec<f64>,
        original_max_position_embeddings: usize,
        /// Multiplies cosine and sine. Set in the config, or computed from `factor` or the ratio of the lengths.
        attention_factor: f64,
    },
}

impl Rope {
    /// Rotation of the first `dims` dimensions of a head, without scaling.
    pub fn plain(theta: f64, dims: usize, head_dim: usize) -> Self {
        let partial_rotary_factor = dims as f64 / head_dim as f64;
        Rope { theta, dims, partial_rotary_factor, scaling: RopeScaling::Default }
    }

    /// The `dims / 2` inverse frequencies, and the factor on cosine and sine (1 except for yarn and longrope).
    ///
    /// `seq_len` is the largest position plus one; [`RopeScaling::Dynamic`] and [`RopeScaling::Long`] depend on it.
    /// (transformers keeps the frequencies of the longest sequence seen so far until a short one comes; here they
    /// depend on the sequence alone.)
    pub fn inv_freq(&self, seq_len: usize) -> (Vec<f32>, f32) {
        let plain = self.powers(self.theta as f32).map(|power| 1.0 / power);
        match &self.scaling {
            RopeScaling::Default => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|freq| freq / *factor as f32).collect(), 1.0),
            RopeScaling::Dynamic { factor, max_position_embeddings } => {
                let longest = *max_position_embeddings as f64;
                let stretch = factor * (seq_len as f64).max(longest) / longest - (factor - 1.0);
                let dims = self.dims as f64;
                let base = self.theta * stretch.powf(dims / (dims - 2.0));
                (self.powers(base as f32).map(|power| 1.0 / power).collect(), 1.0)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                let (factor, low, high) = (*factor, *low, *high);
                let scaled = |freq: f32| {
                    let wavelen = (2.0 * PI) as f32 / freq;
                    if wavelen > (context / low) as f32 {
                        freq / factor as f32
                    } else if wavelen < (context / high) as f32 {
                        freq
                    } else {
                        let smooth = (context as f32 / wavelen - low as f32) / (high - low) as f32;
                        (1.0 - smooth) * freq / factor as f32 + smooth * freq
                    }
                };
                (plain.map(scaled).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, attention_factor, .. } => {
                let (low, high) = self.yarn_borders();
                let blend = |(i, power): (usize, f32)| {
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let kept = 1.0 - ramp;
                    1.0 / (*factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
                };
                (self.powers(self.theta as f32).enumerate().map(blend).collect(), *attention_factor as f32)
            }
            RopeScaling::Long { short_factor, long_factor, original_max_position_embeddings, attention_factor } => {
                let beyond = seq_len > *original_max_position_embeddings;
                let divisors = if beyond { long_factor } else { short_factor };
                let divided = |(power, divisor): (f32, &f64)| 1.0 / (*divisor as f32 * power);
                (self.powers(self.theta as f32).zip(divisors).map(divided).collect(), *attention_factor as f32)
            }
        }
    }

    /// `base^(2i / dims)`.
    fn powers(&self, base: f32) -> impl Iterator<Item = f32> {
        let dims = self.dims;
        (0..dims).step_by(2).map(move |i| base.powf(i as f32 / dims as f32))
    }

    /// The dimensions between which yarn goes from kept to divided frequencies.
    fn yarn_borders(&self) -> (f64, f64) {
        let RopeScaling::Yarn { original_max_position_embeddings, beta_fast, beta_slow, truncate, .. } = self.scaling
        else {
            return (0.0, 1.0);
        };
        let dims = self.dims as f64;
        let dimension = |rotations: f64| {
            let context = original_max_position_embeddings as f64;
            dims * (context / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let (low, high) = (dimension(beta_fast), dimension(beta_slow));
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high { (low, high + 0.001) } else { (low, high) }
    }
}

impl HfConfig {
    /// The rotary parameters of heads of `head_dim` dimensions.
    ///
    /// Errors name the key: an unknown kind or key, a missing key, a number that is zero or negative, two spellings
    /// that disagree.
    pub fn rope(&self, head_dim: usize, defaults: &RopeDefaults) -> Result<Rope, ModelError> {
        let section = self.rope_object()?;
        self.rope_in(&section, head_dim, defaults)
    }

    /// The rotary parameters of layers of one kind (`full_attention`, `sliding_attention`), where `rope_parameters` has
    /// an object for each kind; absent where it has none.
    ///
    /// Errors as in [`HfConfig::rope`].
    pub fn rope_of_layers(
        &self,
        kind: &str,
        head_dim: usize,
        defaults: &RopeDefaults,
    ) -> Result<Option<Rope>, ModelError> {
        let section = match self.rope_section("rope_parameters")? {
            Some(section) => section.rope_section(kind)?,
            None => None,
        };
        section.map(|section| self.rope_in(&section, head_dim, defaults)).transpose()
    }

    fn rope_object(&self) -> Result<HfConfig, ModelError> {
        let (old, new) = (self.rope_section("rope_scaling")?, self.rope_section("rope_parameters")?);
        match (old, new) {
            (Some(old), Some(new)) if old.map != new.map => {
                Err(self.wrong("rope_scaling", "the same as in `rope_parameters`, or one of both", "another"))
            }
            (Some(section), _) | (None, Some(section)) => Ok(section),
            (None, None) => Ok(HfConfig::from_map(&self.path, serde_json::Map::new())),
        }
    }

    fn rope_in(&self, section: &HfConfig, head_dim: usize, defaults: &RopeDefaults) -> Result<Rope, ModelError> {
        let theta = self.agreed(section, "rope_theta")?.unwrap_or(defaults.theta);
        // With theta = 1 all wavelengths would be equal, and yarn divides by its logarithm.
        if theta <= 1.0 {
            return Err(self.wrong("rope_theta", "a number above 1", theta.to_string()));
        }
        let partial = self.agreed(section, "partial_rotary_factor")?.unwrap_or(defaults.partial_rotary_factor);
        if partial > 1.0 {
            return Err(self.wrong("partial_rotary_factor", "at most 1", partial.to_string()));
        }
        let dims = (head_dim as f64 * partial) as usize;
        if dims == 0 || dims % 2 == 1 {
            let found = format!("{dims} of {head_dim}");
            return Err(self.wrong("head_dim", "an even number of rotated dimensions", found));
        }
        let scaling = self.rope_scaling(section, dims)?;
        Ok(Rope { theta, dims, partial_rotary_factor: partial, scaling })
    }

    /// The object under `key`; an empty one counts as absent, as in transformers.
    fn rope_section(&self, key: &str) -> Result<Option<HfConfig>, ModelError> {
        Ok(self.section(key)?.filter(|section| !section.map.is_empty()))
    }

    fn rope_scaling(&self, rope: &HfConfig, dims: usize) -> Result<RopeScaling, ModelError> {
        let kind = match (rope.optional_string("rope_type")?, rope.optional_string("type")?) {
            (Some(new), Some(old)) if new != old => {
                return Err(rope.wrong("type", format!("`{}` as in `rope_type`", clip(new)), clip(old)));
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => "default",
        };
        match kind {
            "default" => {
                rope.known(kind, &[])?;
                Ok(RopeScaling::Default)
            }
            "linear" => {
                rope.known(kind, &["factor"])?;
                Ok(RopeScaling::Linear { factor: rope.positive_f64("factor")? })
            }
            "dynamic" => {
                rope.known(kind, &["factor", ORIGINAL])?;
                let max_position_embeddings = self.size("max_position_embeddings")?;
                // transformers ignores the key, so it may only repeat the value that counts.
                if let Some(original) = rope.optional_size(ORIGINAL)?.filter(|it| *it != max_position_embeddings) {
                    let expected = format!("{max_position_embeddings} as in `max_position_embeddings`, or nothing");
                    return Err(rope.wrong(ORIGINAL, expected, original.to_string()));
                }
                if dims <= 2 {
                    return Err(self.wrong(
                        "head_dim",
                        "more than 2 rotated dimensions for dynamic rope",
                        dims.to_string(),
                    ));
                }
                Ok(RopeScaling::Dynamic { factor: rope.positive_f64("factor")?, max_position_embeddings })
            }
            "llama3" => {
                rope.known(kind, &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL])?;
                let low_freq_factor = rope.positive_f64("low_freq_factor")?;
                let high_freq_factor = rope.positive_f64("high_freq_factor")?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("more than `low_freq_factor`, {low_freq_factor}");
                    return Err(rope.wrong("high_freq_factor", expected, high_freq_factor.to_string()));
                }
                Ok(RopeScaling::Llama3 {
                    factor: rope.positive_f64("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: self.original_positions(rope)?,
                })
            }
            "yarn" => self.yarn(rope),
            // Phi-3's first files called it `su`.
            "longrope" | "su" => self.long_rope(rope, dims),
            other => {
                let expected = "one of default, linear, dynamic, llama3, yarn, longrope";
                Err(rope.wrong("rope_type", expected, format!("`{}`", clip(other))))
            }
        }
    }

    fn yarn(&self, rope: &HfConfig) -> Result<RopeScaling, ModelError> {
        let given = ["attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"];
        rope.known("yarn", &[&["factor", ORIGINAL], &given[..]].concat())?;
        let original_max_position_embeddings = self.original_positions(rope)?;
        let factor = match rope.map.get("factor") {
            // `null` means unknown, unlike an absent key: then the factor is the ratio of the lengths.
            Some(Value::Null) => self.size("max_position_embeddings")? as f64 / original_max_position_embeddings as f64,
            _ => rope.positive_f64("factor")?,
        };
        let beta_fast = rope.optional_positive_f64("beta_fast")?.unwrap_or(32.0);
        let beta_slow = rope.optional_positive_f64("beta_slow")?.unwrap_or(1.0);
        if beta_fast <= beta_slow {
            let expected = format!("more than `beta_slow`, {beta_slow}");
            return Err(rope.wrong("beta_fast", expected, beta_fast.to_string()));
        }
        let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        let mscale = rope.optional_positive_f64("mscale")?;
        let mscale_all_dim = rope.optional_positive_f64("mscale_all_dim")?;
        let attention_factor = match (rope.optional_positive_f64("attention_factor")?, mscale, mscale_all_dim) {
            (Some(given), _, _) => given,
            (None, Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        // To the reference `null` is false, and only an absent key is true.
        let truncate = rope.bool_or("truncate", !rope.says("truncate"))?;
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            attention_factor,
            beta_fast,
            beta_slow,
            truncate,
        })
    }

    fn long_rope(&self, rope: &HfConfig, dims: usize) -> Result<RopeScaling, ModelError> {
        rope.known("longrope", &["short_factor", "long_factor", "factor", "attention_factor", ORIGINAL])?;
        let original_max_position_embeddings = self.original_positions(rope)?;
        if original_max_position_embeddings == 1 {
            return Err(rope.wrong(ORIGINAL, "more than 1: scales are divided by its logarithm", "1"));
        }
        let ratio = self.size("max_position_embeddings")? as f64 / original_max_position_embeddings as f64;
        let factor = rope.optional_positive_f64("factor")?.unwrap_or(ratio);
        let attention_factor = match rope.optional_positive_f64("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original_max_position_embeddings as f64).ln()).sqrt(),
        };
        Ok(RopeScaling::Long {
            short_factor: rope.divisors("short_factor", dims / 2)?,
            long_factor: rope.divisors("long_factor", dims / 2)?,
            original_max_position_embeddings,
            attention_factor,
        })
    }

    /// `count` numbers above 0.
    fn divisors(&self, key: &str, count: usize) -> Result<Vec<f64>, ModelError> {
        let expected = format!("{count} numbers above 0, one for each pair of dimensions");
        let list = self.required(key, self.optional(key, &expected, Value::as_array)?, &expected)?;
        let numbers: Vec<f64> = list.iter().filter_map(Value::as_f64).filter(|number| *number > 0.0).collect();
        if list.len() != count || numbers.len() != count {
            return Err(self.wrong(key, expected, format!("{} values, {} of them such", list.len(), numbers.len())));
        }
        Ok(numbers)
    }

    /// The context length before scaling: from beside the rope's object or inside it, else `max_position_embeddings`.
    fn original_positions(&self, rope: &HfConfig) -> Result<usize, ModelError> {
        match (self.optional_size(ORIGINAL)?, rope.optional_size(ORIGINAL)?) {
            (Some(outer), Some(inner)) if outer != inner => Err(disagree(rope, ORIGINAL, outer, inner)),
            (Some(positions), _) | (None, Some(positions)) => Ok(positions),
            (None, None) => self.size("max_position_embeddings"),
        }
    }

    /// A number that may stand beside the rope's object, inside it, or in both places if equal.
    fn agreed(&self, rope: &HfConfig, key: &str) -> Result<Option<f64>, ModelError> {
        match (self.optional_positive_f64(key)?, rope.optional_positive_f64(key)?) {
            (Some(outer), Some(inner)) if outer != inner => Err(disagree(rope, key, outer, inner)),
            (outer, inner) => Ok(inner.or(outer)),
        }
    }

    /// Error: a key that this kind of rope does not have.
    fn known(&self, kind: &str, keys: &[&str]) -> Result<(), ModelError> {
        let always = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        match self.map.keys().find(|key| !always.contains(&key.as_str()) && !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, format!("only keys of `{kind}` rope: {}", keys.join(", ")), "this key")),
        }
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";

fn disagree(rope: &HfConfig, key: &str, outer: impl ToString, inner: impl ToString) -> ModelError {
    rope.wrong(key, format!("{} as in the config's own `{key}`", outer.to_string()), inner.to_string())
}

#[cfg(test)]
mod tests;
