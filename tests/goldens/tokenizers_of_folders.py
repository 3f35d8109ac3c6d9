"""Tiny tokenizers as model folders hold them when there is no tokenizer.json, and the ids the references give for texts.

Byte-level ones and those of SentencePiece without `legacy`: ids are those of transformers' AutoTokenizer. The others:
those of the sentencepiece library, for every stretch of text between control tokens. transformers 5 ranks the merges of a
`.model` file by id instead of score and leaves out the space before the text for families without a tokenizer class; the
tokenizer.json files published beside such models, which transformers 4 made, agree with sentencepiece.
"""

import io
import json
import re
import shutil
from dataclasses import dataclass, field
from typing import Any, Callable

import sentencepiece
import tokenizers
from common import HERE
from sentencepiece import sentencepiece_model_pb2 as protocol
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

FOLDER = HERE / "tokenizers"

# Out of copyright: Austen, Melville, Carroll, the first article of the declaration of human rights.
TEXT = """
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.
However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so
well fixed in the minds of the surrounding families, that he is considered as the rightful property of some one or other
of their daughters.
Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing
particular to interest me on shore, I thought I would sail about a little and see the watery part of the world.
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice
she had peeped into the book her sister was reading, but it had no pictures or conversations in it.
All human beings are born free and equal in dignity and rights. They're endowed with reason; it's 1, 2, 3, 1948 or 2026.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Tous les êtres humains naissent libres et égaux.
""".strip().splitlines()

TEXTS = [
    "",
    " ",
    "   ",
    "a",
    "Hello world",
    " Hello",
    "  Hello  world  ",
    "the man of the world",
    "It's they're I'M we'LL don't",
    "one\ntwo\n\nthree\r\nfour",
    "tab\tand\ttabs",
    "    def f(x):\n        return x + 1\n",
    "1948 12345 3.14 1,000,000",
    "Würde, égaux, ﬁne, Ａ, Å Å",
    "世界 こんにちは",
    "emoji 🙂 👩‍👩‍👧 🇩🇪",
    "control \x00 \x01 \x7f end",
    "non\u00a0breaking\u2003space\u200bzero",
    "مرحبا שלום привет",
    "!?...;:-- (a) [b] {c} <d> \"e\" 'f'",
    "<0x0A> and ▁ stand for themselves",
    "Alice was beginning to get very tired of sitting by her sister on the bank.",
    "a" * 40,
    "\u0301combining e\u0301",
]


@dataclass
class Case:
    files: Callable[[], dict[str, bytes]]
    config: dict[str, Any]
    tokenizer_config: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)  # other JSON files
    controls: tuple[str, ...] = ()  # put into some of the texts
    by_sentencepiece: bool = False
    names_bytes: bool = True  # whether a text may hold the name of a byte


def byte_bpe(first: tuple[str, ...], last: tuple[str, ...], size: int = 420) -> dict[str, bytes]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = {piece: index for index, piece in enumerate([*first, *pieces, *last])}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False).encode(),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
    }


def clip_bpe() -> dict[str, bytes]:
    """As CLIP's: every byte alone, every byte at the end of a word, then merges, then the two tokens around a text."""
    alphabet = list(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    letters = sorted(alphabet)
    joined = dict.fromkeys("".join(pair.split(" ")) for pair in merges)
    pieces = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters), *joined])
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False).encode(),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
    }


def sentence_piece(
    edit: Callable[[protocol.ModelProto], None] | None = None, rules: dict[str, str] | None = None, **options: Any
) -> dict[str, bytes]:
    out = io.BytesIO()
    options = {
        "model_type": "bpe",
        "vocab_size": 520,
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "allow_whitespace_only_pieces": True,
        "character_coverage": 1.0,
        "num_threads": 1,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    } | options
    if rules:
        # A few rules are enough to test them; those of the library are a quarter of a megabyte.
        path = FOLDER / "rules.tsv"

        def as_hex(text: str) -> str:
            return " ".join(f"{ord(letter):X}" for letter in text)

        path.write_text("".join(f"{as_hex(old)}\t{as_hex(new)}\n" for old, new in rules.items()))
        options = {name: value for name, value in options.items() if name != "normalization_rule_name"}
        options["normalization_rule_tsv"] = str(path)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_writer=out, **options)
    if rules:
        path.unlink()
    model = protocol.ModelProto.FromString(out.getvalue())
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    model.trainer_spec.ClearField("model_prefix")
    if edit:
        edit(model)
    return {"tokenizer.model": model.SerializeToString(deterministic=True)}


def runs_of_spaces(model: protocol.ModelProto) -> None:
    """As LLaMA and Mistral have them: the first ids after the bytes, and the lowest score."""
    at = next(index for index, piece in enumerate(model.pieces) if piece.type == 1)
    rest = list(model.pieces)[at:]
    del model.pieces[at:]
    for length in (2, 4, 8):
        model.pieces.append(protocol.ModelProto.SentencePiece(piece="▁" * length, score=-1e9))
    model.pieces.extend(rest)


def added(content: str, special: bool = True, **flags: bool) -> dict[str, Any]:
    properties = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": special}
    return {"content": content} | properties | flags


LLAMA = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
}
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CASES = {
    "gpt2": Case(
        lambda: byte_bpe((), ("<|endoftext|>",)),
        {"model_type": "gpt2"},
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": 1024},
        controls=("<|endoftext|>",),
    ),
    "gptj": Case(
        lambda: byte_bpe((), ("<|endoftext|>",), 380),
        {"model_type": "gptj"},
        {"add_prefix_space": True},
        more={"added_tokens.json": {"<|extra|>": 381, "<|pad|>": 382}, "special_tokens_map.json": {"pad_token": "<|pad|>"}},
        controls=("<|endoftext|>", "<|extra|>", "<|pad|>"),
    ),
    "opt": Case(
        lambda: byte_bpe(("<s>", "<pad>", "</s>", "<unk>"), ()),
        {"model_type": "opt"},
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_bos_token": True,
            "add_prefix_space": False,
            "bos_token": {"__type": "AddedToken"} | added("</s>", normalized=True),
            "eos_token": {"__type": "AddedToken"} | added("</s>", normalized=True),
            "unk_token": {"__type": "AddedToken"} | added("</s>", normalized=True),
            "pad_token": "<pad>",
        },
        controls=("</s>", "<pad>"),
    ),
    "qwen2": Case(
        lambda: byte_bpe((), ()),
        {"model_type": "qwen2"},
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "added_tokens_decoder": {str(420 + index): added(token) for index, token in enumerate(CHATML)}
            | {"423": added("<tool_call>", special=False)},
        },
        controls=(*CHATML, "<tool_call>"),
    ),
    "gpt-neox": Case(
        lambda: byte_bpe(("<|endoftext|>", "<|padding|>"), ()),
        {"model_type": "gpt_neox"},
        {"tokenizer_class": "GPTNeoXTokenizer"},
        controls=("<|endoftext|>", "<|padding|>"),
    ),
    "clip": Case(
        clip_bpe,
        {"model_type": "clip"},
        {"tokenizer_class": "CLIPTokenizer", "add_prefix_space": False, "do_lower_case": True, "model_max_length": 77},
        more={"special_tokens_map.json": {"pad_token": "!"}},
        controls=("<|startoftext|>", "<|endoftext|>"),
    ),
    "llama": Case(
        sentence_piece,
        {"model_type": "llama"},
        LLAMA
        | {
            "legacy": False,
            "added_tokens_decoder": {
                "0": added("<unk>"),
                "1": added("<s>"),
                "2": added("</s>"),
                "520": added("<|user|>", rstrip=True),
                "521": added("<|word|>", special=False, single_word=True, lstrip=True),
            },
        },
        controls=("<s>", "</s>", "<|user|>", "<|word|>"),
    ),
    "llama-legacy": Case(
        lambda: sentence_piece(runs_of_spaces),
        {"model_type": "llama"},
        LLAMA | {"legacy": True},
        controls=("<s>", "</s>"),
        by_sentencepiece=True,
    ),
    "mistral": Case(
        lambda: sentence_piece(runs_of_spaces, control_symbols="[INST],[/INST]"),
        {"model_type": "mistral"},
        controls=("<s>", "[INST]", "[/INST]"),
        by_sentencepiece=True,
    ),
    "gemma": Case(
        lambda: sentence_piece(
            add_dummy_prefix=False,
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            pad_piece="<pad>",
            bos_piece="<bos>",
            eos_piece="<eos>",
            user_defined_symbols="<mask>,<start_of_turn>,<end_of_turn>",
        ),
        {"model_type": "gemma"},
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        },
        controls=("<bos>", "<start_of_turn>", "<end_of_turn>"),
    ),
    "unigram": Case(
        lambda: sentence_piece(
            rules={"ﬁ": "fi", "Ａ": "A", "\t": " ", "\n": " ", "\u00a0": " ", "A\u030a": "Å"},
            model_type="unigram",
            vocab_size=300,
            byte_fallback=False,
            remove_extra_whitespaces=True,
            allow_whitespace_only_pieces=False,
        ),
        {"model_type": "llama"},
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False},
        controls=("<s>", "</s>"),
        by_sentencepiece=True,
    ),
    "unigram-bytes": Case(
        lambda: sentence_piece(model_type="unigram", vocab_size=520),
        {"model_type": "llama"},
        {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True},
        controls=("<s>", "</s>"),
        by_sentencepiece=True,
        # The tokenizers library, and so transformers, would read it as the byte.
        names_bytes=False,
    ),
}


def texts(case: Case) -> list[str]:
    controls = case.controls
    around = [f"{a}the man{b}\n it is {a}{b} a  {a}" for a, b in zip(controls, controls[1:] + controls[:1])]
    texts = [text for text in TEXTS if case.names_bytes or "<0x0A>" not in text]
    return texts + around + [f"wo{token}rd {token} next{token}" for token in controls]


def write(name: str) -> None:
    case = CASES[name]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, content in case.files().items():
        (folder / file).write_bytes(content)
    jsons = {"config.json": case.config, "tokenizer_config.json": case.tokenizer_config} | case.more
    for file, content in jsons.items():
        if content is not None:
            (folder / file).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    give = sentencepiece_ids if case.by_sentencepiece else transformers_ids
    rows = give(folder, case)
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows["texts"])
    head = json.dumps({key: value for key, value in rows.items() if key != "texts"}, ensure_ascii=False)
    (folder / "expected.json").write_text(head[:-1] + ', "texts": [\n' + lines + "\n]}\n")


def transformers_ids(folder, case: Case) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts(case):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
    plain, whole = (tokenizer("a", add_special_tokens=flag).input_ids for flag in (False, True))
    start = next(at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
    return {
        "reference": "transformers",
        "special": {key: str(value) for key, value in tokenizer.special_tokens_map.items() if key != "mask_token"},
        "prefix": whole[:start],
        "suffix": whole[start + len(plain) :],
        "texts": rows,
    }


def sentencepiece_ids(folder, case: Case) -> dict[str, Any]:
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    controls = re.compile("(" + "|".join(re.escape(token) for token in case.controls) + ")")
    rows = []
    for text in texts(case):
        stretches = [part for part in controls.split(text) if part]
        ids = [
            id
            for part in stretches
            for id in ([tokenizer.piece_to_id(part)] if part in case.controls else tokenizer.encode(part))
        ]
        row = {"text": text, "ids": ids}
        # It deletes the spaces at the start of what it decodes where it deletes them in texts, and writes ⁇ for <unk>.
        if len(stretches) == 1 and not text.startswith(" ") and tokenizer.unk_id() not in ids:
            row["decoded"] = tokenizer.decode(ids)
        rows.append(row)
    config = case.tokenizer_config or {}
    return {
        "reference": "sentencepiece",
        "special": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        "prefix": [tokenizer.bos_id()] if config.get("add_bos_token", "add_eos_token" not in config) else [],
        "suffix": [tokenizer.eos_id()] if config.get("add_eos_token") else [],
        "texts": rows,
    }
