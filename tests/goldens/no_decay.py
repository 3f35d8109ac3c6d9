"""no_decay.json: which parameters of each family transformers' Trainer leaves out of weight decay, by their names with `{}` for
every number."""

import re

from transformers import Trainer

import lora
from common import HERE, write_json


def write() -> None:
    cases = {}
    for name in lora.MODELS:
        model = lora.load_base(name)
        decayed = set(Trainer.get_decay_parameter_names(None, model))
        kept = {parameter for parameter, _ in model.named_parameters()} - decayed
        cases[name] = sorted({re.sub(r"\b\d+\b", "{}", parameter) for parameter in kept})
    write_json(HERE / "no_decay.json", cases)
