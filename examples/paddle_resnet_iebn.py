"""Article 004 on data that ships in a package
===========================================

A ResNet built with `norm_layer=IEBN`, next to one with BatchNorm. The recipe is the article's: label smoothing 0.1,
Momentum with learning rate 0.1 and weight decay 1e-5, MultiStepDecay, the best model saved, learning curves drawn,
throughput measured. Two things differ: the images are the 1797 8x8 digits of scikit-learn, enlarged, where the article
downloads CIFAR-10; and the best model is chosen on a validation split, so that the test images are seen once. The
default takes seconds and its numbers mean little; `--full` trains a ResNet-18 at 32 pixels.
"""

# sphinx_gallery_thumbnail_path = "pictures/iebn.png"

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import paddle
from paddle import nn
from sklearn.datasets import load_digits

from mixlayers.paddle import IEBN

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Layer):
    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, norm_layer: Any, groups: int, width: int
    ) -> None:
        super().__init__()
        if groups != 1 or width != 64:
            raise ValueError(
                f"BasicBlock takes groups 1 and width 64, got {groups} and {width}: use depth 50 or more."
            )
        self.body = nn.Sequential(
            nn.Conv2D(inputs, planes, 3, stride, padding=1, bias_attr=False), norm_layer(planes), nn.ReLU(),
            nn.Conv2D(planes, planes, 3, padding=1, bias_attr=False), norm_layer(planes),
        )  # fmt: skip
        self.downsample = shortcut(inputs, planes, stride, norm_layer)

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.body(x) + self.downsample(x))


class BottleneckBlock(BasicBlock):
    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, norm_layer: Any, groups: int, width: int
    ) -> None:
        nn.Layer.__init__(self)
        inner, outputs = int(planes * width / 64) * groups, planes * 4
        self.body = nn.Sequential(
            nn.Conv2D(inputs, inner, 1, bias_attr=False), norm_layer(inner), nn.ReLU(),
            nn.Conv2D(inner, inner, 3, stride, padding=1, groups=groups, bias_attr=False), norm_layer(inner), nn.ReLU(),
            nn.Conv2D(inner, outputs, 1, bias_attr=False), norm_layer(outputs),
        )  # fmt: skip
        self.downsample = shortcut(inputs, outputs, stride, norm_layer)


def shortcut(inputs: int, outputs: int, stride: int, norm_layer: Any) -> nn.Layer:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2D(inputs, outputs, 1, stride, bias_attr=False), norm_layer(outputs))


class ResNet(nn.Layer):
    """As paddle.vision's, and with a `norm_layer`; `base` channels in the first stage."""

    def __init__(
        self, depth: int = 18, width: int = 64, groups: int = 1, num_classes: int = 1000, with_pool: bool = True,
        norm_layer: Any = IEBN, base: int = 64,
    ) -> None:  # fmt: skip
        super().__init__()
        block = BasicBlock if depth < 50 else BottleneckBlock
        self.stem = nn.Sequential(
            nn.Conv2D(3, base, 7, 2, padding=3, bias_attr=False), norm_layer(base), nn.ReLU(),
            nn.MaxPool2D(3, 2, padding=1),
        )  # fmt: skip
        inputs, stages = base, []
        for stage, number in enumerate(BLOCKS[depth]):
            for index in range(number):
                stride = 2 if stage > 0 and index == 0 else 1
                stages.append(block(inputs, base * 2**stage, stride, norm_layer, groups, width))
                inputs = base * 2**stage * block.expansion
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2D(1) if with_pool else nn.Identity()
        self.head = (
            nn.Sequential(nn.Flatten(), nn.Linear(inputs, num_classes)) if num_classes > 0 else nn.Identity()
        )

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(self.stages(self.stem(x))))


def data(side: int) -> tuple[list[Any], list[Any]]:
    """Images (N, 3, side, side) and labels of training, validation and test."""
    pixels, labels = load_digits(return_X_y=True)
    images = paddle.to_tensor(((pixels / 16 - 0.5) / 0.5).reshape(-1, 1, 8, 8).astype("float32"))
    images = nn.functional.interpolate(images, size=[side, side], mode="bilinear").expand([-1, 3, -1, -1])
    order = np.random.default_rng(42).permutation(len(labels))
    parts = np.split(order, [1297, 1547])
    return [paddle.to_tensor(images.numpy()[part]) for part in parts], [
        paddle.to_tensor(labels[part]) for part in parts
    ]


def smoothed_cross_entropy(output: Any, labels: Any, smoothing: float = 0.1) -> Any:
    soft = nn.functional.label_smooth(nn.functional.one_hot(labels, output.shape[1]), epsilon=smoothing)
    return nn.functional.cross_entropy(output, soft, soft_label=True)


@paddle.no_grad()
def accuracy(model: nn.Layer, images: Any, labels: Any) -> float:
    model.eval()
    found = [model(images[start : start + 256]).argmax(1) for start in range(0, len(labels), 256)]
    return float((paddle.concat(found) == labels).astype("float32").mean())


def train(
    model: nn.Layer, images: list[Any], labels: list[Any], epochs: int, batch: int, folder: Path,
    seed: int = 42, augment: Callable[[Any], Any] = lambda images: images,
) -> Any:  # fmt: skip
    """Train; returns the learning curves and images per second. The best model is in the folder, and in `model`."""
    rate = paddle.optimizer.lr.MultiStepDecay(
        0.1, sorted({max(1, epochs * part // 20) for part in (6, 12, 16)}), 0.1
    )
    optimizer = paddle.optimizer.Momentum(rate, parameters=model.parameters(), weight_decay=1e-5)
    curves: dict[str, list[float]] = {"loss": [], "train": [], "validation": []}
    rng, best, seconds, seen = np.random.default_rng(seed), -1.0, 0.0, 0
    for _ in range(epochs):
        model.train()
        total, start = 0.0, time.perf_counter()
        batches = np.array_split(rng.permutation(len(labels[0])), max(1, len(labels[0]) // batch))
        for rows in batches:
            where = paddle.to_tensor(rows)
            loss = smoothed_cross_entropy(model(augment(images[0][where])), labels[0][where])
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            total, seen = total + float(loss), seen + len(rows)
        seconds += time.perf_counter() - start
        rate.step()
        curves["loss"].append(total / len(batches))
        curves["train"].append(accuracy(model, images[0], labels[0]))
        curves["validation"].append(accuracy(model, images[1], labels[1]))
        if curves["validation"][-1] > best:
            best = curves["validation"][-1]
            paddle.save(model.state_dict(), str(folder / "best_model.pdparams"))
            paddle.save(optimizer.state_dict(), str(folder / "best_optimizer.pdopt"))
    model.set_state_dict(paddle.load(str(folder / "best_model.pdparams")))
    return curves, seen / seconds


def draw(curves: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for name, found in curves.items():
        axes[0].plot(found["loss"], label=name)
        axes[1].plot(found["train"], "--", label=f"{name}, train")
        axes[1].plot(found["validation"], label=f"{name}, validation")
    for axis, title in zip(axes, ("loss", "accuracy"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ResNet-18 at 32 pixels, 20 epochs: some minutes")
    parser.add_argument("--out", type=Path, help="folder for weights and curves; a temporary one without it")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "When training, we now always track")  # what Paddle's BatchNorm says
    side, base, epochs, batch = (32, 64, 20, 64) if options.full else (16, 8, 2, 64)
    folder = options.out or Path(mkdtemp())
    images, labels = data(side)
    curves = {}
    for name, norm_layer in (("IEBN", IEBN), ("BatchNorm", nn.BatchNorm2D)):
        paddle.seed(42)
        model, place = ResNet(18, num_classes=10, norm_layer=norm_layer, base=base), folder / name
        place.mkdir(parents=True, exist_ok=True)
        curves[name], speed = train(model, images, labels, epochs, batch, place)
        size = sum(parameter.size for parameter in model.parameters())
        print(
            f"ResNet-18 with {name}: {size:,} parameters and statistics, {speed:.0f} images/s, validation accuracy "
            f"{max(curves[name]['validation']):.3f}, test {accuracy(model, images[2], labels[2]):.3f}"
        )
    draw(curves, folder / "curves.png")
    print(
        f"weights and learning curves are in {folder}"
        if options.out
        else "--out FOLDER keeps weights and curves"
    )


if __name__ == "__main__":
    main()
