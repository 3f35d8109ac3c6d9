"""The LoRA job of compare.py in transformers + PEFT: a plain loop, without the overhead of a trainer.

`reference.py prepare` writes what both sides start from: token rows, an initial adapter (A random, B zero) and, without
--base, a model of SmolLM2-135M's shape with random weights. `reference.py train` runs the job and prints one JSON object.
"""

import argparse
import json
import random
import resource
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig
from transformers.utils import logging

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
RANK, ALPHA, LEARNING_RATE, MAX_GRAD_NORM = 16, 32, 2e-4, 1.0


def smollm2_135m() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )


def llama3_1b() -> LlamaConfig:
    """LLaMA 3.2 1B: 1.24 billion parameters, of which the embedding has 263 million."""
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )


def twice_smollm2_135m() -> LlamaConfig:
    """Twice the blocks: a teacher for distillation."""
    config = smollm2_135m()
    config.num_hidden_layers *= 2
    return config


SHAPES = {"smollm2-135m": smollm2_135m, "smollm2-deep": twice_smollm2_135m, "llama3.2-1b": llama3_1b}
# The loss beside a teacher, where there is one.
ALPHA_OF_TEACHER, TEMPERATURE = 0.5, 2.0


def prepare(options: argparse.Namespace) -> None:
    torch.manual_seed(1)
    base = options.base
    if base is None:
        base = options.folder / "model"
        fresh = AutoModelForCausalLM.from_config(SHAPES[options.shape](), dtype=torch.bfloat16)
        fresh.save_pretrained(base, max_shard_size="500MB")
        del fresh
    if options.teacher_shape:
        teacher = AutoModelForCausalLM.from_config(SHAPES[options.teacher_shape](), dtype=torch.bfloat16)
        teacher.save_pretrained(options.folder / "teacher", max_shard_size="500MB")
        del teacher
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    get_peft_model(model, lora).save_pretrained(options.folder / "initial-adapter")
    generator = random.Random(7)
    vocabulary = AutoConfig.from_pretrained(base).vocab_size
    length = options.length // options.rows_per_pack
    with open(options.folder / "data.jsonl", "w") as file:
        for _ in range(options.steps * options.batch * options.rows_per_pack):
            ids = [generator.randrange(vocabulary) for _ in range(length)]
            unlabelled = round(length * (1 - options.labelled))
            labels = [-100] * unlabelled + ids[unlabelled:]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")


def packs(path: Path, rows_per_pack: int) -> list[dict[str, list[int]]]:
    """Rows one after the other; positions restart, and no row's first token is predicted from the row before."""
    rows = [json.loads(line) for line in open(path)]
    out = []
    for at in range(0, len(rows), rows_per_pack):
        group = rows[at : at + rows_per_pack]
        out.append(
            {
                "input_ids": [i for row in group for i in row["input_ids"]],
                "labels": [label for row in group for label in [-100] + row["labels"][1:]],
                "position_ids": [p for row in group for p in range(len(row["input_ids"]))],
            }
        )
    return out


def loaded(options: argparse.Namespace) -> torch.nn.Module:
    """The model with what the method trains made trainable. A quantized base computes in the same dtype as the others."""
    dtype = DTYPES[options.dtype]
    match options.method:
        case "full":
            return AutoModelForCausalLM.from_pretrained(options.base, dtype=dtype)
        case "lora":
            model = AutoModelForCausalLM.from_pretrained(options.base, dtype=dtype)
        case "qlora":
            quantization = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            model = AutoModelForCausalLM.from_pretrained(
                options.base, dtype=dtype, quantization_config=quantization, device_map="cpu"
            )
    return PeftModel.from_pretrained(model, options.adapter, is_trainable=True)


def distilled(model: torch.nn.Module, teacher: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(1 - alpha) CE + alpha T^2 KL(teacher || student)`, means over labelled tokens, as a plain loop has it."""
    labels = batch["labels"][:, 1:]
    here = labels != -100
    output = model(**batch)
    with torch.no_grad():
        taught = teacher(**{key: value for key, value in batch.items() if key != "labels"}).logits
    q = torch.log_softmax(output.logits[:, :-1][here].float() / TEMPERATURE, -1)
    p = torch.log_softmax(taught[:, :-1][here].float() / TEMPERATURE, -1)
    divergence = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True) / here.sum()
    return (1 - ALPHA_OF_TEACHER) * output.loss + ALPHA_OF_TEACHER * TEMPERATURE**2 * divergence


def train(options: argparse.Namespace) -> None:
    model = loaded(options)
    teacher = None
    if options.teacher:
        teacher = AutoModelForCausalLM.from_pretrained(options.teacher, dtype=DTYPES[options.dtype]).eval()
        teacher.requires_grad_(False).config.use_cache = False
    model.train()
    model.config.use_cache = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    data = packs(options.data, options.rows_per_pack)
    steps = []
    for step in range(options.steps):
        window = data[step * options.batch : (step + 1) * options.batch]
        batch = {key: torch.tensor([pack[key] for pack in window]) for key in window[0]}
        if options.rows_per_pack == 1:
            del batch["position_ids"]  # the causal mask alone, which is the fast path
        start = time.perf_counter()
        loss = model(**batch).loss if teacher is None else distilled(model, teacher, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.item()
        seconds = time.perf_counter() - start
        tokens = batch["input_ids"].numel()
        steps.append({"loss": loss, "grad_norm": float(norm), "seconds": seconds, "tokens_per_second": tokens / seconds})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"steps": steps, "peak_bytes": peak, "threads": torch.get_num_threads()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("prepare", "train"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--base", type=Path, help="model folder", required=verb == "train")
        sub.add_argument("--steps", type=int, default=6)
        sub.add_argument("--batch", type=int, default=4, help="packs a step")
        sub.add_argument("--rows-per-pack", type=int, default=1)
        if verb == "prepare":
            sub.add_argument("--folder", type=Path, required=True)
            sub.add_argument("--length", type=int, default=512, help="tokens a pack")
            sub.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="of the random model, without --base")
            sub.add_argument("--teacher-shape", choices=SHAPES, help="write a random teacher as well")
            sub.add_argument("--labelled", type=float, default=1.0, help="share of the tokens that is trained")
        else:
            sub.add_argument("--data", type=Path, required=True)
            sub.add_argument("--adapter", type=Path, required=True)
            sub.add_argument("--teacher", type=Path, help="model folder: distillation from it")
            sub.add_argument("--dtype", choices=DTYPES, default="f32")
            sub.add_argument("--method", choices=("full", "lora", "qlora"), default="lora")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    {"prepare": prepare, "train": train}[options.verb](options)


if __name__ == "__main__":
    main()
