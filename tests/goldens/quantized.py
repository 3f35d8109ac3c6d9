"""Quantized weights as bitsandbytes makes them on the CPU: `quantized/`.

A file of `quantized/` is one weight: `input` (f32, bf16 or f16), `codes`, `absmax` (f32, or u8 where the scales are quantized too, then
with `nested_absmax`, `nested_map` and `offset`), and `values`, the dequantized weight in f32. The metadata give code and block.

A folder of `quantized/` is a case of `families.py` or `llama.py` in 4 bits, as transformers saves it: with `logits.safetensors`, what transformers
computes from the folder when it is read again. `model/` is `llama-gqa-tied`.

`values` come from bitsandbytes' native code, except where a row is a multiple of 16 but not of the block: there its AVX-512 code
takes the scale of another block (0.50.2), so those come from its torch code.
"""

import json
import re

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.nn import Linear4bit, Params4bit
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from common import HERE

OUT = HERE / "quantized"


def weight(shape: tuple[int, int], seed: int, kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 0.05
    flat = values.view(-1)
    if kind == "outliers":
        flat[:: 97] *= 40.0
        flat[64:128] = 0.0  # a block of zeros
        flat[200:210] = -flat[:10]
    if kind == "tiny":
        values *= 1e-30
        flat[:64] = 1e-39  # a scale without a normal inverse
    if kind == "levels":  # numbers on and beside the bounds between codes
        code = bnb.get_4bit_type("nf4", device="cpu")
        bounds = (code[1:] + code[:-1]) / 2
        near = torch.cat([bounds, torch.nextafter(bounds, torch.tensor(2.0)), torch.nextafter(bounds, torch.tensor(-2.0)), code])
        flat[:] = near.repeat(len(flat) // len(near) + 1)[: len(flat)]
    return values


def dequantized(codes: torch.Tensor, state: bnb.QuantState) -> torch.Tensor:
    state.dtype = torch.float32
    rows, columns = state.shape
    if columns % 16 == 0 and columns % state.blocksize != 0 or columns % 2 != 0:
        absmax = state.absmax
        if state.nested:
            absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
        return _dequantize_4bit_compute(codes.reshape(-1), absmax, state.code, state.blocksize, state.shape, torch.float32)
    return bnb.dequantize_4bit(codes, state)


def four_bit(name: str, values: torch.Tensor, code: str, block: int, double: bool) -> None:
    codes, state = bnb.quantize_4bit(values, blocksize=block, compress_statistics=double, quant_type=code)
    tensors = {"input": values, "codes": codes.reshape(-1), "absmax": state.absmax, "map": state.code}
    if double:
        tensors |= {
            "nested_absmax": state.state2.absmax,
            "nested_map": state.state2.code,
            "offset": state.offset.reshape(1),
        }
    tensors["values"] = dequantized(codes, state)
    save(name, tensors, f"{code} {block}")


def int8(name: str, values: torch.Tensor, block: int) -> None:
    codes, state = bnb.quantize_blockwise(values, blocksize=block)
    state.dtype = torch.float32
    tensors = {"input": values, "codes": codes.reshape(-1), "absmax": state.absmax, "map": state.code}
    tensors["values"] = bnb.dequantize_blockwise(codes, state)
    save(name, tensors, f"int8 {block}")


def save(name: str, tensors: dict[str, torch.Tensor], scheme: str) -> None:
    tensors = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
    save_file(tensors, OUT / f"{name}.safetensors", {"packing": scheme})


# Folder, base, code, quantized scales: split and fused layouts, `Conv1D`, maps outside of the blocks, experts (which stay as they are).
MODELS = [
    ("model", "llama-gqa-tied", "nf4", True),
    ("gpt2", "gpt2", "fp4", False),
    ("gpt-neox", "gpt-neox", "nf4", False),
    ("opt-350m", "opt-350m", "fp4", True),
    ("mixtral", "mixtral", "nf4", True),
]


def models() -> None:
    """The folders: quantized from f32, saved, read again, and their logits."""
    for name, base, code, double in MODELS:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=code, bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=torch.float32
        )
        kwargs = {"dtype": torch.float32, "device_map": "cpu"}
        AutoModelForCausalLM.from_pretrained(HERE / base, quantization_config=config, **kwargs).save_pretrained(OUT / name)
        model = AutoModelForCausalLM.from_pretrained(OUT / name, **kwargs).eval()
        exact_products(model)
        ids = torch.randint(model.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(31))
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        save_file({"input_ids": ids, "logits": logits.contiguous()}, OUT / name / "logits.safetensors", {"format": "pt"})


def exact_products(model: torch.nn.Module) -> None:
    """Products with the dequantized weight, because the native code is wrong for some shapes and wants outputs by 32 for others."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            values = dequantized(module.weight.data, module.weight.quant_state)
            module.forward = lambda x, values=values, bias=module.bias: torch.nn.functional.linear(x, values, bias)


def quantize_blocks(model: torch.nn.Module, kind: str, block: int, double: bool = False) -> None:
    """Puts the dequantized weight in place of every frozen matrix of the blocks, as `[out, in]`; head and routers stay."""
    for name, module in model.named_modules():
        if isinstance(module, Conv1D | torch.nn.Linear) and re.search(r"\.(layers?|h|blocks)\.", name) and "lora_" not in name:
            transposed = isinstance(module, Conv1D)
            weight = module.weight.data.t().contiguous() if transposed else module.weight.data
            if kind == "int8":
                codes, state = bnb.quantize_blockwise(weight, blocksize=block)
                values = bnb.dequantize_blockwise(codes, state)
            else:
                values = dequantized(*bnb.quantize_4bit(weight, blocksize=block, compress_statistics=double, quant_type=kind))
            module.weight.data = values.t().contiguous() if transposed else values


def keys() -> None:
    """One linear map without quantized scales, and one in bf16, as `Linear4bit` saves them: `keys-*.safetensors`."""
    for name, double, dtype in [("plain", False, torch.float32), ("bf16", True, torch.bfloat16)]:
        layer = Linear4bit(128, 6, bias=False, compute_dtype=torch.float32)
        values = weight((6, 128), 12, "plain").to(dtype)
        layer.weight = Params4bit(values, compress_statistics=double, quant_type="nf4", module=layer)
        tensors = {f"layer.{key}": tensor.contiguous().clone() for key, tensor in layer.to("cpu").state_dict().items()}
        save_file(tensors | {"input": values}, OUT / f"keys-{name}.safetensors", {"format": "pt"})


def means() -> None:
    """Bits of the means of `(40503 i mod 65536) / 65536` in torch's order of addition on one thread, by their count."""
    counts = [1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 511, 513, 1000, 4095, 4097, 13824, 32769, 131075]
    values = (torch.arange(max(counts)) * 40503 % 65536).to(torch.float32) / 65536
    table = {str(count): values[:count].mean().view(torch.int32).item() & 0xFFFFFFFF for count in counts}
    (OUT / "means.json").write_text(json.dumps(table) + "\n")


def write() -> None:
    OUT.mkdir(exist_ok=True)
    four_bit("nf4-double", weight((48, 64), 1, "plain"), "nf4", 64, True)
    four_bit("nf4-double-many", weight((130, 192), 2, "outliers").to(torch.bfloat16), "nf4", 64, True)
    four_bit("nf4-odd", weight((7, 45), 3, "plain"), "nf4", 64, False)
    four_bit("nf4-odd-double", weight((33, 81), 4, "outliers"), "nf4", 64, True)
    four_bit("nf4-across-rows", weight((9, 80), 5, "plain").to(torch.float16), "nf4", 64, True)
    four_bit("nf4-levels", weight((16, 128), 6, "levels"), "nf4", 128, False)
    four_bit("nf4-tiny", weight((5, 70), 7, "tiny"), "nf4", 64, False)
    four_bit("nf4-zeros", torch.zeros(3, 50), "nf4", 64, True)
    four_bit("fp4-double", weight((20, 128), 8, "outliers"), "fp4", 64, True)
    four_bit("fp4-odd", weight((3, 37), 9, "plain"), "fp4", 32, False)
    int8("int8", weight((24, 64), 10, "outliers"), 64)
    int8("int8-odd", weight((11, 37), 11, "plain").to(torch.bfloat16), 256)
    models()
    keys()
    means()
