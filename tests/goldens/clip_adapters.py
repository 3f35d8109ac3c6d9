"""PEFT adapters of CLIP, for both towers at once: `towers/lora-<case>/`, as the folders of `lora.py`.

PEFT has no default targets and no task for CLIPModel. `task_type` is null: with FEATURE_EXTRACTION PEFT hands over arguments
the model does not take. `all-linear` takes the maps of both towers and the two projections, and leaves out the patch
embedding, which is a convolution, and the tables."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import clip
import lora
from clip import TOWERS

CASES = {
    "lora-clip-quick-gelu": lora.LoraCase("clip-quick-gelu", 311, dict(r=3, lora_alpha=6) | lora.ALL),
    "lora-clip-gelu-eos": lora.LoraCase(
        "clip-gelu-eos", 312, dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"])
    ),
}


def write_adapter(folder: Path, base: str, seen_from: str, settings: dict[str, Any], seed: int, zero_b: bool = False) -> None:
    model = get_peft_model(clip.load_model(TOWERS / base), LoraConfig(**settings))
    lora.randomise_adapter(model, seed, zero_b)
    lora.save_adapter(model, folder, seen_from)


def load_adapted(folder: Path, base: str) -> PeftModel:
    model = PeftModel.from_pretrained(clip.load_model(TOWERS / base), folder, is_trainable=True)
    stored = load_file(folder / lora.ADAPTER_FILE)
    placed = {name.replace(".default.", "."): tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert placed.keys() == stored.keys() and all(torch.equal(placed[name], stored[name]) for name in stored)
    return model


def write(name: str, case: lora.LoraCase) -> None:
    folder = TOWERS / name
    shutil.rmtree(folder, ignore_errors=True)
    write_adapter(folder, case.base, f"../{case.base}", case.settings, case.seed)
    model = load_adapted(folder, case.base)
    clip.forward_file(
        clip.CASES[case.base], folder, lora.Adapted(model), model.get_base_model(), case.seed + 1000, lora.ADAPTER_FILE
    )
    merged = lora.merged(load_adapted(folder, case.base))
    before = load_file(TOWERS / case.base / "model.safetensors")
    assert merged.keys() == {key for key in before if not key.endswith("position_ids")}
    changed = {key: value for key, value in merged.items() if not torch.equal(value, before[key])}
    save_file(changed, folder / "merged.safetensors", metadata={"format": "pt"})
