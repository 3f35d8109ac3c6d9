"""DINOv2, a transformer over images: model cases, and the parts that its adapters and trajectories share.

A case is a folder `images/<case>/` as `save_pretrained` writes it, and `forward.safetensors`: for each size of picture, a
prefix with what the model answers to a batch of that size. The first size has gradients, of the sum over all batches.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
)

from common import HERE, gradients_as_saved

ROOM = HERE / "images"
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Tensors = dict[str, torch.Tensor]


@dataclass
class Case:
    """A tiny model and the sizes of the pictures it is given: (pictures, height, width)."""

    config: dict[str, Any]
    seed: int
    sizes: tuple[tuple[int, int, int], ...]
    registers: bool = False
    head: bool = True
    names: tuple[str, ...] = ("bird", "cat", "dog", "hare", "owl")
    edit: dict[str, Any] = field(default_factory=dict)  # keys of config.json, set once written


SMALL = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, patch_size=4, image_size=16, mlp_ratio=2)

CASES = {
    # The size positions are for; a larger one, and one that is not square, whose last pixels fill no patch.
    "dinov2": Case(SMALL, 401, ((3, 16, 16), (2, 24, 12), (2, 11, 19))),
    # As many patches as there are positions, and another shape.
    "dinov2-odd": Case(
        SMALL | dict(hidden_size=20, num_attention_heads=2, image_size=[24, 24], patch_size=[6, 6], num_channels=2)
        | dict(qkv_bias=False, layer_norm_eps=1e-3, hidden_act="gelu_new", use_mask_token=False),
        402,
        ((2, 24, 24), (2, 12, 48), (1, 6, 6)),
    ),
    "dinov2-swiglu": Case(SMALL | dict(use_swiglu_ffn=True, mlp_ratio=4), 403, ((3, 16, 16), (1, 8, 20))),
    "dinov2-registers": Case(
        SMALL | dict(num_register_tokens=3), 404, ((2, 16, 16), (2, 28, 12), (1, 9, 8), (1, 8, 32)), registers=True
    ),
    # Published so: no head, no prefix.
    "dinov2-bare": Case(SMALL, 405, ((2, 16, 16), (1, 12, 8)), head=False),
}


def classes_of(case: Case):
    if case.registers:
        return Dinov2WithRegistersConfig, Dinov2WithRegistersForImageClassification
    return Dinov2Config, Dinov2ForImageClassification if case.head else Dinov2Model


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Norm weights and scales in 1 +- 0.3, biases N(0, 0.3), embeddings N(0, 0.5), maps and patches by fan in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embeddings." in name and "patch" not in name:
                parameter.normal_(0.0, 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.3, generator=generator)
            elif parameter.dim() == 1:
                parameter.uniform_(0.7, 1.3, generator=generator)
            else:
                parameter.normal_(0.0, 1.5 / parameter[0].numel() ** 0.5, generator=generator)


def load_model(folder: Path, auto=None, **settings: Any) -> torch.nn.Module:
    config = json.loads((folder / "config.json").read_text())
    registers = config["model_type"] == "dinov2_with_registers"
    head = Dinov2WithRegistersForImageClassification if registers else Dinov2ForImageClassification
    auto = auto or (head if config["architectures"] == [head.__name__] else Dinov2Model)
    model, report = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **settings
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong and not settings:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def pictures(config: dict[str, Any], seed: int, size: tuple[int, int, int]) -> torch.Tensor:
    """[count, channels, height, width], standard normal."""
    count, height, width = size
    shape = (count, config.get("num_channels", 3), height, width)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed: int, count: int, classes: int) -> torch.Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def body_of(model: torch.nn.Module) -> torch.nn.Module:
    return getattr(model, model.base_model_prefix, model)


def forward_file(case: Case, folder: Path, model, inner, seed: int, weights_file: str) -> None:
    """`inner` is the model inside `model`, which may be an adapter around it. Consumes the model.

    The loss is that over all pictures of all sizes, and so are gradients. `<batch>.states` is behind the last norm."""
    out: Tensors = {}
    total, count = torch.tensor(0.0), 0
    for number, size in enumerate(case.sizes):
        pixels = pictures(case.config, seed + number, size)
        body = body_of(inner)
        hooks = []
        for index, layer in enumerate(body.encoder.layer):

            def keep(_module, _inputs, result, name=f"{number}.hidden.{index}"):
                out[name] = result.detach().clone()

            hooks.append(layer.register_forward_hook(keep))
        hooks.append(body.embeddings.register_forward_hook(
            lambda _m, _i, result, name=f"{number}.embedded": out.__setitem__(name, result.detach().clone())
        ))
        hooks.append(body.layernorm.register_forward_hook(
            lambda _m, _i, result, name=f"{number}.states": out.__setitem__(name, result.detach().clone())
        ))
        out[f"{number}.pixel_values"] = pixels
        if case.head:
            of = labels(seed + 100 + number, size[0], len(case.names))
            result = model(pixel_values=pixels, labels=of)
            out |= {f"{number}.labels": of, f"{number}.logits": result.logits.detach(), f"{number}.loss": result.loss.detach()}
            total, count = total + result.loss * size[0], count + size[0]
        else:
            with torch.no_grad():
                model(pixel_values=pixels)
        for hook in hooks:
            hook.remove()
    if case.head:
        loss = total / count
        loss.backward()
        out["loss"] = loss.detach()
        gradients = gradients_as_saved(model, weights_file)
        assert all(not bool(value.any()) for name, value in gradients.items() if name.endswith("mask_token"))
        out |= gradients
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "forward.safetensors")


def preprocessor(size: int) -> dict[str, Any]:
    steps = {f"do_{step}": True for step in ("center_crop", "convert_rgb", "normalize", "rescale", "resize")}
    sizes = {"crop_size": {"height": size, "width": size}, "size": {"shortest_edge": size + 4}}
    numbers = {"image_mean": MEAN, "image_std": DEVIATION, "resample": 3, "rescale_factor": 1 / 255}
    return dict(sorted((steps | sizes | numbers | {"image_processor_type": "BitImageProcessor"}).items()))


def write(name: str, case: Case) -> None:
    """The whole folder of a model case."""
    folder = ROOM / name
    shutil.rmtree(folder, ignore_errors=True)
    of_config, of_model = classes_of(case)
    named = dict(id2label=dict(enumerate(case.names)), label2id={n: i for i, n in enumerate(case.names)}) if case.head else {}
    model = of_model(of_config(**case.config, **named))
    randomise(model, case.seed)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(16), indent=2) + "\n")
    model = load_model(folder)
    forward_file(case, folder, model, model, case.seed + 1000, "model.safetensors")
