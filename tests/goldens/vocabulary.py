"""Adapters of models whose vocabulary was given another size before training: `vocabulary/<case>/`.

Each is a PEFT adapter folder with random factors, embeddings and heads, and `forward.safetensors`: `input_ids`
`[batch, time]`, which use the new ids, and PEFT's `logits`. PEFT writes the resized matrices beside the factors.
"""

import copy
import shutil
from typing import Any

import torch
from common import HERE, IGNORE, load_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

FOLDER = HERE / "vocabulary"
PLAIN = dict(target_modules=["q_proj", "v_proj"])
SAVED = PLAIN | dict(modules_to_save=["embed_tokens", "lm_head"])
ENDS = dict(target_modules=["q_proj", "embed_tokens", "lm_head"])

# Base, number of rows, settings of the adapter.
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "saved-tied": ("llama-gqa-tied", 100, SAVED),
    "saved-tied-kept": ("llama-gqa-tied", 100, SAVED | dict(ensure_weight_tying=True)),
    "saved-untied": ("llama-untied-biases", 103, SAVED),
    "embedding-untied": ("llama-untied-biases", 103, PLAIN | dict(modules_to_save=["embed_tokens"])),
    "factors-tied": ("llama-gqa-tied", 99, ENDS),
    "factors-untied": ("llama-untied-biases", 103, ENDS),
    "plain-tied": ("llama-gqa-tied", 101, PLAIN),
    "plain-untied": ("llama-untied-biases", 103, PLAIN),
    "bias-of-head": ("gptj", 103, dict(target_modules=["q_proj", "v_proj"], modules_to_save=["wte", "lm_head"])),
    "fewer": ("llama-untied-biases", 60, PLAIN),
}


def write(name: str) -> None:
    base, rows, settings = copy.deepcopy(CASES[name])  # PEFT writes into the lists
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = load_model(base)
    old = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    generator = torch.Generator().manual_seed(rows)

    def randomise(tensor: torch.Tensor, scale: float) -> None:
        tensor.data.copy_(scale * torch.randn(tensor.shape, generator=generator))

    for matrix in {id(m): m for m in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}.values():
        if rows > old:
            randomise(matrix[old:], 0.3)
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        randomise(model.get_output_embeddings().bias, 0.1)
    adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=4, task_type="CAUSAL_LM", **settings))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    adapted.peft_config["default"].base_model_name_or_path = f"../../{base}"
    # "auto" asks the base of that name how many tokens it has.
    adapted.save_pretrained(folder, save_embedding_layers=True)
    (folder / "README.md").unlink(missing_ok=True)
    ids = torch.randint(0, rows, (2, 9), generator=generator)
    ids[:, -3:] = torch.arange(rows - 3, rows)
    with torch.no_grad():
        logits = adapted.eval()(input_ids=ids).logits
    places = torch.arange(ids.shape[1]).repeat(len(ids), 1)
    rest = {"attention_mask": torch.ones_like(ids), "position_ids": places, "labels": torch.full_like(ids, IGNORE)}
    save_file({"input_ids": ids, "logits": logits.contiguous()} | rest, folder / "forward.safetensors")


if __name__ == "__main__":
    for case in CASES:
        write(case)
