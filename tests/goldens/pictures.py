"""Pictures: what Pillow, the image processors of transformers and the transforms of open_clip and diffusers make of files.

`pictures/` holds the files; `pictures/decoded.safetensors` the 8-bit RGB of each as `[height, width, 3]`, read by Pillow with
`exif_transpose`; `pictures/processors/<case>/` a file of a model folder; and `pictures/processed.safetensors` the pixel
values `<case>/<backend>/<file>`, where the backend is `pil`, `torchvision` or `transform`.

Pillow 13 clips 16-bit grey at 255 where it should take the high byte, and blends nothing; 16-bit files are made of values
whose high byte is what 16-bit RGB gives, and are compared by that.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torchvision import transforms

from common import HERE

PICTURES = HERE / "pictures"
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 20},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 15, "width": 16},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": DEVIATION,
    "do_convert_rgb": True,
}
TRANSFORMERS = {
    "clip": CLIP,
    "bit-squash": CLIP | {"image_processor_type": "BitImageProcessor", "size": {"height": 13, "width": 24}, "resample": 2},
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "resample": 2},
    "enlarged": CLIP | {"size": {"shortest_edge": 50}, "crop_size": 18, "do_normalize": False, "resample": 1},
    "padded": CLIP | {"size": {"shortest_edge": 10}, "crop_size": {"height": 14, "width": 18}, "do_rescale": False},
    "box": CLIP | {"resample": 4, "do_center_crop": False, "size": {"shortest_edge": 9}},
    "hamming": CLIP | {"resample": 5, "do_center_crop": False, "size": {"shortest_edge": 9}},
}
OPEN_CLIP = {
    "open-clip": {"model_cfg": {"vision_cfg": {"image_size": 17}}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.4] * 3}},
    "open-clip-squash": {
        "model_cfg": {"vision_cfg": {"image_size": 14}},
        "preprocess_cfg": {"mean": MEAN, "std": DEVIATION, "interpolation": "bilinear", "resize_mode": "squash"},
    },
}


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours with an edge and a little noise, so that every filter has something to get wrong."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 110 * np.sin(x / (3 + channel) + y / (5 - channel) + seed) for channel in range(3)]
    picture = np.stack(waves, -1) + random.normal(0, 6, (height, width, 3))
    picture[height // 3 :, : width // 4] = [250, 5, 128]
    return picture.clip(0, 255).astype(np.uint8)


def write_files() -> None:
    wide, high = Image.fromarray(scene(31, 47, 1)), Image.fromarray(scene(45, 29, 2))
    wide.save(PICTURES / "rgb.png")
    high.save(PICTURES / "high.webp", lossless=True)
    wide.convert("L").save(PICTURES / "grey.png")
    alpha = Image.fromarray(np.linspace(0, 255, 45 * 29).reshape(45, 29).astype(np.uint8))
    clear = high.copy()
    clear.putalpha(alpha)
    clear.save(PICTURES / "alpha.png")
    clear.convert("LA").save(PICTURES / "grey-alpha.png")
    wide.quantize(32).save(PICTURES / "palette.png", transparency=3)
    wide.convert("1").save(PICTURES / "bits.png")
    high.quantize(64).save(PICTURES / "first.gif", save_all=True, append_images=[wide.resize(high.size).quantize(64)])
    high.save(PICTURES / "plain.bmp")
    wide.save(PICTURES / "packed.tiff", compression="tiff_lzw")
    wide.save(PICTURES / "fine.jpg", quality=98, subsampling=0)
    wide.save(PICTURES / "usual.jpg", quality=85)
    wide.convert("L").save(PICTURES / "grey.jpg", quality=95)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        wide.save(PICTURES / f"turned-{orientation}.png", exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(PICTURES / "turned.jpg", quality=98, subsampling=0, exif=exif)


def read(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def write() -> None:
    from transformers.models.bit import image_processing_bit, image_processing_pil_bit
    from transformers.models.clip import image_processing_clip, image_processing_pil_clip
    from transformers.models.vit import image_processing_pil_vit, image_processing_vit
    from open_clip.transform import image_transform

    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    write_files()
    files = sorted(path.name for path in PICTURES.iterdir())
    decoded = {name: torch.from_numpy(np.array(read(PICTURES / name))) for name in files}
    save_file(decoded, PICTURES / "decoded.safetensors")
    classes = {
        "CLIPImageProcessor": (image_processing_clip.CLIPImageProcessor, image_processing_pil_clip.CLIPImageProcessorPil),
        "BitImageProcessor": (image_processing_bit.BitImageProcessor, image_processing_pil_bit.BitImageProcessorPil),
        "ViTImageProcessor": (image_processing_vit.ViTImageProcessor, image_processing_pil_vit.ViTImageProcessorPil),
    }
    chosen = ["rgb.png", "high.webp"]
    out = {}
    for case, config in TRANSFORMERS.items():
        folder = PICTURES / "processors" / case
        folder.mkdir(parents=True)
        (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=1) + "\n")
        torchvision, pil = (kind(**config) for kind in classes[config["image_processor_type"]])
        for backend, processor in (("torchvision", torchvision), ("pil", pil)):
            if backend == "torchvision" and case in ("box", "hamming"):
                continue  # it has no such filter
            for name in chosen:
                values = processor(read(PICTURES / name), return_tensors="pt")["pixel_values"][0]
                out[f"{case}/{backend}/{name}"] = values.contiguous().float()
    for case, config in OPEN_CLIP.items():
        folder = PICTURES / "processors" / case
        folder.mkdir(parents=True)
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
        settings = dict(config["preprocess_cfg"])
        size = config["model_cfg"]["vision_cfg"]["image_size"]
        transform = image_transform(size, is_train=False, **settings)
        for name in chosen:
            out[f"{case}/transform/{name}"] = transform(read(PICTURES / name)).contiguous()
    lanczos = transforms.Compose([
        transforms.Resize(16, interpolation=transforms.InterpolationMode.LANCZOS),
        transforms.CenterCrop(16),
        transforms.ToTensor(),
        transforms.Normalize([0.5], [0.5]),
    ])
    for name in chosen:
        out[f"diffusers/transform/{name}"] = lanczos(read(PICTURES / name)).contiguous()
    save_file(out, PICTURES / "processed.safetensors")


if __name__ == "__main__":
    write()
