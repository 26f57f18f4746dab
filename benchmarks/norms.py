"""Count what share of other libraries' norms `convert_iebn` converts: `.venv-vision/bin/python benchmarks/norms.py`.

    python benchmarks/norms.py [--record]

Of torchvision, timm, pytorchcv and transformers, whichever is there: all models of the first three that have batch
norms, some of the last. A norm is counted as missed if it is left as it is: of a class that convert_iebn does not know.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from mixlayers.torch import convert_iebn

PAGE = Path(__file__).parents[1] / "docs" / "methods" / "iebn.md"
TRANSFORMERS = ("ResNet", "RegNet", "MobileNetV1", "MobileNetV2", "Levit", "EfficientNet", "MobileViT", "Cvt")


Makers = Iterator[tuple[str, Callable[[], nn.Module]]]


def torchvision_models() -> Makers:
    models = importlib.import_module("torchvision.models")
    for name in models.list_models(module=models):
        yield name, partial(models.get_model, name, weights=None)


def timm_models() -> Makers:
    timm = importlib.import_module("timm")
    for name in timm.list_models():
        yield name, partial(timm.create_model, name)


def pytorchcv_models() -> Makers:
    provider = importlib.import_module("pytorchcv.model_provider")
    for name in provider._models:
        yield name, partial(provider.get_model, name, pretrained=False)


def transformers_models() -> Makers:
    transformers = importlib.import_module("transformers")
    for name in TRANSFORMERS:
        if hasattr(transformers, f"{name}Config"):
            config = getattr(transformers, f"{name}Config")()
            yield name, partial(transformers.AutoModel.from_config, config)


LIBRARIES = {
    "torchvision": torchvision_models,
    "timm": timm_models,
    "pytorchcv": pytorchcv_models,
    "transformers": transformers_models,
}


def norms(model: nn.Module) -> list[nn.Module]:
    """All batch norms, also those that are none to PyTorch."""
    kinds = (module for module in model.modules() if "BatchNorm" in type(module).__name__)
    return [module for module in kinds if "running_mean" in module._buffers]


def count(library: str) -> str:
    """A library's line of the table."""
    models, found, left = 0, 0, Counter[str]()
    for name, make in LIBRARIES[library]():
        try:
            model = make()
        except Exception as error:  # some need packages, or an older NumPy
            print(f"{library} {name} cannot be made here: {type(error).__name__}")
            continue
        before = len(norms(model))
        if not before:
            continue
        models, found = models + 1, found + before
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                convert_iebn(model)
        except ValueError as error:
            print(f"{library} {name}: {error}")
        left.update(type(norm).__name__ for norm in norms(model))
    missed = sum(left.values())
    names = ", ".join(f"{kind} {number}" for kind, number in left.most_common())
    version = metadata.version(library)
    return (
        f"| {library} {version} | {models} | {found:,} | {1 - missed / max(found, 1):.1%} | {names or '-'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args()
    lines = ["| library | models with batch norms | norms | converted | left |", "|---|---|---|---|---|"]
    with torch.device("meta"):
        for library in LIBRARIES:
            if importlib.util.find_spec(library):
                lines.append(count(library))
                print(lines[-1], flush=True)
    if options.record:
        text, mark = PAGE.read_text(encoding="utf-8"), "<!-- norms -->\n"
        before, _, after = text.split(mark)
        PAGE.write_text(mark.join([before, "\n".join(["", *lines, "", ""]), after]), encoding="utf-8")


if __name__ == "__main__":
    main()
