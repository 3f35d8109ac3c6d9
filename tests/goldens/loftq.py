"""LoftQ's start by PEFT on the CPU: `loftq/`.

A file is one weight: `input`, `codes` and `absmax` (NF4, blocks of 64), and `a` and `b`, PEFT's factors for it.
"""

from unittest.mock import patch

import torch
from bitsandbytes.nn import Params4bit
from peft.utils import loftq_utils
from safetensors.torch import save_file

import quantized
from common import HERE

OUT = HERE / "loftq"
ON_ITS_OWN_DEVICE = torch.Tensor.to


def on_the_cpu(tensor: torch.Tensor, *arguments, **settings) -> torch.Tensor:
    """PEFT asks for CUDA, whatever there is; nothing in its arithmetic needs it."""
    if settings.get("device") == "cuda":
        settings["device"] = "cpu"
    return ON_ITS_OWN_DEVICE(tensor, *arguments, **settings)


def case(name: str, shape: tuple[int, int], rank: int, seed: int) -> None:
    values = quantized.weight(shape, seed, "plain")
    weight = Params4bit(values.clone(), requires_grad=False, compress_statistics=False, quant_type="nf4").to("cpu")
    assert weight.quant_state is not None and weight.quant_state.blocksize == 64
    # What `replace_lora_weights_loftq` calls for every module.
    with patch.object(torch.Tensor, "to", on_the_cpu):
        a, b = loftq_utils._loftq_init_new(weight, values, num_bits=4, reduced_rank=rank)
    tensors = {"input": values, "codes": weight.data.reshape(-1), "absmax": weight.quant_state.absmax, "a": a, "b": b}
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, OUT / f"{name}.safetensors")


def write() -> None:
    OUT.mkdir(exist_ok=True)
    case("tall", (96, 64), 4, 1)
    case("wide", (40, 128), 3, 2)
    # Large enough that ours does not decompose it whole.
    case("many", (128, 192), 4, 3)
