"""CIFAR-10 in three forms: the same images out of each, and one clear line where they are missing or broken."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mixlayers.cli import data, score
from mixlayers.cli.app import app
from mixlayers.cli.sides import FRAMEWORKS
from mixlayers.cli.stop import Stop
from mixlayers.cli.train import Batches
from tests.support.cifar10_files import (
    TEST,
    TRAIN,
    images,
    write_archive,
    write_batches,
    write_folder,
    write_packed,
)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("cifar10")
    archive = write_archive(root / "cifar-10-python.tar.gz")
    return {
        "batches": root / "cifar-10-batches-py",
        "folder of the batches": root,
        "archive": archive,
        "images": write_folder(root / "images"),
        "packed": write_packed(root / "packed.npz"),
    }


@pytest.fixture(scope="module")
def photos(forms: dict[str, Path]) -> data.DataSet:
    return data.load(f"cifar10:{forms['batches']}")[0]


@pytest.mark.parametrize("form", ["batches", "folder of the batches", "archive", "images", "packed"])
def test_every_form_gives_the_same_images(forms: dict[str, Path], form: str) -> None:
    found, note = data.load(f"cifar10:{forms[form]}")
    assert (found.name, found.title, found.tested, found.channels, note) == (
        "cifar10",
        "CIFAR-10",
        TEST,
        3,
        "",
    )
    # folders come by class, the others in their own order
    (train, own), (test, theirs) = images(TRAIN), images(TEST)
    order = [np.argsort(y, kind="stable") if form == "images" else np.arange(len(y)) for y in (own, theirs)]
    expected = np.concatenate([train[order[0]], test[order[1]]]).transpose(0, 3, 1, 2)
    assert found.labels.tolist() == [*own[order[0]], *theirs[order[1]]]
    assert found.images.dtype == np.uint8
    error = np.abs(found.images.astype(int) - expected)
    assert error.mean() < 15 if form == "packed" else not error.any()
    assert ("recompressed" in found.origin) == (form == "packed")
    np.testing.assert_array_equal(found.take(np.array([3])), found.images[[3]] / np.float32(255))


def test_the_authors_test_images_are_tested_on_and_no_others(photos: data.DataSet) -> None:
    rows = data.split(photos, 3, seed=1, validation=20)
    assert rows.test.tolist() == list(range(TRAIN, TRAIN + TEST))
    assert np.bincount(photos.labels[rows.train]).tolist() == [3] * 10
    assert len(rows.validation) == 20
    assert max(rows.train.max(), rows.validation.max()) < TRAIN
    assert not set(rows.train) & set(rows.validation)
    with pytest.raises(Stop, match=r"at most 8 with --data cifar10, got 9"):
        data.split(photos, 9, seed=0, validation=20)


def test_batches_mirror_some_photographs_and_no_digits(photos: data.DataSet) -> None:
    rows = np.arange(TRAIN)
    mirrored = 0
    for pixels, labels in Batches(photos, rows, 0, size=TRAIN, shift=0):
        own = {image.tobytes() for image in photos.take(rows)}
        kept = [image.tobytes() in own for image in pixels]
        turned = [np.ascontiguousarray(image[..., ::-1]).tobytes() in own for image in pixels]
        assert all(a != b for a, b in zip(kept, turned, strict=True))
        assert sorted(labels) == sorted(photos.labels[rows])
        mirrored = sum(turned)
    assert 30 < mirrored < 70


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_path_that_holds_nothing_says_what_would_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        Stop, match=r"cs.toronto.edu/~kriz/cifar.html .*train/CLASS/\*.png.*one file.*cifar10_jpeg.npz"
    ):
        data.load(f"cifar10:{tmp_path / name}")


def test_no_path_at_all_is_wrong_use() -> None:
    for name in ("cifar10", "cifar10:"):
        with pytest.raises(
            Stop, match=f"--data cifar10:PATH needs the path to CIFAR-10, got '{name}'"
        ) as stop:
            data.check_name(name)
        assert stop.value.code == 2


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("harm",)


def test_a_batch_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_batches(tmp_path / "batches")
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(
        Stop, match=r"cannot be read \(UnpicklingError: a batch of CIFAR-10 holds arrays alone"
    ):
        data.load(f"cifar10:{folder}")
    assert not (tmp_path / "harm").exists()


def test_a_missing_or_broken_batch_is_one_clear_line(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "batches")
    (folder / "data_batch_5").write_bytes(b"\x80\x02}")
    with pytest.raises(Stop, match=r"CIFAR-10 at .* cannot be read \(.*\): give one of the python version"):
        data.load(f"cifar10:{folder}")
    (folder / "data_batch_5").unlink()
    with pytest.raises(Stop, match=r"cannot be read \(FileNotFoundError"):
        data.load(f"cifar10:{folder}")


def test_labels_and_sizes_are_checked(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_folder(tmp_path / "images")
    Image.new("RGB", (16, 16)).save(folder / "test" / "class3" / "small.png")
    with pytest.raises(Stop, match=r"images of CIFAR-10 are 32x32, got \(16, 16\)"):
        data.load(f"cifar10:{folder}")
    (folder / "test" / "class3" / "small.png").unlink()
    for file in (folder / "test" / "class9").iterdir():
        file.unlink()
    with pytest.raises(Stop, match="expected labels 0 to 9"):
        data.load(f"cifar10:{folder}")


def test_folders_of_other_classes_than_the_training_images_are_refused(tmp_path: Path) -> None:
    """Else the class after the one of another name would be taken for it."""
    folder = write_folder(tmp_path / "images")
    (folder / "test" / "class3").rename(folder / "test" / "a third class")
    with pytest.raises(
        Stop, match=r"the folders of classes differ, .*'class3'.* in train and .*'a third class'"
    ):
        data.load(f"cifar10:{folder}")


# Keras' side turns the images' axes by the functions that JAX' does
@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "keras"])
def test_the_demo_runs_on_it(
    forms: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    monkeypatch.setattr(score, "ATTACKED", 5)
    monkeypatch.setattr(
        data.split, "__defaults__", (50,)
    )  # all that is left: there are pictures of every class
    words = f"--data cifar10:{forms['images']} --labels-per-class 5 --epochs 1 --seeds 1 --workers 1"
    result = CliRunner().invoke(
        app,
        [
            "demo",
            *words.split(),
            "--methods",
            "plain,manifold",
            "--out",
            str(tmp_path),
            "--framework",
            framework,
        ],
    )
    assert result.exit_code == 0, result.output
    assert "CIFAR-10, 5 labels per class" in result.output
    assert {"curves.png", "layers.png", "batch.png", "hidden.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
