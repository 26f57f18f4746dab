"""A ResNet-18 with IEBN
=====================

Converted, trained, saved, loaded, exported and folded.
"""

# sphinx_gallery_thumbnail_path = "pictures/iebn.png"

import io
import warnings
from collections.abc import Iterable
from importlib.util import find_spec

import torch
from pytorchcv.model_provider import get_model
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from mixlayers.torch import convert_iebn, iebn_parameters, revert_iebn


def resnet18() -> nn.Module:
    """ResNet-18 for 10 classes, with torchvision's layers and number of parameters."""
    model = get_model("resnet18", num_classes=10)
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return model


def count(model: nn.Module) -> str:
    return (
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    )


def loaded(model: nn.Module, file: io.BytesIO) -> nn.Module:
    """The model in eval mode with a checkpoint's weights; every key must fit."""
    file.seek(0)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def train(model: nn.Module, parameters: Iterable, steps: int) -> float:
    """A few steps on 32x32 digits; the last loss."""
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)
    model.train()
    for rows in torch.randperm(len(y)).split(32)[:steps]:
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


torch.manual_seed(0)
features, labels = load_digits(return_X_y=True)
small = torch.tensor(features / 16, dtype=torch.float32).view(-1, 1, 8, 8)
x, y = F.interpolate(small.expand(-1, 3, -1, -1), 32), torch.tensor(labels)

# %%
# A new network: convert it, then make the optimizer.

model = resnet18()
print(f"BatchNorm: {count(model)}")
convert_iebn(
    model
)  # skip="*identity_conv*" leaves the shortcuts' three norms plain, as the authors do
print(f"IEBN: {count(model)}")
first = F.cross_entropy(model(x[:32]), y[:32]).item()
last = train(
    model, iebn_parameters(model), steps=12
)  # no weight decay on the attention
print(f"loss {first:.2f} at first, {last:.2f} after 12 steps")

# %%
# Its checkpoint loads in a new network that was converted alike.

saved = io.BytesIO()
torch.save(model.state_dict(), saved)
again = loaded(convert_iebn(resnet18()), saved)
with torch.no_grad():
    expected = model.eval()(x[:4])
    print(f"loaded: equal outputs {torch.equal(again(x[:4]), expected)}")

# %%
# torch.export, with a batch of any size.

batch = torch.export.Dim("batch", min=2)
program = torch.export.export(model, (x[:4],), dynamic_shapes=({0: batch},))
torch.testing.assert_close(program.module()(x[:4]), expected, rtol=1e-4, atol=1e-4)
print(f"torch.export: {len(program.graph.nodes)} nodes, equal outputs")

# %%
# ONNX, where its packages are installed.

if find_spec("onnx") and find_spec("onnxscript"):
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        graph = torch.onnx.export(
            model, (x[:4],), dynamo=True, verbose=False
        ).model_proto
    (output,) = ReferenceEvaluator(graph).run(
        None, {graph.graph.input[0].name: x[:4].numpy()}
    )
    torch.testing.assert_close(torch.tensor(output), expected, rtol=1e-4, atol=1e-4)
    print(f"ONNX: {len(graph.graph.node)} nodes, equal outputs")

# %%
# A network trained with BatchNorm: its checkpoint loads, and preserve_output keeps
# what it computes.

source = resnet18()
train(source, source.parameters(), steps=6)
saved = io.BytesIO()
torch.save(source.state_dict(), saved)
plain, scaled = loaded(resnet18(), saved), loaded(convert_iebn(resnet18()), saved)
kept = convert_iebn(loaded(resnet18(), saved), preserve_output=True)
with torch.no_grad():
    outputs = plain(x[:4])
    far, near = (
        (net(x[:4]) - outputs).norm() / outputs.norm() for net in (scaled, kept)
    )
    print(
        f"BatchNorm's checkpoint in IEBN: outputs differ by {far:.0%}; with "
        f"preserve_output by {near:.0e}"
    )

    # Back to BatchNorm, which inference engines fold into convolutions: exact while
    # weight_readjust is 0.
    folded = revert_iebn(kept, preserve_output=True)
    torch.testing.assert_close(folded(x[:4]), outputs, rtol=1e-3, atol=1e-3)
    print(f"folded: {count(folded)}, equal outputs")
