"""PEFT adapters on the LLaMA cases, with A and B both random (B is zero at the start of a training, which hides the
scale). Each folder is a PEFT adapter folder plus `forward.safetensors` and the merged model."""

from dataclasses import dataclass
from pathlib import Path
import json
import shutil
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import llama
from common import HERE, forward_file, load_model

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass
class LoraCase:
    base: str
    seed: int
    settings: dict[str, Any]


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
}


def randomise_adapter(model: PeftModel, seed: int, zero_b: bool = False) -> None:
    """A as PEFT starts it in size, B as large as a trained one; `zero_b` is the true start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0.0, 0.6 / parameter.shape[1] ** 0.5, generator=generator)
            elif "lora_B" in name and zero_b:
                parameter.zero_()
            elif "lora_B" in name:
                parameter.normal_(0.0, 0.3, generator=generator)


def write_adapter(folder: Path, base: str, settings: dict[str, Any], seed: int, zero_b: bool = False) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    model = get_peft_model(load_model(HERE / base), LoraConfig(task_type="CAUSAL_LM", **settings))
    randomise_adapter(model, seed, zero_b)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a model card of empty headings
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # The folder's own place, not that of whoever ran this; PEFT keeps the targets in a set, without order.
    config["base_model_name_or_path"] = f"../{base}"
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_adapted(base: str, folder: Path, trainable: bool = True) -> PeftModel:
    model = PeftModel.from_pretrained(load_model(HERE / base), folder, is_trainable=trainable)
    loaded = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(loaded) == len(load_file(folder / ADAPTER_FILE)), "adapter not loaded whole"
    return model


class Adapted(torch.nn.Module):
    """A PEFT model that looks like its base to `common`: same arguments, same config."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, input_ids, attention_mask, position_ids, use_cache):
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache
        )

    def parameters(self, recurse: bool = True):
        return (p for p in self.model.parameters(recurse) if p.requires_grad)

    def save_pretrained(self, folder: str) -> None:
        self.model.save_pretrained(folder)


def write(name: str, case: LoraCase) -> None:
    folder = HERE / name
    write_adapter(folder, case.base, case.settings, case.seed)
    base = llama.CASES[case.base]

    def load() -> torch.nn.Module:
        return Adapted(load_adapted(case.base, folder))

    forward_file(folder, load, base.config.vocab_size, base, case.seed + 1000, ADAPTER_FILE)
    merged = load_adapted(case.base, folder).merge_and_unload()
    stored = load_file(HERE / case.base / "model.safetensors").keys()
    tensors = {key: value.clone() for key, value in merged.state_dict().items() if key in stored}
    assert tensors.keys() == stored
    # Only what the merge changed: the rest is the base's, byte for byte.
    before = load_file(HERE / case.base / "model.safetensors")
    changed = {key: value for key, value in tensors.items() if not torch.equal(value, before[key])}
    save_file(changed, folder / "merged.safetensors", metadata={"format": "pt"})
