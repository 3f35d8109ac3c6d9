"""The reference optimisers, made from the keys of a recipe's [optimizer].

Three are not quite as their packages ship them:
- bitsandbytes' 8-bit AdamW rounds its state on the CPU through a table of 65536 steps, in which the smallest codes do not
  occur. Its default backend (and CUDA) take the nearest code; so does `round_to_nearest`, put in its place.
- torch's Muon takes its Newton-Schulz steps in bfloat16. The same function is compiled with float32 in that place;
  `bf16=True` leaves it as it is.
- PEFT's LoRA+ takes the decay of A and B from a keyword of its own.
"""

import inspect
import re
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.backends.cpu import ops
from bitsandbytes.optim import AdamW8bit
from lion_pytorch import Lion
from peft.optimizers import create_loraplus_optimizer
from torch.optim import _muon
from transformers import Trainer
from transformers.optimization import Adafactor


def round_to_nearest(values, code, absmax_out, out, blocksize) -> None:
    """`quantize_blockwise` of bitsandbytes/backends/default/ops.py, for a whole tensor."""
    flat = values.reshape(-1)
    for block, part in enumerate(flat.split(blocksize)):
        absmax_out[block] = part.abs().max()
        scaled = torch.clamp(part * (1 / absmax_out[block]), -1, 1)
        codes = torch.argmin((scaled.unsqueeze(-1) - code).abs(), dim=-1)
        at = block * blocksize
        # A block of zeros: any code times zero.
        out.view(-1)[at : at + len(part)] = torch.where(absmax_out[block] == 0, 0, codes).to(torch.uint8)


ops._quant_blockwise_fp32_direct = round_to_nearest


def dynamic_map(signed: bool) -> list[float]:
    return functional.create_dynamic_map(signed=signed).tolist()


NEWTON_SCHULZ = _muon._zeropower_via_newtonschulz


def newton_schulz_in_f32():
    source = inspect.getsource(NEWTON_SCHULZ)
    assert source.count("torch.bfloat16") == 1
    scope = dict(vars(_muon))
    exec(source.replace("torch.bfloat16", "torch.float32"), scope)
    return scope[NEWTON_SCHULZ.__name__]


class Muon(torch.optim.Muon):
    def __init__(self, parameters, bf16: bool = False, **keywords: Any) -> None:
        super().__init__(parameters, **keywords)
        self.newton_schulz = NEWTON_SCHULZ if bf16 else newton_schulz_in_f32()

    def step(self, closure=None):
        _muon._zeropower_via_newtonschulz = self.newton_schulz
        return super().step(closure)


CLASSES = {
    "adamw": torch.optim.AdamW,
    "adamw-8bit": AdamW8bit,
    "adafactor": Adafactor,
    "lion": Lion,
    "muon": Muon,
    "sgd": torch.optim.SGD,
}


# Keys of a recipe that no class takes: `groups` makes groups of parameters of the last two.
OURS = ("kind", "learning_rate", "adamw", "no_decay", "layer_decay")


def distance(name: str, layers: int) -> int:
    """Steps from the output: 0 after the blocks, 1 for the last of them, one more than there are for what comes before."""
    block = re.search(r"\b(?:layers?|h|blocks)\.(\d+)\.", name)
    if block:
        return layers - int(block[1])
    return layers + 1 if re.search(r"embed|wte|wpe", name) else 0


def groups(model, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """A group for each trained parameter: decayed by the rule of transformers' Trainer, with a rate by its layer as in BEiT."""
    decayed = Trainer.get_decay_parameter_names(None, model)
    layers, factor = model.config.num_hidden_layers, settings.get("layer_decay", 1.0)

    def group(name: str, parameter) -> dict[str, Any]:
        keeps = name in decayed or not settings.get("no_decay", False)
        return dict(
            params=[parameter],
            lr=settings["learning_rate"] * factor ** distance(name, layers),
            weight_decay=settings["weight_decay"] if keeps else 0.0,
        )

    return [group(name, p) for name, p in model.named_parameters() if p.requires_grad]


def make(parameters, settings: dict[str, Any], **more: Any) -> torch.optim.Optimizer:
    """The optimiser of these settings; a kind, and our names of the keys."""
    keywords = {key: value for key, value in settings.items() if key not in OURS}
    keywords["lr"] = settings["learning_rate"]
    if settings["kind"] == "adafactor":
        relative = isinstance(keywords["lr"], str)
        keywords |= dict(relative_step=relative, warmup_init=keywords["lr"] == "relative-with-warmup")
        keywords["lr"] = None if relative else keywords["lr"]
    if "adjust_lr_fn" in keywords:
        keywords["adjust_lr_fn"] = keywords["adjust_lr_fn"].replace("-", "_")
    return CLASSES[settings["kind"]](parameters, **keywords, **more)


def make_loraplus(model, settings: dict[str, Any], ratio: float, embedding: float) -> torch.optim.Optimizer:
    """AdamW with PEFT's groups for A and B."""
    assert settings["kind"] == "adamw"
    return create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=settings["learning_rate"],
        loraplus_lr_ratio=ratio,
        loraplus_lr_embedding=embedding,
        loraplus_weight_decay=settings["weight_decay"],
        betas=settings["betas"],
        eps=settings["eps"],
    )
