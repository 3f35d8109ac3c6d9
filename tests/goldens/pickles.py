"""Files as `torch.save` writes them, for the tests of `models/src/weights/pickle/`: there, in `fixtures/pickles/`.

    python pickles.py        # torch 2.15.0, safetensors 0.8.0

The tensors of `mixed*` and of the shards are those of the safetensors fixtures beside them; those of `views*` are also in
`views.safetensors`, row-major. Storages of the older format are named by addresses, so those files differ with each run.
"""

import json
import os
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).resolve().parents[2] / "models/src/weights/fixtures"
HERE = FIXTURES / "pickles"


def save(name, what, protocol=2, older=False):
    torch.save(what, HERE / name, pickle_protocol=protocol, _use_new_zipfile_serialization=not older)


class Hostile:
    """Asks whoever unpickles it to make a file."""

    def __reduce__(self):
        return os.system, ("touch executed-by-a-pickle",)


HERE.mkdir(exist_ok=True)

mixed = load_file(FIXTURES / "mixed.safetensors")
save("mixed.bin", mixed)
save("mixed-protocol-1.bin", mixed, protocol=1)
save("mixed-protocol-5.bin", mixed, protocol=5)
save("mixed-older.bin", mixed, older=True)
save("mixed-older-protocol-1.bin", mixed, protocol=1, older=True)
save("mixed-older-protocol-4.bin", mixed, protocol=4, older=True)

base = torch.arange(24.0).reshape(2, 3, 4) / 4
tied = torch.arange(6, dtype=torch.bfloat16)
views = OrderedDict(
    {
        "whole": base,
        "transposed": base[0].T,
        "permuted": base.permute(2, 0, 1),
        "columns": base[:, :, 1:3],
        "every_other": base.reshape(-1)[1::2],
        "from_the_middle": base[1],
        "repeated": base[1, 2].expand(3, 4),
        "one_row": base[0, :1].expand(1, 4),
        "embedding": tied.reshape(2, 3),
        "head": tied.reshape(2, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.5])),
        "short": torch.tensor([[1, -2], [3, 4]], dtype=torch.int16).T,
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
        "sizes": torch.empty(0, 7, dtype=torch.int32),
    }
)
views._metadata = OrderedDict({"": {"version": 1}})
save("views.bin", views)
del views["unsigned"]  # the older format names dtypes by typed storages, of which uint16 has none
save("views-older.bin", views, older=True)
views["unsigned"] = torch.tensor([1, 65535], dtype=torch.uint16)
save_file({name: tensor.detach().contiguous().clone() for name, tensor in views.items()}, HERE / "views.safetensors")

index = json.loads((FIXTURES / "sharded/model.safetensors.index.json").read_text())


def renamed(shard):
    return shard.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")


for shard in sorted(set(index["weight_map"].values())):
    save(renamed(shard), load_file(FIXTURES / "sharded" / shard))
index["weight_map"] = {name: renamed(shard) for name, shard in index["weight_map"].items()}
(HERE / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")

small = torch.ones(2)
for older in (False, True):
    suffix = "-older" if older else ""
    save(f"hostile{suffix}.bin", {"weight": small, "bias": Hostile()}, older=older)
save("hostile-protocol-4.bin", {"bias": Hostile(), "weight": small}, protocol=4)
save("nested.bin", {"epoch": 3, "state_dict": {"weight": small}})
save("expanded.bin", {"mask": torch.ones(1).expand(1 << 20, 1 << 20)})
save("float8.bin", {"weight": small.to(torch.float8_e4m3fn)})
save("complex.bin", {"weight": small.to(torch.complex64)})
save("negated.bin", {"weight": torch.tensor([1 + 2j]).conj().imag})
