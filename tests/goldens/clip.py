"""CLIP, two towers: model cases, and the parts that its adapters and trajectories share.

A case is a folder `towers/<case>/` as `save_pretrained` writes it, and `forward.safetensors`. Rows are padded to the right
and end with the end token. What may mislead the pooling stands in them: id 2 where the configuration calls 2 the end token
and the reference reads the largest id, larger ids where it reads the first end token, and the end token twice in one row.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from common import HERE, gradients_as_saved

TOWERS = HERE / "towers"
ROWS = 5  # pairs of a forward file
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
Tensors = dict[str, torch.Tensor]


@dataclass
class Case:
    """A tiny model and the rows it is given."""

    text: dict[str, Any]
    vision: dict[str, Any]
    projection_dim: int
    logit_scale: float
    seed: int
    end: int  # the token that ends a row; what the configuration calls `eos_token_id` may be another
    misleading: int  # a token that stands in every row of three tokens and more
    pad: int
    lengths: tuple[int, ...]
    edit: Callable[[Path], None] | None = None  # makes the folder one of an older writer

    def config(self) -> CLIPConfig:
        width = dict(projection_dim=self.projection_dim)
        return CLIPConfig(text_config=self.text | width, vision_config=self.vision | width, **width)

    @property
    def picture(self) -> tuple[int, int, int]:
        return self.vision["num_channels"], self.vision["image_size"], self.vision["image_size"]


def write_json_file(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def processor_of_today(size: int) -> dict[str, Any]:
    steps = {f"do_{step}": True for step in ("center_crop", "convert_rgb", "normalize", "rescale", "resize")}
    sizes = {"crop_size": {"height": size, "width": size}, "size": {"shortest_edge": size}}
    numbers = {"image_mean": MEAN, "image_std": DEVIATION, "resample": 3, "rescale_factor": 1 / 255}
    return dict(sorted((steps | sizes | numbers | {"image_processor_type": "CLIPImageProcessor"}).items()))


def as_published_first(folder: Path) -> None:
    """The folder of OpenAI's large model: keys that nothing reads, every number twice, position ids among the weights.

    `text_config_dict` and `vision_config_dict` lead: each becomes a whole configuration, with the defaults of the class for
    what it leaves out, and that replaces all values beside it. So the end token is 57 here, whatever `text_config` says."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = None
    unread = dict(
        _name_or_path="",
        add_cross_attention=False,
        architectures=None,
        chunk_size_feed_forward=0,
        cross_attention_hidden_size=None,
        dropout=0.0,
        id2label={"0": "LABEL_0", "1": "LABEL_1"},
        is_encoder_decoder=False,
        label2id={"LABEL_0": 0, "LABEL_1": 1},
        pruned_heads={},
        return_dict=True,
        tie_word_embeddings=True,
        torch_dtype=None,
        transformers_version="4.16.0.dev0",
        use_bfloat16=False,
    )
    for tower in ("text_config", "vision_config"):
        values = config[tower]
        small = {key: values[key] for key in ("initializer_factor", "initializer_range", "attention_dropout", "model_type")}
        config[f"{tower}_dict"] = {key: value for key, value in values.items() if key not in small}
        config[tower] = dict(sorted((unread | values).items()))
    config["text_config"]["eos_token_id"] = 2
    write_json_file(path, dict(sorted(config.items())))

    size = config["vision_config"]["image_size"]
    steps = {"do_center_crop": True, "do_normalize": True, "do_resize": True}
    numbers = {"image_mean": MEAN, "image_std": DEVIATION, "resample": 3, "crop_size": size, "size": size}
    named = {"feature_extractor_type": "CLIPFeatureExtractor"}
    write_json_file(folder / "preprocessor_config.json", dict(sorted((steps | numbers | named).items())))

    weights = load_file(folder / "model.safetensors")
    for tower in ("text_model", "vision_model"):
        positions = len(weights[f"{tower}.embeddings.position_embedding.weight"])
        weights[f"{tower}.embeddings.position_ids"] = torch.arange(positions)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_null_dicts(folder: Path) -> None:
    """OpenAI's base models have the two keys without content."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"text_config_dict": None, "vision_config_dict": None}
    write_json_file(path, dict(sorted(config.items())))


CASES = {
    # `eos_token_id` 2, as OpenAI's files have it: the reference reads the place of the largest id, the first of several.
    # The padding is the end token.
    "clip-quick-gelu": Case(
        text=dict(
            vocab_size=61,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=16,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        vision=dict(
            hidden_size=20,
            intermediate_size=36,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_channels=3,
            image_size=12,
            patch_size=4,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
        ),
        projection_dim=10,
        logit_scale=1.3,
        seed=301,
        end=60,
        misleading=2,
        pad=60,
        lengths=(16, 9, 5, 12, 2),
    ),
    # The first token 57 is read; larger ids stand before and after it. Less positions are used than there are.
    "clip-gelu-eos": Case(
        text=dict(
            vocab_size=61,
            hidden_size=16,
            intermediate_size=28,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=18,
            hidden_act="gelu",
            layer_norm_eps=1e-3,
            bos_token_id=56,
            pad_token_id=1,
            eos_token_id=57,
        ),
        vision=dict(
            hidden_size=24,
            intermediate_size=36,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_channels=3,
            image_size=16,
            patch_size=8,
            hidden_act="gelu",
            layer_norm_eps=1e-3,
        ),
        projection_dim=12,
        logit_scale=2.1,
        seed=302,
        end=57,
        misleading=59,
        pad=0,
        lengths=(13, 8, 1, 11, 4),
        edit=as_published_first,
    ),
    # Above the temperature's limit, which is ln 100 = 4.605. The towers have activations of their own.
    "clip-clamped": Case(
        text=dict(
            vocab_size=23,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        vision=dict(
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=3,
            num_channels=3,
            image_size=4,
            patch_size=2,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
        ),
        projection_dim=8,
        logit_scale=4.7,
        seed=303,
        end=22,
        misleading=2,
        pad=22,
        lengths=(8, 6, 3, 5, 2),
        edit=with_null_dicts,
    ),
}


def randomise(model: CLIPModel, case: Case) -> None:
    """Norm weights in 1 +- 0.3, biases N(0, 0.3), embeddings N(0, 0.5), maps and patches by fan in."""
    generator = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                parameter.fill_(case.logit_scale)
            elif "embedding" in name and "patch" not in name:
                parameter.normal_(0.0, 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.3, generator=generator)
            elif parameter.dim() == 1:
                parameter.uniform_(0.7, 1.3, generator=generator)
            else:
                parameter.normal_(0.0, 1.5 / parameter[0].numel() ** 0.5, generator=generator)


def load_model(folder: Path) -> CLIPModel:
    model, report = CLIPModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def pictures(case: Case, seed: int, count: int) -> torch.Tensor:
    """[count, channels, height, width], standard normal."""
    return torch.randn(count, *case.picture, generator=torch.Generator().manual_seed(seed))


def token_rows(case: Case, seed: int, lengths: tuple[int, ...]) -> list[list[int]]:
    """Rows that end with the end token; the second of every four has it in its middle too."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, case.text["vocab_size"] - 1, (length,), generator=generator).tolist()
        ids = [token + 1 if token >= case.end else token for token in ids]
        if length > 2:
            ids[1] = case.misleading
        if length > 4 and index % 4 == 1:
            ids[length // 2] = case.end
        rows.append([*ids[:-1], case.end])
    return rows


def pad(case: Case, rows: list[list[int]]) -> Tensors:
    columns = max(map(len, rows))
    ids = torch.full((len(rows), columns), case.pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def watch(model: CLIPModel, out: Tensors) -> list:
    """Hooks that keep the output of every layer, and what each tower hands to its projection."""

    def keep(name: str, answer: Callable[[Any], torch.Tensor]):
        def hook(_module, _inputs, result) -> None:
            out[name] = answer(result).detach().clone()

        return hook

    hooks = []
    for name, tower in (("text", model.text_model), ("vision", model.vision_model)):
        for index, layer in enumerate(tower.encoder.layers):
            hook = keep(f"{name}.hidden.{index}", lambda result: result[0] if isinstance(result, tuple) else result)
            hooks.append(layer.register_forward_hook(hook))
        hooks.append(tower.register_forward_hook(keep(f"{name}.pooled", lambda result: result.pooler_output)))
    return hooks


def forward_file(case: Case, folder: Path, model, towers: CLIPModel, seed: int, weights_file: str) -> None:
    """`towers` are those inside `model`, which may be an adapter around them. Consumes the model."""
    inputs = {"pixel_values": pictures(case, seed, ROWS)} | pad(case, token_rows(case, seed + 1, case.lengths))
    out: Tensors = {}
    hooks = watch(towers, out)
    result = model(**inputs, return_loss=True)
    for hook in hooks:
        hook.remove()
    result.loss.backward()
    out |= inputs
    for name in ("image_embeds", "text_embeds", "logits_per_image", "loss"):
        out[name] = result[name].detach()
    # A mask of the padding alone changes no answer, for no token sees what follows it. This one also hides tokens.
    holes = inputs["attention_mask"].clone()
    holes[:, 1:6:2] = 0
    with torch.no_grad():
        out |= {"holes.attention_mask": holes, "holes.text_embeds": model(**inputs | {"attention_mask": holes}).text_embeds}
    out |= gradients_as_saved(model, weights_file)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "forward.safetensors")


def write(name: str, case: Case) -> None:
    """The whole folder of a model case."""
    folder = TOWERS / name
    shutil.rmtree(folder, ignore_errors=True)
    model = CLIPModel(case.config())
    randomise(model, case)
    model.save_pretrained(folder)
    write_json_file(folder / "preprocessor_config.json", processor_of_today(case.vision["image_size"]))
    if case.edit:
        case.edit(folder)
    model = load_model(folder)
    same_numbers(case, model.config)
    forward_file(case, folder, model, model, case.seed + 1000, "model.safetensors")


def same_numbers(case: Case, read: CLIPConfig) -> None:
    """The reference reads of the folder what the case asks for, however it is spelt."""
    for tower, wanted in (("text_config", case.text), ("vision_config", case.vision)):
        found = getattr(read, tower).to_dict()
        wrong = {key: found[key] for key, value in wanted.items() if found[key] != value}
        if wrong or found["projection_dim"] != case.projection_dim:
            raise SystemExit(f"{tower} is read as {wrong}")
