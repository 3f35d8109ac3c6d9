"""LoRA on the UNet of a pipeline, `diffusion/lora-*/`: `adapter/pytorch_lora_weights.safetensors` as diffusers writes it.

The adapter is put on by `add_adapter`, written by `save_lora_weights` of the pipeline with its metadata, and read back by
`load_lora_weights`; the answers are those of the pipeline that read it. `merged.safetensors` holds the maps that
`fuse_lora` changed.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import diffusion
from diffusion import CASES as BASES
from diffusion import DIFFUSION, Tensors, forward_file

FILE = "pytorch_lora_weights.safetensors"
DEFAULT = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass
class Adapter:
    base: str
    seed: int
    settings: dict[str, Any]
    old: bool = False  # under the names of diffusers' training scripts: `.lora.down.weight`, without metadata
    kohya: bool = False  # as kohya's scripts write it, with `.alpha` tensors


CASES = {
    # Convolutions of one pixel among the targets; the scale is not one.
    "lora-sd1": Adapter("sd1", 421, dict(r=3, lora_alpha=6.0, target_modules=[*DEFAULT, "proj_in", "proj_out"])),
    "lora-sdxl": Adapter("sdxl", 422, dict(r=2, lora_alpha=5.0, target_modules=[*DEFAULT, "ff.net.0.proj", "time_emb_proj"])),
    # Without metadata alpha is the rank.
    "lora-sd2-old": Adapter("sd2", 443, dict(r=2, lora_alpha=2.0, target_modules=DEFAULT), old=True),
    "lora-sd1-kohya": Adapter("sd1", 424, dict(r=2, lora_alpha=1.0, target_modules=[*DEFAULT, "ff.net.2"]), kohya=True),
}


def pipeline(base: str) -> DiffusionPipeline:
    made = DiffusionPipeline.from_pretrained(DIFFUSION / base, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    made.unet.eval()
    return made


def fresh(unet: torch.nn.Module, settings: dict[str, Any], seed: int, zero_b: bool) -> None:
    """Puts an adapter on, its factors random."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0.0, 1.0 / parameter[0].numel() ** 0.5, generator=generator)
            elif "lora_B" in name:
                parameter.normal_(0.0, 0.0 if zero_b else 0.2, generator=generator)


def write_adapter(folder: Path, made: DiffusionPipeline) -> None:
    """`unet.<module>.lora_A.weight` throughout, with the settings as metadata, as `load_lora_weights` reads all of them."""
    config = made.unet.peft_config["default"].to_dict()
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    made.save_lora_weights(
        folder, unet_lora_layers=get_peft_model_state_dict(made.unet), unet_lora_adapter_metadata=config
    )


def as_old(folder: Path) -> None:
    names = {".lora_A.weight": ".lora.down.weight", ".lora_B.weight": ".lora.up.weight"}
    rename(folder, lambda name: next(name.replace(new, old) for new, old in names.items() if new in name), {})


def as_kohya(folder: Path, settings: dict[str, Any]) -> None:
    weights = load_file(folder / FILE)
    modules = {name.removeprefix("unet.").removesuffix(".lora_A.weight") for name in weights if "lora_A" in name}
    alphas = {f"lora_unet_{module.replace('.', '_')}.alpha": torch.tensor(settings["lora_alpha"]) for module in modules}

    def renamed(name: str) -> str:
        module, factor = name.removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        factor = {"lora_A": "lora_down", "lora_B": "lora_up"}[factor]
        return f"lora_unet_{module.replace('.', '_')}.{factor}.weight"

    rename(folder, renamed, alphas)
    (folder / FILE).rename(folder / "character.safetensors")


def rename(folder: Path, name: Any, more: Tensors) -> None:
    weights = {name(old): tensor for old, tensor in load_file(folder / FILE).items()} | more
    save_file(weights, folder / FILE, metadata={"format": "pt"})


def write(name: str, case: Adapter) -> None:
    folder = DIFFUSION / name
    shutil.rmtree(folder, ignore_errors=True)
    made = pipeline(case.base)
    fresh(made.unet, case.settings, case.seed, zero_b=False)
    inside = folder / "adapter"
    write_adapter(inside, made)
    if case.old:
        as_old(inside)
    if case.kohya:
        as_kohya(inside, case.settings)
    (folder / "base.json").write_text(json.dumps({"base": case.base}) + "\n")

    read = pipeline(case.base)
    file = next(file.name for file in inside.glob("*.safetensors"))
    read.load_lora_weights(inside, weight_name=file)
    for parameter_name, parameter in read.unet.named_parameters():
        parameter.requires_grad_("lora_" in parameter_name)
    # Under the names of PEFT, whatever the adapter is called.
    forward_file(BASES[case.base], folder, read.unet, read.unet, case.seed + 1000)
    out = load_file(folder / "forward.safetensors")
    adapter = next(iter(read.unet.peft_config))
    save_file({name.replace(f".{adapter}.", "."): tensor for name, tensor in out.items()}, folder / "forward.safetensors")

    fused = pipeline(case.base)
    fused.load_lora_weights(inside, weight_name=file)
    fused.fuse_lora()
    fused.unload_lora_weights()
    before = diffusion.load_unet(DIFFUSION / case.base).state_dict()
    changed = {name: tensor for name, tensor in fused.unet.state_dict().items() if not torch.equal(tensor, before[name])}
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, folder / "merged.safetensors")
