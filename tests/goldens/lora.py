"""PEFT adapters on the model cases, with A and B both random (B is zero at the start of a training, which hides the
scale). Each folder is a PEFT adapter folder plus `forward.safetensors` and the merged model."""

from dataclasses import dataclass
import inspect
import json
from pathlib import Path
import shutil
import tempfile
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import experts
import families
import llama
from common import HERE, forward_file, load_model, weights

ADAPTER_FILE = "adapter_model.safetensors"
MODELS = llama.CASES | families.CASES


@dataclass
class LoraCase:
    base: str
    seed: int
    settings: dict[str, Any]
    per_expert: bool = False  # written as PEFT did before transformers fused the experts


DEFAULT = dict(target_modules=None)  # what PEFT takes for the family
ALL = dict(target_modules="all-linear")
CASES = {
    "lora-llama-gqa-tied": LoraCase("llama-gqa-tied", 101, dict(r=4, lora_alpha=6, target_modules="all-linear")),
    # rank and alpha differ by module; the scale is alpha / sqrt(rank).
    "lora-llama-untied-biases": LoraCase(
        "llama-untied-biases",
        102,
        dict(
            r=3,
            lora_alpha=5,
            target_modules=["q_proj", "v_proj"],
            use_rslora=True,
            rank_pattern={"v_proj": 2, "layers.1.self_attn.q_proj": 5},
            alpha_pattern={"v_proj": 7},
        ),
    ),
    # Targets by regular expression: a string that is searched as a full match.
    "lora-llama-legacy-spelling": LoraCase(
        "llama-legacy-spelling", 103, dict(r=2, lora_alpha=2, target_modules=r".*layers\.[12]\..*(o_proj|down_proj)")
    ),
    "lora-mistral-odd": LoraCase("mistral-odd", 104, dict(r=2, lora_alpha=3) | ALL),
    "lora-mixtral": LoraCase(
        "mixtral", 105, dict(r=3, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    ),
    # Experts and two projections of attention; keys and targets by expert.
    "lora-mixtral-experts": LoraCase(
        "mixtral", 106, dict(r=2, lora_alpha=3, target_modules=["w1", "w2", "w3", "q_proj", "v_proj"]), per_expert=True
    ),
    # Everything, the router too, as PEFT writes it now: experts in one matrix, `target_parameters`.
    "peft-stacked-experts": LoraCase("mixtral", 107, dict(r=2, lora_alpha=3) | ALL),
    "lora-gemma": LoraCase("gemma", 108, dict(r=3, lora_alpha=4) | DEFAULT),
    "lora-gemma2": LoraCase("gemma2", 109, dict(r=2, lora_alpha=4, use_rslora=True) | ALL),
    "lora-gemma3": LoraCase("gemma3", 110, dict(r=3, lora_alpha=5) | DEFAULT),
    "lora-falcon-7b": LoraCase("falcon-7b", 111, dict(r=3, lora_alpha=5) | DEFAULT),
    "lora-falcon-40b": LoraCase("falcon-40b", 112, dict(r=2, lora_alpha=3) | ALL),
    "lora-falcon-rw": LoraCase(
        "falcon-rw", 113, dict(r=3, lora_alpha=4, target_modules=["query_key_value", "dense_h_to_4h"])
    ),
    "lora-gpt-neox": LoraCase("gpt-neox", 114, dict(r=3, lora_alpha=4) | DEFAULT),
    "lora-gpt-neox-sequential": LoraCase("gpt-neox-sequential", 115, dict(r=2, lora_alpha=5) | ALL),
    "lora-gptj": LoraCase("gptj", 116, dict(r=3, lora_alpha=2) | ALL),
    "lora-gpt-neo": LoraCase("gpt-neo", 117, dict(r=3, lora_alpha=4) | DEFAULT),
    "lora-opt": LoraCase("opt", 118, dict(r=3, lora_alpha=4) | DEFAULT),
    "lora-opt-350m": LoraCase("opt-350m", 119, dict(r=2, lora_alpha=3) | ALL),
    # One fused matrix, its rank given by a pattern.
    "lora-bloom": LoraCase("bloom", 120, dict(r=4, lora_alpha=6, rank_pattern={"h.1.*query_key_value": 2}) | DEFAULT),
    "lora-qwen2": LoraCase("qwen2", 121, dict(r=2, lora_alpha=3) | ALL),
    "lora-qwen3": LoraCase("qwen3", 122, dict(r=3, lora_alpha=4) | DEFAULT),
    # PEFT has no default for Phi 3, OLMo 2 and SmolLM 3.
    "lora-phi3": LoraCase("phi3", 123, dict(r=3, lora_alpha=4, target_modules=["qkv_proj", "gate_up_proj"])),
    "lora-olmo2": LoraCase("olmo2", 124, dict(r=2, lora_alpha=3) | ALL),
    "lora-smollm3": LoraCase("smollm3", 125, dict(r=3, lora_alpha=4, target_modules=["q_proj", "v_proj"])),
    # Weights [in, out].
    "lora-gpt2": LoraCase("gpt2", 126, dict(r=3, lora_alpha=4, fan_in_fan_out=True) | DEFAULT),
    # `fan_in_fan_out` not given: PEFT finds out.
    "lora-gpt2-scaled": LoraCase("gpt2-scaled", 127, dict(r=2, lora_alpha=3) | ALL),
    "lora-phi": LoraCase("phi", 129, dict(r=3, lora_alpha=4) | DEFAULT),
    "lora-mpt": LoraCase("mpt", 128, dict(r=2, lora_alpha=3) | ALL),
    # DoRA, beside biases, which the magnitude does not scale; on a fused matrix; on weights [in, out].
    "lora-dora-llama": LoraCase(
        "llama-untied-biases", 129, dict(r=3, lora_alpha=5, use_dora=True, rank_pattern={"v_proj": 2}) | ALL
    ),
    "lora-dora-phi3": LoraCase(
        "phi3", 130, dict(r=2, lora_alpha=3, target_modules=["qkv_proj", "down_proj"], use_dora=True, use_rslora=True)
    ),
    "lora-dora-gpt2": LoraCase("gpt2", 131, dict(r=3, lora_alpha=4, use_dora=True, fan_in_fan_out=True) | ALL),
    "lora-layers-llama": LoraCase(
        "llama-legacy-spelling",
        132,
        dict(
            r=2,
            lora_alpha=3,
            target_modules=["q_proj", "up_proj"],
            layers_to_transform=[0, 2],
            layers_pattern=["blocks", "layers"],
        ),
    ),
    # IA3: outputs scaled, with their bias, or inputs; on weights [in, out].
    "lora-ia3-llama": LoraCase(
        "llama-untied-biases",
        133,
        dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ),
    # What of the base is trained too: modules whole, biases of adapted modules, a head that was the embedding or stays it.
    "lora-saved-llama": LoraCase(
        "llama-untied-biases",
        135,
        dict(
            r=2,
            lora_alpha=3,
            target_modules=["q_proj", "v_proj", "lm_head"],
            modules_to_save=["embed_tokens", "lm_head", "norm", "layers.1.mlp"],
            bias="lora_only",
        ),
    ),
    "lora-saved-tied": LoraCase(
        "llama-gqa-tied", 136, dict(r=2, lora_alpha=3, target_modules=["o_proj"], modules_to_save=["embed_tokens"])
    ),
    "lora-saved-tied-head": LoraCase(
        "gemma", 137, dict(r=2, lora_alpha=3, target_modules=["o_proj"], modules_to_save=["lm_head", "embed_tokens"])
    ),
    "lora-saved-tied-kept": LoraCase(
        "llama-gqa-tied",
        138,
        dict(r=2, lora_alpha=3, target_modules=["o_proj"], modules_to_save=["lm_head"], ensure_weight_tying=True),
    ),
    "lora-bias-all-gpt2": LoraCase(
        "gpt2", 139, dict(r=2, lora_alpha=3, fan_in_fan_out=True, bias="all", target_modules=["c_attn"])
    ),
    # A matrix that is [in, out] in files.
    "lora-saved-gpt2": LoraCase(
        "gpt2", 146, dict(r=2, lora_alpha=3, fan_in_fan_out=True, bias="lora_only", modules_to_save=["mlp.c_proj"]) | ALL
    ),
    "lora-bias-all-dora": LoraCase(
        "opt", 140, dict(r=2, lora_alpha=3, use_dora=True, target_modules=["q_proj", "fc1"], bias="all")
    ),
    "lora-ia3-saved": LoraCase(
        "gpt-neox",
        141,
        dict(target_modules=["query_key_value"], feedforward_modules=[], modules_to_save=["lm_head", "final_layer_norm"]),
    ),
    # Embeddings and heads: the padding token's row of one learns nothing, a head that was the embedding is no longer it.
    "lora-embedding-llama": LoraCase(
        "llama-untied-biases", 142, dict(r=3, lora_alpha=4, target_modules=["embed_tokens", "lm_head", "q_proj"])
    ),
    "lora-embedding-tied": LoraCase(
        "gemma", 143, dict(r=3, lora_alpha=4, use_rslora=True, target_modules=["embed_tokens", "o_proj"])
    ),
    "lora-head-tied": LoraCase(
        "llama-gqa-tied", 144, dict(r=3, lora_alpha=4, target_modules=["lm_head", "down_proj"], rank_pattern={"lm_head": 2})
    ),
    "lora-embedding-opt-350m": LoraCase("opt-350m", 145, dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "project_in"])),
    "lora-ia3-gpt2": LoraCase(
        "gpt2", 134, dict(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True)
    ),
}


def randomise_adapter(model: PeftModel, seed: int, zero_b: bool = False) -> None:
    """A as PEFT starts it in size, B as large as a trained one, DoRA's magnitudes off the norms they start at, IA3's
    factors off 1; `zero_b` is the true start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0.0, 0.6 / parameter.shape[1] ** 0.5, generator=generator)
            elif "lora_B" in name and zero_b:
                parameter.zero_()
            elif "lora_B" in name:
                parameter.normal_(0.0, 0.3, generator=generator)
            elif "lora_magnitude_vector" in name and not zero_b:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.4, generator=generator))
            elif "ia3_l" in name and not zero_b:
                parameter.uniform_(0.3, 1.8, generator=generator)
            elif "lora_embedding_A" in name:
                # The true start is zero, and B normal.
                parameter.normal_(0.0, 0.0 if zero_b else 0.3, generator=generator)
            elif "lora_embedding_B" in name:
                parameter.normal_(0.0, 0.5, generator=generator)
            elif parameter.requires_grad and not zero_b:
                # A part of the base.
                parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.1, generator=generator))


def write_adapter(folder: Path, base: str, settings: dict[str, Any], seed: int, zero_b: bool = False) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    kind = IA3Config if "feedforward_modules" in settings else LoraConfig
    model = get_peft_model(load_base(base), kind(task_type="CAUSAL_LM", **settings))
    randomise_adapter(model, seed, zero_b)
    save_adapter(model, folder, f"../{base}")


def save_adapter(model: PeftModel, folder: Path, base: str) -> None:
    """PEFT's folder, without what depends on whoever ran this. `base` is the base's folder, seen from the adapter's."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a model card of empty headings
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    # PEFT keeps the targets in a set, without order.
    for key in ("target_modules", "target_parameters", "feedforward_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_base(base: str) -> torch.nn.Module:
    return load_model(HERE / base, MODELS[base].attention)


def load_untied(base: str) -> torch.nn.Module:
    """With a head of its own, which is what PEFT's documentation says to do before adapters on a tied embedding are merged."""
    model = load_base(base)
    if model.config.tie_word_embeddings:
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    return model


def load_adapted(base: str, folder: Path, trainable: bool = True, parameters: int | None = None) -> PeftModel:
    """`parameters`: how many the file's tensors become, if not as many."""
    model = PeftModel.from_pretrained(load_base(base), folder, is_trainable=trainable)
    values = load_file(folder / ADAPTER_FILE)
    # PEFT writes the matrix of an adapted embedding beside its factors, and one that stays the head under both names.
    copies = sum(name.endswith("base_layer.weight") for name in values)
    copies += sum(name.endswith("lm_head.weight") for name in values if model.active_peft_config.to_dict().get("ensure_weight_tying"))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if trainable:
        assert len(trained) == (parameters or len(values) - copies), "adapter not loaded whole"
    loaded = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name or "ia3_" in name}
    assert all(parameter.any() for name, parameter in loaded.items() if "lora_A" in name), "adapter not loaded whole"
    return model


class Adapted(torch.nn.Module):
    """A PEFT model that looks like its base to `common`: same arguments, same config."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, input_ids, position_ids=None, **arguments):
        if "position_ids" in inspect.signature(self.model.get_base_model().forward).parameters:
            arguments["position_ids"] = position_ids
        return self.model(input_ids=input_ids, **arguments)

    def parameters(self, recurse: bool = True):
        return (p for p in self.model.parameters(recurse) if p.requires_grad)

    def save_pretrained(self, folder: str) -> None:
        self.model.save_pretrained(folder, save_embedding_layers=False)


def merged(model: PeftModel) -> dict[str, torch.Tensor]:
    """The merged model's tensors, under the names of its file."""
    with tempfile.TemporaryDirectory() as folder:
        model.merge_and_unload().save_pretrained(folder)
        return weights(Path(folder))


def write(name: str, case: LoraCase) -> None:
    folder = HERE / name
    base = MODELS[case.base]
    parameters = None
    if case.per_expert:
        parameters = experts.write_adapter(folder, case.base, base.config, case.settings, case.seed)
    else:
        write_adapter(folder, case.base, case.settings, case.seed)

    def load() -> torch.nn.Module:
        return Adapted(load_adapted(case.base, folder, parameters=parameters))

    forward_file(folder, load, base.config.vocab_size, base, case.seed + 1000, ADAPTER_FILE)
    if case.per_expert:
        path = folder / "forward.safetensors"
        save_file(experts.split(load_file(path), base.config.num_local_experts), path)
    adapts_embedding = any(name in ("embed_tokens", "lm_head") for name in case.settings.get("target_modules") or ())
    if adapts_embedding:
        tensors = merged(PeftModel.from_pretrained(load_untied(case.base), folder))
    else:
        tensors = merged(load_adapted(case.base, folder, parameters=parameters))
    # Only what the merge changed: the rest is the base's, byte for byte.
    before = weights(HERE / case.base)
    # A head that was the embedding may have become a tensor of its own.
    assert tensors.keys() - {"lm_head.weight"} == before.keys() - {"lm_head.weight"}
    changed = {key: value for key, value in tensors.items() if key not in before or not torch.equal(value, before[key])}
    save_file(changed, folder / "merged.safetensors", metadata={"format": "pt"})
