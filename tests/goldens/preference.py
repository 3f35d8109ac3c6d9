"""Learning from judged answers: trajectories in the format of `trajectory.py`, and `preference.json`, losses on random logits.

The losses are TRL's own wherever it has them as functions (`CPOTrainer.cpo_loss`, which is DPO's on log-ratios and SimPO's on means,
and `ORPOTrainer.odds_ratio_loss`); KTO's stands in the middle of a method of TRL and is written out here, as is the likelihood that ORPO
adds. What surrounds them is ours: rows are run one by one, everything is a mean over the whole step (the reference's means are of
micro-batches), and KTO's mismatched answers are those of the step (the reference's are those of a block of the data).

`expected.json` has in each step and evaluation also `parts`: the numbers beside the loss, by their names in `metrics.jsonl`.
"""

from dataclasses import dataclass, field
import json
import shutil
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import sigmoid
from safetensors.torch import save_file
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer

import lora
import optimizers
import quantized
import trajectory
from common import HERE, IGNORE, pad_right, run, write_json
from family_trajectories import ALL, LINEAR, Q_V, adapter, short
from trajectory import Trajectory, distance, scheduler, toml, trained_tensors

CPU = SimpleNamespace(device="cpu")
DEFAULTS = {
    "dpo": dict(beta=0.1, variant="sigmoid", label_smoothing=0.0, reference="base"),
    "orpo": {"lambda": 0.1},
    "simpo": dict(beta=2.0, gamma=0.5),
    "kto": dict(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
}


@dataclass
class Judged:
    run: Trajectory
    kind: str
    keys: dict[str, Any] = field(default_factory=dict)  # as in the recipe, without defaults

    def settings(self) -> SimpleNamespace:
        return SimpleNamespace(**{name.rstrip("_"): value for name, value in (DEFAULTS[self.kind] | self.keys).items()})


def judged(kind: str, run: Trajectory, **keys: Any) -> Judged:
    return Judged(run, kind, keys)


FULL = dict(kind="adamw", betas=[0.9, 0.999], eps=1e-5, learning_rate=2e-3, weight_decay=0.05)
CASES = {
    "trajectory-dpo-llama-lora": judged(
        "dpo", short("llama-gqa-tied", 701, 3.0, adapter=adapter(target_modules=ALL), eval_every=3)
    ),
    "trajectory-dpo-gemma2-lora": judged(
        "dpo", short("gemma2", 702, 0.64, adapter=adapter(target_modules=Q_V), schedule=LINEAR), beta=0.3, label_smoothing=0.1
    ),
    "trajectory-dpo-llama-full": judged("dpo", short("llama-gqa-tied", 703, 3.0, optimizer=FULL, eval_every=3)),
    "trajectory-dpo-gemma2-full": judged("dpo", short("gemma2", 704, 6.0, optimizer=FULL), variant="ipo", beta=0.5),
    "trajectory-dpo-hinge": judged(
        "dpo", short("qwen3", 705, 4.0, adapter=adapter(target_modules=ALL)), variant="hinge", beta=0.2
    ),
    "trajectory-dpo-ipo": judged(
        "dpo", short("phi", 706, 15.0, adapter=adapter(target_modules=Q_V)), variant="ipo", beta=0.2
    ),
    "trajectory-dpo-start": judged(
        "dpo", short("llama-gqa-tied", 707, 2.0, adapter=adapter(target_modules=ALL), schedule=LINEAR), reference="start"
    ),
    "trajectory-dpo-other-reference": judged(
        "dpo", short("qwen2", 708, 0.8, adapter=adapter(target_modules=Q_V)), reference="../qwen3"
    ),
    "trajectory-dpo-qlora": judged(
        "dpo",
        short(
            "llama-gqa-tied",
            709,
            3.0,
            adapter=adapter(target_modules=ALL),
            quantization=dict(kind="nf4", block=64, double=True),
        ),
    ),
    "trajectory-dpo-dora": judged(
        "dpo", short("llama-untied-biases", 710, 0.58, adapter=adapter(target_modules=ALL, use_dora=True))
    ),
    "trajectory-orpo-llama-lora": judged(
        "orpo", short("llama-gqa-tied", 711, 9.0, adapter=adapter(target_modules=ALL), eval_every=3)
    ),
    "trajectory-orpo-gemma2-full": judged("orpo", short("gemma2", 712, 2.4, optimizer=FULL), **{"lambda": 0.5}),
    "trajectory-orpo-gemma2-lora": judged(
        "orpo", short("gemma2", 713, 0.8, adapter=adapter(target_modules=Q_V), schedule=LINEAR)
    ),
    "trajectory-orpo-llama-full": judged("orpo", short("llama-gqa-tied", 714, 10.0, optimizer=FULL)),
    "trajectory-simpo-llama-lora": judged(
        "simpo", short("llama-gqa-tied", 715, 15.0, adapter=adapter(target_modules=ALL), eval_every=3)
    ),
    "trajectory-simpo-gemma2-full": judged("simpo", short("gemma2", 716, 7.0, optimizer=FULL), beta=2.5, gamma=1.4),
    "trajectory-simpo-gemma2-lora": judged(
        "simpo", short("gemma2", 717, 2.0, adapter=adapter(target_modules=Q_V), schedule=LINEAR), gamma=0.0
    ),
    "trajectory-simpo-llama-full": judged("simpo", short("llama-gqa-tied", 718, 10.0, optimizer=FULL)),
    "trajectory-kto-llama-lora": judged(
        "kto", short("llama-gqa-tied", 719, 1.1, adapter=adapter(target_modules=ALL), eval_every=3)
    ),
    "trajectory-kto-gemma2-full": judged(
        "kto", short("gemma2", 720, 1.0, optimizer=FULL), beta=0.3, desirable_weight=1.33, undesirable_weight=0.7
    ),
    "trajectory-kto-gemma2-lora": judged(
        "kto", short("gemma2", 721, 0.12, adapter=adapter(target_modules=Q_V), schedule=LINEAR)
    ),
    "trajectory-kto-llama-full": judged("kto", short("llama-gqa-tied", 722, 1.3, optimizer=FULL)),
}
PROMPTS = (4, 2, 7, 1, 5, 3, 8, 2, 6, 4, 1)
CHOSEN = (5, 1, 4, 6, 2, 7, 3, 5, 1, 4, 6)
REJECTED = (3, 4, 6, 2, 5, 1, 4, 7, 3, 2, 5)
# One step has no bad row.
GOOD = (True, False, False, True, True, True, True, True, False, True, False)


def token_pairs(seed: int, vocabulary: int, count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    ids = lambda length: torch.randint(0, vocabulary, (length,), generator=generator).tolist()
    lengths = list(zip(PROMPTS, CHOSEN, REJECTED))[:count]
    return [dict(prompt_ids=ids(p), chosen_ids=ids(c), rejected_ids=ids(r)) for p, c, r in lengths]


def unpaired(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    side = lambda pair, good: pair["chosen_ids"] if good else pair["rejected_ids"]
    return [
        dict(prompt_ids=pair["prompt_ids"], completion_ids=side(pair, good), label=good) for pair, good in zip(pairs, GOOD)
    ]


def write_jsonl(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def log_probabilities(model, sequences, padded: bool) -> list[torch.Tensor]:
    """For each (prompt, answer): the log-probabilities of all tokens but the first."""
    found = []
    for part in [sequences] if padded else [[sequence] for sequence in sequences]:
        rows = [(prompt + answer, [IGNORE] * (len(prompt) + len(answer))) for prompt, answer in part]
        batch = pad_right(rows, None, 0)
        logits = run(model, batch)
        for logit, (ids, _) in zip(logits, rows):
            every = torch.log_softmax(logit[: len(ids) - 1].float(), -1)
            found.append(every.gather(1, torch.tensor(ids[1:])[:, None])[:, 0])
    return found


def answers_of(found: list[torch.Tensor], sequences) -> list[torch.Tensor]:
    return [every[len(prompt) - 1 :] for every, (prompt, _) in zip(found, sequences)]


def sums(answers) -> torch.Tensor:
    return torch.stack([answer.sum() for answer in answers])


def lengths(answers) -> torch.Tensor:
    return torch.tensor([float(len(answer)) for answer in answers])


def by_trl(settings, loss_type: str, chosen, rejected, gamma: float = 0.0):
    itself = SimpleNamespace(
        alpha=0.0, loss_type=loss_type, beta=settings.beta, simpo_gamma=gamma, accelerator=CPU,
        label_smoothing=getattr(settings, "label_smoothing", 0.0),
    )  # fmt: skip
    return CPOTrainer.cpo_loss(itself, chosen, rejected)


def pair_losses(kind: str, settings, chosen, rejected, reference):
    """(losses, rewards of both, log-probabilities of both as they are reported)."""
    if kind == "dpo":
        of_chosen, of_rejected = sums(chosen) - reference[0], sums(rejected) - reference[1]
        if settings.variant == "ipo":
            losses = by_trl(settings, "ipo", of_chosen / lengths(chosen), of_rejected / lengths(rejected))[0]
        else:
            losses = by_trl(settings, settings.variant, of_chosen, of_rejected)[0]
        rewards = settings.beta * of_chosen, settings.beta * of_rejected
        return losses, rewards, (sums(chosen), sums(rejected))
    means = sums(chosen) / lengths(chosen), sums(rejected) / lengths(rejected)
    if kind == "simpo":
        losses, *rewards = by_trl(settings, "simpo", *means, gamma=settings.gamma)
        return losses, rewards, means
    itself = SimpleNamespace(beta=getattr(settings, "lambda"), accelerator=CPU)
    losses, *rewards, _, _ = ORPOTrainer.odds_ratio_loss(itself, *means)
    return -losses, rewards, means


def kto_losses(settings, ratios, good, kl):
    losses = [
        settings.desirable_weight * (1 - sigmoid(settings.beta * (ratio - kl)))
        if is_good
        else settings.undesirable_weight * (1 - sigmoid(settings.beta * (kl - ratio)))
        for ratio, is_good in zip(ratios, good)
    ]
    return torch.stack(losses)


def pair_numbers(rewards, shown) -> dict[str, float]:
    (chosen, rejected), (of_chosen, of_rejected) = rewards, shown
    return {
        "logps/chosen": of_chosen.mean().item(),
        "logps/rejected": of_rejected.mean().item(),
        "rewards/accuracies": (chosen > rejected).float().mean().item(),
        "rewards/chosen": chosen.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
        "rewards/rejected": rejected.mean().item(),
    }


def kto_numbers(settings, ratios, shown, good, kl) -> dict[str, float]:
    found = {"kl": kl.item()}
    for name, wanted in (("chosen", True), ("rejected", False)):
        chosen = torch.tensor([is_good == wanted for is_good in good])
        if chosen.any():
            found[f"rewards/{name}"] = settings.beta * ratios[chosen].mean().item()
            found[f"logps/{name}"] = shown[chosen].mean().item()
    if {"rewards/chosen", "rewards/rejected"} <= found.keys():
        found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
    return found


class Step:
    """The loss of some rows, and the numbers beside it."""

    def __init__(self, case: Judged, model, reference, padded: bool) -> None:
        self.case, self.settings = case, case.settings()
        self.model, self.reference, self.padded = model, reference, padded

    def given(self, model, sequences) -> list[torch.Tensor]:
        return log_probabilities(model, sequences, self.padded)

    def without_gradient(self, model, sequences) -> torch.Tensor:
        with torch.no_grad():
            return sums(answers_of(self.given(model, sequences), sequences))

    def of(self, rows) -> tuple[torch.Tensor, dict[str, float], int]:
        return self.of_unpaired(rows) if self.case.kind == "kto" else self.of_pairs(rows)

    def of_pairs(self, rows):
        chosen = [(row["prompt_ids"], row["chosen_ids"]) for row in rows]
        rejected = [(row["prompt_ids"], row["rejected_ids"]) for row in rows]
        every = self.given(self.model, chosen)
        answers = answers_of(every, chosen), answers_of(self.given(self.model, rejected), rejected)
        reference = None
        if self.case.kind == "dpo":
            reference = self.without_gradient(self.reference, chosen), self.without_gradient(self.reference, rejected)
        losses, rewards, shown = pair_losses(self.case.kind, self.settings, *answers, reference)
        loss = losses.mean()
        if self.case.kind == "orpo":
            loss = loss - sum(one.sum() for one in every) / sum(len(one) for one in every)
        tokens = sum(len(answer) for side in answers for answer in side)
        return loss, pair_numbers(rewards, shown), tokens

    def of_unpaired(self, rows):
        sequences = [(row["prompt_ids"], row["completion_ids"]) for row in rows]
        good = [row["label"] for row in rows]
        answers = answers_of(self.given(self.model, sequences), sequences)
        shown = sums(answers)
        ratios = shown - self.without_gradient(self.reference, sequences)
        mismatched = [(prompt, sequences[index - 1][1]) for index, (prompt, _) in enumerate(sequences)]
        kl = self.without_gradient(self.model, mismatched) - self.without_gradient(self.reference, mismatched)
        kl = kl.mean().clamp(min=0)
        loss = kto_losses(self.settings, ratios, good, kl).mean()
        return loss, kto_numbers(self.settings, ratios.detach(), shown.detach(), good, kl), sum(map(len, answers))


def train(case: Judged, step: Step, rows, eval_rows) -> dict[str, list[dict]]:
    parameters = [p for p in step.model.parameters() if p.requires_grad]
    optimizer = optimizers.make(parameters, case.run.optimizer)
    batch = case.run.batch
    windows = [rows[at : at + batch] for at in range(0, len(rows), batch)] * case.run.epochs
    rates = scheduler(optimizer, case.run.schedule, len(windows))
    history: dict[str, list[dict]] = {"steps": [], "eval": []}
    for number, window in enumerate(windows, start=1):
        optimizer.zero_grad()
        loss, parts, tokens = step.of(window)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, case.run.max_grad_norm))
        history["steps"].append(
            dict(step=number, loss=loss.item(), learning_rate=rates.get_last_lr()[0], grad_norm=norm)
            | dict(labelled_tokens=tokens, rows=len(window), parts=parts)
        )
        optimizer.step()
        rates.step()
        if case.run.eval_every and number % case.run.eval_every == 0:
            with torch.no_grad():
                loss, parts, _ = step.of(eval_rows)
            history["eval"].append(dict(step=number, loss=loss.item(), parts=parts))
    return history


def recipe(case: Judged) -> str:
    section = ["[objective]", f'kind = "{case.kind}"', *(f"{key} = {toml(value)}" for key, value in case.keys.items())]
    rows = "unpaired" if case.kind == "kto" else "preference"
    text = trajectory.recipe(case.run).replace('format = "tokens"', f'format = "{rows}"')
    return text.replace("[train]\n", "\n".join(section) + "\n\n[train]\n", 1)


def reference_of(case: Judged, folder):
    """The model from which is measured; it is never trained."""
    which = getattr(case.settings(), "reference", "base")
    if which == "start" and case.run.adapter:
        model = lora.Adapted(lora.load_adapted(case.run.base, folder / "adapter", parameters=None))
    else:
        model = lora.load_base(case.run.base if which in ("base", "start") else which.removeprefix("../"))
    if case.run.quantization:
        quantized.quantize_blocks(model, **case.run.quantization)
    return model


def write(name: str, case: Judged) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings = case.run
    if settings.adapter:
        lora.write_adapter(folder / "adapter", settings.base, settings.adapter, settings.seed, settings.zero_b)
        path = folder / "adapter" / "adapter_config.json"
        path.write_text(path.read_text().replace(f'"../{settings.base}"', f'"../../{settings.base}"'))
    vocabulary = lora.MODELS[settings.base].config.vocab_size
    rows = token_pairs(settings.seed + 1000, vocabulary, settings.rows)
    eval_rows = token_pairs(settings.seed + 2000, vocabulary, 5)
    if case.kind == "kto":
        rows, eval_rows = unpaired(rows), unpaired(eval_rows)
    write_jsonl(folder / "data.jsonl", rows)
    if settings.eval_every:
        write_jsonl(folder / "eval.jsonl", eval_rows)
    (folder / "recipe.toml").write_text(recipe(case))

    histories, finals = [], []
    for padded in (False, True):
        if settings.adapter:
            model = lora.Adapted(lora.load_adapted(settings.base, folder / "adapter", parameters=None))
        else:
            model = lora.load_base(settings.base)
        if settings.quantization:
            quantized.quantize_blocks(model, **settings.quantization)
        start = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        histories.append(train(case, Step(case, model, reference_of(case, folder), padded), rows, eval_rows))
        scratch = folder / "scratch"
        finals.append(trained_tensors(model, scratch))
        shutil.rmtree(scratch)
        end = [p.detach() for p in model.parameters() if p.requires_grad]
        moved = sum(float((a - b).square().sum()) for a, b in zip(start, end))
        length = sum(float(a.square().sum()) for a in start)
    losses = [[step["loss"] for step in history["steps"]] for history in histories]
    rounding = {
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses)),
        "final_distance": distance(*finals),
        "way_travelled": (moved / length) ** 0.5,
    }
    norms = zip(*([step["grad_norm"] for step in history["steps"]] for history in histories))
    apart = max(abs(a / b - 1) for a, b in norms)
    clipped = sum(step["grad_norm"] > settings.max_grad_norm for step in histories[0]["steps"])
    print(f"  {rounding} norms {apart:.1e}, clipped {clipped} of {[round(s['grad_norm'], 3) for s in histories[0]['steps']]}")
    if rounding["largest_loss_difference"] > 2e-5 or rounding["final_distance"] > 2e-5:
        raise SystemExit(f"{name}: rounding alone gives {rounding}")
    if apart > 1e-5:
        raise SystemExit(f"{name}: rounding alone moves the gradient's norm")
    if clipped == 0:
        raise SystemExit(f"{name}: clipping never acts")
    write_json(folder / "expected.json", histories[0] | {"clipped_steps": clipped, "rounding": rounding})
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})


FORMULAS = [
    ("dpo", {}),
    ("dpo", dict(beta=0.5, label_smoothing=0.2)),
    ("dpo", dict(variant="hinge", beta=0.4)),
    ("dpo", dict(variant="ipo", beta=0.3)),
    ("orpo", {}),
    ("orpo", {"lambda": 1.5}),
    ("simpo", {}),
    ("simpo", dict(beta=3.0, gamma=1.2)),
    ("kto", {}),
    ("kto", dict(beta=0.7, desirable_weight=1.33, undesirable_weight=0.6)),
]


def formulas() -> None:
    """`preference.json`: random logits of answers, and for each loss its value and its gradient by every logit.

    An answer is `logits` `[tokens, vocab]`, `targets`, the number of tokens that are of its prompt (`prompt`, first), and the reference's
    log-probability of the others together. `kto` takes the chosen answers as good, the others as bad, and a KL of 0.35. In the
    second half the logits are five times as large, so that nothing is near to zero."""
    generator = torch.Generator().manual_seed(790)
    vocabulary, pairs = 5, []
    for index, (prompt, chosen, rejected) in enumerate(zip((2, 1, 3, 1), (3, 1, 4, 2), (2, 4, 1, 3))):
        pair = []
        for length in (chosen, rejected):
            logits = torch.randn(prompt + length, vocabulary, generator=generator) * (1 if index < 2 else 5)
            targets = torch.randint(0, vocabulary, (prompt + length,), generator=generator)
            pair.append(dict(logits=logits, targets=targets, prompt=prompt, reference=-2.0 * length + index))
        pairs.append(pair)
    cases = []
    for kind, keys in FORMULAS:
        settings = Judged(None, kind, keys).settings()
        leaves = [[side["logits"].clone().requires_grad_() for side in pair] for pair in pairs]
        every = [
            [torch.log_softmax(leaf, -1).gather(1, side["targets"][:, None])[:, 0] for leaf, side in zip(two, pair)]
            for two, pair in zip(leaves, pairs)
        ]
        chosen, rejected = ([two[side][pair[side]["prompt"] :] for two, pair in zip(every, pairs)] for side in (0, 1))
        reference = [torch.tensor([pair[side]["reference"] for pair in pairs]) for side in (0, 1)]
        if kind == "kto":
            ratios = torch.cat([sums(chosen) - reference[0], sums(rejected) - reference[1]])
            good = [True] * len(pairs) + [False] * len(pairs)
            loss = kto_losses(settings, ratios, good, torch.tensor(0.35)).mean()
        else:
            loss = pair_losses(kind, settings, chosen, rejected, reference)[0].mean()
        if kind == "orpo":
            loss = loss - sum(two[0].sum() for two in every) / sum(len(two[0]) for two in every)
        loss.backward()
        gradient = [[leaf.grad.flatten().tolist() if leaf.grad is not None else [] for leaf in two] for two in leaves]
        cases.append(dict(kind=kind, keys=keys, loss=loss.item(), gradient=gradient))
    plain = lambda side: side | dict(logits=side["logits"].flatten().tolist(), targets=side["targets"].tolist())
    write_json(HERE / "preference.json", dict(vocabulary=vocabulary, pairs=[[plain(side) for side in pair] for pair in pairs], cases=cases))
