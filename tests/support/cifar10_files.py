"""A tiny CIFAR-10 in each form that people have it in: the same images, of a colour for each class and noise."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN, TEST = 100, 40
NAMES = [f"class{number}" for number in range(10)]


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 32, 32, 3) and labels; the classes take turns."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 10
    colours = np.random.default_rng(0).integers(40, 216, (10, 3))
    noise = rng.integers(-30, 31, (count, 32, 32, 3))
    return (colours[labels][:, None, None] + noise).astype(np.uint8), labels


def write_batches(folder: Path) -> Path:
    """The python version's folder, as Python 2 has pickled it: keys are bytes."""
    folder.mkdir()
    pixels, labels = images(TRAIN)
    parts = [(f"data_batch_{number + 1}", slice(number * 20, number * 20 + 20)) for number in range(5)]
    batches = {name: (pixels[rows], labels[rows]) for name, rows in parts} | {"test_batch": images(TEST)}
    for name, (own, theirs) in batches.items():
        rows = own.transpose(0, 3, 1, 2).reshape(len(own), -1)
        content = {b"data": rows, b"labels": theirs.tolist(), b"batch_label": name.encode()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_archive(path: Path) -> Path:
    folder = write_batches(path.parent / "cifar-10-batches-py")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def write_folder(folder: Path) -> Path:
    for part, count in {"train": TRAIN, "test": TEST}.items():
        for number, (pixels, label) in enumerate(zip(*images(count), strict=True)):
            place = folder / part / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number:05d}.png")
    return folder


def write_packed(path: Path) -> Path:
    """One file of JPEGs, which lose a little."""
    arrays = {}
    for part, count in {"train": TRAIN, "test": TEST}.items():
        pixels, labels = images(count)
        files = []
        for image in pixels:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_start"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_label"] = labels.astype(np.uint8)
    np.savez(path, **arrays)
    return path
