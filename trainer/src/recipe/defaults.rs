//! Every default of every section, in one place; those that depend on other keys are in `default_values.rs`. `[data]` has its own in
//! the datasets crate.

use indexmap::IndexMap;

use super::adapter::{Bias, Exclude, Ia3Recipe, LoraInit, LoraRecipe, TargetPreset, Targets};
use super::checkpoint::CheckpointSection;
use super::evaluation::{EarlyStopping, EvalSection, EvaluatedWeights};
use super::optimizer::{
    AdafactorRate, AdafactorRecipe, Adamw8bitRecipe, AdamwRecipe, LionRecipe, MuonAdamwRecipe, MuonAdjustment,
    MuonRecipe, Optimizer, SgdRecipe,
};
use super::output::Log;
use super::schedule::{MinLrKeys, PolynomialKeys, Ramp, RestartKeys, ScheduleSection, StableDecayKeys, WarmupKeys};
use super::train::{Clipping, Recompute, TrainSection};

impl Default for LoraRecipe {
    fn default() -> Self {
        LoraRecipe {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Targets::Preset(TargetPreset::AllLinear),
            exclude: Exclude::Names(Vec::new()),
            rslora: false,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            loraplus_lr_ratio: 1.0,
            loraplus_lr_embedding: 1e-6,
            layers: Vec::new(),
            layers_pattern: Vec::new(),
            modules_to_save: Vec::new(),
            bias: Bias::None,
            ensure_weight_tying: false,
            init: LoraInit::Kaiming,
            init_from: None,
        }
    }
}

impl Default for Ia3Recipe {
    fn default() -> Self {
        Ia3Recipe {
            targets: Targets::Preset(TargetPreset::AllLinear),
            feedforward: Vec::new(),
            exclude: Exclude::Names(Vec::new()),
            modules_to_save: Vec::new(),
            init_from: None,
        }
    }
}

impl Default for TrainSection {
    fn default() -> Self {
        TrainSection {
            epochs: None,
            steps: None,
            batch_size: 16,
            micro_batch_size: None,
            max_grad_norm: Clipping::Norm(1.0),
            recompute: Recompute::Auto,
            freeze: Vec::new(),
            ema: None,
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Adamw(AdamwRecipe::default())
    }
}

impl Default for AdamwRecipe {
    fn default() -> Self {
        AdamwRecipe {
            learning_rate: 2e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            no_decay: false,
            layer_decay: 1.0,
        }
    }
}

impl Default for Adamw8bitRecipe {
    fn default() -> Self {
        let AdamwRecipe { learning_rate, betas, eps, weight_decay, no_decay, layer_decay } = AdamwRecipe::default();
        Adamw8bitRecipe { learning_rate, betas, eps, weight_decay, no_decay, layer_decay, min_8bit_size: 4096 }
    }
}

impl Default for MuonAdamwRecipe {
    fn default() -> Self {
        let AdamwRecipe { learning_rate, betas, eps, weight_decay, .. } = AdamwRecipe::default();
        MuonAdamwRecipe { learning_rate, betas, eps, weight_decay }
    }
}

impl Default for AdafactorRecipe {
    fn default() -> Self {
        AdafactorRecipe {
            learning_rate: AdafactorRate::Fixed(1e-3),
            eps: [1e-30, 1e-3],
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta1: None,
            weight_decay: 0.0,
            no_decay: false,
            layer_decay: 1.0,
            scale_parameter: false,
        }
    }
}

impl Default for LionRecipe {
    fn default() -> Self {
        LionRecipe { learning_rate: 1e-4, betas: [0.9, 0.99], weight_decay: 0.0, no_decay: false, layer_decay: 1.0 }
    }
}

impl Default for MuonRecipe {
    fn default() -> Self {
        MuonRecipe {
            learning_rate: 1e-3,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.0,
            no_decay: false,
            layer_decay: 1.0,
            ns_steps: 5,
            adjust_lr_fn: MuonAdjustment::Original,
            adamw: MuonAdamwRecipe::default(),
        }
    }
}

impl Default for SgdRecipe {
    fn default() -> Self {
        SgdRecipe {
            learning_rate: 1e-3,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            no_decay: false,
            layer_decay: 1.0,
        }
    }
}

impl Default for ScheduleSection {
    fn default() -> Self {
        ScheduleSection::Cosine(WarmupKeys::default())
    }
}

impl Default for MinLrKeys {
    fn default() -> Self {
        MinLrKeys { min_ratio: 0.1, warmup_steps: None, warmup_ratio: None }
    }
}

impl Default for RestartKeys {
    fn default() -> Self {
        RestartKeys { cycles: 1, warmup_steps: None, warmup_ratio: None }
    }
}

impl Default for PolynomialKeys {
    fn default() -> Self {
        PolynomialKeys { power: 1.0, lr_end: 1e-7, warmup_steps: None, warmup_ratio: None }
    }
}

impl Default for StableDecayKeys {
    fn default() -> Self {
        StableDecayKeys {
            decay_steps: None,
            decay_ratio: None,
            decay_type: Ramp::Cosine,
            warmup_type: Ramp::Linear,
            min_ratio: 0.0,
            warmup_steps: None,
            warmup_ratio: None,
        }
    }
}

impl Default for EvalSection {
    fn default() -> Self {
        EvalSection {
            every: 50,
            batch_size: None,
            at_start: false,
            weights: EvaluatedWeights::Last,
            early_stopping: None,
        }
    }
}

impl Default for EarlyStopping {
    fn default() -> Self {
        EarlyStopping { patience: 3, min_delta: 0.0 }
    }
}

impl Default for CheckpointSection {
    fn default() -> Self {
        CheckpointSection { every: 50, keep: 2, best: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { every: 1, tensorboard: true, noise_scale: false }
    }
}
