"""Pictures that diffusers makes of prompts, with the pipelines of diffusion.py: in diffusion/<case>/painted/.

Of every picture `<name>.safetensors` holds the `latents` that it starts from and its `pixels` (u8, [height, width, 3]);
`asked.json` holds what was asked, as flags of `firebrand generate`.
"""

import json
import shutil

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file

from diffusion import DIFFUSION

PICTURES = {
    "sd1": {
        "guided": dict(prompt="a red thing", guidance=7.5, steps=5, height=16, width=24),
        "avoiding": dict(prompt="a red thing", negative_prompt="blue, green", guidance=3.0, steps=4, height=24, width=16),
        "alone": dict(prompt="", guidance=1.0, steps=3, height=16, width=16),
    },
    "sdxl": {
        "guided": dict(prompt="a red thing", guidance=5.0, steps=5, height=32, width=32),
        "avoiding": dict(prompt="a red thing", negative_prompt="blue, green", guidance=3.0, steps=4, height=32, width=48),
        "alone": dict(prompt="two things", guidance=1.0, steps=3, height=32, width=32),
    },
}


def main() -> None:
    for name, pictures in PICTURES.items():
        folder = DIFFUSION / name
        kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
        made = kind.from_pretrained(folder, local_files_only=True)
        made.set_progress_bar_config(disable=True)
        painted = folder / "painted"
        shutil.rmtree(painted, ignore_errors=True)
        painted.mkdir()
        flags = {picture: {f"--{key.replace('_', '-')}": str(asked[key]) for key in asked} for picture, asked in pictures.items()}
        (painted / "asked.json").write_text(json.dumps(flags, indent=1) + "\n")
        for index, (picture, asked) in enumerate(pictures.items()):
            generator = torch.Generator().manual_seed(7000 + index)
            asked = dict(asked)
            sizes = [asked[side] // made.vae_scale_factor for side in ("height", "width")]
            latents = torch.randn(1, 4, *sizes, generator=generator)
            steps, guidance = asked.pop("steps"), asked.pop("guidance")
            image = made(
                **asked, latents=latents.clone(), num_inference_steps=steps, guidance_scale=guidance, output_type="np"
            ).images[0]
            pixels = torch.from_numpy((image * 255).round().astype("uint8")).contiguous()
            save_file(dict(latents=latents[0], pixels=pixels), painted / f"{picture}.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main()
