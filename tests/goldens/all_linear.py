"""What `all-linear` is in PEFT: the module paths of every model case, as its files name them.

Every `nn.Linear` and `Conv1D` but the head: OPT's `project_in` and `project_out` too. For Mixtral PEFT also takes the
router and all experts, which in transformers are no modules any more; they stand here under their names in the file.
"""

from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

import lora
from common import HERE, write_json

PREFIX = "base_model.model."


def module_paths(base: str) -> list[str]:
    model = get_peft_model(lora.load_base(base), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    paths = []
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        path = name.removeprefix(PREFIX).replace(".mlp.experts", ".block_sparse_moe.experts")
        match getattr(module, "parameter_name", None):
            case None:
                paths.append(path)
            case "weight":  # the router: a parameter of a module of its own kind
                paths.append(path.replace(".mlp.gate", ".block_sparse_moe.gate"))
            case parameter:  # wrapped twice, the inner wrapper is named `base_layer`
                path = path.removesuffix(".base_layer")
                targets = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}[parameter]
                paths += [f"{path}.{e}.{target}" for e in range(module.num_experts) for target in targets]
    return sorted(paths)


def write() -> None:
    write_json(HERE / "all_linear.json", {base: module_paths(base) for base in lora.MODELS})
