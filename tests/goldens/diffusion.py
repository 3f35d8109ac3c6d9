"""Stable Diffusion 1, 2 and XL: tiny pipelines, and the UNet's answers.

A case is a folder `diffusion/<case>/` as `save_pretrained` of a pipeline writes it, and `forward.safetensors`: rows of the
UNet's arguments, what it answers, the output of each of its blocks, the loss against a target, and every gradient. `odd.*` is
a second batch, whose height and width no power of two divides.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import HERE

logging.set_verbosity_error()
logging.disable_progress_bar()

DIFFUSION = HERE / "diffusion"
Tensors = dict[str, torch.Tensor]
WORDS = ["a", "b", "c", "d", "e", "an", "be", "cab", "bead", "dad"]
LENGTH = 11  # tokens of a text


@dataclass
class Case:
    """A tiny pipeline and the sizes of the rows that its UNet is given."""

    unet: dict[str, Any]
    scheduler: Any
    seed: int
    texts: tuple[dict[str, Any], ...]
    tokens: int = 5  # of the rows' text states, which need not be as many as the text encoder's
    size: tuple[int, int] = (8, 12)
    odd: tuple[int, int] = (7, 5)
    vae: dict[str, Any] = field(default_factory=dict)

    @property
    def is_xl(self) -> bool:
        return "addition_embed_type" in self.unet


def text(width: int, heads: int, layers: int, **others: Any) -> dict[str, Any]:
    return dict(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=LENGTH,
    ) | others


SCALED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
PUBLISHED = SCALED | dict(steps_offset=1, clip_sample=False, set_alpha_to_one=False)
CASES = {
    # Convolutions of one pixel around the transformers, one number of heads for all stages.
    "sd1": Case(
        unet=dict(
            sample_size=8,
            block_out_channels=(8, 12),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=2,
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(**PUBLISHED),
        seed=401,
        texts=(text(12, 3, 2, hidden_act="quick_gelu"),),
    ),
    # Linear maps, heads by stage, the velocity as target.
    "sd2": Case(
        unet=dict(
            sample_size=12,
            block_out_channels=(8, 8, 8),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=12,
            attention_head_dim=(1, 2, 4),
            norm_num_groups=4,
            use_linear_projection=True,
        ),
        scheduler=PNDMScheduler(**SCALED, steps_offset=1, skip_prk_steps=True, prediction_type="v_prediction"),
        seed=412,  # others have gradients that f32 leaves less of
        texts=(text(12, 3, 2, hidden_act="gelu"),),
    ),
    # Added embeddings; transformers of several blocks; no transformer where the picture is largest.
    "sdxl": Case(
        unet=dict(
            sample_size=16,
            block_out_channels=(4, 8, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=20,
            attention_head_dim=(1, 2, 4),
            norm_num_groups=2,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=6,
            projection_class_embeddings_input_dim=10 + 6 * 6,
        ),
        scheduler=EulerDiscreteScheduler(**SCALED, steps_offset=1, timestep_spacing="leading"),
        seed=403,
        texts=(text(8, 2, 2, hidden_act="quick_gelu"), text(12, 3, 3, hidden_act="gelu", projection_dim=10)),
        vae=dict(scaling_factor=0.13025),
    ),
    # What published files never say otherwise, said otherwise.
    "unusual": Case(
        unet=dict(
            in_channels=5,
            out_channels=5,
            block_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=(1, 2),
            cross_attention_dim=8,
            attention_head_dim=(2, 1),
            norm_num_groups=2,
            norm_eps=1e-3,
            act_fn="gelu",
            flip_sin_to_cos=False,
            freq_shift=1,
            downsample_padding=0,
            time_embedding_dim=10,
            conv_in_kernel=5,
            conv_out_kernel=1,
        ),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=50, rescale_betas_zero_snr=True),
        seed=434,
        texts=(text(8, 2, 1, hidden_act="gelu"),),
        vae=dict(latent_channels=5),
    ),
}


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Norm weights in 1 +- 0.3, biases N(0, 0.3), tables N(0, 0.5), maps and kernels by fan in."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if id(parameter) in tables:
                parameter.normal_(0.0, 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.3, generator=generator)
            elif parameter.dim() == 1:
                parameter.uniform_(0.7, 1.3, generator=generator)
            else:
                parameter.normal_(0.0, 1.0 / parameter[0].numel() ** 0.5, generator=generator)


def tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """Of the letters a to e and a few words, as OpenAI's vocabulary is made: letters, letters at ends of words, merges."""
    letters = list("abcde")
    merges = ["a n</w>", "b e</w>", "a b</w>", "c ab</w>", "b e", "be a", "bea d</w>", "d a", "da d</w>"]
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["n</w>", "!", "!</w>"]
    tokens += [merge.replace(" ", "") for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    made = CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH, pad_token=pad)
    shutil.rmtree(folder)
    return made


def as_published(folder: Path, pad: str) -> None:
    """The tokenizer's folder as on the hub: a vocabulary and merges, and no tokenizer.json."""
    made = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(made["vocab"]))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in made["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    end = "<|endoftext|>"
    config = dict(
        add_prefix_space=False,
        bos_token="<|startoftext|>",
        do_lower_case=True,
        eos_token=end,
        errors="replace",
        model_max_length=LENGTH,
        pad_token=pad,
        tokenizer_class="CLIPTokenizer",
        unk_token=end,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = dict(bos_token="<|startoftext|>", eos_token=end, pad_token=pad, unk_token=end)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def pads(case: Case) -> list[str]:
    """Published ones pad with the end of a text in 1.x and in XL's first, with `!` in 2.x and in XL's second."""
    if case.is_xl:
        return ["<|endoftext|>", "!"]
    return ["!" if case.unet.get("use_linear_projection") else "<|endoftext|>"]


def pipeline(name: str, case: Case, folder: Path) -> None:
    """Writes the whole folder of a pipeline."""
    unet = UNet2DConditionModel(**dict(in_channels=4, out_channels=4) | case.unet)
    randomise(unet, case.seed)
    vae = AutoencoderKL(
        **dict(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=16,
        )
        | case.vae
    )
    randomise(vae, case.seed + 1)
    tokenizers, encoders = [], []
    for index, (config, pad) in enumerate(zip(case.texts, pads(case))):
        tokenizers.append(tokenizer(folder / f"tokenizer-{index}", pad))
        ids = dict(bos_token_id=len(tokenizers[0]) - 2, eos_token_id=2 if index == 0 else len(tokenizers[0]) - 1)
        config = CLIPTextConfig(**config, vocab_size=len(tokenizers[0]), pad_token_id=1, **ids)
        encoders.append((CLIPTextModel if index == 0 else CLIPTextModelWithProjection)(config))
        randomise(encoders[-1], case.seed + 2 + index)
    parts = dict(vae=vae, unet=unet, scheduler=case.scheduler, tokenizer=tokenizers[0], text_encoder=encoders[0])
    if case.is_xl:
        made = StableDiffusionXLPipeline(**parts, tokenizer_2=tokenizers[1], text_encoder_2=encoders[1])
    else:
        made = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    made.save_pretrained(folder)
    for index, pad in enumerate(pads(case)):
        as_published(folder / ("tokenizer" if index == 0 else "tokenizer_2"), pad)


def load_unet(folder: Path) -> UNet2DConditionModel:
    model, report = UNet2DConditionModel.from_pretrained(folder / "unet", output_loading_info=True)
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def rows(case: Case, seed: int, size: tuple[int, int], count: int) -> Tensors:
    """The UNet's arguments for some rows, and a target, all random."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    channels = case.unet.get("in_channels", 4)
    times = case.scheduler.config.num_train_timesteps
    out = {
        "sample": normal(count, channels, *size),
        "timestep": torch.randint(0, times, (count,), generator=generator),
        "encoder_hidden_states": normal(count, case.tokens, case.unet["cross_attention_dim"]),
        "target": normal(count, channels, *size),
    }
    if case.is_xl:
        out["text_embeds"] = normal(count, case.texts[1]["projection_dim"])
        out["time_ids"] = torch.randint(0, 1024, (count, 6), generator=generator).float()
    return out


def run(unet: torch.nn.Module, batch: Tensors) -> torch.Tensor:
    added = {name: batch[name] for name in ("text_embeds", "time_ids") if name in batch}
    arguments = dict(encoder_hidden_states=batch["encoder_hidden_states"], added_cond_kwargs=added or None)
    return unet(batch["sample"], batch["timestep"], **arguments).sample


def forward_file(case: Case, folder: Path, unet: torch.nn.Module, inner: UNet2DConditionModel, seed: int) -> None:
    """`inner` is the UNet inside `unet`, which may be an adapter around it."""
    out: Tensors = {}
    hooks = []

    def keep(name: str) -> Any:
        def hook(_module, _inputs, result) -> None:
            out[name] = (result[0] if isinstance(result, tuple) else result).detach().clone()

        return hook

    for index, block in enumerate(inner.down_blocks):
        hooks.append(block.register_forward_hook(keep(f"down.{index}")))
    hooks.append(inner.mid_block.register_forward_hook(keep("middle")))
    for index, block in enumerate(inner.up_blocks):
        hooks.append(block.register_forward_hook(keep(f"up.{index}")))
    batch = rows(case, seed, case.size, 3)
    answer = run(unet, batch)
    for hook in hooks:
        hook.remove()
    loss = torch.nn.functional.mse_loss(answer, batch["target"])
    loss.backward()
    out |= batch | {"answer": answer.detach(), "loss": loss.detach()}
    out |= {f"grad.{name}": each.grad for name, each in unet.named_parameters() if each.grad is not None}
    batch = rows(case, seed + 1, case.odd, 2)
    with torch.no_grad():
        out |= {f"odd.{name}": tensor for name, tensor in (batch | {"answer": run(unet, batch)}).items()}
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "forward.safetensors")


def schedule_file(case: Case, folder: Path) -> None:
    """What is left of a picture at each time, by the scheduler that diffusers' training scripts make of the folder."""
    made = DDPMScheduler.from_pretrained(folder / "scheduler")
    save_file({"alphas_cumprod": made.alphas_cumprod.contiguous()}, folder / "schedule.safetensors")


def parts_file(case: Case, folder: Path) -> None:
    """Latents of pictures and pictures of latents, by the VAE; texts as the pipeline tells the UNet of them."""
    generator = torch.Generator().manual_seed(case.seed + 2000)
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    out: Tensors = {}
    with torch.no_grad():
        out["pixel_values"] = torch.rand(2, 3, 12, 20, generator=generator) * 2 - 1
        moments = vae.encode(out["pixel_values"]).latent_dist
        out |= {"mean": moments.mean, "log_variance": moments.logvar}
        out["latents"] = torch.randn(2, vae.config.latent_channels, 5, 3, generator=generator)
        out["decoded"] = vae.decode(out["latents"]).sample
        encoders = [CLIPTextModel.from_pretrained(folder / "text_encoder").eval()]
        if case.is_xl:
            encoders.append(CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").eval())
        answers = []
        for index, encoder in enumerate(encoders):
            end = encoder.config.vocab_size - 1
            ids = torch.randint(0, end - 1, (3, LENGTH), generator=generator)
            ids[:, 0] = end - 1
            for row, length in enumerate((LENGTH, 6, 3)):
                ids[row, length - 1 :] = end if index == 0 else 1
                ids[row, length - 1] = end
            out["input_ids" if index == 0 else "input_ids_2"] = ids
            answers.append(encoder(ids, output_hidden_states=True))
        if case.is_xl:
            out["encoder_hidden_states"] = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
            out["text_embeds"] = answers[1].text_embeds
        else:
            out["encoder_hidden_states"] = answers[0].last_hidden_state
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "parts.safetensors")


SAMPLERS = {
    "ddim": (DDIMScheduler, {}),
    "ddim-trailing": (DDIMScheduler, dict(timestep_spacing="trailing", clip_sample=True, set_alpha_to_one=True)),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
    "euler": (EulerDiscreteScheduler, dict(timestep_spacing="linspace")),
    "euler-leading": (EulerDiscreteScheduler, dict(timestep_spacing="leading")),
    "dpm": (DPMSolverMultistepScheduler, dict(timestep_spacing="linspace")),
    "dpm-leading": (DPMSolverMultistepScheduler, dict(timestep_spacing="leading")),
    "dpm-trailing": (DPMSolverMultistepScheduler, dict(timestep_spacing="trailing")),
}


def sampling_file(case: Case, folder: Path) -> None:
    """Latents of a picture that the pipeline makes of given ones, by several samplers, guided away from another text."""
    made = (StableDiffusionXLPipeline if case.is_xl else StableDiffusionPipeline).from_pretrained(folder, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(case.seed + 3000)
    width, (height, wide) = case.unet["cross_attention_dim"], case.size
    out: Tensors = {"latents": torch.randn(1, 4, height, wide, generator=generator)}
    arguments = {}
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        out[name] = arguments[name] = torch.randn(1, case.tokens, width, generator=generator)
        if case.is_xl:
            pooled = name.replace("prompt", "pooled_prompt", 1).replace("negative_pooled", "negative_pooled")
            out[pooled] = arguments[pooled] = torch.randn(1, case.texts[1]["projection_dim"], generator=generator)
    (folder / "samplers").mkdir()
    for name, (scheduler, settings) in SAMPLERS.items():
        made.scheduler = scheduler.from_config(made.scheduler.config, **settings)
        made.scheduler.save_pretrained(folder / "samplers" / name)
        with torch.no_grad():
            out[name] = made(
                **arguments,
                latents=out["latents"],
                height=made.vae_scale_factor * height,
                width=made.vae_scale_factor * wide,
                num_inference_steps=7,
                guidance_scale=3.5,
                output_type="latent",
            ).images
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "sampling.safetensors")


def write(name: str, case: Case) -> None:
    folder = DIFFUSION / name
    shutil.rmtree(folder, ignore_errors=True)
    pipeline(name, case, folder)
    unet = load_unet(folder)
    forward_file(case, folder, unet, unet, case.seed + 1000)
    schedule_file(case, folder)
    parts_file(case, folder)
    if name != "unusual":
        sampling_file(case, folder)
