"""What the JSON files beside one tokenizer.json change of its ids: flags, post-processors, tokens that only they name.

Writes tokenizer-configs.json: the tokenizer, and for each case the files beside it and the ids that transformers'
AutoTokenizer gives.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from common import HERE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers_of_folders import TEXT, added
from transformers import AutoTokenizer

TEXTS = ["the man", "a <|think|>b <|img|> <|end|> c", "it <|end|> is"]


def base() -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|bos|>", "<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return json.loads(tokenizer.to_str())


def surrounded(single: str) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair="$A $B", special_tokens=[("<|bos|>", 0), ("<|end|>", 1)]
    )
    return json.loads(tokenizer.to_str())["post_processor"]


BOS = surrounded("<|bos|> $A")
BOTH = surrounded("<|bos|> $A <|end|>")
NAMED = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
DECLARED = {"0": added("<|bos|>"), "1": added("<|end|>"), "2": added("<|pad|>")}


def case(post: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **files: Any) -> dict[str, Any]:
    whole = {"tokenizer_class": "PreTrainedTokenizerFast"} | NAMED | (config or {})
    return {"post_processor": post, "files": {"tokenizer_config.json": whole} | {f"{k}.json": v for k, v in files.items()}}


CASES = {
    "plain": case(),
    **{
        f"{name}, {json.dumps(flags)}": case(post, flags)
        for name, post in (("no post-processor", None), ("BOS", BOS), ("BOS and EOS", BOTH))
        for flags in (
            {"add_bos_token": True},
            {"add_bos_token": False},
            {"add_bos_token": None},
            {"add_eos_token": True},
            {"add_eos_token": False},
            {"add_bos_token": False, "add_eos_token": True},
        )
    },
    "special tokens are split": case(BOS, {"split_special_tokens": True}),
    "declared": case(config={"added_tokens_decoder": DECLARED | {"300": added("<|think|>")}}),
    "declared as a word": case(config={"added_tokens_decoder": DECLARED | {"300": added("<|think|>", special=False)}}),
    "declared with a gap": case(config={"added_tokens_decoder": DECLARED | {"310": added("<|think|>")}}),
    "declared in another order": case(
        config={"added_tokens_decoder": DECLARED | {"301": added("<|img|>"), "300": added("<|think|>")}}
    ),
    "declared with other properties": case(
        config={"added_tokens_decoder": DECLARED | {"1": added("<|end|>", lstrip=True, rstrip=True)}}
    ),
    "extra list": case(config={"extra_special_tokens": ["<|think|>"]}),
    "extra by name": case(config={"extra_special_tokens": {"think_token": "<|think|>"}}),
    "additional": case(config={"additional_special_tokens": ["<|end|>", "<|think|>", "<|img|>"]}),
    "additional and extra": case(
        config={"additional_special_tokens": ["<|img|>"], "extra_special_tokens": ["<|think|>"]}
    ),
    "a name of the model's own": case(config={"image_token": "<|img|>"}),
    "names before extra": case(config={"extra_special_tokens": ["<|think|>"], "image_token": "<|img|>"}),
    "an end token that the vocabulary lacks": case(config={"eos_token": "<|think|>"}),
    "a padding token that the vocabulary lacks": case(config={"pad_token": {"__type": "AddedToken"} | added("<|think|>")}),
    "the map counts without declared tokens": case(special_tokens_map={"eos_token": "<|think|>"}),
    "the map does not count beside declared tokens": case(
        config={"added_tokens_decoder": DECLARED}, special_tokens_map={"eos_token": "<|think|>"}
    ),
    "extra of the map": case(special_tokens_map={"extra_special_tokens": ["<|img|>"], "think_token": "<|think|>"}),
    "additional of the map": case(special_tokens_map={"additional_special_tokens": ["<|img|>"]}),
    "added tokens of a file": case(added_tokens={"<|img|>": 300, "<|think|>": 301}),
    "the file does not count beside declared tokens": case(
        config={"added_tokens_decoder": DECLARED}, added_tokens={"<|img|>": 300}
    ),
}


def main() -> None:
    tokenizer = base()
    rows = []
    for name, parts in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": parts["post_processor"]}))
            for file, content in parts["files"].items():
                (path / file).write_text(json.dumps(content))
            reference = AutoTokenizer.from_pretrained(path)
            assert type(reference).__name__ == "TokenizersBackend", type(reference)
            ids = [reference(text)["input_ids"] for text in TEXTS]
        rows.append({"name": name} | parts | {"ids": ids})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = json.dumps({"tokenizer": tokenizer, "texts": TEXTS}, ensure_ascii=False)
    (HERE / "tokenizer-configs.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
