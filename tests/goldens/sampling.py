"""sampling.json: what transformers makes of the logits of the next token before it draws, with every setting alone and together."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from common import HERE, write_json

VOCABULARY = 41
STEPS = 3
PROMPT = [3, 17, 17, 5]

SETTINGS = [
    dict(),
    dict(temperature=0.5),
    dict(top_k=5),
    dict(top_k=1000),
    dict(top_p=0.6),
    dict(top_p=0.01),
    dict(min_p=0.2),
    dict(repetition_penalty=1.7),
    dict(repetition_penalty=0.6),
    dict(temperature=1.9, top_k=12, top_p=0.7, min_p=0.3, repetition_penalty=1.3),
    dict(temperature=0.7, top_p=0.9, min_p=0.05),
]


def model() -> LlamaForCausalLM:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.7,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def case(network: LlamaForCausalLM, settings: dict, greedy: bool) -> dict:
    torch.manual_seed(5)
    # What is left out must not be taken from the library's defaults.
    neutral = dict(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
    sampled = {"do_sample": False, "repetition_penalty": settings.get("repetition_penalty", 1.0)}
    out = network.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        max_new_tokens=STEPS,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
        **(sampled if greedy else {"do_sample": True} | neutral | settings),
    )
    ids = out.sequences[0].tolist()
    steps = []
    for step in range(STEPS):
        probabilities = out.scores[step][0].softmax(-1)
        kept = [[token, probabilities[token].item()] for token in range(VOCABULARY) if probabilities[token] > 0]
        steps.append({"logits": out.logits[step][0].tolist(), "seen": ids[: len(PROMPT) + step], "kept": kept})
    return {"settings": settings, "greedy": ids[len(PROMPT) :] if greedy else None, "steps": steps}


def write() -> None:
    network = model()
    cases = [case(network, settings, False) for settings in SETTINGS]
    penalties = [settings for settings in SETTINGS if set(settings) <= {"repetition_penalty"}]
    cases += [case(network, settings, True) for settings in penalties]
    write_json(HERE / "sampling.json", {"cases": cases})
