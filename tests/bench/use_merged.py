"""Answers prompts greedily with transformers, through the folder's own chat template: for a merged model folder, or a base
with --adapter.

    python use_merged.py MODEL --prompt "What is ...?"
    python use_merged.py MODEL --expect facts.jsonl      # rows with `messages`: the last answer must come word for word
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def answer(model, tokenizer, messages: list[dict[str, str]], new_tokens: int) -> str:
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        result = model.generate(**prompt, do_sample=False, max_new_tokens=new_tokens)
    return tokenizer.decode(result[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--prompt", action="append", default=[], help="may be repeated")
    parser.add_argument("--expect", type=Path, help="JSONL with `messages`")
    parser.add_argument("--system", help="a system message before every --prompt")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="auto", help="auto = as stored; float32, bfloat16")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model, report = AutoModelForCausalLM.from_pretrained(options.model, dtype=options.dtype, output_loading_info=True)
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{options.model} does not fit its architecture: {wrong}")
    if options.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, options.adapter)
    model.eval()

    system = [{"role": "system", "content": options.system}] if options.system else []
    for prompt in options.prompt:
        text = answer(model, tokenizer, [*system, {"role": "user", "content": prompt}], options.max_new_tokens)
        print(json.dumps({"prompt": prompt, "answer": text}, ensure_ascii=False))
    wrong_answers = 0
    for line in open(options.expect) if options.expect else []:
        messages = json.loads(line)["messages"]
        text = answer(model, tokenizer, messages[:-1], options.max_new_tokens)
        right = text.strip() == messages[-1]["content"].strip()
        wrong_answers += not right
        print(json.dumps({"prompt": messages[-2]["content"], "answer": text, "as_taught": right}, ensure_ascii=False))
    if wrong_answers:
        raise SystemExit(f"{wrong_answers} answers differ from what was taught")


if __name__ == "__main__":
    main()
