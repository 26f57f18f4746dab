"""ResNet-18 with IEBN in PaddlePaddle, start to finish
====================================================

A ResNet built with `norm_layer=IEBN`, next to one with BatchNorm. The recipe is the article's: the transforms of
`paddle.vision` in loader workers, label smoothing 0.1, Momentum with learning rate 0.1 and weight decay 1e-5,
MultiStepDecay, `paddle.metric.Accuracy`, the best and the final weights saved with their optimizer's, learning curves
drawn, throughput measured. Three things differ: the images are the 1797 8x8 digits of scikit-learn, enlarged, where
the article downloads CIFAR-10; they are not flipped; and the best model is chosen on a validation split, so that the
test images choose nothing. The default takes seconds and its numbers mean little; `--full` trains a ResNet-18 at 32
pixels.
"""

# sphinx_gallery_thumbnail_path = "pictures/iebn.png"

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.io import DataLoader, Dataset
from paddle.vision import transforms
from PIL import Image
from sklearn.datasets import load_digits

from mixlayers.paddle import IEBN

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class BasicBlock(nn.Layer):
    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, norm_layer: Any, groups: int,
        width: int,
    ) -> None:  # fmt: skip
        super().__init__()
        if groups != 1 or width != 64:
            raise ValueError(
                f"BasicBlock takes groups 1 and width 64, got {groups} and "
                f"{width}: use depth 50 or more."
            )
        self.body = nn.Sequential(
            nn.Conv2D(inputs, planes, 3, stride, padding=1, bias_attr=False),
            norm_layer(planes), nn.ReLU(),
            nn.Conv2D(planes, planes, 3, padding=1, bias_attr=False), norm_layer(planes),
        )  # fmt: skip
        self.downsample = shortcut(inputs, planes, stride, norm_layer)

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.body(x) + self.downsample(x))


class BottleneckBlock(BasicBlock):
    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, norm_layer: Any, groups: int,
        width: int,
    ) -> None:  # fmt: skip
        nn.Layer.__init__(self)
        inner, outputs = int(planes * width / 64) * groups, planes * 4
        self.body = nn.Sequential(
            nn.Conv2D(inputs, inner, 1, bias_attr=False), norm_layer(inner), nn.ReLU(),
            nn.Conv2D(inner, inner, 3, stride, padding=1, groups=groups, bias_attr=False),
            norm_layer(inner), nn.ReLU(),
            nn.Conv2D(inner, outputs, 1, bias_attr=False), norm_layer(outputs),
        )  # fmt: skip
        self.downsample = shortcut(inputs, outputs, stride, norm_layer)


def shortcut(inputs: int, outputs: int, stride: int, norm_layer: Any) -> nn.Layer:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2D(inputs, outputs, 1, stride, bias_attr=False), norm_layer(outputs)
    )


class ResNet(nn.Layer):
    """As paddle.vision's, and with a `norm_layer`; `base` channels in the first stage."""

    def __init__(
        self, depth: int = 18, width: int = 64, groups: int = 1,
        num_classes: int = 1000, with_pool: bool = True,
        norm_layer: Any = IEBN, base: int = 64,
    ) -> None:  # fmt: skip
        super().__init__()
        block = BasicBlock if depth < 50 else BottleneckBlock
        self.stem = nn.Sequential(
            nn.Conv2D(3, base, 7, 2, padding=3, bias_attr=False), norm_layer(base),
            nn.ReLU(), nn.MaxPool2D(3, 2, padding=1),
        )  # fmt: skip
        inputs, stages = base, []
        for stage, number in enumerate(BLOCKS[depth]):
            for index in range(number):
                stride = 2 if stage > 0 and index == 0 else 1
                stages.append(
                    block(inputs, base * 2**stage, stride, norm_layer, groups, width)
                )
                inputs = base * 2**stage * block.expansion
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2D(1) if with_pool else nn.Identity()
        self.head = (
            nn.Sequential(nn.Flatten(), nn.Linear(inputs, num_classes))
            if num_classes > 0
            else nn.Identity()
        )

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(self.stages(self.stem(x))))


class Digits(Dataset):
    """Some of scikit-learn's digits, as colour images."""

    def __init__(self, rows: Any, transform: Any) -> None:
        super().__init__()
        pixels, labels = load_digits(return_X_y=True)
        grey = (pixels[rows] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        self.images, self.labels, self.transform = (
            [Image.fromarray(i).convert("RGB") for i in grey],
            labels[rows],
            transform,
        )

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        # an array: Paddle 3.3's workers may free a tensor before it is sent, and crash
        image = self.transform(self.images[index]).numpy()
        return image, self.labels[index : index + 1]

    def __len__(self) -> int:
        return len(self.labels)


def loaders(side: int, batch: int, workers: int) -> list[DataLoader]:
    """Batches to train, validate and test; digits are not to be flipped."""
    as_tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    training = transforms.Compose(
        [
            transforms.Resize(side * 130 // 128),
            transforms.RandomResizedCrop(side, scale=(0.6, 1.0)),
            *as_tensor,
        ]
    )
    testing = transforms.Compose([transforms.Resize((side, side)), *as_tensor])
    parts = np.split(np.random.default_rng(42).permutation(1797), [1297, 1547])
    return [
        DataLoader(
            Digits(rows, training if part == 0 else testing),
            batch_size=batch,
            shuffle=part == 0,
            num_workers=workers if part == 0 else 0,
        )
        for part, rows in enumerate(parts)
    ]


def smoothed_cross_entropy(output: Any, labels: Any, smoothing: float = 0.1) -> Any:
    hot = nn.functional.one_hot(labels.squeeze(1), output.shape[1])
    soft = nn.functional.label_smooth(hot, epsilon=smoothing)
    return nn.functional.cross_entropy(output, soft, soft_label=True)


@paddle.no_grad()
def evaluate(model: nn.Layer, loader: DataLoader) -> tuple[float, float]:
    """Loss and accuracy."""
    model.eval()
    metric, losses = paddle.metric.Accuracy(), []
    for images, labels in loader:
        output = model(images)
        losses.append(float(smoothed_cross_entropy(output, labels)))
        metric.update(metric.compute(output, labels))
    return float(np.mean(losses)), float(metric.accumulate())


def save(name: str, model: nn.Layer, optimizer: Any, folder: Path) -> None:
    paddle.save(model.state_dict(), str(folder / f"{name}_model.pdparams"))
    paddle.save(optimizer.state_dict(), str(folder / f"{name}_optimizer.pdopt"))


def train(
    model: nn.Layer,
    training: DataLoader,
    validation: DataLoader,
    epochs: int,
    folder: Path,
) -> Any:
    """Train, save `best_` and `final_` weights; return curves and images per second."""
    # the article's 30, 60, 80, 100 of its epochs
    milestones = sorted({max(1, epochs * part // 100) for part in (30, 60, 80, 100)})
    rate = paddle.optimizer.lr.MultiStepDecay(0.1, milestones, 0.1)
    optimizer = paddle.optimizer.Momentum(
        rate, parameters=model.parameters(), weight_decay=1e-5
    )
    curves: dict[str, list[tuple[float, float]]] = {"train": [], "validation": []}
    best, seconds, seen = -1.0, 0.0, 0
    for _ in range(epochs):
        model.train()
        metric, losses, start = paddle.metric.Accuracy(), [], time.perf_counter()
        for images, labels in training:
            output = model(images)
            loss = smoothed_cross_entropy(output, labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
            metric.update(metric.compute(output, labels))
            seen += len(labels)
        seconds += time.perf_counter() - start
        rate.step()
        curves["train"].append((float(np.mean(losses)), float(metric.accumulate())))
        curves["validation"].append(evaluate(model, validation))
        if curves["validation"][-1][1] > best:
            best = curves["validation"][-1][1]
            save("best", model, optimizer, folder)
    save("final", model, optimizer, folder)
    return curves, seen / seconds


def draw(curves: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for name, found in curves.items():
        for part, line in (("train", "--"), ("validation", "-")):
            for axis, values in zip(
                axes, zip(*found[part], strict=True), strict=True
            ):
                axis.plot(values, line, label=f"{name}, {part}")
    for axis, title in zip(axes, ("loss", "accuracy"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="ResNet-18, 32 pixels, 20 epochs: minutes"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for weights and curves; else a temporary one"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that load images"
    )
    options = parser.parse_args()
    # what Paddle's BatchNorm says
    warnings.filterwarnings("ignore", "When training, we now always track")
    side, base, epochs, batch = (32, 64, 20, 64) if options.full else (16, 8, 2, 64)
    folder = options.out or Path(mkdtemp())
    training, validation, test = loaders(side, batch, options.workers)
    curves = {}
    for name, norm_layer in (("IEBN", IEBN), ("BatchNorm", nn.BatchNorm2D)):
        paddle.seed(42)
        model = ResNet(18, num_classes=10, norm_layer=norm_layer, base=base)
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        # paddle.io shuffles by it, and seeds its workers
        np.random.seed(42)  # noqa: NPY002
        curves[name], speed = train(model, training, validation, epochs, place)
        chosen = max(accuracy for _, accuracy in curves[name]["validation"])
        final = evaluate(model, test)[1]
        model.set_state_dict(paddle.load(str(place / "best_model.pdparams")))
        size = sum(parameter.size for parameter in model.parameters())
        print(
            f"ResNet-18 with {name}: {size:,} parameters and statistics, "
            f"{speed:.0f} images/s, validation accuracy {chosen:.3f}, "
            f"test {evaluate(model, test)[1]:.3f}, of the final weights {final:.3f}"
        )
    draw(curves, folder / "curves.png")
    print(
        f"weights and learning curves are in {folder}"
        if options.out
        else "--out FOLDER keeps weights and curves"
    )


if __name__ == "__main__":
    main()
