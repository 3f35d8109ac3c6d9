"""PEFT adapters of DINOv2: `images/lora-<case>/`, as the folders of `lora.py`.

PEFT has no default targets and no task for classifiers of images: `task_type` is null. Targets are modules in memory (`q_proj`;
`query` in files). The head is trained beside the adapters (`modules_to_save`), and new where the base has none. PEFT's
`all-linear` would take the head as a target, so it is not used here."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import dinov2
import lora
from dinov2 import ROOM

HEAD = dict(modules_to_save=["classifier"])
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
CASES = {
    "lora-dinov2": lora.LoraCase("dinov2", 411, dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"]) | HEAD),
    "lora-dinov2-registers": lora.LoraCase("dinov2-registers", 412, dict(r=2, lora_alpha=3, target_modules=EVERY) | HEAD),
    "lora-dinov2-swiglu": lora.LoraCase(
        "dinov2-swiglu", 413, dict(r=2, lora_alpha=3, use_dora=True, target_modules=["k_proj", "down_proj"]) | HEAD
    ),
    # A head for a base that has none.
    "lora-dinov2-bare": lora.LoraCase("dinov2-bare", 414, dict(r=2, lora_alpha=5, target_modules=["q_proj", "fc2"]) | HEAD),
}
CLASSES = 3  # of a new head


def load_base(base: str) -> torch.nn.Module:
    if dinov2.CASES[base].head:
        return dinov2.load_model(ROOM / base)
    return dinov2.load_model(ROOM / base, dinov2.Dinov2ForImageClassification, num_labels=CLASSES)


def write_adapter(folder: Path, base: str, seen_from: str, settings: dict[str, Any], seed: int, zero_b: bool = False) -> None:
    torch.manual_seed(seed)
    model = get_peft_model(load_base(base), LoraConfig(**settings))
    lora.randomise_adapter(model, seed, zero_b)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save.default" in name:
                parameter.normal_(0.0, 0.3, generator=generator)
    lora.save_adapter(model, folder, seen_from)


def load_adapted(folder: Path, base: str) -> PeftModel:
    model = PeftModel.from_pretrained(load_base(base), folder, is_trainable=True)
    stored = load_file(folder / lora.ADAPTER_FILE)
    short = lambda name: name.replace("modules_to_save.default.", "").replace(".default", "")
    placed = {short(name): tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    magnitude = lambda name: name.replace("magnitude_vector.weight", "magnitude_vector")
    placed = {magnitude(name): tensor for name, tensor in placed.items()}
    assert placed.keys() == stored.keys(), placed.keys() ^ stored.keys()
    assert all(torch.equal(placed[name], stored[name]) for name in stored)
    return model.eval()


class Adapted(torch.nn.Module):
    """A PEFT model whose parameters are those that it trains."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, **arguments):
        return self.model(**arguments)

    def parameters(self, recurse: bool = True):
        return (p for p in self.model.parameters(recurse) if p.requires_grad)

    def save_pretrained(self, folder: str) -> None:
        self.model.save_pretrained(folder, save_embedding_layers=False)


def with_head(base: str) -> dinov2.Case:
    case = dinov2.CASES[base]
    return case if case.head else dinov2.Case(case.config, case.seed, case.sizes, names=("a", "b", "c"))


def write(name: str, case: lora.LoraCase) -> None:
    folder = ROOM / name
    shutil.rmtree(folder, ignore_errors=True)
    write_adapter(folder, case.base, f"../{case.base}", case.settings, case.seed)
    model = load_adapted(folder, case.base)
    dinov2.forward_file(
        with_head(case.base), folder, Adapted(model), model.get_base_model(), case.seed + 1000, lora.ADAPTER_FILE
    )
    merged = lora.merged(load_adapted(folder, case.base))
    before = load_file(ROOM / case.base / "model.safetensors")
    prefix = "" if dinov2.CASES[case.base].head else "dinov2."
    before = {prefix + key: value for key, value in before.items()}
    assert before.keys() <= merged.keys() <= before.keys() | {"classifier.weight", "classifier.bias"}
    changed = {key: value for key, value in merged.items() if key not in before or not torch.equal(value, before[key])}
    save_file(changed, folder / "merged.safetensors", metadata={"format": "pt"})
