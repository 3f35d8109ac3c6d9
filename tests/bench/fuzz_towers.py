"""Tiny CLIP models of random shape: `firebrand score` against transformers.

    python fuzz_towers.py --binary target/release/firebrand --cases 24 --seed 1

Every case draws heads, widths, depths, patches, activations, epsilons, the id that ends a text (also one that no row has, and
the 2 of old files), the temperature, the dtype and form of the files (one file, shards, a pickle with the buffers of old
files), and rows with and without a mask. Embeddings of every row alone are those of transformers. Exit code 1: they are not.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging

LIMIT = 3e-6  # embeddings are of length one
NAMES = ("image_embeds", "text_embeds")
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh")


def draw(r: random.Random) -> CLIPConfig:
    def tower(**own: Any) -> dict[str, Any]:
        heads = r.choice([1, 2, 3, 4])
        return own | {
            "hidden_size": heads * r.choice([4, 5, 8]),
            "num_attention_heads": heads,
            "intermediate_size": r.choice([9, 24]),
            "num_hidden_layers": r.choice([1, 2, 4]),
            "hidden_act": r.choice(ACTIVATIONS),
            "layer_norm_eps": r.choice([1e-5, 1e-3]),
        }

    vocabulary, patch = r.choice([40, 61]), r.choice([2, 3, 4])
    text = tower(
        vocab_size=vocabulary,
        max_position_embeddings=r.choice([6, 9, 16]),
        eos_token_id=r.choice([2, 7, vocabulary - 1]),
        bos_token_id=0,
        pad_token_id=1,
    )
    vision = tower(patch_size=patch, image_size=patch * r.choice([1, 2, 3]), num_channels=r.choice([1, 3, 4]))
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=r.choice([5, 8]))


def write_model(r: random.Random, config: CLIPConfig, folder: Path) -> None:
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) + (0.5 if parameter.dim() == 1 else 0))
        model.logit_scale.fill_(r.choice([2.6, 4.7]))
    model = model.to(r.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16]))
    form = r.choice(["file", "shards", "pickle"])
    model.save_pretrained(folder, max_shard_size="4KB" if form == "shards" else "5GB")
    if form == "pickle":
        (folder / "model.safetensors").unlink()
        places = torch.arange(config.text_config.max_position_embeddings)[None]
        tensors = model.state_dict() | {"text_model.embeddings.position_ids": places}
        torch.save(tensors, folder / "pytorch_model.bin")


def write_rows(r: random.Random, config: CLIPConfig, folder: Path) -> list[Path]:
    vision, text = config.vision_config, config.text_config
    rows = []
    for number in range(4):
        length = r.randint(1, text.max_position_embeddings)
        row = {
            "pixel_values": torch.randn(vision.num_channels, vision.image_size, vision.image_size),
            "input_ids": torch.tensor([r.randrange(text.vocab_size) for _ in range(length)]),
        }
        if r.random() < 0.5:
            seen = r.randint(1, length)
            row["attention_mask"] = torch.tensor([1] * seen + [0] * (length - seen))
        rows.append(folder / f"{number}.safetensors")
        save_file(row, rows[-1])
    lines = [json.dumps({"tensors": row.name}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines))
    return rows


def distance(binary: Path, seed: int, folder: Path) -> float:
    r = random.Random(seed)
    torch.manual_seed(seed)
    config = draw(r)
    write_model(r, config, folder / "model")
    rows = write_rows(r, config, folder)
    command = [binary.resolve(), "score", "--model", "model", "--data", "rows.jsonl", "--out", "scores.jsonl"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    reference = CLIPModel.from_pretrained(folder / "model", dtype=torch.float32).eval()
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    apart = 0.0
    for row, score in zip(rows, scores, strict=True):
        with torch.no_grad():
            answer = reference(**{name: tensor[None] for name, tensor in load_file(row).items()})
        for name in NAMES:
            apart = max(apart, float((answer[name][0] - torch.tensor(score[name])).abs().max()))
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of the first case; the next has the next")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    wrong = []
    largest = 0.0
    for seed in range(options.seed, options.seed + options.cases):
        with tempfile.TemporaryDirectory() as folder:
            apart = distance(options.binary, seed, Path(folder))
        largest = max(largest, apart)
        if apart > LIMIT:
            wrong.append(seed)
    print(f"{options.cases - len(wrong)} of {options.cases}; largest difference {largest:.1e}")
    if wrong:
        sys.exit(f"seeds {wrong} differ by more than {LIMIT:.0e}")


if __name__ == "__main__":
    main()
