"""Train the tokenizer of the Spark models: `python recipes/pretrain/tokenizer.py`.

A byte-level BPE over the corpus, so any text can be written, with ChatML's markers as special tokens and every digit
on its own. Writes the files that transformers reads next to the model's config.json.
Needs `pip install tokenizers==0.23.3`.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
MODEL = HERE.parent.parent / "configs/models/spark-2m"
VOCABULARY = 2048
END_OF_TEXT, START, END, PAD = SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(str(MODEL / "tokenizer.json"))

    template = (MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    roles = {"bos_token": END_OF_TEXT, "eos_token": END, "pad_token": PAD, "unk_token": END_OF_TEXT}
    write("special_tokens_map.json", {"additional_special_tokens": [START], **roles})
    write("tokenizer_config.json", {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(index): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for index, token in enumerate(SPECIALS)
        },
        "additional_special_tokens": [START],
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
    })


def texts():
    """The contents of every message of the corpus, and the role names."""
    for line in (HERE / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        for message in json.loads(line)["messages"]:
            yield message["content"]
            yield message["role"] + "\n"


def write(name, value):
    (MODEL / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
