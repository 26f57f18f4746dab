"""CIFAR-10 in the forms that people have it in. Nothing is downloaded."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from mixlayers.cli.stop import Stop

SIDE: Final = 32
FORMS: Final = (
    "the python version of https://www.cs.toronto.edu/~kriz/cifar.html (cifar-10-python.tar.gz, or its folder "
    "cifar-10-batches-py), a folder of images (train/CLASS/*.png and test/CLASS/*.png), or one file "
    "cifar10_jpeg.npz"
)
_TRAIN: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST: Final = "test_batch"
_PICTURES: Final = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}

Pixels = npt.NDArray[np.uint8]
Part = tuple[Pixels, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Photos:
    """The images with their labels, training images first.

    Attributes:
        images: uint8, (N, 3, 32, 32).
        labels: int64, (N,).
        tested: How many of the last images are the test images.
        origin: What they were read from.
    """

    images: Pixels
    labels: npt.NDArray[np.int64]
    tested: int
    origin: str


def read_cifar10(path: Path) -> Photos:
    """Read CIFAR-10 from its python batches, an image folder or a packed file.

    Raises:
        Stop: If the path holds none of them.
    """
    folder = path / "cifar-10-batches-py"
    batches = folder if folder.is_dir() else path
    read: Callable[[Path], tuple[Part, Part]]
    if path.suffix == ".npz" and path.is_file():
        read, origin = _packed, "recompressed as JPEGs, one packed file"
    elif path.name.endswith((".tar.gz", ".tgz", ".tar")) and path.is_file():
        read, origin = _archive, "the python version"
    elif (batches / _TEST).is_file():
        path, read, origin = batches, _batches, "the python version"
    elif (path / "train").is_dir() and (path / "test").is_dir():
        read, origin = _folder, "a folder of images"
    else:
        got = "holds none of them" if path.exists() else "is not there"
        raise Stop(f"CIFAR-10 is read from {FORMS}: {path} {got}.")
    (images, labels), (unseen, theirs) = read(path)
    return Photos(
        np.concatenate([images, unseen]),
        np.concatenate([labels, theirs]).astype(np.int64),
        len(theirs),
        origin,
    )


def _batches(folder: Path) -> tuple[Part, Part]:
    return _of_batches(lambda name: (folder / name).open("rb"))


def _archive(path: Path) -> tuple[Part, Part]:
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

        @contextmanager
        def open_member(name: str) -> Iterator[IO[bytes]]:
            if name not in members:
                raise ValueError(f"{path} has no {name}")
            file = archive.extractfile(members[name])
            if file is None:
                raise ValueError(f"{name} in {path} is no file")
            with file:
                yield file

        return _of_batches(open_member)


def _of_batches(open_batch: Callable[[str], Any]) -> tuple[Part, Part]:
    def read(name: str) -> Part:
        with open_batch(name) as file:
            batch = _Arrays(file, encoding="bytes").load()
        found = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        return np.asarray(found["data"], np.uint8).reshape(-1, 3, SIDE, SIDE), np.asarray(
            found["labels"], np.int64
        )

    parts = [read(name) for name in _TRAIN]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return (images, labels), read(_TEST)


class _Arrays(pickle.Unpickler):
    """Reads arrays out of a pickle, and lets it call nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        rebuild = np.empty(0).__reduce__()[0]  # whose module has another name in each NumPy
        allowed = {"_reconstruct": rebuild, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 pickles bytes for Python 2
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"a batch of CIFAR-10 holds arrays alone, this one asks for {module}.{name}"
        )


def _folder(path: Path) -> tuple[Part, Part]:
    train, test = (
        sorted(found.name for found in (path / part).iterdir() if found.is_dir())
        for part in ("train", "test")
    )
    if train != test:  # a class is known by its folder's place among them
        raise ValueError(f"the folders of classes differ, {train[:12]} in train and {test[:12]} in test")

    def read(part: str) -> Part:
        files = [
            (file, number)
            for number, name in enumerate(train)
            for file in sorted((path / part / name).iterdir())
            if file.suffix.lower() in _PICTURES
        ]
        if not files:
            raise ValueError(f"{path / part} has no images in folders of their classes")
        return _decoded(file for file, _ in files), np.array([number for _, number in files], np.int64)

    return read("train"), read("test")


def _packed(path: Path) -> tuple[Part, Part]:
    with np.load(path) as packed:  # of arrays alone: it refuses pickles

        def read(part: str) -> Part:
            content, starts = packed[f"{part}_jpeg"], packed[f"{part}_start"]
            files = (io.BytesIO(content[first:last].tobytes()) for first, last in pairwise(starts))
            return _decoded(files), packed[f"{part}_label"].astype(np.int64)

        return read("train"), read("test")


def _decoded(files: Iterable[Path | IO[bytes]]) -> Pixels:
    from PIL import Image

    found = []
    for file in files:
        with Image.open(file) as image:
            if image.size != (SIDE, SIDE):
                raise ValueError(f"images of CIFAR-10 are {SIDE}x{SIDE}, got {image.size}")
            found.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return np.stack(found)
