"""The sizes of published models: `published.json` has the `config.json` of each, with the keys of its file on the hub,
and the parameters transformers makes of it, a tied matrix once. No weights: the models are built on the `meta` device.

Configurations are added by hand, with `parameters` 0; this fills in the number.
"""

import json
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from common import HERE

FILE = HERE / "published.json"
# Falcon before it was part of transformers.
REFINED_WEB = {"n_head": "num_attention_heads", "n_layer": "num_hidden_layers", "n_head_kv": "num_kv_heads"}


def as_of_today(config: dict[str, Any]) -> dict[str, Any]:
    if not config["model_type"].startswith("RefinedWeb"):
        return config
    grouped = config["model_type"] == "RefinedWeb"  # its code knew no other layout
    config = {REFINED_WEB.get(key, key): value for key, value in config.items()}
    return config | {"model_type": "falcon", "new_decoder_architecture": grouped}


def parameters(config: dict[str, Any]) -> int:
    if config.get("_class_name") == "UNet2DConditionModel":
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in UNet2DConditionModel.from_config(config).parameters())
    config = as_of_today({key: value for key, value in config.items() if key != "auto_map"})
    with torch.device("meta"):
        without_head = ("clip", "dinov2", "dinov2_with_registers")
        auto = AutoModel if config["model_type"] in without_head else AutoModelForCausalLM
        model = auto.from_config(AutoConfig.for_model(**config))
    return sum(parameter.numel() for parameter in model.parameters())


def write() -> None:
    models = json.loads(FILE.read_text())
    for model in models.values():
        model["parameters"] = parameters(model["config"])
    lines = (f"  {json.dumps(name)}: {json.dumps(model)}" for name, model in sorted(models.items()))
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
