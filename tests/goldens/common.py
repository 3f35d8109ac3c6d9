"""Shared parts of the golden generator: random parameters, token batches, and the `forward` and `generate` files.

Everything is deterministic: one thread, fixed seeds, f32, eager attention. Every parameter is randomised, because
default values (zero biases, unit norms) hide mistakes. The reference model is always reloaded from the folder that was
written, so a golden is about the *files*, not about a model in memory.
"""

import inspect
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
IGNORE = -100

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
logging.disable_progress_bar()
logging.set_verbosity_error()


@dataclass
class Case:
    """A tiny model and what is asked of it."""

    config: PreTrainedConfig
    seed: int
    lengths: tuple[int, ...] = (14, 9)  # rows of the padded batch
    padded_to: int | None = None  # columns, where the longest row shall be padded too
    packed: tuple[int, ...] = (7, 1, 5)  # rows of the pack; one token alone is a row as well
    extra_batches: dict[str, tuple[int, ...]] = field(default_factory=dict)  # more batches, by prefix
    prompts: tuple[int, ...] = (5, 1)  # lengths of the prompts to continue
    new_tokens: int = 16
    edit_config: Callable[[dict[str, Any]], None] | None = None  # applied to config.json once written
    attention: str = "eager"
    gain: float = 1.5  # matrices are N(0, gain / sqrt(fan in))
    centred_norms: bool = False  # norms that multiply by 1 + w
    router: bool = False  # a mixture of experts: the load-balancing loss as well
    shard_size: str = "1GB"  # largest file of weights


def randomise(model: torch.nn.Module, seed: int, gain: float, centred_norms: bool) -> None:
    """Norm weights in 1 +- 0.3, biases N(0, 0.3), embeddings N(0, 0.5), matrices by fan in."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if id(parameter) in tables:
                parameter.normal_(0.0, 0.5, generator=generator)
            elif parameter.dim() == 1 and name.endswith("bias"):
                parameter.normal_(0.0, 0.3, generator=generator)
            elif parameter.dim() == 1:
                parameter.uniform_(0.7, 1.3, generator=generator)
                if centred_norms:
                    parameter.sub_(1.0)
            else:
                parameter.normal_(0.0, gain / parameter.shape[-1] ** 0.5, generator=generator)


def write_model(case: Case, folder: Path) -> None:
    """Writes config.json, generation_config.json and model.safetensors with the names of the hub."""
    if folder.exists():
        shutil.rmtree(folder)
    model = AutoModelForCausalLM.from_config(case.config, dtype=torch.float32)
    randomise(model, case.seed, case.gain, case.centred_norms)
    model.save_pretrained(folder, max_shard_size=case.shard_size)
    if case.edit_config:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        case.edit_config(config)
        path.write_text(json.dumps(config, indent=2) + "\n")


def load_model(folder: Path, attention: str = "eager") -> torch.nn.Module:
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention, output_loading_info=True
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model folder, whatever the number of its files."""
    files = sorted(folder.glob("model*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def token_rows(seed: int, vocabulary: int, lengths: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Rows of (ids, labels). Any id may occur, that of the padding too. About a third of a row, and a hole in it, is
    not trained; every other row has a label on its first token, which no position predicts."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, vocabulary, (length,), generator=generator).tolist()
        labels = list(ids)
        for position in range(index % 2, length // 3):
            labels[position] = IGNORE
        if length > 8:
            labels[length // 2 + 1] = IGNORE
        rows.append((ids, labels))
    return rows


def pad_right(rows: list[tuple[list[int], list[int]]], columns: int | None, pad: int) -> dict[str, torch.Tensor]:
    """Position ids count real tokens; the padding repeats the last one."""
    columns = columns or max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), columns), pad)
    labels = torch.full((len(rows), columns), IGNORE)
    mask = torch.zeros((len(rows), columns), dtype=torch.int64)
    for index, (row, row_labels) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        labels[index, : len(row)] = torch.tensor(row_labels)
        mask[index, : len(row)] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "labels": labels,
    }


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum of token losses, labelled tokens); logits at t are compared with the label at t + 1."""
    targets = labels[:, 1:]
    total = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return total, int((targets != IGNORE).sum())


def run(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    arguments = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if "position_ids" in inspect.signature(model.forward).parameters:
        arguments["position_ids"] = batch["position_ids"]
    return model(**arguments, use_cache=False).logits


def gradients_as_saved(model: torch.nn.Module, weights_file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """Gradients under the names `save_pretrained` gives the parameters; consumes the model."""
    for parameter in model.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {f"grad.{name}": tensor for name, tensor in load_file(Path(folder) / weights_file).items()}


def decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    count = model.config.num_hidden_layers
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count)


def forward_file(
    folder: Path,
    load: Callable[[], torch.nn.Module],
    vocabulary: int,
    case: Case,
    seed: int,
    weights_file: str = "model.safetensors",
) -> None:
    """forward.safetensors: a padded batch with logits, loss, layer outputs and gradients; further batches; a pack."""
    out: dict[str, torch.Tensor] = {}
    # The padding is not token 0, so that a mask made from ids, not positions, is found out.
    pad = vocabulary // 2

    model = load()
    batch = pad_right(token_rows(seed, vocabulary, case.lengths), case.padded_to, pad)
    hooks = []
    for index, layer in enumerate(decoder_layers(model)):

        def keep(_module, _inputs, result, index=index):
            out[f"hidden.{index}"] = (result[0] if isinstance(result, tuple) else result).detach().clone()

        hooks.append(layer.register_forward_hook(keep))
    logits = run(model, batch)
    for hook in hooks:
        hook.remove()
    if case.router:
        # Without its coefficient, over the tokens that are no padding. Not part of `loss`.
        with torch.no_grad():
            mask = batch["attention_mask"]
            out["aux_loss"] = model(batch["input_ids"], attention_mask=mask, output_router_logits=True).aux_loss
    total, count = token_losses(logits, batch["labels"])
    loss = total / count
    loss.backward()
    out |= batch | {"logits": logits.detach(), "loss": loss.detach()}
    out |= gradients_as_saved(model, weights_file)

    with torch.no_grad():
        for offset, (prefix, lengths) in enumerate(case.extra_batches.items()):
            model = load()  # anew: dynamic rope scaling keeps state between calls
            batch = pad_right(token_rows(seed + 10 + offset, vocabulary, lengths), None, pad)
            logits = run(model, batch)
            total, count = token_losses(logits, batch["labels"])
            out |= {f"{prefix}.{name}": tensor for name, tensor in batch.items()}
            out |= {f"{prefix}.logits": logits, f"{prefix}.loss": total / count}
        out |= packed(load, vocabulary, case.packed, seed + 1)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "forward.safetensors")


def packed(load, vocabulary: int, lengths: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    """Rows in one sequence, and the logits each of them has alone."""
    rows = token_rows(seed, vocabulary, lengths)
    logits, total, count = [], torch.tensor(0.0), 0
    for row in rows:
        batch = pad_right([row], None, 0)
        row_logits = run(load(), batch)
        row_total, row_count = token_losses(row_logits, batch["labels"])
        logits.append(row_logits)
        total, count = total + row_total, count + row_count
    return {
        "packed.input_ids": torch.tensor([[i for ids, _ in rows for i in ids]]),
        "packed.labels": torch.tensor([[label for _, labels in rows for label in labels]]),
        "packed.position_ids": torch.tensor([[p for ids, _ in rows for p in range(len(ids))]]),
        "packed.segment_ids": torch.tensor([[s for s, (ids, _) in enumerate(rows) for _ in ids]]),
        "packed.logits": torch.cat(logits, dim=1),
        "packed.loss": total / count,
    }


def greedy(model: torch.nn.Module, prompt: torch.Tensor, new_tokens: int, cache: bool) -> tuple[list[int], float]:
    """(continuation with the end token if it came, smallest distance between the two highest logits)."""
    result = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=new_tokens,
        use_cache=cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    top = torch.stack(result.logits).squeeze(1).topk(2).values
    return result.sequences[0, prompt.shape[1] :].tolist(), float((top[:, 0] - top[:, 1]).min())


def generate_file(folder: Path, load, vocabulary: int, case: Case, seed: int) -> None:
    """generate.json: prompts and their greedy continuations. Prompts that lead to a near tie are
    passed over: they would test rounding.

    `continuation` is what one forward pass over the whole sequence per token gives, so it depends on nothing but the
    model. transformers' cache may differ (dynamic rope: its keys keep the frequencies they were stored with)."""
    generator = torch.Generator().manual_seed(seed)
    answers = []
    for length in case.prompts:
        margin = 0.0
        while margin < 5e-3:
            prompt = torch.randint(0, vocabulary, (1, length), generator=generator)
            model = load()
            continuation, margin = greedy(model, prompt, case.new_tokens, cache=False)
        stop = model.generation_config.eos_token_id
        cached, _ = greedy(load(), prompt, case.new_tokens, cache=True)
        answer = {
            "prompt": prompt[0].tolist(),
            "continuation": continuation,
            "stopped": "eos" if stop is not None and continuation[-1] == stop else "length",
            "smallest_margin": round(margin, 4),
        }
        if cached != continuation:
            answer["continuation_with_reference_cache"] = cached
        answers.append(answer)
    write_json(folder / "generate.json", {"max_new_tokens": case.new_tokens, "answers": answers})


def write_json(path: Path, value: Any) -> None:
    """One line per element of the outer lists: small files, readable diffs."""

    def text(item: Any, depth: int) -> str:
        if isinstance(item, dict) and depth < 2:
            inner = ",\n".join(f"{'  ' * (depth + 1)}{json.dumps(k)}: {text(v, depth + 1)}" for k, v in item.items())
            return "{\n" + inner + "\n" + "  " * depth + "}"
        if isinstance(item, list) and depth < 2 and item and isinstance(item[0], (dict, list)):
            inner = ",\n".join("  " * (depth + 1) + json.dumps(v) for v in item)
            return "[\n" + inner + "\n" + "  " * depth + "]"
        return json.dumps(item)

    path.write_text(text(value, 0) + "\n")


def write_rows(path: Path, rows: list[tuple[list[int], list[int]]]) -> None:
    lines = [json.dumps({"input_ids": ids, "labels": labels}) for ids, labels in rows]
    path.write_text("\n".join(lines) + "\n")


def write_case(name: str, case: Case) -> None:
    """The whole folder of a model case."""
    folder = HERE / name
    write_model(case, folder)
    vocabulary = case.config.vocab_size

    def load() -> torch.nn.Module:
        return load_model(folder, case.attention)

    forward_file(folder, load, vocabulary, case, case.seed + 1000)
    generate_file(folder, load, vocabulary, case, case.seed + 2000)
