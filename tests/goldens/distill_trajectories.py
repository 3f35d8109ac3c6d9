"""Trajectories of distillation, in the format of `trajectory.py`. The divergence is TRL's own (`GKDTrainer.generalized_jsd_loss`).

TRL has no cross-entropy term and no square of the temperature; the loss here is `(1 - alpha) CE + alpha T^2 D`, over the
labelled positions of a whole step. The `cells` cases give the student what a cache holds: the teacher's likeliest tokens and
the probability of all others, in f16.
"""

from dataclasses import dataclass
from typing import Any, Iterator

import torch
import torch.nn.functional as F
from trl.experimental.gkd.gkd_trainer import GKDTrainer

import lora
from common import pad_right, run
from family_trajectories import ALL, LARGE_EPSILON, LINEAR, adapter, short

BETA = dict(forward_kl=0.0, reverse_kl=1.0)


@dataclass
class Distill:
    """`[objective]` of a recipe, and its loss."""

    teacher: str
    loss: str = "forward_kl"
    temperature: float = 1.0
    alpha: float = 0.5
    beta: float = 0.5
    top_k: int | None = None  # of a cache; the recipe then names a cache and no teacher

    def recipe(self) -> list[str]:
        lines = ["[objective]", 'kind = "distill"', f'loss = "{self.loss}"', f"temperature = {self.temperature}"]
        lines += [f"alpha = {self.alpha}"]
        lines += [f"beta = {self.beta}"] if self.loss == "jsd" else []
        lines += [f'teacher = "../{self.teacher}"'] if self.top_k is None else [f"top_k = {self.top_k}"]
        return lines + [""]

    def begin(self) -> None:
        self.model = lora.load_base(self.teacher).requires_grad_(False)

    def losses(self, model, rows, tokens: int, padded: bool) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """The loss of each forward pass as its part of the step, and the parts that are reported."""
        for part in [rows] if padded else [[row] for row in rows]:
            batch = pad_right(part, None, 0)
            labels = batch["labels"][:, 1:]
            logits = run(model, batch)[:, :-1]
            with torch.no_grad():
                taught = run(self.model, batch)[:, :-1]
            ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum") / tokens
            divergence = self.divergence(logits, taught, labels) / tokens
            loss = (1 - self.alpha) * ce + self.alpha * self.temperature**2 * divergence
            yield loss, {"distill/ce": ce.item(), "distill/divergence": divergence.item()}

    def divergence(self, logits, taught, labels) -> torch.Tensor:
        beta = BETA.get(self.loss, self.beta)
        if self.top_k is None:
            return GKDTrainer.generalized_jsd_loss(
                logits, taught, labels=labels, beta=beta, temperature=self.temperature, reduction="sum"
            )
        here = labels != -100
        q = F.log_softmax(logits[here] / self.temperature, -1)
        p = F.log_softmax(taught[here] / self.temperature, -1)
        p, q = (cells.half().float() if cells is p else cells for cells in (p, q)) if self.top_k >= p.shape[-1] else self.cells(p, q)
        if beta in (0.0, 1.0):
            return (p.exp() * (p - q) if beta == 0.0 else q.exp() * (q - p)).sum()
        mixture = (beta * p.exp() + (1 - beta) * q.exp()).log()
        return (beta * p.exp() * (p - mixture) + (1 - beta) * q.exp() * (q - mixture)).sum()

    def cells(self, p, q) -> tuple[torch.Tensor, torch.Tensor]:
        ids = p.topk(self.top_k, -1).indices
        others = torch.ones_like(p, dtype=torch.bool).scatter(-1, ids, False)

        def of(all_tokens):
            rest = all_tokens.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
            return torch.cat([all_tokens.gather(-1, ids), rest], -1)

        return of(p).half().float(), of(q)


CASES = {
    "trajectory-distill-llama-full": short(
        "smollm3", 701, 3.0, objective=Distill("qwen2", loss="reverse_kl", temperature=2.0, alpha=0.7)
    ),
    "trajectory-distill-llama-lora": short(
        "qwen3", 702, 1.0, adapter=adapter(target_modules=ALL), objective=Distill("gemma2"), schedule=LINEAR
    ),
    "trajectory-distill-neox-full": short(
        "gpt-neox",
        703,
        0.3,
        optimizer=LARGE_EPSILON,
        objective=Distill("phi", loss="jsd", beta=0.3, temperature=1.5, alpha=0.9),
    ),
    "trajectory-distill-neox-lora": short(
        "gpt-neox",
        704,
        1.0,
        adapter=adapter(target_modules=ALL),
        objective=Distill("mixtral", loss="forward_kl", temperature=3.0, alpha=1.0),
    ),
    "distill/cells": short(
        "qwen2",
        705,
        1.0,
        adapter=adapter(target_modules=ALL),
        objective=Distill("phi3", loss="forward_kl", temperature=2.0, alpha=0.6, top_k=5),
    ),
    "distill/cells-reverse": short(
        "qwen2", 706, 1.5, adapter=adapter(target_modules=ALL), objective=Distill("phi3", loss="reverse_kl", top_k=3)
    ),
    "distill/cells-all": short(
        "qwen2", 707, 1.5, adapter=adapter(target_modules=ALL), objective=Distill("phi3", loss="jsd", top_k=47)
    ),
}
