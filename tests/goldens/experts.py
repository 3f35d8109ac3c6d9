"""Mixtral adapters in the layout of PEFT with transformers 4, which had a module for every expert: the file has
`block_sparse_moe.experts.{e}.w1.lora_A.weight` and the like. With transformers 5 PEFT turns such a file, when it loads
it, into one adapter for all experts, and never writes it again.

What it becomes, for E experts and rank r (w1 and w3 are one matrix, of rank 2r):
- `mlp.experts.base_layer.lora_A` [E 2r, hidden]: expert by expert, A of w1 above A of w3;
  `mlp.experts.base_layer.lora_B` [2 width, 2r E]: column `rank * E + expert`, B of w1 top left, B of w3 bottom right;
- `mlp.experts.lora_A` [E r, width] and `mlp.experts.lora_B` [hidden, r E]: w2, in the same orders.
"""

import json
from pathlib import Path
import re
import shutil
from typing import Any

from peft import LoraConfig
from safetensors.torch import load_file, save_file
import torch
from transformers import MixtralConfig

PREFIX = "base_model.model.model.layers"


def write_adapter(folder: Path, base: str, model: MixtralConfig, settings: dict[str, Any], seed: int) -> int:
    """Returns how many parameters the adapter has once it is loaded."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    hidden, width, rank = model.hidden_size, model.intermediate_size, settings["r"]
    key_value = hidden // model.num_attention_heads * model.num_key_value_heads
    shapes = {"w1": (hidden, width), "w2": (width, hidden), "w3": (hidden, width)}
    shapes |= {"q_proj": (hidden, hidden), "k_proj": (hidden, key_value), "v_proj": (hidden, key_value)}
    generator = torch.Generator().manual_seed(seed)
    tensors, loaded = {}, 0
    for layer in range(model.num_hidden_layers):
        for target in settings["target_modules"]:
            of_experts = target.startswith("w")
            modules = ["self_attn"]
            if of_experts:
                modules = [f"block_sparse_moe.experts.{expert}" for expert in range(model.num_local_experts)]
            for module in modules:
                inputs, outputs = shapes[target]
                name = f"{PREFIX}.{layer}.{module}.{target}"
                a, b = torch.empty(rank, inputs), torch.empty(outputs, rank)
                tensors[f"{name}.lora_A.weight"] = a.normal_(0.0, 0.6 / inputs**0.5, generator=generator)
                tensors[f"{name}.lora_B.weight"] = b.normal_(0.0, 0.3, generator=generator)
            loaded += 0 if target == "w3" else 2
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(task_type="CAUSAL_LM", inference_mode=True, **settings).to_dict()
    config |= {"base_model_name_or_path": f"../{base}", "target_modules": sorted(settings["target_modules"])}
    # What the versions of that layout wrote.
    keys = """alpha_pattern auto_mapping base_model_name_or_path bias fan_in_fan_out inference_mode init_lora_weights
        layers_pattern layers_to_transform lora_alpha lora_dropout modules_to_save peft_type r rank_pattern revision
        target_modules task_type use_dora use_rslora"""
    config = {key: config[key] for key in keys.split()}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return loaded


def split(tensors: dict[str, torch.Tensor], experts: int) -> dict[str, torch.Tensor]:
    """The joint adapter, or its gradients, as the tensors of the file: each of these is a part of a joint one."""
    out = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*)\.mlp\.experts(\.base_layer)?\.lora_([AB])\.weight", name)
        if match is None:
            out[name] = tensor
            continue
        layer, gate_up, side = match.groups()
        if side == "A":
            of_expert = tensor.unflatten(0, (experts, -1))  # [experts, rank, inputs]
        else:
            of_expert = tensor.unflatten(1, (-1, experts)).permute(2, 0, 1)  # [experts, outputs, rank]
        for expert, joint in enumerate(of_expert):
            parts = {"w2": joint}
            if gate_up and side == "A":
                parts = dict(zip(("w1", "w3"), joint.chunk(2, 0)))
            elif gate_up:
                top, bottom = joint.chunk(2, 0)
                parts = {"w1": top.chunk(2, 1)[0], "w3": bottom.chunk(2, 1)[1]}
            for target, part in parts.items():
                out[f"{layer}.block_sparse_moe.experts.{expert}.{target}.lora_{side}.weight"] = part
    return {name: tensor.contiguous() for name, tensor in out.items()}


def keep_apart(model: torch.nn.Module) -> None:
    """Trains what the file's tensors are a part of as if each was alone: A of w1 shall not reach B of w3."""
    for name, parameter in model.named_parameters():
        if ".mlp.experts.base_layer.lora_B" in name:
            mask = torch.zeros_like(parameter)
            rows, columns = (size // 2 for size in mask.shape)
            mask[:rows, :columns] = 1
            mask[rows:, columns:] = 1
            assert not (parameter * (1 - mask)).any()
            parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
