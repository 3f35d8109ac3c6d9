"""Adapter folders as people have them, in `adapter-files/<case>/`: saved by PyTorch, with names that match nothing, with rows of
the token table, or kept as they began.

A PEFT folder and `forward.safetensors`, in the format of `common.py` without gradients. The logits are those of the folder loaded by
PEFT, so they are PEFT's reading of the files; of `pickled-names`, which PEFT does not read, those of the model that was saved.
`merged.safetensors` holds the tensors that PEFT's merge changes, where `rows` are trained."""

from dataclasses import dataclass
import os
import shutil
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

import lora
from common import HERE, pad_right, run, token_losses, token_rows, weights


@dataclass
class FileCase:
    base: str
    seed: int
    settings: dict[str, Any]
    saved: str = "safetensors"  # or "pickle": by PEFT; "names": the state dictionary with the adapter's name in it


LORA = dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"])
CASES = {
    "pickled": FileCase("llama-gqa-tied", 201, LORA | dict(modules_to_save=["norm"]), "pickle"),
    "pickled-names": FileCase("llama-untied-biases", 202, LORA | dict(use_dora=True, modules_to_save=["norm"]), "names"),
    "unmatched": FileCase(
        "llama-untied-biases",
        203,
        dict(
            r=2,
            lora_alpha=3,
            target_modules=["q_proj", "query_key_value", "v_proj", "w1"],
            modules_to_save=["classifier", "norm", "score"],
            exclude_modules=["fc9"],
            rank_pattern={"k_proj": 7, "v_proj": 3},
            alpha_pattern={"w2": 1},
        ),
    ),
    # A list is of the input embedding; a tied head follows it.
    "tokens-tied": FileCase("llama-gqa-tied", 204, LORA | dict(trainable_token_indices=[90, 5, 17])),
    "tokens-untied": FileCase("llama-untied-biases", 205, LORA | dict(trainable_token_indices={"embed_tokens": [3, 60]})),
    "tokens-both": FileCase(
        "llama-untied-biases", 206, LORA | dict(trainable_token_indices={"embed_tokens": [3], "lm_head": [9, 4]})
    ),
    # Other rows in the head than in the embedding: the two are no longer tied.
    "tokens-torn": FileCase(
        "llama-gqa-tied", 207, LORA | dict(trainable_token_indices={"embed_tokens": [3], "lm_head": [4, 9]})
    ),
    "tokens-same": FileCase(
        "llama-gqa-tied", 208, LORA | dict(trainable_token_indices={"embed_tokens": [3, 8], "lm_head": [3, 8]})
    ),
    # An embedding that is multiplied.
    "tokens-gemma3": FileCase("gemma3", 209, LORA | dict(trainable_token_indices=[2, 11])),
    # Starts that leave the base as it is.
    "mica": FileCase("llama-untied-biases", 210, LORA | dict(init_lora_weights="mica")),
    "orthogonal": FileCase("llama-untied-biases", 211, LORA | dict(init_lora_weights="orthogonal")),
    # Starts that change the base: PEFT makes them again from the base it loads.
    "pissa": FileCase("llama-untied-biases", 212, LORA | dict(init_lora_weights="pissa")),
    "olora": FileCase("llama-untied-biases", 213, LORA | dict(init_lora_weights="olora", use_rslora=True)),
}


def forward(model: torch.nn.Module, vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    batch = pad_right(token_rows(seed, vocabulary, (11, 7)), None, vocabulary // 2)
    # Some of the trained rows are read.
    batch["input_ids"][:, :6] = torch.tensor([[3, 4, 5, 8, 17, 2], [60, 9, 90, 11, 3, 4]]) % vocabulary
    with torch.no_grad():
        logits = run(model, batch)
    total, count = token_losses(logits, batch["labels"])
    return batch | {"logits": logits.detach().contiguous(), "loss": (total / count).detach()}


def write(name: str, case: FileCase) -> None:
    folder = HERE / "adapter-files" / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(case.seed)
    model = get_peft_model(lora.load_base(case.base), LoraConfig(task_type="CAUSAL_LM", **case.settings))
    generator = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.15, generator=generator))
    folder.mkdir(parents=True)
    state = {key: value for key, value in model.state_dict().items() if "lora_" in key or "modules_to_save" in key}
    # Ids of PEFT's and torch's own are without order.
    lora.save_adapter(model, folder, f"../../{case.base}")
    if case.saved != "safetensors":
        os.remove(folder / lora.ADAPTER_FILE)
        if case.saved == "pickle":
            model.save_pretrained(folder, safe_serialization=False)
            (folder / "README.md").unlink(missing_ok=True)
            lora.save_adapter(model, folder, f"../../{case.base}")
            os.remove(folder / lora.ADAPTER_FILE)
        else:
            torch.save(state, folder / "adapter_model.bin")
    vocabulary = lora.MODELS[case.base].config.vocab_size
    loaded = model if case.saved == "names" else PeftModel.from_pretrained(lora.load_base(case.base), folder)
    save_file(forward(lora.Adapted(loaded.eval()), vocabulary, case.seed + 1000), folder / "forward.safetensors")
    if "trainable_token_indices" in case.settings:
        load = lora.load_untied if name == "tokens-torn" else lora.load_base
        tensors = lora.merged(PeftModel.from_pretrained(load(case.base), folder))
        before = weights(HERE / case.base)
        changed = {key: value for key, value in tensors.items() if key not in before or not torch.equal(value, before[key])}
        save_file(changed, folder / "merged.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:] or CASES:
        write(name, CASES[name])
