"""Makes the pictures of recipes/pictures: coloured shapes on coloured ground, with what is on them in words.

python make_shapes.py    (needs pillow and pyarrow; writes the same bytes again with the same versions)

`shapes-train.parquet` and `shapes-eval.parquet` hold rows `{"image": {"bytes", "path"}, "text", "shape"}`, as the image
datasets of Hugging Face have them. Sizes and places are drawn; the evaluation has each pair of colour and shape once.
"""

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

SIDE = 32
FINE = 4  # drawn larger and then reduced, for smooth edges
COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (252, 211, 51),
    "green": (42, 157, 84),
    "blue": (38, 84, 200),
    "purple": (130, 60, 170),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
}
GROUNDS = {"grey": (128, 128, 128), "brown": (110, 74, 46), "pink": (240, 170, 190)}
SHAPES = ["circle", "square", "triangle", "cross", "ring", "bar"]


def draw(shape: str, colour: str, ground: str, rng: random.Random) -> Image.Image:
    side = SIDE * FINE
    radius = rng.uniform(0.2, 0.36) * side
    x, y = (rng.uniform(radius * 1.1, side - radius * 1.1) for _ in range(2))
    picture = Image.new("RGB", (side, side), GROUNDS[ground])
    pen, fill = ImageDraw.Draw(picture), COLOURS[colour]
    box = [x - radius, y - radius, x + radius, y + radius]
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=fill)
    elif shape == "cross":
        pen.rectangle([x - radius, y - radius / 3, x + radius, y + radius / 3], fill=fill)
        pen.rectangle([x - radius / 3, y - radius, x + radius / 3, y + radius], fill=fill)
    elif shape == "ring":
        pen.ellipse(box, outline=fill, width=int(radius / 2.5))
    else:
        pen.rectangle([x - radius, y - radius / 4, x + radius, y + radius / 4], fill=fill)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def rows(name: str, seed: int, times: int) -> list[dict]:
    rng = random.Random(seed)
    made = []
    for _ in range(times):
        for colour in COLOURS:
            for shape in SHAPES:
                ground = rng.choice(list(GROUNDS))
                out = io.BytesIO()
                draw(shape, colour, ground, rng).save(out, "PNG", optimize=True)
                words = rng.choice(["a {} {}", "a {} {} on {g}", "the picture of a {} {}", "a {} {} , ground {g}"])
                text = words.format(colour, shape, g=ground)
                made.append({"image": {"bytes": out.getvalue(), "path": f"{name}-{len(made):04}.png"}, "text": text, "shape": shape})
    return made


def write(name: str, seed: int, times: int) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("text", pa.string()), ("shape", pa.string())])
    table = pa.Table.from_pylist(rows(name, seed, times), schema)
    pq.write_table(table, f"shapes-{name}.parquet", compression="zstd")


if __name__ == "__main__":
    write("train", 1, 12)
    write("eval", 2, 1)
