//! How many values the blocks of a model keep for the backward pass, for the memory plan of a run: [`Kept`].
//!
//! The file of an operation in `kernels` says what it keeps: a norm its input, attention its operands and its output, an
//! activation its inputs; a linear map its input where it learns. What several operations keep is one tensor and counts
//! once. Below the first block that learns there is no graph, and nothing is kept.

use crate::Model;
use crate::parameters::ParameterInfo;
use crate::parts::{AttentionConfig, BlockConfig, MlpConfig, QkNorm, Residual};
use firebrand_adapters::AdapterTensor;

/// Values that a stack of blocks keeps for each position of its residual stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of positions, where the network fixes it; absent: the number of tokens.
    pub length: Option<usize>,
    /// Width of the residual stream.
    pub width: usize,
    /// Values that each block keeps, from the first to the last.
    pub blocks: Vec<usize>,
    /// Values that exist beside them while a block goes backward: the gradients between its operations.
    pub passing: usize,
}

/// What learns in a block.
#[derive(Debug, Clone, Copy, Default)]
struct Learning {
    /// Whether any parameter does.
    any: bool,
    /// Whether maps read by several, that to q, k and v and those to gate and up, and the map down keep their inputs.
    qkv: bool,
    up: bool,
    down: bool,
    /// Values that adapters keep beside the inputs of their maps.
    adapters: usize,
}

impl Model {
    /// What its stacks of blocks keep, in the order in which they run. `drops` says whether adapters drop inputs, of which
    /// each then keeps its own.
    pub fn kept(&self, drops: bool) -> Vec<Kept> {
        let (config, trained) = (self.network().config(), self.trained_parameters());
        let embedding = trained.iter().any(|info| !info.path.contains(LAYERS) && info.distance > 0);
        let stacks = config.stacks();
        let stack = |(index, stack): (usize, &crate::network::StackConfig<'_>)| {
            let tower = if stacks.len() > 1 { TOWERS[index.min(TOWERS.len() - 1)] } else { "" };
            let of_block = |layer: usize| {
                let prefix = format!("{tower}{LAYERS}{layer}.");
                let infos = trained.iter().filter_map(|info| Some((info.path.strip_prefix(&prefix)?, info)));
                Learning::of(infos, stack.block, drops)
            };
            let learning: Vec<Learning> = (0..stack.layers).map(of_block).collect();
            let first = if embedding { Some(0) } else { learning.iter().position(|block| block.any) };
            let blocks = learning.into_iter().enumerate();
            let blocks = blocks.map(|(layer, block)| match first {
                Some(first) if layer >= first => of(stack.block, block),
                Some(_) | None => 0,
            });
            let inner = stack.block.mlp.intermediate_size();
            Kept {
                length: stack.length,
                width: stack.block.width,
                blocks: blocks.collect(),
                passing: 2 * stack.block.width + inner * visits(stack.block),
            }
        };
        stacks.iter().enumerate().map(stack).collect()
    }
}

/// The part of a path before the number of a block, and what stands before it in the two towers.
const LAYERS: &str = "layers.";
const TOWERS: [&str; 2] = ["text.", "vision."];

impl Learning {
    /// What learns, given the trained parameters with their paths within the block.
    fn of<'a>(trained: impl Iterator<Item = (&'a str, &'a ParameterInfo)>, block: &BlockConfig, drops: bool) -> Self {
        let mut learning = Self::default();
        let (mut all, mut of_experts) = (0, 0);
        for (path, info) in trained {
            learning.any = true;
            let is_matrix = info.shape.len() > 1 || info.adapter.is_some();
            learning.qkv |= is_matrix && path.starts_with("attention.qkv");
            learning.down |= is_matrix && path.contains(".down.");
            learning.up |= is_matrix && path.starts_with("mlp.") && !path.contains(".down.");
            let kept = match info.adapter {
                Some(AdapterTensor::A) => {
                    info.shape[0] + if drops { 2 * info.shape.last().copied().unwrap_or_default() } else { 0 }
                }
                Some(AdapterTensor::Magnitude | AdapterTensor::Scale) => info.elements(),
                Some(_) | None => 0,
            };
            if path.contains(".experts.") { of_experts += kept } else { all += kept }
        }
        let experts = match block.mlp {
            MlpConfig::Experts { experts, chosen, .. } => of_experts * chosen / experts.max(1),
            MlpConfig::Gated { .. } | MlpConfig::GatedFused { .. } | MlpConfig::Plain { .. } => 0,
        };
        Self { adapters: all + experts, ..learning }
    }
}

/// How many experts a token visits; 1 without experts.
fn visits(block: &BlockConfig) -> usize {
    match block.mlp {
        MlpConfig::Experts { chosen, .. } => chosen,
        MlpConfig::Gated { .. } | MlpConfig::GatedFused { .. } | MlpConfig::Plain { .. } => 1,
    }
}

/// Values that a block keeps per position.
fn of(block: &BlockConfig, learning: Learning) -> usize {
    let (width, Learning { qkv, up, down, adapters, .. }) = (block.width, learning);
    let when = |learns: bool, values: usize| if learns { values } else { 0 };
    // The inputs of norms, and the inputs of maps behind them.
    let norms = match block.residual {
        Residual::ParallelOneNorm | Residual::ParallelTwoNorms => width,
        Residual::Sequential | Residual::After | Residual::AfterBranch => 2 * width,
        // The outputs of branches, of which scales are the factors.
        Residual::Around | Residual::Scaled { .. } => 4 * width,
    };
    let inputs = match block.residual {
        Residual::ParallelOneNorm => when(qkv || up, width),
        Residual::Sequential
        | Residual::ParallelTwoNorms
        | Residual::After
        | Residual::AfterBranch
        | Residual::Around
        | Residual::Scaled { .. } => when(qkv, width) + when(up, width),
    };
    let mlp = match block.mlp {
        MlpConfig::Gated { intermediate_size: inner, .. } | MlpConfig::GatedFused { intermediate_size: inner, .. } => {
            2 * inner + when(down, inner)
        }
        MlpConfig::Plain { intermediate_size: inner, .. } => inner + when(down, inner),
        // Each visit has its row, gate, up, their product, and an output, which the weight of the visit multiplies. What of
        // them is not kept is freed, but the next expert has another number of rows: an allocator finds no use for the gap.
        MlpConfig::Experts { intermediate_size: inner, chosen, experts, .. } => {
            chosen * (3 * inner + 2 * width) + 2 * experts
        }
    };
    norms + inputs + attention(block) + mlp + adapters
}

/// Queries, keys and values as the kernel reads them, its output, and a number for each head; what is changed before.
fn attention(block: &BlockConfig) -> usize {
    let AttentionConfig { heads, kv_heads, head_dim, qk_norm, clip, .. } = &block.attention;
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    let norms = match qk_norm {
        Some(QkNorm::EachHead | QkNorm::WholeProjection) => queries + keys,
        None => 0,
    };
    let clipped = clip.map_or(0, |_| queries + 2 * keys);
    2 * queries + 2 * keys + heads + norms + clipped
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use firebrand_adapters::{AdapterConfig, LoraConfig, ModulePattern, Targets};

    use crate::{Model, adapter_folder};

    const LLAMA: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 90, "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}"#;

    fn model() -> Model {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), LLAMA).unwrap();
        Model::random(folder.path(), 1, &Device::flex()).unwrap()
    }

    fn adapted(config: LoraConfig) -> Model {
        let mut model = model();
        let start = adapter_folder::Start::Fresh { seed: 1, original: None };
        adapter_folder::attach(&mut model, &AdapterConfig::Lora(config), start).unwrap();
        model.train_active()
    }

    /// Inputs of two norms and of the maps behind them, operands and output of attention with a number a head, gate, up and
    /// the input of down.
    const ALL: usize = 4 * 24 + 2 * 32 + 2 * 16 + 4 + 3 * 40;

    #[test]
    fn a_block_keeps_what_learns_needs() {
        let kept = |model: Model| model.kept(false).remove(0).blocks;
        assert_eq!(kept(model()), [0; 3], "nothing learns");
        assert_eq!(kept(model().train_all()), [ALL; 3]);
        // Seven maps with factors of rank 2.
        assert_eq!(kept(adapted(LoraConfig::new(2, 4.0, Targets::AllLinear))), [ALL + 7 * 2; 3]);
        let names = |names: &[&str]| ModulePattern::Suffixes(names.iter().map(ToString::to_string).collect());
        let queries = LoraConfig::new(2, 4.0, Targets::Pattern(names(&["q_proj"])));
        assert_eq!(kept(adapted(queries)), [ALL - 24 - 40 + 2; 3], "the MLP's maps keep no input");
    }

    #[test]
    fn below_the_first_block_that_learns_nothing_is_kept() {
        let mut config = LoraConfig::new(2, 4.0, Targets::AllLinear);
        config.exclude = Some(ModulePattern::Regex(r".*layers\.0\..*".into()));
        assert_eq!(adapted(config).kept(false).remove(0).blocks, [0, ALL + 14, ALL + 14]);
    }

    #[test]
    fn dropped_inputs_are_kept_by_each_map() {
        let model = adapted(LoraConfig::new(2, 4.0, Targets::AllLinear));
        let inputs = 5 * 24 + 32 + 40;
        assert_eq!(model.kept(true).remove(0).blocks[0], ALL + 14 + 2 * inputs);
    }
}
