"""The jobs of compare.py in transformers, PEFT, TRL and bitsandbytes; prints one JSON object.

`train` is a plain loop, without the overhead of a trainer. `sft` is TRL's SFTTrainer with packing. `generate` is greedy text.
What both sides start from is made by prepare.py.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
LEARNING_RATE, MAX_GRAD_NORM = 2e-4, 1.0
# The loss beside a teacher, where there is one.
ALPHA_OF_TEACHER, TEMPERATURE = 0.5, 2.0


def read(path: Path) -> list[dict[str, list[int]]]:
    return [json.loads(line) for line in open(path)]


def packs(path: Path, rows_in_pack: int) -> list[dict[str, list[int]]]:
    """Rows one after the other; positions restart, and no row's first token is predicted from the row before."""
    rows = read(path)
    out = []
    for at in range(0, len(rows), rows_in_pack):
        group = rows[at : at + rows_in_pack]
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


def train(options: argparse.Namespace) -> dict:
    model = loaded(options)
    teacher = None
    if options.teacher:
        teacher = AutoModelForCausalLM.from_pretrained(options.teacher, dtype=DTYPES[options.dtype]).eval()
        teacher.requires_grad_(False).config.use_cache = False
    model.train()
    model.config.use_cache = False
    if options.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    data = packs(options.data, options.rows_in_pack)
    steps = []
    for step in range(options.steps):
        window = data[step * options.batch : (step + 1) * options.batch]
        batch = {key: torch.tensor([pack[key] for pack in window]) for key in window[0]}
        if options.rows_in_pack == 1:
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
        steps.append({"loss": loss, "grad_norm": float(norm), "seconds": seconds, "tokens": tokens, "ended": time.time()})
    return {"steps": steps}


def sft(options: argparse.Namespace) -> dict:
    """Packing, padding-free, no recomputation, which would only cost time here; everything else as SFTConfig has it.

    In bf16 the model is loaded so, and its products are: with weights in f32 under autocast, SFTConfig's other way,
    every product rounds the weights anew.
    """
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    steps: list[dict] = []

    class Clock(TrainerCallback):
        """From batch to optimiser, all of the trainer's work between two steps included."""

        def on_train_begin(self, arguments, state, control, **_):
            self.last = time.perf_counter()
            self.tokens = 0

        def on_step_end(self, arguments, state, control, **_):
            now = time.perf_counter()
            steps.append({"seconds": now - self.last, "tokens": self.tokens, "ended": time.time()})
            self.last, self.tokens = now, 0

        def on_log(self, arguments, state, control, logs=None, **_):
            if "loss" in logs:
                steps[-1]["loss"] = logs["loss"]

    # Rows are tokens already; the trainer asks for a tokenizer all the same.
    words = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>")
    model = loaded(options)
    clock = Clock()
    config = SFTConfig(
        output_dir=str(options.data.parent / "sft"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        max_length=options.length,
        packing=True,
        gradient_checkpointing=False,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=MAX_GRAD_NORM,
        bf16=options.dtype == "bf16",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = Dataset.from_list(read(options.data))
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    collate = trainer.data_collator

    def counted(examples: list[dict]) -> dict[str, torch.Tensor]:
        batch = collate(examples)
        # Packs are joined without padding, so every token is of a row.
        clock.tokens += sum(len(example["input_ids"]) for example in examples)
        return batch

    trainer.data_collator = counted
    trainer.train()
    return {"steps": steps}


def generate(options: argparse.Namespace) -> dict:
    model = AutoModelForCausalLM.from_pretrained(options.base, dtype=DTYPES[options.dtype], device_map="cpu").eval()
    if options.dtype != "f32":
        for module in model.modules():
            if hasattr(module, "compute_dtype"):  # of a map in 4 bits; its files say f32
                module.compute_dtype = DTYPES[options.dtype]
    answers = []

    def ask(ids: torch.Tensor, new: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False
        )
        return time.perf_counter() - start, out[0, ids.shape[1] :].tolist()

    with torch.inference_mode():
        for row in read(options.data):
            ids = torch.tensor([row["input_ids"]])
            first, _ = ask(ids, 1)
            whole, written = ask(ids, options.steps + 1)
            answers.append({"first": first, "whole": whole, "output_ids": written})
    return {"answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("train", "sft", "generate"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--base", type=Path, help="model folder", required=True)
        sub.add_argument("--data", type=Path, required=True)
        sub.add_argument("--dtype", choices=DTYPES, default="f32")
        sub.add_argument("--steps", type=int, default=6, help="with generate: new tokens after the first")
        sub.add_argument("--batch", type=int, default=4, help="packs a step")
        sub.add_argument("--length", type=int, default=512, help="tokens a pack")
        sub.add_argument("--rows-in-pack", type=int, default=1)
        sub.add_argument("--adapter", type=Path, help="initial adapter")
        sub.add_argument("--teacher", type=Path, help="model folder: distillation from it")
        sub.add_argument("--recompute", action="store_true", help="gradient checkpointing")
        sub.add_argument("--method", choices=("full", "lora", "qlora"), default="lora")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    result = {"train": train, "sft": sft, "generate": generate}[options.verb](options)
    print(json.dumps(result | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
