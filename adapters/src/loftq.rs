//! LoftQ initialisation (Li et al. 2023, arXiv:2310.08659): the factors approximate the quantization error of the base,
//! `s B0 A0 ~ W - Q`.
//!
//! There is one iteration, with the quantized weight `Q` unchanged: PEFT's `replace_lora_weights_loftq`, and the first
//! iteration of the paper's algorithm. Later iterations would quantize `W - s B A` instead of `W`, but no method here
//! changes the base. PEFT takes the scale for 1; here the product is divided by `s`, so that the sum approximates `W`
//! for every alpha.
//!
//! In training the start stays in the product: the weight is `Q + s B A`. Files hold the difference to the start, `[B,
//! -B0] [A; A0]` of twice the rank, as for PiSSA, which is an adapter for the *original* weight. To put it on the
//! quantized weight, its start is added again ([`LoraConfig::started_by`]).

use firebrand_kernels::leading_svd;

use crate::initial::{Start, principal};
use crate::{AdapterError, Linear, LoraConfig, LoraFactors, LoraInit, normal, stream};

impl LoraConfig {
    /// The initial values on `base`, the module at `path`, laid out as in files; `original` is its weight `[out, in]`
    /// before quantization. On a weight that is not quantized, the product starts at zero.
    ///
    /// # Errors
    /// A pattern that does not compile, or a rank above that of the weight.
    pub fn initial_loftq(
        &self,
        seed: u64,
        path: &str,
        base: &Linear,
        mut original: Vec<f32>,
    ) -> Result<LoraFactors, AdapterError> {
        let refuse = |problem: String| AdapterError::Initial { path: path.into(), problem };
        let (rank, [out, input]) = (self.rank_at(path)?, base.shape());
        if base.quantized_weight().is_none() {
            // There is no quantization error; PEFT leaves such modules at their default initialisation.
            let start = LoraInit::Kaiming.factors(&Start { seed, path, rank, scale: self.scale_at(path)? }, base)?;
            return Ok(start.without(&start, rank));
        }
        assert_eq!(original.len(), out * input, "the weight of {path} before it was quantized");
        if rank > out.min(input) {
            return Err(refuse(format!("a weight of {out} x {input} has no part of rank {rank}; choose a lower rank")));
        }
        original.iter_mut().zip(base.values()).for_each(|(lost, quantized)| *lost -= quantized);
        let mut rng = stream(seed, &format!("{path}.lora_A.weight"));
        let found = leading_svd(&original, out, input, rank, &mut || normal(&mut rng) as f32)
            .ok_or_else(|| refuse("what quantization lost is not finite".into()))?;
        let start = principal(&found, self.scale_at(path)?);
        Ok(start.without(&start, rank))
    }

    /// The settings of an adapter with this initialisation, from the settings in its files: the inverse of
    /// [`Self::in_files`].
    ///
    /// # Errors
    /// A rank in the files that is not twice another rank.
    pub fn started_by(&self, init: LoraInit) -> Result<Self, AdapterError> {
        if !init.is_written_as_difference() {
            return Ok(Self { init, ..self.clone() });
        }
        let ranks = self.rank_pattern.iter().map(|(_, rank)| rank).chain([&self.rank]);
        if let Some(odd) = ranks.into_iter().find(|rank| !rank.is_multiple_of(2)) {
            let problem = format!("rank {odd} is not that of an adapter with the start it is the difference to");
            return Err(AdapterError::Several { problem });
        }
        let less = if self.rslora { std::f64::consts::FRAC_1_SQRT_2 } else { 0.5 };
        Ok(Self {
            rank: self.rank / 2,
            alpha: self.alpha * less,
            rank_pattern: self.rank_pattern.iter().map(|(key, rank)| (key.clone(), rank / 2)).collect(),
            alpha_pattern: self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), alpha * less)).collect(),
            init,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::module::Param;
    use burn::tensor::{Device, Tensor, TensorData};
    use firebrand_kernels::{QuantizationScheme, QuantizedWeight, svd};

    use super::*;
    use crate::{Adapter, Mode, Targets};

    const SHAPE: [usize; 2] = [12, 10];

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| ((i * i) as f32 * seed).sin()).collect()
    }

    fn original() -> Vec<f32> {
        numbers(120, 0.37)
    }

    fn quantized() -> Linear {
        let weight = QuantizedWeight::quantize(&TensorData::new(original(), SHAPE), QuantizationScheme::NF4).unwrap();
        Linear::quantized(Arc::new(weight), None)
    }

    fn dense(values: Vec<f32>) -> Linear {
        Linear::new(Param::from_data(TensorData::new(values, SHAPE), &Device::flex()), None)
    }

    fn config(rslora: bool) -> LoraConfig {
        LoraConfig {
            rslora,
            rank_pattern: vec![("other".into(), 4)],
            alpha_pattern: vec![("other".into(), 2.0)],
            init: LoraInit::Loftq,
            ..LoraConfig::new(3, 5.0, Targets::AllLinear)
        }
    }

    fn with(mut linear: Linear, config: &LoraConfig, factors: LoraFactors) -> Linear {
        linear.attach(Adapter::Lora(config.build("q", SHAPE, factors, &Device::flex()).unwrap()));
        linear
    }

    fn outputs(linear: &Linear) -> Vec<f32> {
        let x = Tensor::<3>::from_data(TensorData::new(numbers(40, 0.9), [2, 2, 10]), &Device::flex());
        linear.forward(x, Mode::Inference).into_data().try_to_vec().unwrap()
    }

    fn apart(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn the_start_is_the_best_of_its_rank_at_what_scheme_lost() {
        for rslora in [false, true] {
            let config = config(rslora);
            let start = config.initial_loftq(1, "q", &quantized(), original()).unwrap();
            let mut whole = with(quantized(), &config, start);
            whole.merge();
            let (before, after) = (apart(&quantized().values(), &original()), apart(&whole.values(), &original()));
            let lost: Vec<f32> =
                original().iter().zip(quantized().values()).map(|(left, right)| left - right).collect();
            let best = apart(&svd(&lost, SHAPE[0], SHAPE[1]).unwrap().values[3..], &[0.0; 7]);
            assert!(after < 0.8 * before && (after - best).abs() < 1e-5, "{before} {after} {best}");
        }
    }

    #[test]
    fn files_hold_an_adapter_for_the_original_weight_that_starts_at_nothing() {
        let config = config(false);
        let start = config.initial_loftq(1, "q", &quantized(), original()).unwrap();
        let in_files = config.in_files();
        assert_eq!((in_files.rank, in_files.init), (6, LoraInit::Kaiming));
        let found = outputs(&with(dense(original()), &in_files, start));
        assert!(apart(&found, &outputs(&dense(original()))) < 1e-5);
    }

    #[test]
    fn what_is_learned_is_the_same_on_the_quantized_and_on_the_original_weight() {
        let config = config(true);
        let mut file = config.initial_loftq(1, "q", &quantized(), original()).unwrap();
        let before = with(quantized(), &config, file.clone());
        // Training changes the first half of A's rows and of B's columns.
        file.a[..30].iter_mut().zip(numbers(30, 0.5)).for_each(|(value, step)| *value += 0.1 * step);
        let trained = with(quantized(), &config, file.clone());
        assert!(apart(&outputs(&trained), &outputs(&before)) > 0.1);
        let on_original = with(dense(original()), &config.in_files(), file.clone());
        let moved = |after: &Linear, before: &Linear| -> Vec<f32> {
            outputs(after).iter().zip(outputs(before)).map(|(after, before)| after - before).collect()
        };
        assert!(apart(&moved(&trained, &before), &moved(&on_original, &dense(original()))) < 1e-5);

        let Some(Adapter::Lora(lora)) = trained.adapter() else { panic!() };
        let again: Vec<Vec<f32>> = lora.tensors().into_iter().map(|(_, _, values)| values).collect();
        assert_eq!(again, [file.a.clone(), file.b.clone()]);
        let read = config.in_files().started_by(LoraInit::Loftq).unwrap();
        assert_eq!(outputs(&with(quantized(), &read, file)), outputs(&trained));

        let (mut merged, expected) = (trained.clone(), outputs(&trained));
        merged.merge();
        assert!(apart(&outputs(&merged), &expected) < 1e-5);
    }

    #[test]
    fn settings_of_files_lead_back_to_those_of_the_run() {
        for rslora in [false, true] {
            let (before, after) = (config(rslora), config(rslora).in_files().started_by(LoraInit::Loftq).unwrap());
            assert_eq!((after.rank, &after.rank_pattern, after.init), (3, &before.rank_pattern, LoraInit::Loftq));
            for path in ["q", "layers.0.other"] {
                assert!((after.scale_at(path).unwrap() - before.scale_at(path).unwrap()).abs() < 1e-12);
            }
        }
        let odd = LoraConfig { rank: 5, ..config(false) };
        assert!(odd.started_by(LoraInit::Loftq).unwrap_err().to_string().contains("rank 5"));
    }

    #[test]
    fn a_weight_that_is_not_quantized_has_lost_nothing() {
        let config = config(false);
        let base = dense(original());
        let start = config.initial_loftq(1, "q", &base, original()).unwrap();
        assert!(start.a.iter().any(|value| *value != 0.0));
        assert_eq!(outputs(&with(base.clone(), &config, start)), outputs(&base));
    }

    #[test]
    fn without_the_original_weight_there_is_no_start() {
        let error = config(false).initial(1, "q", &quantized()).unwrap_err().to_string();
        assert!(error.contains("loftq") && error.contains("original"), "{error}");
    }

    #[test]
    fn two_adapters_that_both_make_up_for_the_base_are_refused_together() {
        let config = config(false);
        let start = config.initial_loftq(1, "q", &quantized(), original()).unwrap();
        let adapted = with(quantized(), &config, start);
        let adapter = adapted.adapter().unwrap();
        assert!(adapter.beside(adapter).unwrap_err().to_string().contains("--base original"));
    }
}
