"""Two adapters on one base, combined by PEFT's `add_weighted_adapter`: `adapter-merge/`."""

import shutil

from peft import PeftModel
from safetensors.torch import load_file, save_file

import lora
from common import HERE

BASE = "llama-gqa-tied"
WEIGHTS = [0.7, -0.4]
ADAPTERS = {
    "a": dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"]),
    "b": dict(r=3, lora_alpha=4, target_modules=["v_proj", "down_proj"], use_rslora=True),
}
METHODS = {
    "linear": dict(),
    "cat": dict(),
    "svd": dict(svd_rank=4),
    "ties": dict(density=0.6, majority_sign_method="total"),
}


def write() -> None:
    folder = HERE / "adapter-merge"
    shutil.rmtree(folder, ignore_errors=True)
    for index, (name, settings) in enumerate(ADAPTERS.items()):
        lora.write_adapter(folder / name, BASE, settings, 300 + index)
    model = PeftModel.from_pretrained(lora.load_base(BASE), folder / "a", adapter_name="a")
    model.load_adapter(folder / "b", adapter_name="b")
    for method, settings in METHODS.items():
        # The first adapter's rank stabilisation would be kept with the new alpha; it has none.
        model.add_weighted_adapter(["a", "b"], WEIGHTS, method, combination_type=method, **settings)
        scratch = folder / "scratch"
        model.save_pretrained(scratch, selected_adapters=[method])
        tensors = load_file(scratch / method / lora.ADAPTER_FILE)
        save_file(tensors, folder / f"{method}.safetensors", metadata={"format": "pt"})
        shutil.rmtree(scratch)
