"""config_defaults.json: what transformers takes for a key that `config.json` lacks.

For every model case and each key of its `config.json`: the keys whose values change, with their new values, when the key is
left out. `null`: transformers refuses the file."""

import json
import logging

from transformers import CONFIG_MAPPING

from common import HERE

# Not read by any network.
OF_NO_NETWORK = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "use_cache", "_name_or_path"}


def full(config: dict) -> dict:
    config = json.loads(json.dumps(config))
    return json.loads(json.dumps(CONFIG_MAPPING[config["model_type"]].from_dict(config).to_dict()))


def of_case(config: dict) -> dict:
    before = full(config)
    answers = {}
    for key in config:
        if key in OF_NO_NETWORK:
            continue
        try:
            after = full({name: value for name, value in config.items() if name != key})
        except Exception:
            answers[key] = None
            continue
        answers[key] = {name: value for name, value in after.items() if before.get(name, "absent") != value}
    return answers


def write() -> None:
    logging.disable(logging.WARNING)
    names = {"RefinedWeb", "RefinedWebModel"}
    cases = {}
    for path in sorted(HERE.glob("**/config.json")):
        config = json.loads(path.read_text())
        room = path.parent.relative_to(HERE)
        if not (path.parent / "forward.safetensors").exists() and room.parts[0] != "towers":
            continue
        if config.get("model_type") in CONFIG_MAPPING and config["model_type"] not in names:
            cases[str(room)] = of_case(config)
    lines = [f"{json.dumps(case)}: {json.dumps(answers, sort_keys=True)}" for case, answers in cases.items()]
    (HERE / "config_defaults.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
