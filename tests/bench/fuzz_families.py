"""Tiny models of random shape, end to end: firebrand's command line against transformers and PEFT.

    python fuzz_families.py --binary target/release/firebrand --cases 10 --seed 1 [--family falcon] [--keep DIR]

The goldens hold shapes that somebody chose. Here every case draws its own (`random_configs.py`): odd head counts, one
key-value head, ALiBi for head counts that are no power of two, windows shorter than the rows, tied or not, biases or
not, all parameters random, in f32 or 16 bits, in one file or several, safetensors or pickles, with or without the base
prefix and the buffers of old files. For each case

1. `score`: the log-probabilities of rows of many lengths are those of transformers, each row alone;
2. `train` with LoRA: loss and gradient norm of every step and the final adapter are those of plain torch from the same
   adapter; PEFT loads the folder and gives what `score --adapter` gives;
3. `merge`: transformers loads the folder without a missing or unexpected key and gives the adapter's log-probabilities;
4. `train` of all weights: as in 2, and transformers loads the model without a missing or unexpected key;
5. `generate`: greedy text is the reference's, with and without the adapter.

Needs what tests/goldens/requirements.txt lists. A failing case is repeated by its family and seed and `--cases 1`.
Exit code 1: something differs by more than its limit and ten times the reference's own rounding, which is its distance
from f64.
"""

import argparse
import copy
import json
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.optimization import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from random_configs import CONFIGS, LONGEST, Draw

warnings.filterwarnings("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)

# Largest differences: of a log-probability and a loss, of gradient norms and of all final weights together (relative).
LIMITS = {"logprob": 5e-5, "loss": 5e-5, "norm": 3e-4, "weights": 2e-4}
NEW_TOKENS = 15
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
SCHEDULES = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}
MASKS = ["bias", "masked_bias"]
BUFFERS = {  # that old files hold in every layer
    "gptj": [f"attn.{name}" for name in MASKS],
    "gpt2": [f"attn.{name}" for name in MASKS],
    "llama": ["self_attn.rotary_emb.inv_freq"],
    "gpt_neo": [f"attn.attention.{name}" for name in MASKS],
    "gpt_neox": [f"attention.{name}" for name in [*MASKS, "rotary_emb.inv_freq"]],
}


def randomise(model: torch.nn.Module, seed: int, centred_norms: bool) -> None:
    """As in the goldens: default values hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    for name, parameter in model.named_parameters():
        if id(parameter) in tables:
            parameter.data.normal_(0.0, 0.5, generator=generator)
        elif parameter.dim() == 1 and name.endswith("bias"):
            parameter.data.normal_(0.0, 0.3, generator=generator)
        elif parameter.dim() == 1:
            parameter.data.uniform_(0.7, 1.3, generator=generator).sub_(1.0 if centred_norms else 0.0)
        else:
            parameter.data.normal_(0.0, 1.3 / parameter.shape[-1] ** 0.5, generator=generator)


def write_weights(r: Draw, model, folder: Path) -> tuple[str, str]:
    """One of the layouts in which models are published: (dtype, description). Rounds the model to what it holds."""
    held = r.choice(["f32", "f32", "bf16", "f16"])
    dtype = DTYPES[held]
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in model.state_dict().items()})
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(Path(plain) / "model.safetensors").items()}
    layout = [held]
    family = model.config.model_type
    if family in BUFFERS and r.flag():
        layers = next(name.split(".0.")[0] for name in tensors if ".0." in name)
        mask = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
        values = {"bias": mask, "masked_bias": torch.tensor(-1e9), "inv_freq": torch.ones(3)}
        for layer in range(model.config.num_hidden_layers):
            tensors |= {f"{layers}.{layer}.{name}": values[name.rpartition(".")[2]].clone() for name in BUFFERS[family]}
        layout.append("with buffers")
    if r.random() < 0.3:
        tensors = {name.removeprefix(f"{model.base_model_prefix}."): tensor for name, tensor in tensors.items()}
        layout.append("without prefix")
    kind, count = r.choice(["safetensors", "safetensors", "zip", "legacy"]), min(r.choice([1, 1, 2, 3]), len(tensors))
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    places = {}
    for at in range(count):
        part = {name: tensors[name].contiguous() for name in list(tensors)[at::count]}
        file = f"{stem}.{suffix}" if count == 1 else f"{stem}-{at + 1:05}-of-{count:05}.{suffix}"
        if kind == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file, _use_new_zipfile_serialization=kind == "zip")
        places |= dict.fromkeys(part, file)
    if count > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return held, f"{count} x {kind}, {', '.join(layout)}"


def forget(model) -> None:
    """transformers' dynamic rope remembers the longest row so far."""
    for module in model.modules():
        if getattr(module, "original_inv_freq", None) is not None and hasattr(module, "max_seq_len_cached"):
            module.inv_freq = module.original_inv_freq.clone()
            module.max_seq_len_cached = module.original_max_seq_len


def logits(model, ids: list[int]) -> torch.Tensor:
    """Of one row alone."""
    forget(model)
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


@torch.no_grad()
def logprobs(model, ids: list[int]) -> torch.Tensor:
    scores = logits(model, ids)[:-1].double().log_softmax(-1)
    return scores.gather(-1, torch.tensor(ids[1:], dtype=torch.long)[:, None])[:, 0]


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max()) if len(difference) else 0.0


def doubled(model: torch.nn.Module) -> torch.nn.Module:
    """The same in f64, to learn how far rounding moves the reference itself."""
    model = copy.deepcopy(model).double()
    for module in model.modules():
        if getattr(module, "reorder_and_upcast_attn", False):  # insists on f32, and the result is the same
            module.reorder_and_upcast_attn = False
    return model


def distance(one: dict, other: dict) -> float:
    if one.keys() != other.keys():
        raise AssertionError(f"tensors differ by name: {sorted(one.keys() ^ other.keys())[:6]}")
    apart = sum(float((one[name].double() - other[name].double()).square().sum()) for name in one)
    return (apart / sum(float(tensor.double().square().sum()) for tensor in one.values())) ** 0.5


def run_torch(model, windows, optimizer, rates, clip: float) -> list[tuple[float, float]]:
    """(loss, norm) of every step, rows one by one."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    history = []
    for window in windows:
        tokens = sum(label != -100 for row in window for label in row["labels"][1:])
        optimizer.zero_grad()
        loss = 0.0
        for row in window:
            scores, targets = logits(model, row["input_ids"])[:-1], torch.tensor(row["labels"][1:])
            total = torch.nn.functional.cross_entropy(scores, targets, ignore_index=-100, reduction="sum")
            (total / tokens).backward()
            loss += total.item() / tokens
        history.append((loss, float(torch.nn.utils.clip_grad_norm_(parameters, clip))))
        optimizer.step()
        rates.step()
    return history


def toml(sections: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, keys in sections.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


class Case:
    """A model folder with rows, and what differs so far: `worst` by name, `wrong` beyond the limits."""

    def __init__(self, family: str, seed: int, binary: Path, folder: Path):
        self.binary, self.folder, self.seed = binary, folder, seed
        self.worst: dict[str, float] = {}
        self.wrong: list[str] = []
        self.r = Draw(f"{family} {seed}")
        (folder / "base").mkdir(parents=True)
        self.keys = {"model_type": family} | CONFIGS[family](self.r)
        (folder / "base/config.json").write_text(json.dumps(self.keys, indent=1))
        # transformers' eager attention adds Falcon's ALiBi twice; its fast experts want widths in multiples of four.
        self.how = dict(attn_implementation="sdpa" if self.keys.get("alibi") else "eager", dtype=torch.float32)
        self.how |= dict(experts_implementation="eager") if family == "mixtral" else {}
        self.config = CONFIG_MAPPING[family].from_dict(copy.deepcopy(self.keys))
        self.model = AutoModelForCausalLM.from_config(self.config, **self.how).eval()
        randomise(self.model, seed, family.startswith("gemma"))
        self.held, self.layout = write_weights(self.r, self.model, folder / "base")
        self.rows = [self.row(n) for n in [1, 2, LONGEST, LONGEST, *(self.r.randint(2, LONGEST) for _ in range(6))]]
        self.r.shuffle(self.rows)
        self.trained = [row for row in self.rows if len(row["input_ids"]) > 1]
        self.write_rows("score.jsonl", self.rows)
        self.write_rows("train.jsonl", self.trained)

    def row(self, length: int) -> dict[str, list[int]]:
        ids = [self.r.randrange(self.config.vocab_size) for _ in range(length)]
        labels = [token if at == 1 or self.r.random() < 0.7 else -100 for at, token in enumerate(ids)]
        return {"input_ids": ids, "labels": labels}

    def write_rows(self, name: str, rows: list) -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def firebrand(self, *arguments: str) -> str:
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, cwd=self.folder)
        if done.returncode or "panicked" in done.stderr:
            command, said = " ".join(arguments), done.stderr.strip()[-600:]
            raise AssertionError(f"firebrand {command}: exit {done.returncode}: {said}")
        return done.stdout

    def note(self, what: str, value: float, rounding: float = 0.0) -> None:
        self.worst[what] = max(self.worst.get(what, 0.0), value)
        if not value <= LIMITS[what.rpartition(" ")[2]] + 10 * rounding:
            self.wrong.append(f"{what} {value:.1e} (rounding {rounding:.1e})")

    def load(self, folder: str):
        model, report = AutoModelForCausalLM.from_pretrained(self.folder / folder, output_loading_info=True, **self.how)
        wrong = {kind: keys for kind, keys in report.items() if keys}
        if wrong:
            raise AssertionError(f"{folder}: {wrong}")
        return model.eval()

    def score(self, what: str, model, *adapter: str) -> None:
        files = ["--data", "score.jsonl", "--format", "tokens", "--out", "out.jsonl"]
        self.firebrand("score", "--model", "base", *adapter, *files, "--device", "cpu")
        exact = doubled(model)
        lines = (self.folder / "out.jsonl").read_text().splitlines()
        for row, line in zip(self.rows, lines, strict=True):
            ours = torch.tensor(json.loads(line)["logprobs"], dtype=torch.float64)
            expected = logprobs(model, row["input_ids"])
            rounding = largest(expected - logprobs(exact, row["input_ids"]))
            self.note(f"{what} logprob", largest(expected - ours), rounding)

    @torch.no_grad()
    def generate(self, model, *adapter: str) -> None:
        """Up to the first near tie. The reference makes whole passes without a cache, but for dynamic rope: there the
        keys in a cache keep the frequencies of their time, here and in transformers."""
        rope = self.keys.get("rope_parameters") or self.keys.get("rope_scaling") or {}
        dynamic = "dynamic" in (rope.get("rope_type"), rope.get("type"))
        prompts = [row["input_ids"][: LONGEST - NEW_TOKENS] for row in self.rows]
        self.write_rows("prompts.jsonl", [{"input_ids": prompt} for prompt in prompts])
        files = ["--data", "prompts.jsonl", "--max-new-tokens", str(NEW_TOKENS)]
        lines = self.firebrand("generate", "--model", "base", *adapter, *files, "--device", "cpu").splitlines()
        stops = self.config.eos_token_id if isinstance(self.config.eos_token_id, list) else [self.config.eos_token_id]
        for prompt, line in zip(prompts, lines, strict=True):
            forget(model)
            written, cache, ended = [], None, False
            while not ended:
                ids = prompt + written
                if dynamic:
                    unread = ids if cache is None else ids[-1:]
                    answer = model(input_ids=torch.tensor([unread]), past_key_values=cache, use_cache=True)
                    cache, scores = answer.past_key_values, answer.logits[0]
                else:
                    scores = logits(model, ids)
                best = scores[-1].topk(2)
                if best.values[0] - best.values[1] < 1e-3:
                    break
                if int(best.indices[0]) in stops:
                    ended = True
                else:
                    written.append(int(best.indices[0]))
                    ended = len(written) == NEW_TOKENS
            ours = [token for token in json.loads(line)["output_ids"] if token not in stops]
            if ours[: len(written)] != written or (ended and len(ours) != len(written)):
                self.wrong.append(f"generate {' '.join(adapter)}: {prompt} -> {ours}, expected {written}")

    def train(self, what: str, model, sections: dict[str, dict[str, Any]], sgd: bool) -> float:
        """Trains here and there and compares the steps. Returns how far rounding moved the reference's weights."""
        r, rows = self.r, self.trained
        if r.flag():  # every step has all rows, however they are packed
            data = dict(packing=True)
            train, windows = dict(batch_size=64, micro_batch_size=r.choice([1, 2, 4]), epochs=4), [rows] * 4
        else:
            data, batch = dict(packing=False), r.randint(3, 5)
            train = dict(batch_size=batch, micro_batch_size=r.divisor(batch), epochs=2)
            windows = [rows[at : at + batch] for at in range(0, len(rows), batch)] * 2
        train |= dict(max_grad_norm=r.choice([0.5, 3.0, 50.0]), recompute=r.choice(["off", "blocks", "auto"]))
        schedule = dict(kind=r.choice(["cosine", "linear"]), warmup_steps=r.randint(0, 2))
        # Some gradients are zero but for rounding (of q and k in a window of one token), and the usual epsilon would
        # blow them up.
        settings = dict(betas=[0.9, 0.99], eps=1e-4, weight_decay=0.05)
        kind, make, rate = "adamw", torch.optim.AdamW, 5e-3
        if sgd:
            kind, make, rate, settings = "sgd", torch.optim.SGD, 0.05, dict(momentum=0.9, weight_decay=0.01)
        recipe = {"": dict(model="base", output=what, device="cpu")} | sections
        recipe |= {"data": data | dict(max_length=LONGEST, shuffle=False)}
        recipe |= {"[data.train]": dict(path="train.jsonl", format="tokens")}
        recipe |= {"train": train, "optimizer": dict(kind=kind, learning_rate=rate) | settings, "schedule": schedule}
        if sections and r.flag():  # frozen weights need no more than the files hold
            recipe[""]["base_dtype"] = self.held
        (self.folder / f"{what}.toml").write_text(toml(recipe | {"log": dict(every=1)}))
        self.firebrand("train", f"{what}.toml", "--ui", "plain")
        runs, exact = [], doubled(model)
        for each in (model, exact):
            optimizer = make([p for p in each.parameters() if p.requires_grad], lr=rate, **settings)
            rates = SCHEDULES[schedule["kind"]](optimizer, schedule["warmup_steps"], len(windows))
            runs.append(run_torch(each, windows, optimizer, rates, train["max_grad_norm"]))
        lines = [json.loads(line) for line in (self.folder / what / "metrics.jsonl").read_text().splitlines()]
        ours = [(line["loss"], line["grad_norm"]) for line in lines if "grad_norm" in line]
        for (loss, norm), (exact_loss, exact_norm), (our_loss, our_norm) in zip(*runs, ours, strict=True):
            scale = max(norm, 1e-2)  # where only rounding is left, it is no norm
            self.note(f"{what} loss", abs(loss - our_loss), abs(loss - exact_loss))
            self.note(f"{what} norm", abs(norm - our_norm) / scale, abs(norm - exact_norm) / scale)
        return distance(*(dict(each.named_parameters()) for each in (model, exact)))

    def lora(self) -> None:
        r = self.r
        linear = [name for name, m in self.model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))]
        ends = sorted({name.rpartition(".")[2] for name in linear} - {"lm_head", "embed_out"})
        targets = r.choice(["all-linear", r.sample(ends, r.randint(1, len(ends)))])
        if self.keys["model_type"] == "mixtral":  # of experts PEFT makes one adapter, which goldens look at
            targets = r.sample(["q_proj", "k_proj", "v_proj", "o_proj"], r.randint(1, 4))
        rank, alpha, rslora = r.randint(1, 5), r.choice([1.0, 3.0, 6.5]), r.flag()
        settings = dict(r=rank, lora_alpha=alpha, target_modules=targets, use_rslora=rslora)
        model = get_peft_model(copy.deepcopy(self.model), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        generator = torch.Generator().manual_seed(self.seed)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                size = 0.6 / parameter.shape[1] ** 0.5 if "lora_A" in name else 0.2
                parameter.data.normal_(0.0, size, generator=generator)
        model.save_pretrained(self.folder / "start")
        adapter = dict(kind="lora", rank=rank, alpha=alpha, rslora=rslora, targets=targets, init_from="start")
        rounding = self.train("lora", model, {"adapter": adapter}, sgd=False)
        model.save_pretrained(self.folder / "end")
        files = [load_file(self.folder / at / "adapter_model.safetensors") for at in ("end", "lora/adapter")]
        self.note("lora weights", distance(*files), rounding)
        loaded = PeftModel.from_pretrained(copy.deepcopy(self.model), self.folder / "lora/adapter").eval()
        self.score("adapter", loaded, "--adapter", "lora/adapter")
        self.generate(loaded, "--adapter", "lora/adapter")
        self.firebrand("merge", "--model", "base", "--adapter", "lora/adapter", "--out", "merged", "--dtype", "f32")
        merged = self.load("merged")
        for row in self.rows:
            apart = logprobs(merged, row["input_ids"]) - logprobs(loaded, row["input_ids"])
            self.note("merged logprob", largest(apart))

    def full(self) -> None:
        model = copy.deepcopy(self.model)
        rounding = self.train("full", model, {}, sgd=self.r.flag())
        # The file keeps the dtype of the base, and an element may fall to the other side of a rounding.
        dtype = DTYPES[self.held]
        expected = {name: tensor.to(dtype).float() for name, tensor in model.named_parameters()}
        apart = distance(expected, dict(self.load("full/model").named_parameters()))
        if dtype == torch.float32:
            self.note("full weights", apart, rounding)
        else:
            self.note("full 16-bit weights", apart, 1e-3)

    def run(self) -> None:
        self.score("score", self.model)
        self.generate(self.model)
        self.lora()
        self.full()


def attempt(family: str, seed: int, options: argparse.Namespace) -> tuple[dict[str, float], bool]:
    """(largest differences, whether all is well) of one case; prints what is not."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, case = Path(scratch) / f"{family}-{seed}", None
        try:
            case = Case(family, seed, options.binary.resolve(), folder)
            case.run()
            wrong = case.wrong
        except AssertionError as error:
            wrong = [str(error)]
        except Exception:
            wrong = [traceback.format_exc()]
        if wrong:
            print(f"FAILED --family {family} --seed {seed}: {'; '.join(wrong)}")
            print(f"  {case.layout}: {json.dumps(case.keys)}" if case else "  no model", flush=True)
            if options.keep:
                shutil.copytree(folder, options.keep / folder.name, dirs_exist_ok=True)
        return case.worst if case else {}, not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10, help="cases a family")
    parser.add_argument("--seed", type=int, default=1, help="of the first case; the next has the next")
    parser.add_argument("--family", choices=CONFIGS, action="append", help="only this one; may be repeated")
    parser.add_argument("--keep", type=Path, help="where the folders of failing cases are copied")
    options = parser.parse_args()
    failed = 0
    for family in options.family or CONFIGS:
        worst, good = {}, 0
        for seed in range(options.seed, options.seed + options.cases):
            differences, well = attempt(family, seed, options)
            for what, value in differences.items():
                worst[what] = max(value, worst.get(what, 0.0))
            good += well
        failed += options.cases - good
        differences = ", ".join(f"{what} {value:.0e}" for what, value in worst.items())
        print(f"{family}: {good} of {options.cases}; {differences}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
