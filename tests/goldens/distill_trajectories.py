"""Trajectories of distillation, in the format of `trajectory.py`. The divergence is TRL's own (`GKDTrainer.generalized_jsd_loss`).

TRL has no cross-entropy term and no square of the temperature; the loss here is `(1 - alpha) CE + alpha T^2 D`, over the
labelled positions of a whole step. The `cells` cases give the student what a cache holds: the teacher's likeliest tokens and
the probability of all others, in f16.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

import torch
import torch.nn.functional as F
from trl.experimental.gkd.gkd_trainer import GKDTrainer

import lora
from common import pad_right, run
from family_trajectories import ALL, LARGE_EPSILON, LINEAR, adapter, short

@contextmanager
def outputs_of_blocks(model):
    """The output of every block, before the last norm, which transformers' own `hidden_states` has not."""
    model = getattr(model, "model", model) if isinstance(model, lora.Adapted) else model
    found: list[torch.Tensor] = []
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1)
    keep = lambda _module, _inputs, output: found.append(output[0] if isinstance(output, tuple) else output)
    hooks = [block.register_forward_hook(keep) for block in blocks]
    yield found
    for hook in hooks:
        hook.remove()


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
    hidden: tuple[str, float, list[list[int]] | None] | None = None  # distance, weight and blocks of matched hidden states

    def recipe(self) -> list[str]:
        lines = ["[objective]", 'kind = "distill"', f'loss = "{self.loss}"', f"temperature = {self.temperature}"]
        lines += [f"alpha = {self.alpha}"]
        lines += [f"beta = {self.beta}"] if self.loss == "jsd" else []
        lines += [f'teacher = "../{self.teacher}"'] if self.top_k is None else [f"top_k = {self.top_k}"]
        if self.hidden:
            distance, weight, layers = self.hidden
            lines += [f'hidden_loss = "{distance}"', f"hidden_weight = {weight}"]
            lines += [f"hidden_layers = {layers}"] if layers else []
        return lines + [""]

    def begin(self) -> None:
        self.model = lora.load_base(self.teacher).requires_grad_(False)

    def parameters(self, student) -> list[torch.nn.Parameter]:
        """Learned maps of hidden states, where the models differ in width. They start as the identity."""
        self.maps: list[torch.nn.Parameter] = []
        wide = [getattr(model.config, "hidden_size", None) for model in (student, self.model)]
        if self.hidden and wide[0] != wide[1]:
            count = len(self.hidden[2] or range(student.config.num_hidden_layers))
            self.maps = [torch.nn.Parameter(torch.eye(wide[1], wide[0])) for _ in range(count)]
        return self.maps

    def losses(self, model, rows, tokens: int, padded: bool) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """The loss of each forward pass as its part of the step, and the parts that are reported."""
        for part in [rows] if padded else [[row] for row in rows]:
            batch = pad_right(part, None, 0)
            labels = batch["labels"][:, 1:]
            with outputs_of_blocks(model) as ours, outputs_of_blocks(self.model) as theirs:
                logits = run(model, batch)[:, :-1]
                with torch.no_grad():
                    taught = run(self.model, batch)[:, :-1]
            ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum") / tokens
            divergence = self.divergence(logits, taught, labels) / tokens
            loss = (1 - self.alpha) * ce + self.alpha * self.temperature**2 * divergence
            parts = {"distill/ce": ce.item(), "distill/divergence": divergence.item()}
            if self.hidden:
                apart = self.apart(ours, theirs, labels) / tokens
                loss = loss + self.hidden[1] * apart
                parts["distill/hidden"] = apart.item()
            yield loss, parts

    def apart(self, ours: list[torch.Tensor], theirs: list[torch.Tensor], labels) -> torch.Tensor:
        """The sum over labelled positions of the mean over pairs of blocks."""
        distance, _, layers = self.hidden
        layers = layers or [[i, max((i + 1) * len(theirs) // len(ours), 1) - 1] for i in range(len(ours))]
        here, total = labels != -100, 0.0
        for place, (student, teacher) in enumerate(layers):
            s, t = ours[student][:, :-1][here], theirs[teacher][:, :-1][here]
            s = s @ self.maps[place].T if self.maps else s
            if distance == "cosine":
                total = total + (1 - F.cosine_similarity(s, t, dim=-1)).sum()
            else:
                total = total + (s - t).square().mean(-1).sum()
        return total / len(layers)

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
    # Three blocks learn from two, of one width; then chosen blocks only.
    "trajectory-distill-hidden-full": short(
        "smollm3", 708, 4.0, objective=Distill("qwen2", alpha=0.5, hidden=("cosine", 2.0, None)), schedule=LINEAR
    ),
    "trajectory-distill-hidden-lora": short(
        "gpt-neox",
        709,
        2.0,
        adapter=adapter(target_modules=ALL),
        objective=Distill("gemma3", temperature=2.0, hidden=("mse", 0.3, [[0, 2], [1, 1]])),
    ),
    # A wider teacher: maps are learned, from the first blocks too, which are frozen.
    "trajectory-distill-projected-full": short(
        "qwen2", 710, 4.0, objective=Distill("phi", temperature=1.5, hidden=("mse", 0.5, None)), schedule=LINEAR
    ),
    "trajectory-distill-projected-lora": short(
        "qwen3",
        711,
        0.7,
        adapter=adapter(target_modules=["q_proj", "down_proj"], layers_to_transform=[1]),
        objective=Distill("bloom", hidden=("cosine", 1.0, [[0, 0], [1, 1]])),
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
