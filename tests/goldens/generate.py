"""Writes the goldens: `python generate.py` for all of them, `python generate.py NAME...` for some, `--list` for the names.

The pinned versions are in requirements.txt. Running it again gives the same bytes on the same kind of processor.
"""

import os
import sys
import warnings

# PEFT keeps target modules in a set, whose order this fixes. Read at start, hence the restart.
if os.environ.get("PYTHONHASHSEED") != "0":
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})

# The base of an adapter is named relative to the adapter's folder, where PEFT does not look for its config.
warnings.filterwarnings("ignore", message="Could not find a config file")
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

import adapter_files
import adapter_merge
import all_linear
import classifier_trajectories
import classifiers
import clip
import clip_adapters
import clip_trajectories
import config_defaults
import dinov2
import dinov2_adapters
import dinov2_trajectories
import diffusion
import diffusion_adapters
import diffusion_trajectories
import distill_trajectories
import families
import family_trajectories
import llama
import loftq
import lora
import no_decay
import numbers_of_torch
import quantized
import optimizer_trajectories
import pictures
import preference
import published
import sampling
import score
import tokenizer_configs
import tokenizers_of_folders
import trajectory
import vocabulary
from common import write_case


def jobs() -> dict:
    models = llama.CASES | families.CASES
    trajectories = trajectory.CASES | family_trajectories.CASES | optimizer_trajectories.CASES
    trajectories |= distill_trajectories.CASES
    table = {name: (lambda name=name, case=case: write_case(name, case)) for name, case in models.items()}
    table |= {name: (lambda name=name, case=case: lora.write(name, case)) for name, case in lora.CASES.items()}
    table |= {name: (lambda name=name, case=case: trajectory.write(name, case)) for name, case in trajectories.items()}
    table |= {name: (lambda name=name, case=case: preference.write(name, case)) for name, case in preference.CASES.items()}
    table |= {"preference": preference.formulas}
    table |= {"all_linear": all_linear.write, "published": published.write}
    table |= {"adapter-merge": adapter_merge.write, "config_defaults": config_defaults.write}
    for name, case in adapter_files.CASES.items():
        table[f"adapter-files/{name}"] = lambda name=name, case=case: adapter_files.write(name, case)
    table |= {f"tokenizers/{name}": (lambda name=name: tokenizers_of_folders.write(name)) for name in tokenizers_of_folders.CASES}
    table |= {"tokenizer-configs": tokenizer_configs.main}
    table |= {f"vocabulary/{name}": (lambda name=name: vocabulary.write(name)) for name in vocabulary.CASES}
    table |= {"optimizers": numbers_of_torch.optimizers, "schedules": numbers_of_torch.schedules, "score": score.write}
    table |= {"pictures": pictures.write, "sampling": sampling.write, "no_decay": no_decay.write}
    table |= {"quantized": quantized.write, "loftq": loftq.write}
    for module in (classifiers, classifier_trajectories):
        for name, case in module.CASES.items():
            table[f"classifiers/{name}"] = lambda name=name, case=case, module=module: module.write(name, case)
    for module in (clip, clip_adapters, clip_trajectories):  # in this order, as below
        for name, case in module.CASES.items():
            table[f"towers/{name}"] = lambda name=name, case=case, module=module: module.write(name, case)
    for module in (dinov2, dinov2_adapters, dinov2_trajectories):
        for name, case in module.CASES.items():
            table[f"images/{name}"] = lambda name=name, case=case, module=module: module.write(name, case)
    for module in (diffusion, diffusion_adapters, diffusion_trajectories):  # in this order, as below
        for name, case in module.CASES.items():
            table[f"diffusion/{name}"] = lambda name=name, case=case, module=module: module.write(name, case)
    return table


def main(names: list[str]) -> None:
    table = jobs()
    if names == ["--list"]:
        print("\n".join(table))
        return
    unknown = [name for name in names if name not in table]
    if unknown:
        raise SystemExit(f"no such golden: {', '.join(unknown)}; --list shows them")
    for name in names or table:  # in this order: adapters and trajectories need their base
        print(name, flush=True)
        table[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
