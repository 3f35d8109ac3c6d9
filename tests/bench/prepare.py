"""What both sides start from: a model, with random weights where --base is not there yet, an initial adapter (A random, B
zero), a teacher.

Called by compare.py and memory.py. `--form endless` makes a copy of --base in which no token ends a text; `--form nf4` saves
that as transformers and bitsandbytes do, in 4 bits.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

import shapes

RANK, ALPHA = 16, 32


def random_model(shape: str, smoke: bool, folder: Path) -> None:
    """Written in bf16."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(shapes.config(shape, smoke), dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="500MB")


def initial_adapter(base: Path, targets: list[str], folder: Path) -> None:
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=targets or "all-linear")
    get_peft_model(model, lora).save_pretrained(folder)


def endless(base: Path, folder: Path) -> None:
    """The weights, and a configuration without an end; no tokenizer, whose end would count too."""
    folder.mkdir()
    for file in base.iterdir():
        if file.name.startswith("model") and "safetensors" in file.name:
            os.symlink(file.resolve(), folder / file.name)
    config = json.loads((base / "config.json").read_text())
    config |= {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))


def quantized(base: Path, folder: Path) -> None:
    kind = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, quantization_config=kind, device_map="cpu")
    model.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="model folder; made, in --shape, when it is not there")
    parser.add_argument("--folder", type=Path, required=True, help="gets initial-adapter/, teacher/, endless/, nf4/")
    parser.add_argument("--shape", choices=shapes.SHAPES, default="smollm2-135m", help="of a model with random weights")
    parser.add_argument("--smoke", action="store_true", help="the shape's tiny sibling")
    parser.add_argument("--adapter", action="store_true", help="write an initial adapter")
    parser.add_argument("--targets", default="", help="modules with an adapter, by commas; default: all linear maps")
    parser.add_argument("--teacher-shape", choices=shapes.SHAPES, help="write a teacher with random weights")
    parser.add_argument("--form", choices=("endless", "nf4"))
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.base.exists():
        random_model(options.shape, options.smoke, options.base)
    if options.teacher_shape:
        random_model(options.teacher_shape, options.smoke, options.folder / "teacher")
    if options.adapter:
        targets = [name for name in options.targets.split(",") if name]
        initial_adapter(options.base, targets, options.folder / "initial-adapter")
    if options.form:
        endless(options.base, options.folder / "endless")
    if options.form == "nf4":
        quantized(options.folder / "endless", options.folder / "nf4")


if __name__ == "__main__":
    main()
