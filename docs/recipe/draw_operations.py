"""Draw docs/pictures/operations.jpg, a picture of each operation.

    python docs/recipe/draw_operations.py

The photograph is china.jpg of scikit-learn, by danielbuechele, CC BY 2.0.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from mixlayers.augment import Crop, Cutout, Erase, Operation, RandAugment, apply

SHEET = Path(__file__).parents[1] / "pictures" / "operations.jpg"
TILE = (192, 128)
LABEL = 20
COLUMNS = 4

SHOWN = (
    ("the image", ()),
    ("ShearX 0.3", (Operation("ShearX", 0.3),)),
    ("ShearY 0.3", (Operation("ShearY", 0.3),)),
    ("TranslateX 40", (Operation("TranslateX", 40),)),
    ("TranslateY 40", (Operation("TranslateY", 40),)),
    ("Rotate 30", (Operation("Rotate", 30),)),
    ("Brightness 0.6", (Operation("Brightness", 0.6),)),
    ("Color -0.9", (Operation("Color", -0.9),)),
    ("Contrast 0.9", (Operation("Contrast", 0.9),)),
    ("Sharpness 0.9", (Operation("Sharpness", 0.9),)),
    ("Posterize 2", (Operation("Posterize", 2),)),
    ("Solarize 128", (Operation("Solarize", 128),)),
    ("AutoContrast", (Operation("AutoContrast"),)),
    ("Equalize", (Operation("Equalize"),)),
    ("Invert", (Operation("Invert"),)),
    ("HorizontalFlip", (Operation("HorizontalFlip"),)),
    ("RandomResizedCrop", (Crop(40, 90, 260, 310, TILE[::-1]),)),
    ("RandomErasing, noise", (Erase(30, 70, 60, 50, "random", seed=1),)),
    ("Cutout(48)", Cutout(48).plan(TILE[::-1], index=4)),
    ("RandAugment(2, 9)", RandAugment(2, 9).plan(TILE[::-1], index=11)),
)


def main() -> None:
    """Draw the sheet."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    small = whole.resize(TILE)
    rows = -(-len(SHOWN) // COLUMNS)
    gap = 6
    width, height = TILE[0] + gap, TILE[1] + LABEL + gap
    sheet = Image.new("RGB", (COLUMNS * width + gap, rows * height + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (name, steps) in enumerate(SHOWN):
        row, column = divmod(number, COLUMNS)
        left, top = gap + column * width, gap + row * height
        pen.text((left, top), name, "black", font)
        photo = whole if steps and isinstance(steps[0], Crop) else small
        sheet.paste(apply(photo, steps), (left, top + LABEL))
    sheet.save(SHEET, quality=85)


if __name__ == "__main__":
    main()
