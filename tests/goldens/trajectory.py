"""The reference trajectory: the same base, adapter, rows, order and recipe, trained in plain torch.

`recipe.toml` is ours and names everything relative to its own folder; `expected.json` holds loss, learning rate and
gradient norm of every step, `final.safetensors` the tensors at the end. Rows are run one by one and their losses
divided by the labelled tokens of the whole step, so the reference knows nothing of padding or micro-batches. A second
pass with padded batches says how far rounding alone moves the result (`rounding` in expected.json), and the script
stops if that is too much for the tolerances of the tests to mean anything.
"""

import json
from dataclasses import dataclass
from pathlib import Path
import shutil
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import optimization as schedule

from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

import experts
import lora
import quantized
import optimizers
from common import HERE, pad_right, run, token_losses, token_rows, write_json, write_rows

LENGTHS = (9, 4, 17, 6, 12, 3, 18, 8, 5, 14, 7, 2, 16, 10, 11, 6, 13, 4, 15, 8, 9, 5, 12)  # 23: the last window is partial
EVAL_LENGTHS = (11, 4, 7, 16, 5)


@dataclass
class Trajectory:
    base: str
    seed: int
    batch: int
    micro: int
    optimizer: dict[str, Any]  # as in the recipe
    schedule: dict[str, Any]
    max_grad_norm: float
    rows: int = len(LENGTHS)
    epochs: int = 2
    adapter: dict[str, Any] | None = None
    zero_b: bool = False
    eval_every: int | None = None
    router_aux_loss: float | None = None  # its coefficient
    per_expert: bool = False  # the adapter has a module for every expert
    quantization: dict[str, Any] | None = None  # of the frozen base
    loraplus_lr_ratio: float | None = None
    loraplus_lr_embedding: float = 1e-6
    objective: Any | None = None  # another one than the likelihood of labels: its recipe and its losses


ADAMW = dict(kind="adamw", betas=[0.9, 0.999], eps=1e-8)
CASES = {
    "trajectory-lora": Trajectory(
        "llama-gqa-tied",
        201,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.1),
        schedule=dict(kind="cosine", warmup_steps=3),
        max_grad_norm=10.0,
        adapter=dict(r=4, lora_alpha=8.0, target_modules="all-linear"),
        eval_every=4,
    ),
    # B starts at zero, so the first gradients of A are exactly zero; rank pattern, rslora.
    "trajectory-lora-untied-biases": Trajectory(
        "llama-untied-biases",
        202,
        batch=6,
        micro=3,
        optimizer=ADAMW | dict(learning_rate=1e-2, weight_decay=0.0),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(
            r=3,
            lora_alpha=6.0,
            target_modules=["q_proj", "v_proj", "down_proj"],
            use_rslora=True,
            rank_pattern={"v_proj": 2},
            alpha_pattern={"down_proj": 3.0},
        ),
        zero_b=True,
    ),
    # The magnitudes start at the norms of the base's rows.
    "trajectory-dora": Trajectory(
        "llama-untied-biases",
        206,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.01),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(r=3, lora_alpha=6.0, target_modules="all-linear", use_dora=True, rank_pattern={"v_proj": 2}),
        zero_b=True,
    ),
    "trajectory-ia3": Trajectory(
        "llama-untied-biases",
        207,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=2e-2, weight_decay=0.0),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=0.5,
        adapter=dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        zero_b=True,
    ),
    # The adapter is PEFT's own start, and its end PEFT's conversion to an adapter of twice the rank on the same base.
    "trajectory-pissa": Trajectory(
        "llama-untied-biases",
        208,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.0),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(
            r=3, lora_alpha=6.0, target_modules="all-linear", init_lora_weights="pissa", rank_pattern={"v_proj": 2}
        ),
    ),
    "trajectory-olora": Trajectory(
        "llama-untied-biases",
        209,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.0),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(r=2, lora_alpha=3.0, target_modules=["q_proj", "down_proj"], init_lora_weights="olora"),
    ),
    # The embedding becomes another matrix than the head, which stays as it was; one norm learns, and the biases of adapted maps.
    "trajectory-saved-modules": Trajectory(
        "llama-gqa-tied",
        210,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.02),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=1.5,
        adapter=dict(
            r=2, lora_alpha=3.0, target_modules=["q_proj", "down_proj"], modules_to_save=["embed_tokens", "model.norm"]
        ),
        zero_b=True,
    ),
    "trajectory-saved-kept": Trajectory(
        "llama-gqa-tied",
        211,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.02),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=1.5,
        adapter=dict(
            r=2, lora_alpha=3.0, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True
        ),
        zero_b=True,
    ),
    "trajectory-biases": Trajectory(
        "llama-untied-biases",
        212,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.02),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=0.3,
        adapter=dict(r=2, lora_alpha=3.0, target_modules=["q_proj", "down_proj"], bias="lora_only"),
        zero_b=True,
    ),
    # Factors of the embedding start at zero and normal, those of the head as elsewhere; LoRA+ gives the first a rate of their own.
    "trajectory-embedding": Trajectory(
        "llama-untied-biases",
        213,
        batch=4,
        micro=2,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.0),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=1.5,
        adapter=dict(r=2, lora_alpha=3.0, target_modules=["embed_tokens", "lm_head", "q_proj"]),
        zero_b=True,
    ),
    "trajectory-full": Trajectory(
        "llama-gqa-tied",
        203,
        batch=5,
        micro=1,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.05, betas=[0.9, 0.95]),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=1.0,
        eval_every=5,
    ),
    "trajectory-full-untied-biases": Trajectory(
        "llama-untied-biases",
        204,
        batch=8,
        micro=4,
        optimizer=ADAMW | dict(learning_rate=4e-3, weight_decay=0.0),
        schedule=dict(kind="linear", warmup_steps=0),
        max_grad_norm=1.5,
    ),
    "trajectory-sgd": Trajectory(
        "llama-legacy-spelling",
        205,
        batch=3,
        micro=3,
        rows=7,
        epochs=2,
        optimizer=dict(kind="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01),
        schedule=dict(kind="constant", warmup_steps=2),
        max_grad_norm=1.0,
    ),
}


def scheduler(optimizer: torch.optim.Optimizer, settings: dict[str, Any], total: int):
    warmup = settings["warmup_steps"]
    match settings["kind"]:
        case "constant":
            return schedule.get_constant_schedule_with_warmup(optimizer, warmup)
        case "linear":
            return schedule.get_linear_schedule_with_warmup(optimizer, warmup, total)
        case "cosine":
            return schedule.get_cosine_schedule_with_warmup(optimizer, warmup, total)
    raise SystemExit(f"schedule {settings['kind']}")


def labelled(rows) -> int:
    return sum(label != -100 for _, labels in rows for label in labels[1:])


def loss_sum(model, rows, padded: bool):
    """One loss sum per forward pass: a row each, or all rows at once with padding."""
    for part in [rows] if padded else [[row] for row in rows]:
        batch = pad_right(part, None, 0)
        yield token_losses(run(model, batch), batch["labels"])[0]


def loss_with_router(model, rows, coefficient: float, padded: bool):
    """(cross-entropy + coefficient * load-balancing loss, the latter without coefficient), over all rows together.

    transformers takes the balance over the tokens of one call that are no padding; so micro_batch_size is batch_size
    here. Row by row the same number comes from the router's answers for all rows together."""
    totals, answers, tokens = [], [], labelled(rows)
    for part in [rows] if padded else [[row] for row in rows]:
        batch = pad_right(part, None, 0)
        labels = batch.pop("labels")
        output = model(**batch, output_router_logits=True, use_cache=False)
        totals.append(token_losses(output.logits, labels)[0])
        answers.append(output.router_logits)
    if padded:
        balance = output.aux_loss
    else:
        layers = tuple(torch.cat(parts) for parts in zip(*answers))
        balance = load_balancing_loss_func(layers, model.config.num_local_experts, model.config.num_experts_per_tok)
    return sum(totals) / tokens + coefficient * balance, balance.item()


def train(case: Trajectory, model, rows, eval_rows, padded: bool) -> dict[str, list[dict]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if case.loraplus_lr_ratio is None:
        optimizer = optimizers.make(parameters, case.optimizer)
    else:
        optimizer = optimizers.make_loraplus(model.model, case.optimizer, case.loraplus_lr_ratio, case.loraplus_lr_embedding)
    windows = [rows[at : at + case.batch] for at in range(0, len(rows), case.batch)] * case.epochs
    rates = scheduler(optimizer, case.schedule, len(windows))
    history: dict[str, list[dict]] = {"steps": [], "eval": []}
    for step, window in enumerate(windows, start=1):
        tokens, loss = labelled(window), 0.0
        optimizer.zero_grad()
        more = {}
        if case.objective:
            parts: dict[str, float] = {}
            for total, of_part in case.objective.losses(model, window, tokens, padded):
                total.backward()
                loss += total.item()
                parts = {name: parts.get(name, 0.0) + value for name, value in of_part.items()}
            more["parts"] = parts
        elif case.router_aux_loss is None:
            for total in loss_sum(model, window, padded):
                (total / tokens).backward()
                loss += total.item() / tokens
        else:
            total, more["router_aux_loss"] = loss_with_router(model, window, case.router_aux_loss, padded)
            total.backward()
            loss = total.item()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, case.max_grad_norm))
        history["steps"].append(
            {
                "step": step,
                "loss": loss,
                "learning_rate": rates.get_last_lr()[0],
                "grad_norm": norm,
                "labelled_tokens": tokens,
                "rows": len(window),
            }
            | more
        )
        optimizer.step()
        rates.step()
        if case.eval_every and step % case.eval_every == 0:
            with torch.no_grad():
                total = sum(part.item() for part in loss_sum(model, eval_rows, padded))
            history["eval"].append({"step": step, "loss": total / labelled(eval_rows)})
    return history


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value).replace("e-0", "e-")


def recipe(case: Trajectory, up: str = "..") -> str:
    lines = [f'model = "{up}/{case.base}"', 'output = "output"', "seed = 1", 'device = "cpu"', 'dtype = "f32"', ""]
    if case.adapter:
        a = case.adapter
        kind = "ia3" if "feedforward_modules" in a else "dora" if a.get("use_dora") else "lora"
        lines += ["[adapter]", f'kind = "{kind}"']
    if case.adapter and kind == "ia3":
        lines += [f"targets = {toml(a['target_modules'])}", f"feedforward = {toml(a['feedforward_modules'])}"]
        lines += ['init_from = "adapter"', ""]
    elif case.adapter:
        lines += [f"rank = {a['r']}", f"alpha = {a['lora_alpha']}"]
        lines += [f"targets = {toml(a['target_modules'])}", f"rslora = {toml(a.get('use_rslora', False))}"]
        lines += [f"{key} = {toml(a[key])}" for key in ("rank_pattern", "alpha_pattern") if key in a]
        if case.loraplus_lr_ratio is not None:
            lines += [f"loraplus_lr_ratio = {case.loraplus_lr_ratio}"]
            lines += [f"loraplus_lr_embedding = {case.loraplus_lr_embedding}"] if case.loraplus_lr_embedding != 1e-6 else []
        lines += [f"{key} = {toml(a[key])}" for key in ("modules_to_save", "bias", "ensure_weight_tying") if key in a]
        init = a.get("init_lora_weights")
        lines += [f'init = "{init}"' if init else 'init_from = "adapter"', ""]
    if case.quantization:
        lines += ["[quantization]", *(f"{key} = {toml(value)}" for key, value in case.quantization.items()), ""]
    lines += ["[data]", "max_length = 32", "packing = false", "shuffle = false", ""]
    lines += ["[[data.train]]", 'path = "data.jsonl"', 'format = "tokens"', ""]
    if case.eval_every:
        lines += ["[[data.eval]]", 'path = "eval.jsonl"', 'format = "tokens"', "", "[eval]"]
        lines += [f"every = {case.eval_every}", ""]
    if case.router_aux_loss is not None:
        lines += ["[objective]", 'kind = "sft"', f"router_aux_loss = {case.router_aux_loss}", ""]
    if case.objective:
        lines += case.objective.recipe()
    lines += ["[train]", f"epochs = {case.epochs}", f"batch_size = {case.batch}"]
    lines += [f"micro_batch_size = {case.micro}", f"max_grad_norm = {case.max_grad_norm}", ""]
    lines += ["[optimizer]", *(f"{key} = {toml(value)}" for key, value in case.optimizer.items()), ""]
    lines += ["[schedule]", *(f"{key} = {toml(value)}" for key, value in case.schedule.items()), ""]
    lines += ["[log]", "every = 1"]
    return "\n".join(lines) + "\n"


def trained_tensors(model, folder) -> dict[str, torch.Tensor]:
    """Under the names of the file a run ends with."""
    model.save_pretrained(folder)
    return load_file(next(folder.glob("*model.safetensors")))


class Decomposed(lora.Adapted):
    """An adapter whose start is taken out of the base's weights; saved as PEFT converts it for the base as it was."""

    def __init__(self, case: Trajectory, initial: Path) -> None:
        settings = LoraConfig(task_type="CAUSAL_LM", **case.adapter)
        super().__init__(get_peft_model(lora.load_base(case.base), settings))
        self.initial = initial
        fix_signs(self.model)
        self.model.save_pretrained(initial)

    def save_pretrained(self, folder) -> None:
        self.model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(self.initial))


def fix_signs(model) -> None:
    """Decompositions leave the sign of each component open; here the largest number of each row of A is positive."""
    factors = dict(model.named_parameters())
    with torch.no_grad():
        for name, a in factors.items():
            if "lora_A" in name:
                largest = a.abs().argmax(dim=1, keepdim=True)
                signs = a.gather(1, largest).sign()
                a.mul_(signs)
                factors[name.replace("lora_A", "lora_B")].mul_(signs.T)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """|one - other| / |one|, over all tensors together."""
    apart = sum(float((one[key].double() - other[key].double()).square().sum()) for key in one)
    return (apart / sum(float(tensor.double().square().sum()) for tensor in one.values())) ** 0.5


def write(name: str, case: Trajectory) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    base = lora.MODELS[case.base].config
    parameters = None
    decomposed = case.adapter is not None and "init_lora_weights" in case.adapter
    if case.adapter and not decomposed:
        if case.per_expert:
            parameters = experts.write_adapter(folder / "adapter", case.base, base, case.adapter, case.seed)
        else:
            lora.write_adapter(folder / "adapter", case.base, case.adapter, case.seed, case.zero_b)
        path = folder / "adapter" / "adapter_config.json"
        path.write_text(path.read_text().replace(f'"../{case.base}"', f'"{"../" * (name.count("/") + 2)}{case.base}"'))
    vocabulary = base.vocab_size
    rows = token_rows(case.seed + 1000, vocabulary, LENGTHS[: case.rows])
    eval_rows = token_rows(case.seed + 2000, vocabulary, EVAL_LENGTHS)
    write_rows(folder / "data.jsonl", rows)
    if case.eval_every:
        write_rows(folder / "eval.jsonl", eval_rows)
    up = "/".join([".."] * (name.count("/") + 1))
    (folder / "recipe.toml").write_text(recipe(case, up))
    if case.objective:
        case.objective.begin()

    histories, finals = [], []
    for padded in (False, True):
        if decomposed:
            model = Decomposed(case, folder / "pissa_init")
        elif case.adapter:
            model = lora.Adapted(lora.load_adapted(case.base, folder / "adapter", parameters=parameters))
        else:
            model = lora.load_base(case.base)
        if case.per_expert:
            experts.keep_apart(model)
        if case.quantization:
            quantized.quantize_blocks(model, **case.quantization)
        start = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        histories.append(train(case, model, rows, eval_rows, padded))
        scratch = folder / "scratch"
        finals.append(trained_tensors(model, scratch))
        if case.per_expert:
            finals[-1] = experts.split(finals[-1], base.num_local_experts)
        shutil.rmtree(scratch)
        shutil.rmtree(folder / "pissa_init", ignore_errors=True)
        end = [p.detach() for p in model.parameters() if p.requires_grad]
        moved = sum(float((a - b).square().sum()) for a, b in zip(start, end))
        length = sum(float(a.square().sum()) for a in start)
    losses = [[step["loss"] for step in history["steps"]] for history in histories]
    rounding = {
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses)),
        "final_distance": distance(*finals),
        "way_travelled": (moved / length) ** 0.5 if length else None,
    }
    if rounding["largest_loss_difference"] > 2e-5 or rounding["final_distance"] > 2e-5:
        raise SystemExit(f"{name}: rounding alone gives {rounding}")
    norms = zip(*([step["grad_norm"] for step in history["steps"]] for history in histories))
    if max(abs(a / b - 1) for a, b in norms) > 1e-5:
        raise SystemExit(f"{name}: rounding alone moves the gradient's norm")
    clipped = sum(step["grad_norm"] > case.max_grad_norm for step in histories[0]["steps"])
    if clipped == 0:
        raise SystemExit(f"{name}: clipping never acts")
    write_json(folder / "expected.json", histories[0] | {"clipped_steps": clipped, "rounding": rounding})
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})
